//! `/v1/storage`: objects by pathname.

mod form;
pub(crate) mod links;
pub(crate) mod uploads;
pub(crate) mod vercel;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use nh_blobs::{Author, Copying, New};
use nh_store::Once;
use nh_store::blobs::{BlobRecord, Condition, PutDone};
use nh_types::blob::{
    Access, BlobList, BlobUsage, BlobView, CreateFolder, MoveBlob, Named, Pathname, SignedMethod,
};
use nh_types::{ApiError, ErrorCode, PageRequest, WorkspaceId};

use crate::app::App;
use crate::auth::{Auth, MaybeAuth, Principal, StorageRead, StorageWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::{self, mismatch};
use crate::json::{Creating, media_type};
use crate::paging::{Query, seal_cursor};
use crate::served::{self, Disposition};

const FORM: &str = "multipart/form-data";
/// What clients send when nobody said what it is.
const UNSAID_TYPES: [&str; 3] = ["", "application/octet-stream", "application/x-www-form-urlencoded"];

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
        let file = form::file_in(&app, &headers, body).await?;
        let target = format!("{target} {}", file.name.as_deref().unwrap_or_default());
        let new = wanted(&app, &auth, &headers, &mut query, file.name, file.content_type)?;
        query.finish()?;
        // The form is a little longer than its file.
        let new = New { size: None, ..new };
        return put(&app, &auth, &headers, new, file.chunks, key, &target).await;
    }
    let new = wanted(&app, &auth, &headers, &mut query, None, said_type(&headers))?;
    query.finish()?;
    put(&app, &auth, &headers, new, chunks(&app, body), key, target).await
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

/// What the client says that the body is, where it says something.
fn said_type(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::CONTENT_TYPE)?;
    match given.to_str() {
        Ok(text) => (!UNSAID_TYPES.contains(&media_type(headers).as_str())).then(|| text.to_owned()),
        // Refused, in words.
        Err(_) => Some(String::from_utf8_lossy(given.as_bytes()).into_owned()),
    }
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
    let pathname = uploads::object_named(auth, &given)?;
    let content_type = content_type.map(|given| uploads::legal_type("Content-Type", &given)).transpose()?;
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
        condition: uploads::condition(headers, overwrite),
        size: body_size(headers),
    })
}

/// Of the body, where the client says it.
fn body_size(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body as it comes. A client that stops sending is not waited for.
fn chunks(app: &App, body: Body) -> impl Stream<Item = Answer<Bytes>> + Send + use<> {
    let patience = Duration::from_millis(app.settings.body_timeout_ms);
    stream::try_unfold(body, move |mut body| async move {
        loop {
            let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| {
                let message = format!("nothing more of the body came for {} ms", patience.as_millis());
                Failure::new(ErrorCode::RequestTimeout, message)
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| {
                let message = format!("the body could not be read to its end: {error}");
                Failure::new(ErrorCode::InvalidRequest, message)
            })?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some((bytes, body)));
            }
        }
    })
}

/// The object that was put, or why it was not.
fn stored(pathname: &Pathname, done: Once<PutDone>) -> Answer<BlobRecord> {
    match done {
        Once::First(PutDone::Stored(blob)) | Once::Replay(PutDone::Stored(blob)) => Ok(blob),
        Once::First(refused) | Once::Replay(refused) => Err(not_put(pathname, &refused)),
        Once::Mismatch => Err(mismatch().into()),
    }
}

fn not_put(pathname: &Pathname, why: &PutDone) -> Failure {
    match why {
        PutDone::OverQuota { used, quota } => over_quota(&format!("`{pathname}`"), *used, *quota),
        PutDone::Changed => {
            let message = format!("`{pathname}` is not what If-Match says; read its ETag again");
            ApiError::new(ErrorCode::PreconditionFailed, message).param("If-Match").into()
        }
        PutDone::Exists | PutDone::Stored(_) => {
            let message = format!("there is an object `{pathname}` already; `overwrite=true` replaces it");
            ApiError::new(ErrorCode::BlobExists, message).param("pathname").into()
        }
    }
}

fn over_quota(what: &str, used: u64, quota: u64) -> Failure {
    let message = format!(
        "{what} does not fit: the workspace's objects and unfinished uploads take {used} of the {quota} bytes \
         that they may; delete some, or ask the operator for more ([blobs] quota_bytes)"
    );
    Failure::new(ErrorCode::QuotaExceeded, message)
}

/// Put an object under another name too. Both have the same bytes, so that it takes
/// no time whatever its size.
#[utoipa::path(post, path = "/v1/storage/copy", tag = "Storage", request_body = MoveBlob,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = BlobView),
        (status = 404, description = "There is no such object", body = nh_types::ErrorBody),
        (status = 409, description = "There is one of the other name", body = nh_types::ErrorBody)))]
pub(crate) async fn copy(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<MoveBlob>,
) -> Answer<(StatusCode, Json<BlobView>)> {
    let moved = moved(&app, &auth, creating, false).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &headers, &auth.workspace_id, moved))))
}

/// Give an object another name.
#[utoipa::path(post, path = "/v1/storage/rename", tag = "Storage", request_body = MoveBlob,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, body = BlobView),
        (status = 404, description = "There is no such object", body = nh_types::ErrorBody),
        (status = 409, description = "There is one of the other name", body = nh_types::ErrorBody)))]
pub(crate) async fn rename(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<MoveBlob>,
) -> Answer<Json<BlobView>> {
    let moved = moved(&app, &auth, creating, true).await?;
    Ok(Json(view(&app, &headers, &auth.workspace_id, moved)))
}

async fn moved(
    app: &App,
    auth: &Auth<StorageWrite>,
    creating: Creating<MoveBlob>,
    is_rename: bool,
) -> Answer<BlobRecord> {
    let MoveBlob { from, to, overwrite, access } = creating.body;
    let from = named(&auth.workspace_id, "from", &from)?;
    let to = named(&auth.workspace_id, "to", &to)?;
    if from.is_folder() != to.is_folder() {
        return Err(wrong(
            "to",
            format!("`{from}` and `{to}`: one is a folder's name, the other an object's"),
        ));
    }
    let condition = if overwrite { Condition::Any } else { Condition::Absent };
    let copying = Copying { from, to, condition, is_rename, access, content_type: None, cache_seconds: None };
    copy_once(app, auth, copying, creating.once.map(|once| once.record(auth, app.clock.now()))).await
}

async fn copy_once(
    app: &App,
    auth: &Auth<StorageWrite>,
    copying: Copying,
    once: Option<nh_store::Idempotency>,
) -> Answer<BlobRecord> {
    let (from, to) = (copying.from.clone(), copying.to.clone());
    match app.hub.blobs.copy(author(auth), copying, once).await? {
        Once::First(None) | Once::Replay(None) => Err(Failure::not_found("object", from.as_str())),
        Once::First(Some(done)) | Once::Replay(Some(done)) => stored(&to, Once::First(done)),
        Once::Mismatch => Err(mismatch().into()),
    }
}

/// Make a folder, so that it is listed though nothing is in it yet. One that is
/// there stays.
#[utoipa::path(post, path = "/v1/storage/folders", tag = "Storage", request_body = CreateFolder,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = BlobView)))]
pub(crate) async fn create_folder(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<CreateFolder>,
) -> Answer<(StatusCode, Json<BlobView>)> {
    let pathname = folder(&auth, &creating.body.pathname)?;
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    let blob = put_folder(&app, &auth, pathname, once).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &headers, &auth.workspace_id, blob))))
}

/// The name of a folder, with or without the slash at its end.
fn folder(principal: &Principal, given: &str) -> Answer<Pathname> {
    let name = format!("{}/", given.strip_suffix('/').unwrap_or(given));
    named(&principal.workspace_id, "pathname", &name)
}

async fn put_folder(
    app: &App,
    auth: &Auth<StorageWrite>,
    pathname: Pathname,
    once: Option<nh_store::Idempotency>,
) -> Answer<BlobRecord> {
    let new = New {
        pathname: pathname.clone(),
        content_type: Some("application/x-directory".to_owned()),
        access: Access::Private,
        cache_seconds: None,
        expires_at: None,
        condition: Condition::Any,
        size: Some(0),
    };
    let nothing = stream::empty::<Answer<Bytes>>();
    let done = app.hub.blobs.put(author(auth), new, nothing, once.map(|once| |_: &[u8; 32]| once)).await?;
    stored(&pathname, done)
}

fn author(principal: &Principal) -> Author {
    Author { workspace_id: principal.workspace_id.clone(), created_by: principal.created_by(), run: None }
}

/// List objects, by pathname.
#[utoipa::path(get, path = "/v1/storage/list", tag = "Storage",
    params(("prefix" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query),
        ("mode" = Option<String>, Query, description = "`folded`: what is in folders below is told by their names; `expanded`: all")),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, body = BlobList)))]
pub(crate) async fn list(
    auth: Auth<StorageRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Json<BlobList>> {
    let found = listed(&app, &auth, &headers, &mut query, PageRequest::DEFAULT_LIMIT).await?;
    query.finish()?;
    Ok(Json(found))
}

async fn listed(
    app: &App,
    auth: &Auth<StorageRead>,
    headers: &HeaderMap,
    query: &mut Query,
    limit: u32,
) -> Answer<BlobList> {
    let page = query.page_of(limit)?;
    let prefix = prefix(&auth.workspace_id, &query.take("prefix")?.unwrap_or_default())?;
    let is_folded = match query.take("mode")?.as_deref() {
        None | Some("expanded") => false,
        Some("folded") => true,
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(wrong("mode", format!("`mode` is `{shown}`; it must be `expanded` or `folded`")));
        }
    };
    let ws = &auth.workspace_id;
    let found = app.hub.blobs.list(ws, &prefix, page.after, page.limit, is_folded).await?;
    Ok(BlobList {
        blobs: found.blobs.into_iter().map(|blob| view(app, headers, ws, blob)).collect(),
        folders: found.folders.into_iter().map(|folder| format!("{ws}/{folder}")).collect(),
        has_more: found.next.is_some(),
        cursor: found.next.as_deref().map(seal_cursor),
    })
}

/// Tell what the workspace's objects take, and what they may.
#[utoipa::path(get, path = "/v1/storage/usage", tag = "Storage",
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, body = BlobUsage)))]
pub(crate) async fn usage(auth: Auth<StorageRead>, State(app): State<Arc<App>>) -> Answer<Json<BlobUsage>> {
    let blobs = &app.hub.blobs;
    let totals = blobs.totals(&auth.workspace_id).await?;
    Ok(Json(BlobUsage {
        blobs: totals.blobs,
        size: totals.size,
        uploading: totals.uploading,
        quota: blobs.quota(),
    }))
}

/// Read an object, or with HEAD what it is. A public one needs no credential.
#[utoipa::path(get, path = "/v1/storage/{workspace}/{*pathname}", tag = "Storage",
    params(("workspace" = String, Path), ("pathname" = String, Path),
        ("download" = Option<u32>, Query, description = "1: to be saved as a file"),
        ("sig" = Option<String>, Query, description = "As a signed URL has it (`POST /v1/storage/sign`)"),
        ("Range" = Option<String>, Header), ("If-None-Match" = Option<String>, Header),
        ("If-Match" = Option<String>, Header), ("If-Range" = Option<String>, Header)),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, description = "Its bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The bytes of `Range`", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "It has the ETag of `If-None-Match`"),
        (status = 412, description = "It has not the ETag of `If-Match`", body = nh_types::ErrorBody),
        (status = 416, description = "`Range` begins after its last byte", body = nh_types::ErrorBody)))]
pub(crate) async fn read(
    auth: MaybeAuth<StorageRead>,
    State(app): State<Arc<App>>,
    Path((workspace, given)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let place = located(&workspace, &given);
    if let Some(sig) = query.take("sig")? {
        let (workspace_id, pathname) = place.ok_or_else(|| missing(&workspace, &given))?;
        let link = match links::opened(&app, &sig, &workspace_id, &pathname, SignedMethod::Get).await {
            Ok((link, _)) => link,
            Err(failure) => return Ok(links::for_any_origin(Err(failure))),
        };
        let disposition = if link.download { Disposition::Attachment } else { disposition(&mut query)? };
        query.finish()?;
        let answer = send(&app, &workspace_id, &pathname, &method, &headers, disposition, |_| true).await;
        return Ok(links::for_any_origin(answer));
    }
    let found = match &place {
        Some((workspace_id, pathname)) => app.hub.blobs.find(workspace_id, pathname).await?,
        None => None,
    };
    let is_public = found.is_some_and(|blob| blob.access == Access::Public);
    if !is_public && auth.required()?.workspace_id.as_str() != workspace {
        return Err(missing(&workspace, &given));
    }
    let Some((workspace_id, pathname)) = place else { return Err(missing(&workspace, &given)) };
    let disposition = disposition(&mut query)?;
    query.finish()?;
    // It may have become private since it was found.
    let may_be_seen = |blob: &BlobRecord| !is_public || blob.access == Access::Public;
    let answer = send(&app, &workspace_id, &pathname, &method, &headers, disposition, may_be_seen).await;
    if is_public { Ok(links::for_any_origin(answer)) } else { answer }
}

fn disposition(query: &mut Query) -> Answer<Disposition> {
    Ok(match query.take("download")?.as_deref() {
        None | Some("0") => Disposition::AsItIs,
        Some(_) => Disposition::Attachment,
    })
}

async fn send(
    app: &App,
    workspace_id: &WorkspaceId,
    pathname: &Pathname,
    method: &Method,
    headers: &HeaderMap,
    disposition: Disposition,
    may_be_seen: impl Fn(&BlobRecord) -> bool,
) -> Answer<Response> {
    let missing = || missing(workspace_id.as_str(), pathname.as_str());
    if method == Method::HEAD {
        let blob = app.hub.blobs.find(workspace_id, pathname).await?.filter(&may_be_seen);
        return Ok(served::head(&blob.ok_or_else(missing)?, headers, disposition)?.into_response());
    }
    let opened = app.hub.blobs.open(workspace_id, pathname).await?;
    let opened = opened.filter(|opened| may_be_seen(&opened.blob)).ok_or_else(missing)?;
    let head = served::head(&opened.blob, headers, disposition)?;
    let Some(range) = head.range.clone() else { return Ok(head.into_response()) };
    let bytes = opened.read(range).await?.inspect(|read| {
        if let Err(error) = read {
            tracing::error!(%error, "an object could not be read to its end");
        }
    });
    let mut response = head.into_response();
    *response.body_mut() = Body::from_stream(bytes);
    Ok(response)
}

/// Delete an object.
#[utoipa::path(delete, path = "/v1/storage/{workspace}/{*pathname}", tag = "Storage",
    params(("workspace" = String, Path), ("pathname" = String, Path),
        ("If-Match" = Option<String>, Header, description = "Deletes only what has this ETag")),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 204, description = "Deleted"),
        (status = 412, description = "It is not what `If-Match` says", body = nh_types::ErrorBody)))]
pub(crate) async fn delete(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    Path((workspace, given)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let place = located(&workspace, &given).filter(|(workspace_id, _)| *workspace_id == auth.workspace_id);
    let Some((workspace_id, pathname)) = place else { return Err(missing(&workspace, &given)) };
    let only_if = headers.get(header::IF_MATCH).map(uploads::hash);
    match app.hub.blobs.delete(&workspace_id, vec![pathname.clone()], only_if).await? {
        None => Err(not_put(&pathname, &PutDone::Changed)),
        Some(0) => Err(missing(&workspace, &given)),
        Some(_) => Ok(StatusCode::NO_CONTENT),
    }
}

/// What is no pathname names nothing.
fn located(workspace: &str, pathname: &str) -> Option<(WorkspaceId, Pathname)> {
    Some((workspace.parse().ok()?, pathname.parse().ok()?))
}

fn missing(workspace: &str, pathname: &str) -> Failure {
    nothing_named(&format!("{workspace}/{pathname}"))
}

fn nothing_named(given: &str) -> Failure {
    Failure::not_found("object", given)
}

/// A name that an operation is given, with or without the workspace before it.
fn named(workspace_id: &WorkspaceId, param: &str, given: &str) -> Answer<Pathname> {
    match Pathname::of(workspace_id, given) {
        Ok(Named::Here(pathname)) => Ok(pathname),
        Ok(Named::Elsewhere) => Err(nothing_named(given)),
        Err(error) => Err(ApiError::new(ErrorCode::InvalidValue, error.to_string()).param(param).into()),
    }
}

/// A prefix is the beginning of a name, so it may end anywhere in one.
fn prefix(workspace_id: &WorkspaceId, given: &str) -> Answer<String> {
    if given.is_empty()
        || given.strip_suffix('/') == Some(workspace_id.as_str())
        || given == workspace_id.as_str()
    {
        return Ok(String::new());
    }
    let to_check = if given.ends_with(['/', '.']) { format!("{given}x") } else { given.to_owned() };
    let checked = named(workspace_id, "prefix", &to_check)?;
    let name = checked.as_str();
    Ok(name[..name.len() - (to_check.len() - given.len())].to_owned())
}

fn view(app: &App, headers: &HeaderMap, workspace_id: &WorkspaceId, blob: BlobRecord) -> BlobView {
    let url = object_url(app, headers, workspace_id, &blob.pathname);
    let pathname = blob.pathname.full(workspace_id);
    BlobView {
        download_url: format!("{url}?download=1"),
        url,
        pathname,
        etag: served::etag(&blob),
        sha256: served::hexadecimal(&blob.sha256),
        content_type: blob.content_type,
        size: blob.size,
        access: blob.access,
        uploaded_at: blob.uploaded_at,
        expires_at: blob.expires_at,
        source: blob.source,
    }
}

/// Where the object is read.
fn object_url(app: &App, headers: &HeaderMap, workspace_id: &WorkspaceId, pathname: &Pathname) -> String {
    let base = match app.hub.blobs.public_origin() {
        Some(origin) => origin.as_str().trim_end_matches('/').to_owned(),
        None => app.base_url(headers),
    };
    format!("{base}/v1/storage/{}", served::encoded(&pathname.full(workspace_id)))
}

fn wrong(param: &str, message: impl Into<String>) -> Failure {
    ApiError::new(ErrorCode::InvalidRequest, message).param(param).into()
}
