//! What is done with objects that are there.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use nh_blobs::{Copying, New};
use nh_store::Once;
use nh_store::blobs::{BlobRecord, Condition, PutDone};
use nh_types::PageRequest;
use nh_types::blob::{Access, BlobList, BlobUsage, BlobView, CreateFolder, MoveBlob, Pathname};

use super::asked::{folder, hash, named, prefix};
use super::{author, located, missing, not_put, stored, view, wrong};
use crate::app::App;
use crate::auth::{Auth, StorageRead, StorageWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, seal_cursor};

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

pub(super) async fn copy_once(
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

pub(super) async fn put_folder(
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

pub(super) async fn listed(
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
    let only_if =
        headers.get(header::IF_MATCH).filter(|etag| etag.as_bytes() != b"*").map(hash).transpose()?;
    match app.hub.blobs.delete(&workspace_id, vec![pathname.clone()], only_if).await? {
        None => Err(not_put(&pathname, &PutDone::Changed)),
        Some(0) => Err(missing(&workspace, &given)),
        Some(_) => Ok(StatusCode::NO_CONTENT),
    }
}
