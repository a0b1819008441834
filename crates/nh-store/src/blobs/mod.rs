//! The rows of `/v1/storage`: which objects there are, and where their bytes
//! are. Small objects' bytes are in a row themselves; of others, whoever writes
//! them asks for a [`Place`](Reserve) first, so that nothing is ever without an
//! owner: a place belongs to an object, or to the waste.

mod copy;
mod links;
mod meter;
mod put;
mod remove;
mod totals;
mod uploads;
mod waste;

use nh_types::blob::{Access, BlobSource, Pathname};
use nh_types::{RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{Store, StoreError};

pub use copy::Copy;
pub use links::NoteLink;
pub use meter::Meter;
pub use put::{Condition, NewBytes, Put, PutDone};
pub use remove::{Delete, RemoveExpired};
pub use totals::{Totals, totals};
pub use uploads::{
    Abort, BeginUpload, Complete, CompleteDone, GiveUp, PartDone, PartRecord, PutPart, UploadRecord, Wanted,
    find_upload, list_uploads, part_size, parts,
};
pub use waste::{Condemn, Defer, Discard, Emptied, Renew, Reserve};

/// Where some bytes are outside the database, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(pub String, pub u64);

/// An object, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    pub pathname: Pathname,
    pub size: u64,
    pub sha256: [u8; 32],
    pub content_type: String,
    pub access: Access,
    /// How long a cache may keep it.
    pub cache_seconds: Option<u32>,
    pub uploaded_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub source: BlobSource,
}

/// The bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Here(Vec<u8>),
    Pieces(Vec<Piece>),
}

/// What [`record`] reads.
macro_rules! blob_columns {
    () => {
        "b.pathname, b.size, b.sha256, b.content_type, b.access, b.cache_seconds, b.uploaded_at, b.expires_at, \
         b.created_by, b.run_id, b.step"
    };
}

use blob_columns;

fn record(row: &Row) -> Result<BlobRecord, StoreError> {
    read(&mut Columns::of(row))
}

fn read(columns: &mut Columns<'_>) -> Result<BlobRecord, StoreError> {
    Ok(BlobRecord {
        pathname: columns.parse()?,
        size: columns.number()?,
        sha256: columns.hash()?,
        content_type: columns.text()?,
        access: columns.parse()?,
        cache_seconds: columns.optional_number()?,
        uploaded_at: columns.time()?,
        expires_at: columns.optional_time()?,
        source: BlobSource {
            created_by: columns.text()?,
            run_id: optional_run(columns.optional_text()?)?,
            step: columns.optional_text()?,
        },
    })
}

fn optional_run(text: Option<String>) -> Result<Option<RunId>, StoreError> {
    text.map(|id| id.parse().map_err(|error: nh_types::id::InvalidId| StoreError::Corrupt(error.to_string())))
        .transpose()
}

/// An object that has not expired at `at`.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    pathname: &Pathname,
    at: Timestamp,
) -> Result<Option<BlobRecord>, StoreError> {
    store
        .find(
            concat!(
                "select ",
                blob_columns!(),
                " from blobs b where b.workspace_id = $1 and b.pathname = $2 \
             and (b.expires_at is null or b.expires_at > $3)"
            ),
            args![workspace_id, pathname.as_str(), at],
            record,
        )
        .await
}

/// The same, with its bytes or where they are.
pub async fn open(
    store: &Store,
    workspace_id: &WorkspaceId,
    pathname: &Pathname,
    at: Timestamp,
) -> Result<Option<(BlobRecord, Content)>, StoreError> {
    store
        .find(
            concat!(
                "select ",
                blob_columns!(),
                ", d.data, d.pieces from blobs b join blob_bytes d on d.id = b.bytes_id \
             where b.workspace_id = $1 and b.pathname = $2 and (b.expires_at is null or b.expires_at > $3)"
            ),
            args![workspace_id, pathname.as_str(), at],
            |row| {
                let mut columns = Columns::of(row);
                let blob = read(&mut columns)?;
                let content = match columns.optional_bytes()? {
                    Some(data) => Content::Here(data),
                    None => Content::Pieces(columns.json()?),
                };
                Ok((blob, content))
            },
        )
        .await
}

/// Those whose pathname begins with `prefix`, by pathname.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    prefix: &str,
    from: &Begin,
    limit: u32,
    at: Timestamp,
) -> Result<Vec<BlobRecord>, StoreError> {
    let (first, includes_first) = match from {
        Begin::Start => (prefix, true),
        Begin::After(pathname) => (pathname.as_str(), false),
        Begin::At(pathname) => (pathname.as_str(), true),
    };
    let (first, includes_first) = if first < prefix { (prefix, true) } else { (first, includes_first) };
    store
        .all(
            concat!(
                "select ",
                blob_columns!(),
                " from blobs b where b.workspace_id = $1 and b.pathname >= $2 and b.pathname < $3 \
             and (b.pathname > $2 or $4 <> 0) and (b.expires_at is null or b.expires_at > $5) \
             order by b.pathname limit $6"
            ),
            args![workspace_id, first, end_of(prefix), includes_first, at, limit],
            record,
        )
        .await
}

/// The same without all but the first of each folder below the prefix: goes from one
/// to the next along the index, however many are between. For others it is slower.
pub async fn list_folded(
    store: &Store,
    workspace_id: &WorkspaceId,
    prefix: &str,
    from: &Begin,
    limit: u32,
    at: Timestamp,
) -> Result<Vec<BlobRecord>, StoreError> {
    let first = match from {
        Begin::Start => prefix.to_owned(),
        Begin::After(pathname) => format!("{pathname}{LEAST}"),
        Begin::At(pathname) => pathname.clone(),
    };
    // `0` is the character after `/`.
    let sql = format!(
        "with recursive steps (name, number) as (\
         select (select pathname from blobs where workspace_id = $1 and pathname >= $2 and pathname < $3 \
         and (expires_at is null or expires_at > $4) order by pathname limit 1), 1 \
         union all \
         select (select pathname from blobs where workspace_id = $1 and pathname >= \
         case when {position}(substr(steps.name, cast($5 as int)), '/') = 0 then steps.name || $6 \
         else substr(steps.name, 1, cast($5 as int) + {position}(substr(steps.name, cast($5 as int)), '/') - 2) || '0' end \
         and pathname < $3 and (expires_at is null or expires_at > $4) order by pathname limit 1), \
         steps.number + 1 from steps where steps.name is not null and steps.number < $7) \
         select {columns} from steps cross join blobs b where b.workspace_id = $1 and b.pathname = steps.name \
         order by steps.number",
        position = store.engine().position(),
        columns = blob_columns!(),
    );
    let below = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX).saturating_add(1);
    let first = first.max(prefix.to_owned());
    store
        .all(
            AssertSqlSafe(sql),
            args![workspace_id, &first, &end_of(prefix), at, below, LEAST, limit],
            record,
        )
        .await
}

/// No pathname has this character, and all that they have come after it.
const LEAST: &str = "\u{1}";

/// Where a list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    Start,
    After(String),
    At(String),
}

/// Comes after all that begin with `prefix`: no pathname has this character.
fn end_of(prefix: &str) -> String {
    format!("{prefix}\u{10FFFF}")
}
