//! `/v1/resources/{id}/files`: what is in a sandbox's home folder.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use nh_types::sandbox::SandboxFiles;

use super::parse;
use crate::app::App;
use crate::auth::{Auth, ResourcesRead, ResourcesWrite};
use crate::failure::{Answer, Failure};
use crate::routes::storage::asked::chunks;

/// List the files in a sandbox's home folder.
#[utoipa::path(get, path = "/v1/resources/{id}/files", tag = "Compute", params(("id" = String, Path)),
    security(("bearer" = ["resources:read"]), ("session" = ["resources:read"])),
    responses((status = 200, body = SandboxFiles)))]
pub(crate) async fn list_files(
    auth: Auth<ResourcesRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<SandboxFiles>> {
    let entries = app.hub.compute.list_files(&auth.workspace_id, &parse(&id)?, "").await?;
    Ok(Json(SandboxFiles { entries }))
}

/// Read a file of a sandbox; or, with a slash at the path's end, list a folder.
#[utoipa::path(get, path = "/v1/resources/{id}/files/{*path}", tag = "Compute",
    params(("id" = String, Path), ("path" = String, Path)),
    security(("bearer" = ["resources:read"]), ("session" = ["resources:read"])),
    responses((status = 200, description = "Its bytes; of a folder, what is in it", content(
            (Vec<u8> = "application/octet-stream"), (SandboxFiles = "application/json")))))]
pub(crate) async fn read_file(
    auth: Auth<ResourcesRead>,
    State(app): State<Arc<App>>,
    Path((id, path)): Path<(String, String)>,
) -> Answer<Response> {
    let (compute, id) = (&app.hub.compute, parse(&id)?);
    if let Some(folder) = path.strip_suffix('/') {
        let entries = compute.list_files(&auth.workspace_id, &id, folder).await?;
        return Ok(Json(SandboxFiles { entries }).into_response());
    }
    let bytes = compute.read_file(&auth.workspace_id, &id, &path).await?;
    let mut response = Response::new(Body::from_stream(bytes.map_err(|error| error.to_string())));
    // It comes from who knows whom: no browser is to run it in the hub's origin.
    for (name, value) in [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment"),
        (CONTENT_SECURITY_POLICY, "sandbox"),
        (CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Put a file into a sandbox, with the folders that it is in. It is there whole or not at
/// all, in place of one that was.
#[utoipa::path(put, path = "/v1/resources/{id}/files/{*path}", tag = "Compute",
    params(("id" = String, Path), ("path" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 204, description = "It is there")))]
pub(crate) async fn write_file(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    Path((id, path)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let chunks = chunks(&app, &headers, body)?;
    app.hub.compute.write_file::<Failure>(&auth.workspace_id, &parse(&id)?, &path, chunks).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a file of a sandbox, or a folder with all that is in it.
#[utoipa::path(delete, path = "/v1/resources/{id}/files/{*path}", tag = "Compute",
    params(("id" = String, Path), ("path" = String, Path)),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_file(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    Path((id, path)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let path = path.strip_suffix('/').unwrap_or(&path);
    app.hub.compute.remove_file(&auth.workspace_id, &parse(&id)?, path).await?;
    Ok(StatusCode::NO_CONTENT)
}
