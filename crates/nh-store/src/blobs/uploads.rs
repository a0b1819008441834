//! Uploads in parts. A part's bytes are durable before its row is there; an
//! upload that becomes an object gives it the places of its parts.

use std::collections::BTreeMap;

use nh_types::blob::{Access, BlobSource, Pathname};
use nh_types::{Timestamp, UploadId, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::put::{insert, present, refused, row};
use super::remove::release;
use super::totals::Held;
use super::{BlobRecord, Condition, Piece, PutDone, waste};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Arg, Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

/// What the object of an upload is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Absent: guessed.
    pub content_type: Option<String>,
    pub access: Access,
    pub cache_seconds: Option<u32>,
    pub expires_at: Option<Timestamp>,
    pub condition: Condition,
    pub source: BlobSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    pub id: UploadId,
    pub pathname: Pathname,
    pub wanted: Wanted,
    pub created_at: Timestamp,
    /// When it is given up, unless something more comes.
    pub expires_at: Timestamp,
    /// Bytes of the parts that came, together.
    #[serde(default)]
    pub size: u64,
    /// The object that it became.
    pub completed: Option<BlobRecord>,
}

/// A part that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    pub number: u32,
    pub size: u64,
    pub sha256: [u8; 32],
    pub pieces: Vec<Piece>,
}

const UPLOAD: &str = "select id, pathname, wanted, created_at, expires_at, size, completed from blob_uploads \
                      where workspace_id = $1 and id = $2 and expires_at > $3";

fn upload(row: &Row) -> Result<UploadRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(UploadRecord {
        id: columns.parse()?,
        pathname: columns.parse()?,
        wanted: columns.json()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        size: columns.number()?,
        completed: columns.optional_json()?,
    })
}

fn part(row: &Row) -> Result<PartRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(PartRecord {
        number: columns.number()?,
        size: columns.number()?,
        sha256: columns.hash()?,
        pieces: columns.json()?,
    })
}

/// One that was not given up by `at`.
pub async fn find_upload(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &UploadId,
    at: Timestamp,
) -> Result<Option<UploadRecord>, StoreError> {
    store.find(UPLOAD, args![workspace_id, id, at], upload).await
}

/// Those that go on, by pathname and id, after the one of these.
pub async fn list_uploads(
    store: &Store,
    workspace_id: &WorkspaceId,
    prefix: &str,
    after: Option<&(String, String)>,
    limit: u32,
    at: Timestamp,
) -> Result<Vec<UploadRecord>, StoreError> {
    let (pathname, id) = after.map_or((prefix, ""), |(pathname, id)| (pathname.as_str(), id.as_str()));
    store
        .all(
            "select id, pathname, wanted, created_at, expires_at, size, completed from blob_uploads \
             where workspace_id = $1 and pathname >= $2 and pathname < $3 and (pathname > $2 or id > $4) \
             and expires_at > $5 and completed is null order by pathname, id limit $6",
            args![workspace_id, pathname.max(prefix), super::end_of(prefix), id, at, limit],
            upload,
        )
        .await
}

/// The parts of an upload, by number.
pub async fn parts(store: &Store, id: &UploadId) -> Result<Vec<PartRecord>, StoreError> {
    store.all(PARTS, args![id], part).await
}

/// How many bytes the part of this number has; 0 where there is none.
pub async fn part_size(store: &Store, id: &UploadId, number: u32) -> Result<u64, StoreError> {
    let found = store.find(PART_SIZE, args![id, number], |row| Columns::of(row).number()).await?;
    Ok(found.unwrap_or_default())
}

const PART_SIZE: &str = "select size from blob_parts where upload_id = $1 and number = $2";

const PARTS: &str =
    "select number, size, sha256, pieces from blob_parts where upload_id = $1 order by number";

/// Begins an upload.
#[derive(Clone, Debug)]
pub struct BeginUpload {
    pub workspace_id: WorkspaceId,
    pub upload: UploadRecord,
    /// The most uploads of the workspace that go on at once.
    pub most: u32,
}

impl Write for BeginUpload {
    /// None: too many go on.
    type Output = Option<UploadRecord>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<UploadRecord>, StoreError> {
        // So that two that come at once are counted one after the other.
        let _held = Held::lock(tx, [&self.workspace_id]).await?;
        let rows = tx
            .select(
                "select count(*) from blob_uploads where workspace_id = $1 and completed is null",
                args![&self.workspace_id],
            )
            .await?;
        let going_on: u32 = rows.first().map_or(Ok(0), |row| Columns::of(row).number())?;
        if going_on >= self.most {
            return Ok(None);
        }
        let UploadRecord { id, pathname, wanted, created_at, expires_at, .. } = &self.upload;
        tx.execute(
            "insert into blob_uploads (id, workspace_id, pathname, wanted, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6)",
            args![id, &self.workspace_id, pathname.as_str(), to_json(wanted)?, *created_at, *expires_at],
        )
        .await?;
        Ok(Some(self.upload.clone()))
    }
}

/// Gives an upload a part, in place of the one of the same number.
#[derive(Clone, Debug)]
pub struct PutPart {
    pub workspace_id: WorkspaceId,
    pub upload_id: UploadId,
    pub part: PartRecord,
    /// When its bytes began to come: the upload has to go on then.
    pub begun_at: Timestamp,
    pub at: Timestamp,
    /// When the upload is given up from now on.
    pub expires_at: Timestamp,
    /// The most bytes that its parts may have together.
    pub max_size: u64,
    /// The most bytes that the workspace's objects may have.
    pub quota: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartDone {
    Stored,
    NoUpload,
    TooLarge,
    OverQuota { used: u64, quota: u64 },
}

impl Write for PutPart {
    type Output = PartDone;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<PartDone, StoreError> {
        let mut held = Held::lock(tx, [&self.workspace_id]).await?;
        let Some(upload) = going_on(tx, &self.workspace_id, &self.upload_id, self.begun_at).await? else {
            return Ok(PartDone::NoUpload);
        };
        if upload.completed.is_some() {
            return Ok(PartDone::NoUpload);
        }
        let PartRecord { number, size, sha256, pieces } = &self.part;
        let there = tx.select(PART_SIZE, args![&self.upload_id, *number]).await?;
        let replaced = there.first().map_or(Ok(0), |row| Columns::of(row).number::<u64>())?;
        let together = upload.size.saturating_sub(replaced).saturating_add(*size);
        if together > self.max_size {
            return Ok(PartDone::TooLarge);
        }
        let totals = held.of(&self.workspace_id);
        let used = totals.used().saturating_sub(replaced);
        if let Some(quota) = self.quota.filter(|quota| used.saturating_add(*size) > *quota) {
            return Ok(PartDone::OverQuota { used: totals.used(), quota });
        }
        if !waste::take(tx, pieces, self.at).await? {
            return Err(waste::late());
        }
        forget(tx, &self.upload_id, Some(*number)).await?;
        tx.execute(
            "insert into blob_parts (upload_id, number, size, sha256, pieces) values ($1, $2, $3, $4, $5)",
            args![&self.upload_id, *number, *size, sha256, to_json(pieces)?],
        )
        .await?;
        tx.execute(
            "update blob_uploads set expires_at = $2, size = $3 where id = $1",
            args![&self.upload_id, self.expires_at, together],
        )
        .await?;
        totals.uploading = totals.uploading.saturating_sub(replaced) + size;
        held.keep(tx).await?;
        Ok(PartDone::Stored)
    }
}

/// Makes an object of the parts.
#[derive(Clone, Debug)]
pub struct Complete {
    pub workspace_id: WorkspaceId,
    pub upload_id: UploadId,
    pub blob: BlobRecord,
    /// Of the object, in order.
    pub parts: Vec<PartRecord>,
    /// Whether all that came are to be of the object.
    pub is_all: bool,
    /// Of the bytes, new for each try.
    pub bytes_id: String,
    pub at: Timestamp,
    /// When it is forgotten that it was completed.
    pub expires_at: Timestamp,
    pub quota: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompleteDone {
    /// Now, or before by the same call.
    Put(PutDone),
    NoUpload,
}

impl Write for Complete {
    /// [`StoreError::Missing`]: another part came since the parts were read. Nothing is
    /// done then, and an idempotency key is still free.
    type Output = CompleteDone;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<CompleteDone, StoreError> {
        let mut held = Held::lock(tx, [&self.workspace_id]).await?;
        let Some(upload) = going_on(tx, &self.workspace_id, &self.upload_id, self.at).await? else {
            return Ok(CompleteDone::NoUpload);
        };
        if let Some(blob) = upload.completed {
            return Ok(CompleteDone::Put(PutDone::Stored(blob)));
        }
        let mut there = BTreeMap::new();
        for row in &tx.select(PARTS, args![&self.upload_id]).await? {
            let part = part(row)?;
            there.insert(part.number, part);
        }
        let is_there = |part: &PartRecord| there.get(&part.number) == Some(part);
        if !self.parts.iter().all(is_there) || (self.is_all && self.parts.len() != there.len()) {
            return Err(StoreError::Missing("the parts that were read".to_owned()));
        }
        let totals = held.of(&self.workspace_id);
        totals.uploading = totals.uploading.saturating_sub(there.values().map(|part| part.size).sum());
        let names = [(&self.workspace_id, &self.blob.pathname)];
        let present = present(tx, names.into_iter()).await?.into_values().next();
        let condition = upload.wanted.condition;
        if let Some(refused) = refused(&self.blob, condition, self.quota, self.at, present.as_ref(), totals) {
            return Ok(CompleteDone::Put(refused));
        }
        if let Some(replaced) = present {
            totals.take(replaced.size);
            release(tx, &[replaced.bytes_id], self.at).await?;
        }
        totals.add(self.blob.size);
        let (mut blobs, mut bytes) = (Rows::new(13), Rows::new(4));
        blobs.push(row(&self.workspace_id, &self.blob, &self.bytes_id));
        let pieces: Vec<&Piece> = self.parts.iter().flat_map(|part| &part.pieces).collect();
        let pieces = Arg::Text(Some(to_json(&pieces)?));
        bytes.push(vec![Arg::from(&self.bytes_id), Arg::Int(Some(1)), Arg::Bytes(None), pieces]);
        insert(tx, blobs, bytes).await?;
        for part in &self.parts {
            there.remove(&part.number);
        }
        let left_out: Vec<Piece> = there.into_values().flat_map(|part| part.pieces).collect();
        waste::condemn(tx, &left_out).await?;
        tx.execute("delete from blob_parts where upload_id = $1", args![&self.upload_id]).await?;
        tx.execute(
            "update blob_uploads set completed = $2, expires_at = $3 where id = $1",
            args![&self.upload_id, to_json(&self.blob)?, self.expires_at],
        )
        .await?;
        held.keep(tx).await?;
        Ok(CompleteDone::Put(PutDone::Stored(self.blob.clone())))
    }
}

/// Gives an upload up; its parts go to the waste.
#[derive(Clone, Debug)]
pub struct Abort {
    pub workspace_id: WorkspaceId,
    pub upload_id: UploadId,
}

impl Write for Abort {
    /// Whether there was one that went on.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let mut held = Held::lock(tx, [&self.workspace_id]).await?;
        let Some(upload) =
            going_on(tx, &self.workspace_id, &self.upload_id, Timestamp::from_millis(0)).await?
        else {
            return Ok(false);
        };
        if upload.completed.is_some() {
            return Ok(false);
        }
        remove(tx, &mut held, &self.workspace_id, &self.upload_id).await?;
        held.keep(tx).await?;
        Ok(true)
    }
}

/// Gives up the uploads, of all workspaces, that nothing came for until `at`, at
/// most `limit`; how many it were.
#[derive(Clone, Copy, Debug)]
pub struct GiveUp {
    pub at: Timestamp,
    pub limit: u32,
}

impl Write for GiveUp {
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        let rows = tx
            .select(
                "select workspace_id, id from blob_uploads where expires_at <= $1 order by expires_at limit $2",
                args![self.at, self.limit],
            )
            .await?;
        let mut found: Vec<(WorkspaceId, UploadId)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut columns = Columns::of(row);
            found.push((columns.parse()?, columns.parse()?));
        }
        let mut held = Held::lock(tx, found.iter().map(|(workspace_id, _)| workspace_id)).await?;
        for (workspace_id, id) in &found {
            // Before the lock a part may have come.
            if going_on(tx, workspace_id, id, self.at).await?.is_none() {
                remove(tx, &mut held, workspace_id, id).await?;
            }
        }
        held.keep(tx).await?;
        Ok(found.len() as u64)
    }
}

async fn going_on(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    id: &UploadId,
    at: Timestamp,
) -> Result<Option<UploadRecord>, StoreError> {
    tx.select(UPLOAD, args![workspace_id, id, at]).await?.first().map(upload).transpose()
}

async fn remove(
    tx: &mut Tx,
    held: &mut Held,
    workspace_id: &WorkspaceId,
    id: &UploadId,
) -> Result<(), StoreError> {
    let size = forget(tx, id, None).await?;
    let totals = held.of(workspace_id);
    totals.uploading = totals.uploading.saturating_sub(size);
    tx.execute("delete from blob_uploads where id = $1", args![id]).await.map(drop)
}

/// Removes the part of this number, or all; how many bytes they had.
async fn forget(tx: &mut Tx, id: &UploadId, number: Option<u32>) -> Result<u64, StoreError> {
    let rows = match number {
        Some(number) => {
            let sql = "delete from blob_parts where upload_id = $1 and number = $2 \
                       returning number, size, sha256, pieces";
            tx.returning(sql, args![id, number]).await?
        }
        None => {
            let sql = "delete from blob_parts where upload_id = $1 returning number, size, sha256, pieces";
            tx.returning(sql, args![id]).await?
        }
    };
    let mut size = 0;
    let mut pieces = Vec::new();
    for row in &rows {
        let part = part(row)?;
        size += part.size;
        pieces.extend(part.pieces);
    }
    waste::condemn(tx, &pieces).await?;
    Ok(size)
}
