//! Objects are uploaded whole: the body is the bytes, or a form with one file.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use futures_util::Stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode, Uri};
use nh_blobs::New;
use nh_types::blob::{Access, BlobView};

use super::asked::{body_size, chunks, condition, object_named, said, said_type};
use super::{author, stored, view, wrong};
use crate::app::App;
use crate::auth::{Auth, StorageWrite};
use crate::failure::Answer;
use crate::idempotency;
use crate::json::media_type;
use crate::paging::Query;

const FORM: &str = "multipart/form-data";

/// Upload an object: the body is its bytes, or a form with one file. It is durable,
/// and listed, when the answer comes.
#[utoipa::path(post, path = "/v1/storage/upload", tag = "Storage",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("pathname" = Option<String>, Query, description = "Absent: the form's file's name, else `upload-` and a UUID; `filename` is the same"),
        ("filename" = Option<String>, Query),
        ("overwrite" = Option<bool>, Query, description = "Whether one that is there is replaced"),
        ("access" = Option<Access>, Query), ("expires_at" = Option<String>, Query, description = "When it is removed"),
        ("Content-Type" = Option<String>, Header, description = "Absent: by the name's extension, else by the bytes"),
        ("If-Match" = Option<String>, Header, description = "Replaces only what has this ETag"),
        ("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = BlobView),
        (status = 409, description = "There is one already", body = nh_types::ErrorBody),
        (status = 412, description = "It is not what `If-Match` says", body = nh_types::ErrorBody)))]
pub(crate) async fn upload(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    mut query: Query,
    body: Body,
) -> Answer<(StatusCode, Json<BlobView>)> {
    let key = idempotency::key(&headers)?;
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if media_type(&headers) == FORM {
        let file = super::form::file_in(&app, &headers, body).await?;
        let target = format!("{target} {}", file.name.as_deref().unwrap_or_default());
        let content_type = file.content_type.map(|given| said("Content-Type", &given)).transpose()?.flatten();
        let new = wanted(&app, &auth, &headers, &mut query, file.name, content_type)?;
        query.finish()?;
        // The form is a little longer than its file.
        let new = New { size: None, ..new };
        return put(&app, &auth, &headers, new, file.chunks, key, &target).await;
    }
    let new = wanted(&app, &auth, &headers, &mut query, None, said_type(&headers)?)?;
    query.finish()?;
    put(&app, &auth, &headers, new, chunks(&app, &headers, body)?, key, target).await
}

async fn put(
    app: &App,
    auth: &Auth<StorageWrite>,
    headers: &HeaderMap,
    new: New,
    bytes: impl Stream<Item = Answer<Bytes>>,
    key: Option<String>,
    target: &str,
) -> Answer<(StatusCode, Json<BlobView>)> {
    let pathname = new.pathname.clone();
    let record = key.map(|key| {
        let (auth, at) = (auth.shared(), app.clock.now());
        move |sha256: &[u8; 32]| idempotency::Once::of_upload(key, target, sha256).record(&auth, at)
    });
    let done = app.hub.blobs.put(author(auth), new, bytes, record).await?;
    let blob = stored(&pathname, done)?;
    Ok((StatusCode::CREATED, Json(view(app, headers, &auth.workspace_id, blob))))
}

/// What the upload's parameters and headers say of the object.
fn wanted(
    app: &App,
    auth: &Auth<StorageWrite>,
    headers: &HeaderMap,
    query: &mut Query,
    name: Option<String>,
    content_type: Option<String>,
) -> Answer<New> {
    let given = match (query.take("pathname")?, query.take("filename")?) {
        (Some(_), Some(_)) => {
            return Err(wrong("pathname", "`pathname` and `filename` are the same; give one of them"));
        }
        (Some(name), None) | (None, Some(name)) => Some(name),
        (None, None) => name,
    };
    let given = given.unwrap_or_else(|| {
        let id = app.ids.uuid_v7(app.clock.now());
        let essence = content_type.as_deref().and_then(|given| given.split(';').next()).unwrap_or_default();
        let extension = nh_blobs::extension_of(&essence.trim().to_ascii_lowercase());
        format!("upload-{id}{}", extension.map(|extension| format!(".{extension}")).unwrap_or_default())
    });
    let pathname = object_named(auth, &given)?;
    let overwrite = match query.take("overwrite")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(wrong(
                "overwrite",
                format!("`overwrite` is `{shown}`; it must be `true` or `false`"),
            ));
        }
    };
    Ok(New {
        pathname,
        content_type,
        access: query.parsed("access")?.unwrap_or_default(),
        cache_seconds: None,
        expires_at: query.time("expires_at")?,
        condition: condition(headers, overwrite)?,
        size: body_size(headers),
    })
}
