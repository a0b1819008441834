//! What the hub has, by the names that people give.

use std::fmt::Write as _;

use nh_types::blob::{BlobList, BlobView};
use nh_types::error::ErrorDetail;
use nh_types::{ErrorBody, ErrorCode};
use sha2::{Digest, Sha256};

use crate::client::{Client, segment, with_query};
use crate::exit::Failure;

/// The most that the hub lists at once.
const PAGE: u32 = 1000;

/// A name without the workspace, which the hub puts before it.
pub(super) fn short(pathname: &str) -> &str {
    pathname.split_once('/').map_or(pathname, |(_, name)| name)
}

pub(super) fn path(object: &BlobView) -> String {
    let segments: Vec<String> = object.pathname.split('/').map(segment).collect();
    format!("/v1/storage/{}", segments.join("/"))
}

/// What all names in a folder begin with; `/` is all that there is.
pub(super) fn folder_prefix(folder: &str) -> String {
    match folder.trim_end_matches('/') {
        "" => String::new(),
        folder => format!("{folder}/"),
    }
}

/// The object of this name: none sorts before it that begins with it.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<BlobView>, Failure> {
    let first = page(client, name, false, 1, None).await?.blobs.into_iter().next();
    Ok(first.filter(|first| short(&first.pathname) == name || first.pathname == name))
}

/// All pages of a list.
pub(super) async fn all(client: &Client, prefix: &str, is_folded: bool) -> Result<BlobList, Failure> {
    let mut all = page(client, prefix, is_folded, PAGE, None).await?;
    while let Some(cursor) = all.cursor.take() {
        let next = page(client, prefix, is_folded, PAGE, Some(cursor)).await?;
        all.blobs.extend(next.blobs);
        all.folders.extend(next.folders);
        all.cursor = next.cursor;
    }
    all.has_more = false;
    Ok(all)
}

async fn page(
    client: &Client,
    prefix: &str,
    is_folded: bool,
    limit: u32,
    cursor: Option<String>,
) -> Result<BlobList, Failure> {
    let parameters = [
        ("prefix", Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty())),
        ("mode", is_folded.then(|| "folded".to_owned())),
        ("limit", Some(limit.to_string())),
        ("cursor", cursor),
    ];
    client.get(&with_query("/v1/storage/list", &parameters)).await
}

/// As the hub would refuse a name, with what helps here.
pub(super) fn nothing_named(name: &str) -> Failure {
    let message = format!("there is nothing named `{name}`; `neuralhub storage ls` lists what there is");
    refused(ErrorCode::NotFound, message)
}

pub(super) fn refused(code: ErrorCode, message: String) -> Failure {
    let error = ErrorDetail {
        message,
        error_type: code.error_type(),
        code: code.as_str().to_owned(),
        param: None,
        request_id: None,
    };
    Failure::Refused { status: code.status(), body: Box::new(ErrorBody { error }), retry_after_seconds: None }
}

/// Whether the hub refused for this reason.
pub(super) fn is_refused(failure: &Failure, code: ErrorCode) -> bool {
    matches!(failure, Failure::Refused { body, .. } if body.error.code == code.as_str())
}

/// As the hub writes a hash.
pub(super) fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
