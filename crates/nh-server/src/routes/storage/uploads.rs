//! `/v1/storage/uploads`: objects that come in parts, so that after a broken
//! connection only the rest is sent again.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use nh_blobs::{Completion, MAX_PART_NUMBER, MAX_UPLOADS, NamedPart, New};
use nh_store::Once;
use nh_store::blobs::{Condition, PartDone, PartRecord, UploadRecord};
use nh_types::blob::{
    BlobView, CompleteUpload, CreateUpload, NamePart, PartView, UploadList, UploadView, WantedBlob,
};
use nh_types::{ApiError, ErrorCode, UploadId};

use super::asked::{body_size, chunks, condition, legal_type, object_named, prefix};
use super::{author, not_put, stored, view};
use crate::app::App;
use crate::auth::{Auth, Principal, StorageRead, StorageWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, invalid, seal_cursor};
use crate::served;

/// Begin an upload in parts. The parts may come in any order and several at once,
/// up to 10,000 of any size; one that is sent again takes the place of the first.
/// What nothing came for in 24 hours is given up.
#[utoipa::path(post, path = "/v1/storage/uploads", tag = "Storage uploads", request_body = CreateUpload,
    params(("If-Match" = Option<String>, Header, description = "Replaces only what has this ETag"),
        ("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = UploadView),
        (status = 409, description = "There is one already", body = nh_types::ErrorBody),
        (status = 412, description = "It is not what `If-Match` says", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<CreateUpload>,
) -> Answer<(StatusCode, Json<UploadView>)> {
    let CreateUpload { pathname, content_type, access, overwrite, expires_at } = creating.body;
    let new = New {
        pathname: object_named(&auth, &pathname)?,
        content_type: content_type.map(|given| legal_type("content_type", &given)).transpose()?,
        access,
        cache_seconds: None,
        expires_at,
        condition: condition(&headers, overwrite)?,
        size: None,
    };
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    let upload = begin(&app, &auth, new, once).await?;
    Ok((StatusCode::CREATED, Json(shown(&app, &headers, &auth, upload, Vec::new()))))
}

/// Begins one; what is known already to be refused is.
pub(super) async fn begin(
    app: &App,
    auth: &Auth<StorageWrite>,
    new: New,
    once: Option<nh_store::Idempotency>,
) -> Answer<UploadRecord> {
    let pathname = new.pathname.clone();
    match app.hub.blobs.begin_upload(author(auth), new, once).await? {
        Once::First(Ok(Some(upload))) | Once::Replay(Ok(Some(upload))) => Ok(upload),
        Once::First(Ok(None)) | Once::Replay(Ok(None)) => {
            let message = format!(
                "{MAX_UPLOADS} uploads of the workspace go on already; complete or delete some \
                 (GET /v1/storage/uploads lists them)"
            );
            Err(Failure::new(ErrorCode::Conflict, message))
        }
        Once::First(Err(refused)) | Once::Replay(Err(refused)) => Err(not_put(&pathname, &refused)),
        Once::Mismatch => Err(mismatch().into()),
    }
}

/// List uploads that go on, by pathname.
#[utoipa::path(get, path = "/v1/storage/uploads", tag = "Storage uploads",
    params(("prefix" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query)),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, body = UploadList)))]
pub(crate) async fn list(
    auth: Auth<StorageRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Json<UploadList>> {
    let page = query.page()?;
    let prefix = prefix(&auth.workspace_id, &query.take("prefix")?.unwrap_or_default())?;
    query.finish()?;
    let after = page.after.map(|after| match after.rsplit_once('\n') {
        Some((pathname, id)) => Ok((pathname.to_owned(), id.to_owned())),
        None => Err(invalid("cursor", "`cursor` is not one that this list gave out".to_owned())),
    });
    let after = after.transpose()?;
    let limit = page.limit;
    let mut found = app.hub.blobs.uploads(&auth.workspace_id, &prefix, after.as_ref(), limit).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| has_more);
    let cursor = last.map(|last| seal_cursor(&format!("{}\n{}", last.pathname, last.id)));
    let uploads = found.into_iter().map(|upload| shown(&app, &headers, &auth, upload, Vec::new())).collect();
    Ok(Json(UploadList { uploads, cursor, has_more }))
}

/// Tell what came of an upload. It is told for 24 hours after its completion too.
#[utoipa::path(get, path = "/v1/storage/uploads/{id}", tag = "Storage uploads", params(("id" = String, Path)),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 200, body = UploadView)))]
pub(crate) async fn find(
    auth: Auth<StorageRead>,
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<UploadView>> {
    let found = match given.parse() {
        Ok(id) => app.hub.blobs.upload(&auth.workspace_id, &id).await?,
        Err(_) => None,
    };
    let (upload, parts) = found.ok_or_else(|| missing(&given))?;
    Ok(Json(shown(&app, &headers, &auth, upload, parts)))
}

/// Send a part: the body is its bytes. It is durable when the answer comes.
#[utoipa::path(put, path = "/v1/storage/uploads/{id}/parts/{number}", tag = "Storage uploads",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("id" = String, Path), ("number" = u32, Path, minimum = 1, maximum = 10000)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 200, body = PartView)))]
pub(crate) async fn put_part(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    Path((given, number)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<PartView>> {
    let part = take_part(&app, &auth, &given, &number, &headers, body).await?;
    Ok(Json(part_view(&part)))
}

pub(super) async fn take_part(
    app: &App,
    auth: &Auth<StorageWrite>,
    given: &str,
    number: &str,
    headers: &HeaderMap,
    body: Body,
) -> Answer<PartRecord> {
    let id: UploadId = given.parse().map_err(|_| missing(given))?;
    let number = part_number(number)?;
    let blobs = &app.hub.blobs;
    let (part, done) = blobs
        .put_part(&auth.workspace_id, &id, number, body_size(headers), chunks(app, headers, body)?)
        .await?;
    match done {
        PartDone::Stored => Ok(part),
        PartDone::NoUpload => Err(missing(given)),
        PartDone::TooLarge => {
            let message = format!(
                "with part {number} the object would have more bytes than one may ([blobs] max_size_bytes)"
            );
            Err(Failure::new(ErrorCode::PayloadTooLarge, message))
        }
        PartDone::OverQuota { used, quota } => Err(nh_blobs::over_quota(used, quota).into()),
    }
}

/// Make an object of the parts, in the order of their numbers. Asked again it gives
/// the same answer.
#[utoipa::path(post, path = "/v1/storage/uploads/{id}/complete", tag = "Storage uploads",
    request_body = CompleteUpload, params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = BlobView),
        (status = 409, description = "There is one already, or a part came meanwhile", body = nh_types::ErrorBody),
        (status = 412, description = "What is there is not what `If-Match` said", body = nh_types::ErrorBody)))]
pub(crate) async fn complete(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
    headers: HeaderMap,
    creating: Creating<CompleteUpload, true>,
) -> Answer<(StatusCode, Json<BlobView>)> {
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    let blob = finish(&app, &auth, &given, creating.body.parts, once).await?;
    Ok((StatusCode::CREATED, Json(view(&app, &headers, &auth.workspace_id, blob))))
}

pub(super) async fn finish(
    app: &App,
    auth: &Auth<StorageWrite>,
    given: &str,
    parts: Option<Vec<NamePart>>,
    once: Option<nh_store::Idempotency>,
) -> Answer<nh_store::blobs::BlobRecord> {
    let id: UploadId = given.parse().map_err(|_| missing(given))?;
    let named = parts.map(|parts| parts.iter().map(named_part).collect::<Answer<Vec<_>>>()).transpose()?;
    let blobs = &app.hub.blobs;
    let upload = blobs.upload(&auth.workspace_id, &id).await?.ok_or_else(|| missing(given))?.0;
    let completion = match blobs.complete_upload(&auth.workspace_id, &id, named, once).await? {
        Once::First(completion) | Once::Replay(completion) => completion,
        Once::Mismatch => return Err(mismatch().into()),
    };
    match completion {
        Completion::Put(done) => stored(&upload.pathname, Once::First(done)),
        Completion::NoUpload => Err(missing(given)),
        Completion::OtherPart(number) => {
            let message = format!(
                "part {number} did not come, or has another etag; GET /v1/storage/uploads/{id} tells what came"
            );
            Err(ApiError::new(ErrorCode::InvalidValue, message).param("parts").into())
        }
        Completion::PartsChanged => {
            let message = "a part came while the upload was being completed; complete it again";
            Err(ApiError::new(ErrorCode::Conflict, message).into())
        }
    }
}

/// Give an upload up. What came of it is removed.
#[utoipa::path(delete, path = "/v1/storage/uploads/{id}", tag = "Storage uploads", params(("id" = String, Path)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 204, description = "Given up")))]
pub(crate) async fn abort(
    auth: Auth<StorageWrite>,
    State(app): State<Arc<App>>,
    Path(given): Path<String>,
) -> Answer<StatusCode> {
    let is_gone = match given.parse() {
        Ok(id) => app.hub.blobs.abort_upload(&auth.workspace_id, &id).await?,
        Err(_) => false,
    };
    if is_gone { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&given)) }
}

fn missing(id: &str) -> Failure {
    Failure::not_found("upload that goes on", id)
}

fn part_number(given: &str) -> Answer<u32> {
    let number = given.parse().ok().filter(|number| (1..=MAX_PART_NUMBER).contains(number));
    number.ok_or_else(|| {
        let shown: String = given.chars().take(40).collect();
        let message = format!("the part's number is `{shown}`; it must be 1 to {MAX_PART_NUMBER}");
        invalid("number", message).into()
    })
}

fn named_part(part: &NamePart) -> Answer<NamedPart> {
    let number = part_number(&part.part_number.to_string())?;
    // One that is no ETag of ours names no part that is there.
    Ok(NamedPart { number, sha256: served::hash_in(&part.etag).unwrap_or_default() })
}

fn shown(
    app: &App,
    headers: &HeaderMap,
    principal: &Principal,
    upload: UploadRecord,
    parts: Vec<PartRecord>,
) -> UploadView {
    let workspace_id = &principal.workspace_id;
    UploadView {
        pathname: upload.pathname.full(workspace_id),
        id: upload.id,
        created_at: upload.created_at,
        expires_at: upload.expires_at,
        wanted: WantedBlob {
            content_type: upload.wanted.content_type,
            access: upload.wanted.access,
            overwrite: upload.wanted.condition == Condition::Any,
            expires_at: upload.wanted.expires_at,
        },
        parts: parts.iter().map(part_view).collect(),
        completed: upload.completed.map(|blob| view(app, headers, workspace_id, blob)),
    }
}

fn part_view(part: &PartRecord) -> PartView {
    PartView { part_number: part.number, size: part.size, etag: served::quoted(&part.sha256) }
}
