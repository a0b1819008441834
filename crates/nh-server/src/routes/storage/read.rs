//! Objects are read, by who may: with a key, with a signed URL, or by everybody.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, Method};
use nh_blobs::{BlobError, BucketError};
use nh_store::blobs::BlobRecord;
use nh_types::WorkspaceId;
use nh_types::blob::{Access, Pathname, SignedMethod};

use super::{links, located, missing};
use crate::app::App;
use crate::auth::{MaybeAuth, StorageRead};
use crate::failure::Answer;
use crate::paging::Query;
use crate::served::{self, Disposition};

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
    let mut is_again = false;
    loop {
        let opened = app.hub.blobs.open(workspace_id, pathname).await?;
        let opened = opened.filter(|opened| may_be_seen(&opened.blob)).ok_or_else(missing)?;
        let head = served::head(&opened.blob, headers, disposition)?;
        let Some(range) = head.range.clone() else { return Ok(head.into_response()) };
        let bytes = match opened.read(range).await {
            // It was replaced or deleted since its row was read.
            Err(BlobError::Bucket(BucketError::Missing)) if !is_again => {
                is_again = true;
                continue;
            }
            read => read?,
        };
        let mut response = head.into_response();
        *response.body_mut() = Body::from_stream(bytes.inspect(|read| {
            if let Err(error) = read {
                tracing::error!(%error, "an object could not be read to its end");
            }
        }));
        return Ok(response);
    }
}
