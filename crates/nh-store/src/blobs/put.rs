use std::collections::HashMap;

use nh_types::blob::Pathname;
use nh_types::{Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::remove::release;
use super::totals::{Held, Totals};
use super::{BlobRecord, Piece, waste};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Arg, args, to_json};
use crate::{StoreError, Tx, Write};

/// Puts an object under its name.
#[derive(Clone, Debug)]
pub struct Put {
    pub workspace_id: WorkspaceId,
    pub blob: BlobRecord,
    /// Of the bytes, new for each put.
    pub bytes_id: String,
    pub bytes: NewBytes,
    pub condition: Condition,
    /// The most bytes that the workspace's objects may have.
    pub quota: Option<u64>,
}

/// The bytes that an object is to have.
#[derive(Clone, Debug)]
pub enum NewBytes {
    Here(bytes::Bytes),
    /// In places that are held off the waste.
    Pieces(Vec<Piece>),
}

/// On what is there under the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    Absent,
    /// Anything, or nothing.
    Any,
    /// Anything.
    Present,
    /// Bytes with this hash.
    Is([u8; 32]),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutDone {
    Stored(BlobRecord),
    /// There is one already.
    Exists,
    /// It is not, or not any more, what it had to be.
    Changed,
    OverQuota {
        /// Bytes that the workspace's objects and unfinished uploads have.
        used: u64,
        quota: u64,
    },
}

impl Put {
    fn key(&self) -> Key {
        (self.workspace_id.clone(), self.blob.pathname.clone())
    }
}

type Key = (WorkspaceId, Pathname);

/// What is under a name.
pub(super) struct Present {
    pub(super) bytes_id: String,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    expires_at: Option<Timestamp>,
}

impl Write for Put {
    type Output = PutDone;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<PutDone, StoreError> {
        let done = put_all(tx, &[self]).await?;
        let lost = || StoreError::Corrupt("a put without an answer".to_owned());
        done.into_iter().next().ok_or_else(lost)?
    }

    async fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> Result<Vec<Result<PutDone, StoreError>>, StoreError> {
        put_all(tx, group).await
    }
}

async fn put_all(tx: &mut Tx, group: &[&Put]) -> Result<Vec<Result<PutDone, StoreError>>, StoreError> {
    let mut held = Held::lock(tx, group.iter().map(|put| &put.workspace_id)).await?;
    let names = group.iter().map(|put| (&put.workspace_id, &put.blob.pathname));
    let mut present = present(tx, names).await?;
    let (mut blobs, mut bytes) = (Rows::new(13), Rows::new(4));
    let mut done = Vec::with_capacity(group.len());
    for put in group {
        let key = put.key();
        let there = present.get(&key);
        let totals = held.of(&put.workspace_id);
        if let Some(refused) =
            refused(&put.blob, put.condition, put.quota, put.blob.uploaded_at, there, totals)
        {
            done.push(Ok(refused));
            continue;
        }
        if !take_places(tx, put).await? {
            // Alone it fails alone, with nothing done.
            return Err(waste::late());
        }
        if let Some(replaced) = present.remove(&key) {
            if group.iter().filter(|other| other.key() == key).count() > 1 {
                insert(
                    tx,
                    std::mem::replace(&mut blobs, Rows::new(13)),
                    std::mem::replace(&mut bytes, Rows::new(4)),
                )
                .await?;
            }
            totals.take(replaced.size);
            release(tx, &[replaced.bytes_id], put.blob.uploaded_at).await?;
        }
        totals.add(put.blob.size);
        put.push(&mut blobs, &mut bytes)?;
        let BlobRecord { size, sha256, expires_at, .. } = &put.blob;
        let (bytes_id, size, sha256, expires_at) = (put.bytes_id.clone(), *size, *sha256, *expires_at);
        present.insert(key, Present { bytes_id, size, sha256, expires_at });
        done.push(Ok(PutDone::Stored(put.blob.clone())));
    }
    insert(tx, blobs, bytes).await?;
    held.keep(tx).await?;
    Ok(done)
}

impl Put {
    fn push(&self, blobs: &mut Rows, bytes: &mut Rows) -> Result<(), StoreError> {
        blobs.push(row(&self.workspace_id, &self.blob, &self.bytes_id));
        let (data, pieces) = match &self.bytes {
            NewBytes::Here(data) => (Some(data.to_vec()), None),
            NewBytes::Pieces(pieces) => (None, Some(to_json(pieces)?)),
        };
        bytes.push(vec![Arg::from(&self.bytes_id), Arg::Int(Some(1)), Arg::Bytes(data), Arg::Text(pieces)]);
        Ok(())
    }
}

pub(super) fn row(workspace_id: &WorkspaceId, blob: &BlobRecord, bytes_id: &str) -> Vec<Arg> {
    args![
        workspace_id,
        blob.pathname.as_str(),
        bytes_id,
        blob.size,
        &blob.sha256,
        &blob.content_type,
        blob.access.as_str(),
        blob.cache_seconds,
        blob.uploaded_at,
        blob.expires_at,
        &blob.source.created_by,
        blob.source.run_id,
        blob.source.step.as_deref()
    ]
}

/// What keeps an object from being put where that is.
pub(super) fn refused(
    blob: &BlobRecord,
    condition: Condition,
    quota: Option<u64>,
    at: Timestamp,
    there: Option<&Present>,
    totals: &Totals,
) -> Option<PutDone> {
    let alive = there.filter(|there| there.expires_at.is_none_or(|end| end > at));
    match (condition, alive) {
        (Condition::Absent, Some(_)) => return Some(PutDone::Exists),
        (Condition::Present, None) => return Some(PutDone::Changed),
        (Condition::Is(wanted), there) if there.is_none_or(|there| there.sha256 != wanted) => {
            return Some(PutDone::Changed);
        }
        _ => {}
    }
    let used = totals.used().saturating_sub(there.map_or(0, |there| there.size));
    let quota = quota.filter(|quota| used.saturating_add(blob.size) > *quota)?;
    Some(PutDone::OverQuota { used: totals.used(), quota })
}

pub(super) async fn present<'k>(
    tx: &mut Tx,
    names: impl Iterator<Item = (&'k WorkspaceId, &'k Pathname)>,
) -> Result<HashMap<Key, Present>, StoreError> {
    let mut keys = Rows::new(2);
    for (workspace_id, pathname) in names {
        keys.push(args![workspace_id, pathname.as_str()]);
    }
    let found = tx
        .select_rows(
            "with given (workspace_id, pathname) as (values ROWS) \
             select b.workspace_id, b.pathname, b.bytes_id, b.size, b.sha256, b.expires_at \
             from given g cross join blobs b where g.workspace_id is not null \
             and b.workspace_id = g.workspace_id and b.pathname = g.pathname",
            keys,
        )
        .await?;
    found
        .iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let key = (columns.parse()?, columns.parse()?);
            let present = Present {
                bytes_id: columns.text()?,
                size: columns.number()?,
                sha256: columns.hash()?,
                expires_at: columns.optional_time()?,
            };
            Ok((key, present))
        })
        .collect()
}

async fn take_places(tx: &mut Tx, put: &Put) -> Result<bool, StoreError> {
    match &put.bytes {
        NewBytes::Pieces(pieces) => waste::take(tx, pieces, put.blob.uploaded_at).await,
        NewBytes::Here(_) => Ok(true),
    }
}

pub(super) async fn insert(tx: &mut Tx, blobs: Rows, bytes: Rows) -> Result<(), StoreError> {
    insert_blobs(tx, blobs).await?;
    tx.execute_rows(
        "with given (id, refs, data, pieces) as (values ROWS) \
         insert into blob_bytes (id, refs, data, pieces) select * from given where id is not null",
        bytes,
    )
    .await
    .map(drop)
}

/// In place of what is under the same names.
pub(super) async fn insert_blobs(tx: &mut Tx, blobs: Rows) -> Result<(), StoreError> {
    tx.execute_rows(
        "with given (workspace_id, pathname, bytes_id, size, sha256, content_type, access, cache_seconds, \
         uploaded_at, expires_at, created_by, run_id, step) as (values ROWS) \
         insert into blobs (workspace_id, pathname, bytes_id, size, sha256, content_type, access, cache_seconds, \
         uploaded_at, expires_at, created_by, run_id, step) select * from given where workspace_id is not null \
         on conflict (workspace_id, pathname) do update set bytes_id = excluded.bytes_id, size = excluded.size, \
         sha256 = excluded.sha256, content_type = excluded.content_type, access = excluded.access, \
         cache_seconds = excluded.cache_seconds, uploaded_at = excluded.uploaded_at, \
         expires_at = excluded.expires_at, created_by = excluded.created_by, run_id = excluded.run_id, \
         step = excluded.step",
        blobs,
    )
    .await
    .map(drop)
}
