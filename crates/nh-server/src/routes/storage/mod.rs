//! `/v1/storage`: objects by pathname.

pub(crate) mod asked;
mod form;
pub(crate) mod links;
pub(crate) mod objects;
pub(crate) mod read;
pub(crate) mod upload;
pub(crate) mod uploads;
pub(crate) mod vercel;

use http::HeaderMap;
use nh_blobs::Author;
use nh_store::Once;
use nh_store::blobs::{BlobRecord, PutDone};
use nh_types::blob::{BlobView, Pathname};
use nh_types::{ApiError, ErrorCode, WorkspaceId};

use crate::app::App;
use crate::auth::Principal;
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::served;

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
        PutDone::OverQuota { used, quota } => nh_blobs::over_quota(*used, *quota).into(),
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

fn author(principal: &Principal) -> Author {
    Author { workspace_id: principal.workspace_id.clone(), created_by: principal.created_by(), run: None }
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
