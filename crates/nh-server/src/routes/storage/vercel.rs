//! `/v1/storage/vercel`: the same objects, as the client `@vercel/blob` (2.8, its
//! API version 12) asks for them. It tells its errors by `error.code` alone, knows
//! few, tries some again, and follows no redirect with a body: see [`code`] and
//! [`tolerant`].

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method};
use nh_blobs::{Copying, New, content_type_of};
use nh_store::blobs::{BlobRecord, Condition};
use nh_types::blob::{Access, BlobView, NamePart, Pathname};
use nh_types::{ErrorCode, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{body_size, chunks, folder, hash, legal_type, named, object_named};
use super::objects::{copy_once, listed, put_folder};
use super::uploads::{begin, finish, take_part};
use super::{author, nothing_named, stored, view, wrong};
use crate::app::App;
use crate::auth::{Auth, StorageRead, StorageWrite};
use crate::failure::{Answer, Failure};
use crate::json;
use crate::paging::Query;
use crate::served::{self, Disposition};

/// Where the client is pointed (`VERCEL_BLOB_API_URL`).
const BASE: &str = "/v1/storage/vercel";
/// How long a cache may keep an object where nobody says it: a month.
const CACHE_SECONDS: u32 = 30 * 24 * 60 * 60;
/// Without `limit`.
const PAGE: u32 = 1000;
const SUFFIX_LETTERS: usize = 24;
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// The most objects that one call deletes.
const MAX_URLS: usize = 1000;

pub(crate) fn is_below(path: &str) -> bool {
    path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The code that the client knows. `bad_request` shows the user our message;
/// `service_unavailable` and `internal_server_error` are tried again.
pub(crate) fn code(of: ErrorCode) -> &'static str {
    match of.status() {
        401 | 403 => "forbidden",
        404 => "not_found",
        412 => "precondition_failed",
        413 => "file_too_large",
        429 => "rate_limited",
        500 => "internal_server_error",
        502.. => "service_unavailable",
        _ => "bad_request",
    }
}

/// What `put`, `copy`, `rename` and a completed upload answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PutBlob {
    url: String,
    download_url: String,
    pathname: String,
    content_type: String,
    content_disposition: String,
    etag: String,
}

/// What `head` answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadBlob {
    #[serde(flatten)]
    blob: PutBlob,
    /// Bytes.
    size: u64,
    cache_control: String,
    uploaded_at: Timestamp,
}

/// What `list` answers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blobs {
    blobs: Vec<BlobView>,
    folders: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    has_more: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct Urls {
    /// URLs and pathnames, at most 1,000.
    urls: Vec<String>,
}

/// `put`, `createFolder` and `copy` of `@vercel/blob`: with `fromUrl` it copies; a
/// pathname with a slash at its end is a folder.
#[utoipa::path(put, path = "/v1/storage/vercel", tag = "Vercel Blob",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("pathname" = String, Query), ("fromUrl" = Option<String>, Query),
        ("x-vercel-blob-access" = Option<String>, Header), ("x-content-type" = Option<String>, Header),
        ("x-add-random-suffix" = Option<String>, Header), ("x-allow-overwrite" = Option<String>, Header),
        ("x-cache-control-max-age" = Option<u32>, Header), ("x-if-match" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, body = PutBlob)))]
pub(crate) async fn put(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
    body: Body,
) -> Answer<Json<PutBlob>> {
    let given = required(&mut query, "pathname")?;
    if let Some(from) = query.take("fromUrl")? {
        return moved(&app, &auth, &headers, &from, &given, false).await;
    }
    if given.ends_with('/') {
        if body_size(&headers) != Some(0) {
            return Err(wrong(
                "pathname",
                "a name with a slash at its end is a folder's, which has no bytes",
            ));
        }
        let blob = put_folder(&app, &auth, folder(&auth, &given)?, None).await?;
        return Ok(Json(put_blob(&app, &headers, &auth.workspace_id, blob)));
    }
    let new = New { size: body_size(&headers), ..wanted(&app, &auth, &headers, &given)? };
    let pathname = new.pathname.clone();
    let never = None::<fn(&[u8; 32]) -> nh_store::Idempotency>;
    let done = app.hub.blobs.put(author(&auth), new, chunks(&app, &headers, body)?, never).await?;
    let blob = stored(&pathname, done).map_err(explained)?;
    Ok(Json(put_blob(&app, &headers, &auth.workspace_id, blob)))
}

/// `head` (with `url`) and `list` of `@vercel/blob`.
#[utoipa::path(get, path = "/v1/storage/vercel", tag = "Vercel Blob",
    params(("url" = Option<String>, Query, description = "A URL or a pathname: `head`; absent: `list`"),
        ("prefix" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query), ("mode" = Option<String>, Query)),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, body = HeadBlob), (status = "2XX", description = "Without `url`", body = Blobs)))]
pub(crate) async fn get(
    auth: Auth<StorageRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let Some(given) = query.take("url")? else {
        let found = listed(&app, &auth, &headers, &mut query, PAGE).await?;
        return Ok(Json(Blobs {
            blobs: found.blobs,
            folders: found.folders,
            cursor: found.cursor,
            has_more: found.has_more,
        })
        .into_response());
    };
    let pathname = pathname_in(&auth.workspace_id, "url", &given)?;
    let found = app.hub.blobs.find(&auth.workspace_id, &pathname).await?;
    let blob = found.ok_or_else(|| nothing_named(&given))?;
    let (size, uploaded_at, cache_control) = (blob.size, blob.uploaded_at, served::cache_control(&blob));
    let blob = put_blob(&app, &headers, &auth.workspace_id, blob);
    Ok(Json(HeadBlob { blob, size, cache_control, uploaded_at }).into_response())
}

/// `rename` of `@vercel/blob`.
#[utoipa::path(post, path = "/v1/storage/vercel/rename", tag = "Vercel Blob",
    params(("pathname" = String, Query), ("fromUrl" = String, Query)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, body = PutBlob)))]
pub(crate) async fn rename(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Json<PutBlob>> {
    let from = required(&mut query, "fromUrl")?;
    let to = required(&mut query, "pathname")?;
    moved(&app, &auth, &headers, &from, &to, true).await
}

/// `del` of `@vercel/blob`. What is not there is no error.
#[utoipa::path(post, path = "/v1/storage/vercel/delete", tag = "Vercel Blob", request_body = Urls,
    params(("x-if-match" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, description = "`null`")))]
pub(crate) async fn delete(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    json::Json(Urls { urls }, _room): json::Json<Urls>,
) -> Answer<Json<()>> {
    if urls.len() > MAX_URLS {
        let message = format!("`urls` has {} names; at most {MAX_URLS} are taken at once", urls.len());
        return Err(wrong("urls", message));
    }
    let mut pathnames = Vec::with_capacity(urls.len());
    for given in &urls {
        match pathname_in(&auth.workspace_id, "urls", given) {
            Ok(pathname) => pathnames.push(pathname),
            Err(failure) if failure.error.code == ErrorCode::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    let only_if = headers.get("x-if-match").map(hash).transpose()?;
    match app.hub.blobs.delete(&auth.workspace_id, pathnames, only_if).await? {
        Some(_) => Ok(Json(())),
        None => {
            let message = "the object is not what `x-if-match` says; read its etag again";
            Err(Failure::new(ErrorCode::PreconditionFailed, message))
        }
    }
}

/// The multipart calls of `@vercel/blob`, told apart by `x-mpu-action`: `create`,
/// `upload` (a part) and `complete`.
#[utoipa::path(post, path = "/v1/storage/vercel/mpu", tag = "Vercel Blob",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("pathname" = String, Query), ("x-mpu-action" = String, Header),
        ("x-mpu-key" = Option<String>, Header), ("x-mpu-upload-id" = Option<String>, Header),
        ("x-mpu-part-number" = Option<u32>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, description = "`create`: `uploadId` and `key`; `upload`: `etag`; `complete`: as `put`")))]
pub(crate) async fn multipart(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
    body: Body,
) -> Answer<Response> {
    match text(&headers, "x-mpu-action")? {
        Some("create") => {
            let given = required(&mut query, "pathname")?;
            let upload = begin(&app, &auth, wanted(&app, &auth, &headers, &given)?, None).await;
            let upload = upload.map_err(explained)?;
            let key = upload.pathname.full(&auth.workspace_id);
            Ok(Json(serde_json::json!({"uploadId": upload.id, "key": key})).into_response())
        }
        Some("upload") => {
            let id = header(&headers, "x-mpu-upload-id")?;
            let number = header(&headers, "x-mpu-part-number")?;
            let part = take_part(&app, &auth, id, number, &headers, body).await?;
            Ok(Json(serde_json::json!({"etag": served::quoted(&part.sha256)})).into_response())
        }
        Some("complete") => {
            let id = header(&headers, "x-mpu-upload-id")?.to_owned();
            let parts: Vec<Part> = json::list(&app, &headers, body).await?;
            let parts =
                parts.into_iter().map(|part| NamePart { part_number: part.part_number, etag: part.etag });
            let blob = finish(&app, &auth, &id, Some(parts.collect()), None).await.map_err(explained)?;
            Ok(Json(put_blob(&app, &headers, &auth.workspace_id, blob)).into_response())
        }
        other => {
            let shown: String = other.unwrap_or("missing").chars().take(40).collect();
            let message = format!("`x-mpu-action` is {shown}; it must be `create`, `upload` or `complete`");
            Err(wrong("x-mpu-action", message))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    part_number: u32,
    etag: String,
}

/// The same calls where the client's base URL has a slash at its end, and those that
/// the hub does not know. A redirect would break off every upload.
pub(crate) async fn tolerant(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let operation = path.strip_prefix(BASE).unwrap_or_default().trim_matches('/');
    match (request.method(), operation) {
        (&Method::PUT, "") => put.call(request, app).await,
        (&Method::GET, "") => get.call(request, app).await,
        (&Method::POST, "rename") => rename.call(request, app).await,
        (&Method::POST, "delete") => delete.call(request, app).await,
        (&Method::POST, "mpu") => multipart.call(request, app).await,
        _ => {
            let shown: String = format!("{} {path}", request.method()).chars().take(120).collect();
            let message = format!(
                "{shown}: this hub does not have that call; put, createFolder, head, list, copy, rename, del and \
                 multipart uploads work"
            );
            Failure::new(ErrorCode::InvalidRequest, message).into_response()
        }
    }
}

/// What the headers say of the object.
fn wanted(app: &App, auth: &Auth<StorageWrite>, headers: &HeaderMap, given: &str) -> Answer<New> {
    let pathname = object_named(auth, &with_suffix(app, headers, given)?)?;
    let content_type =
        text(headers, "x-content-type")?.map(|given| legal_type("x-content-type", given)).transpose()?;
    Ok(New {
        // The bytes' own `content-type` says what the client's runtime calls them.
        content_type: content_type.or_else(|| content_type_of(&pathname)),
        pathname,
        access: access(headers)?,
        cache_seconds: Some(cache_seconds(headers)?),
        expires_at: None,
        condition: condition(headers)?,
        size: None,
    })
}

async fn moved(
    app: &App,
    auth: &Auth<StorageWrite>,
    headers: &HeaderMap,
    from: &str,
    to: &str,
    is_rename: bool,
) -> Answer<Json<PutBlob>> {
    let from = pathname_in(&auth.workspace_id, "fromUrl", from)?;
    let to = object_named(auth, &with_suffix(app, headers, to)?)?;
    let content_type =
        text(headers, "x-content-type")?.map(|given| legal_type("x-content-type", given)).transpose()?;
    let copying = Copying {
        content_type: content_type.or_else(|| content_type_of(&to)),
        from,
        to,
        condition: condition(headers)?,
        is_rename,
        access: Some(access(headers)?),
        cache_seconds: Some(cache_seconds(headers)?),
    };
    let blob = copy_once(app, auth, copying, None).await.map_err(explained)?;
    Ok(Json(put_blob(app, headers, &auth.workspace_id, blob)))
}

/// A taken name is a `bad_request` to this client, in its own words.
fn explained(failure: Failure) -> Failure {
    if failure.error.code != ErrorCode::BlobExists {
        return failure;
    }
    let message = "This blob already exists, use `allowOverwrite: true` if you want to overwrite it, or \
                   `addRandomSuffix: true` to give it a name of its own.";
    Failure::new(ErrorCode::InvalidRequest, message)
}

fn access(headers: &HeaderMap) -> Answer<Access> {
    let given = text(headers, "x-vercel-blob-access")?;
    given.map_or(Ok(Access::default()), |given| {
        given.parse().map_err(|error: String| wrong("x-vercel-blob-access", error))
    })
}

fn condition(headers: &HeaderMap) -> Answer<Condition> {
    Ok(match headers.get("x-if-match") {
        Some(etag) => Condition::Is(hash(etag)?),
        None if flag(headers, "x-allow-overwrite")? => Condition::Any,
        None => Condition::Absent,
    })
}

fn cache_seconds(headers: &HeaderMap) -> Answer<u32> {
    let Some(given) = text(headers, "x-cache-control-max-age")? else { return Ok(CACHE_SECONDS) };
    given.parse().map_err(|_| {
        let shown: String = given.chars().take(40).collect();
        let message = format!("`cacheControlMaxAge` is `{shown}`; it must be a whole number of seconds");
        wrong("x-cache-control-max-age", message)
    })
}

/// `notes-4jWq….txt`, where the client wants a name of its own.
fn with_suffix(app: &App, headers: &HeaderMap, given: &str) -> Answer<String> {
    if !flag(headers, "x-add-random-suffix")? {
        return Ok(given.to_owned());
    }
    let suffix = app.ids.text(LETTERS, SUFFIX_LETTERS);
    let (folders, name) = given.rsplit_once('/').map_or(("", given), |(folders, name)| (folders, name));
    let slash = if folders.is_empty() { "" } else { "/" };
    Ok(match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, extension)) => format!("{folders}{slash}{stem}-{suffix}.{extension}"),
        None => format!("{folders}{slash}{name}-{suffix}"),
    })
}

/// The object that a URL of ours or a pathname names. Nothing is fetched from it.
fn pathname_in(workspace_id: &WorkspaceId, param: &str, given: &str) -> Answer<Pathname> {
    if !given.starts_with("http://") && !given.starts_with("https://") {
        return named(workspace_id, param, given);
    }
    let path = url::Url::parse(given).ok().and_then(|url| {
        let path = url.path().strip_prefix("/v1/storage/")?;
        Some(percent_encoding::percent_decode_str(path).decode_utf8().ok()?.into_owned())
    });
    let path = path.filter(|path| path.starts_with(workspace_id.as_str()));
    named(workspace_id, param, &path.ok_or_else(|| nothing_named(given))?)
}

fn put_blob(app: &App, headers: &HeaderMap, workspace_id: &WorkspaceId, blob: BlobRecord) -> PutBlob {
    let content_disposition = served::content_disposition(&blob, Disposition::AsItIs);
    let BlobView { url, download_url, pathname, content_type, etag, .. } =
        view(app, headers, workspace_id, blob);
    PutBlob { url, download_url, pathname, content_type, content_disposition, etag }
}

fn required(query: &mut Query, name: &str) -> Answer<String> {
    query.take(name)?.ok_or_else(|| wrong(name, format!("the query parameter `{name}` is missing")))
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Answer<&'h str> {
    text(headers, name)?.ok_or_else(|| wrong(name, format!("the header `{name}` is missing")))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Answer<Option<&'h str>> {
    let unreadable = |_| wrong(name, format!("the header `{name}` has characters that are not ASCII"));
    headers.get(name).map(|value| value.to_str().map_err(unreadable)).transpose()
}

fn flag(headers: &HeaderMap, name: &str) -> Answer<bool> {
    match text(headers, name)? {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            Err(wrong(name, format!("`{name}` is `{shown}`; it must be 1 or 0")))
        }
    }
}
