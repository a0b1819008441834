//! Signed URLs: to read one object, or to upload it, without a key.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use nh_blobs::{New, content_type_of};
use nh_store::Once;
use nh_store::blobs::{Condition, NoteLink};
use nh_types::blob::{Access, Pathname, SignBlob, SignedBlob, SignedMethod};
use nh_types::{ApiError, ErrorCode, Scope, WorkspaceId};

use super::asked::{body_size, chunks, condition, legal_type, object_named, said_type};
use super::{author, located, missing, object_url, stored, view};
use crate::app::App;
use crate::auth::{Auth, CredentialHash, MaybeAuth, Principal, StorageRead, StorageWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, media_type};
use crate::paging::{Query, invalid};
use crate::signed_link::{MAX_SECONDS, SignedLink, Upload};

const SECONDS: u32 = 3600;
const ID_LETTERS: usize = 20;
const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What a page of another origin may do with a link: nothing in anybody's name.
const CROSS_ORIGIN: [(HeaderName, HeaderValue); 5] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, PUT")),
    (
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("content-type, range, if-match, if-none-match, if-range"),
    ),
    (
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("etag, content-range, content-length, content-disposition, x-request-id"),
    ),
    (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
];

/// Make a URL that lets its holder read an object, or upload it, without a key, for
/// a while. It ends before its time when the key that it was made with is revoked.
#[utoipa::path(post, path = "/v1/storage/sign", tag = "Storage", request_body = SignBlob,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["storage:read"]), ("session" = ["storage:read"])),
    responses((status = 201, body = SignedBlob),
        (status = 409, description = "This Idempotency-Key made one before, which is not shown again",
            body = nh_types::ErrorBody)))]
pub(crate) async fn sign(
    auth: Auth<StorageRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<SignBlob>,
) -> Answer<(StatusCode, Json<SignedBlob>)> {
    let wanted = creating.body;
    let pathname = object_named(&auth, &wanted.pathname)?;
    let put = match wanted.method {
        SignedMethod::Put => Some(upload(&auth, &wanted)?),
        SignedMethod::Get => reading(&wanted).map(|()| None)?,
    };
    let seconds = wanted.expires_in_seconds.unwrap_or(SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let message = format!("`expires_in_seconds` is {seconds}; it must be 1 to {MAX_SECONDS} (7 days)");
        return Err(invalid("expires_in_seconds", message).into());
    }
    let now = app.clock.now();
    let link = SignedLink {
        id: format!("link_{}", app.ids.text(LOWER, ID_LETTERS)),
        by: CredentialHash::of(&auth),
        method: wanted.method,
        made_at: now,
        expires_at: now.plus_millis(i64::from(seconds) * 1000),
        put,
        download: wanted.download,
    };
    if let Some(once) = creating.once {
        let once = once.record(&auth, now);
        match app.hub.store.write_once(Some(once), NoteLink { id: link.id.clone() }).await? {
            Once::First(_) => {}
            Once::Replay(id) => return Err(already_created(&id).into()),
            Once::Mismatch => return Err(mismatch().into()),
        }
    }
    let sealed = link.seal(app.hub.sealer(), &auth.workspace_id, &pathname).map_err(Failure::internal)?;
    let signed = SignedBlob {
        url: format!("{}?sig={sealed}", object_url(&app, &headers, &auth.workspace_id, &pathname)),
        id: link.id,
        method: link.method,
        pathname: pathname.full(&auth.workspace_id),
        expires_at: link.expires_at,
    };
    Ok((StatusCode::CREATED, Json(signed)))
}

fn upload(principal: &Principal, wanted: &SignBlob) -> Answer<Upload> {
    principal.require(Scope::StorageWrite)?;
    if wanted.download {
        return Err(invalid("download", "`download` goes with the method GET".to_owned()).into());
    }
    Ok(Upload {
        max_size: wanted.max_size,
        content_type: wanted.content_type.as_deref().map(type_or_kind).transpose()?,
        access: wanted.access.unwrap_or_default(),
        overwrite: wanted.overwrite,
    })
}

fn reading(wanted: &SignBlob) -> Answer<()> {
    let given = [
        ("max_size", wanted.max_size.is_some()),
        ("content_type", wanted.content_type.is_some()),
        ("access", wanted.access.is_some()),
        ("overwrite", wanted.overwrite),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(invalid(name, format!("`{name}` goes with the method PUT")).into()),
        None => Ok(()),
    }
}

fn already_created(id: &str) -> ApiError {
    let message = format!(
        "this Idempotency-Key made the signed URL `{id}` before, which is not shown again; make one with a new key"
    );
    ApiError::new(ErrorCode::AlreadyCreated, message).param(id)
}

/// Upload an object to its URL, in place of the one that is there: with a signed URL
/// (`POST /v1/storage/sign` with the method PUT), which pages of other origins may
/// use too, or with a key. The body is its bytes.
#[utoipa::path(put, path = "/v1/storage/{workspace}/{*pathname}", tag = "Storage",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("workspace" = String, Path), ("pathname" = String, Path),
        ("sig" = Option<String>, Query, description = "As the signed URL has it"),
        ("access" = Option<Access>, Query), ("expires_at" = Option<String>, Query),
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none"),
        ("Content-Type" = Option<String>, Header)),
    security(("bearer" = ["storage:write"]), ("session" = ["storage:write"])),
    responses((status = 201, body = nh_types::blob::BlobView),
        (status = 409, description = "There is one already", body = nh_types::ErrorBody),
        (status = 412, description = "It is not what `If-Match` says", body = nh_types::ErrorBody)))]
pub(crate) async fn put(
    auth: MaybeAuth<StorageWrite>,
    State(app): State<Arc<App>>,
    Path((workspace, given)): Path<(String, String)>,
    headers: HeaderMap,
    mut query: Query,
    body: Body,
) -> Answer<Response> {
    let place = located(&workspace, &given);
    if let Some(sig) = query.take("sig")? {
        query.finish()?;
        let (workspace_id, pathname) = place.ok_or_else(|| missing(&workspace, &given))?;
        return Ok(for_any_origin(put_signed(&app, &sig, workspace_id, pathname, &headers, body).await));
    }
    let auth = auth.required()?;
    let place = place.filter(|(workspace_id, _)| *workspace_id == auth.workspace_id);
    let (_, pathname) = place.ok_or_else(|| missing(&workspace, &given))?;
    let new = New {
        pathname: object_named(&auth, pathname.as_str())?,
        content_type: said_type(&headers)?,
        access: query.parsed("access")?.unwrap_or_default(),
        cache_seconds: None,
        expires_at: query.time("expires_at")?,
        condition: condition(&headers, true)?,
        size: body_size(&headers),
    };
    query.finish()?;
    put_new(&app, &auth, &headers, new, chunks(&app, &headers, body)?).await
}

async fn put_signed(
    app: &App,
    sig: &str,
    workspace_id: WorkspaceId,
    pathname: Pathname,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Response> {
    let (link, principal) = opened(app, sig, &workspace_id, &pathname, SignedMethod::Put).await?;
    let Some(allowed) = link.put else { return Err(other_method(SignedMethod::Put)) };
    if let Some(most) = allowed.max_size.filter(|most| body_size(headers).is_some_and(|size| size > *most)) {
        return Err(too_large(most));
    }
    let new = New {
        content_type: allowed_type(headers, allowed.content_type.as_deref())?
            .or_else(|| content_type_of(&pathname)),
        pathname,
        access: allowed.access,
        cache_seconds: None,
        expires_at: None,
        condition: if allowed.overwrite { condition(headers, true)? } else { Condition::Absent },
        size: body_size(headers),
    };
    let body = at_most(chunks(app, headers, body)?, allowed.max_size.unwrap_or(u64::MAX));
    put_new(app, &principal, headers, new, body).await.map_err(|failure| match failure.error.code {
        // How full the workspace is, is nothing for strangers.
        ErrorCode::QuotaExceeded => Failure::new(ErrorCode::QuotaExceeded, "the object does not fit there"),
        _ => failure,
    })
}

async fn put_new(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    new: New,
    body: impl Stream<Item = Answer<Bytes>>,
) -> Answer<Response> {
    let pathname = new.pathname.clone();
    let never = None::<fn(&[u8; 32]) -> nh_store::Idempotency>;
    let done = app.hub.blobs.put(author(principal), new, body, never).await?;
    let blob = stored(&pathname, done).map_err(|failure| match failure.error.code {
        ErrorCode::BlobExists if headers.contains_key(IF_NONE_MATCH) => {
            let message =
                format!("there is an object `{pathname}` already, which If-None-Match: * rules out");
            ApiError::new(ErrorCode::PreconditionFailed, message).param("If-None-Match").into()
        }
        _ => failure,
    })?;
    Ok((StatusCode::CREATED, Json(view(app, headers, &principal.workspace_id, blob))).into_response())
}

/// What a link allows, and its maker, whose right it is.
pub(super) async fn opened(
    app: &App,
    sig: &str,
    workspace_id: &WorkspaceId,
    pathname: &Pathname,
    method: SignedMethod,
) -> Answer<(SignedLink, Arc<Principal>)> {
    let link = SignedLink::open(sig, app.hub.sealer(), workspace_id, pathname, app.clock.now())?;
    let ended = || {
        let message = "the key that the signed URL was made with is no longer good; have a new one made";
        Failure::new(ErrorCode::InvalidCredential, message)
    };
    let maker = app.credentials.again(app, &link.by).await.map_err(|failure| match failure.error.code {
        ErrorCode::InvalidCredential => ended(),
        _ => failure,
    })?;
    if maker.workspace_id != *workspace_id {
        return Err(ended());
    }
    app.rate_limits.check(&maker, app.hub.models.workspace_limits().requests_per_minute, None)?;
    maker.require(if method == SignedMethod::Put { Scope::StorageWrite } else { Scope::StorageRead })?;
    if link.method != method {
        return Err(other_method(method));
    }
    Ok((link, maker))
}

fn other_method(method: SignedMethod) -> Failure {
    let message = match method {
        SignedMethod::Get => "the signed URL is for an upload (PUT); it does not let one read",
        SignedMethod::Put => "the signed URL is for reading (GET); it does not let one upload",
    };
    Failure::new(ErrorCode::InvalidCredential, message)
}

/// The type that the object gets; one that the link does not allow is refused.
fn allowed_type(headers: &HeaderMap, allowed: Option<&str>) -> Answer<Option<String>> {
    let said = media_type(headers);
    let given = said_type(headers)?;
    let Some(allowed) = allowed else { return Ok(given) };
    match allowed.strip_suffix('*') {
        Some(kind) if said.starts_with(&kind.to_ascii_lowercase()) => return Ok(given),
        None if said == essence_of(allowed) => return Ok(Some(given.unwrap_or_else(|| allowed.to_owned()))),
        _ => {}
    }
    let message = format!("the signed URL takes `{allowed}`; the request's Content-Type is `{said}`");
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message).param("Content-Type").into())
}

/// `text/html` of `text/html; charset=utf-8`.
fn essence_of(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A type, or all of a kind: `image/*`.
fn type_or_kind(given: &str) -> Answer<String> {
    let one = given.strip_suffix("/*").map(|kind| format!("{kind}/any"));
    legal_type("content_type", one.as_deref().unwrap_or(given))?;
    Ok(given.to_owned())
}

/// Breaks off what has more bytes.
fn at_most(chunks: impl Stream<Item = Answer<Bytes>>, most: u64) -> impl Stream<Item = Answer<Bytes>> {
    let mut size = 0;
    chunks.map(move |chunk| {
        let chunk = chunk?;
        size += chunk.len() as u64;
        if size > most { Err(too_large(most)) } else { Ok(chunk) }
    })
}

fn too_large(most: u64) -> Failure {
    let message = format!("the object has more bytes than the signed URL takes ({most})");
    Failure::new(ErrorCode::PayloadTooLarge, message)
}

/// Lets pages of every origin see the answer, which no cookie had a part in.
pub(super) fn for_any_origin(answer: Answer<Response>) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().extend(CROSS_ORIGIN);
    response
}

/// What a browser asks before a page of another origin uses a link.
pub(crate) async fn preflight() -> Response {
    for_any_origin(Ok(StatusCode::NO_CONTENT.into_response()))
}
