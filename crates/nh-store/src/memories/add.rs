use std::collections::{BTreeMap, HashMap};

use nh_types::{MemoryId, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Space, Vectors, space};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{args, to_json};
use crate::{StoreError, Tx, Write};

/// A memory that is to be.
#[derive(Clone, Debug)]
pub struct NewMemory {
    pub workspace_id: WorkspaceId,
    pub id: MemoryId,
    pub namespace: String,
    pub content: String,
    /// SHA-256 of the content.
    pub hash: [u8; 32],
    pub metadata: Map<String, Value>,
    pub expires_at: Option<Timestamp>,
    pub created_by: String,
    pub run_id: Option<RunId>,
    pub step: Option<String>,
    pub at: Timestamp,
}

/// Keeps a memory, or adds to the one with this content in this namespace: its
/// metadata is merged, and it lasts as long as the longer of the two would.
#[derive(Clone, Debug)]
pub struct Add {
    pub memory: NewMemory,
    /// Absent: the content is thought to be there already.
    pub vectors: Option<Vectors>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Added {
    New {
        id: MemoryId,
        created_at: Timestamp,
    },
    Known {
        id: MemoryId,
        created_at: Timestamp,
    },
    /// The content is not there, so its embeddings are needed.
    Lacking,
    /// The workspace's memories are embedded by this one; nothing was written.
    OtherModel {
        model: String,
        dimensions: u32,
    },
}

/// Of a memory's metadata as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// One content of one namespace.
type Key = (WorkspaceId, String, [u8; 32]);

impl Add {
    fn key(&self) -> Key {
        let NewMemory { workspace_id, namespace, hash, .. } = &self.memory;
        (workspace_id.clone(), namespace.clone(), *hash)
    }
}

/// A memory that has the content already.
struct Twin {
    id: MemoryId,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    metadata: Map<String, Value>,
}

impl Write for Add {
    type Output = Added;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Added, StoreError> {
        let added = add_all(tx, &[self]).await?;
        let lost = || StoreError::Corrupt("a memory without an answer".to_owned());
        added.into_iter().next().ok_or_else(lost)?
    }

    async fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> Result<Vec<Result<Added, StoreError>>, StoreError> {
        add_all(tx, group).await
    }
}

/// One that must be answered for good, so that an idempotency record of it may be
/// kept: what [`Add`] answers without having stored anything is an error here,
/// [`StoreError::Missing`].
#[derive(Clone, Debug)]
pub struct AddForGood(pub Add);

impl Write for AddForGood {
    type Output = Added;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Added, StoreError> {
        match self.0.apply(tx).await? {
            Added::Lacking | Added::OtherModel { .. } => {
                Err(StoreError::Missing("the embeddings by the workspace's present model".to_owned()))
            }
            added => Ok(added),
        }
    }
}

async fn add_all(tx: &mut Tx, group: &[&Add]) -> Result<Vec<Result<Added, StoreError>>, StoreError> {
    let mut spaces = raise_all(tx, group).await?;
    let mut twins = twins(tx, group).await?;
    let (mut memories, mut vectors) = (Rows::new(14), Rows::new(4));
    let mut answers = Vec::with_capacity(group.len());
    for add in group {
        let memory = &add.memory;
        let Some((space, revision)) = spaces.get_mut(&memory.workspace_id) else {
            answers.push(Ok(Added::Lacking));
            continue;
        };
        if let Some(vectors) = &add.vectors
            && !space.takes(vectors)
        {
            let (model, dimensions) = (space.model.clone(), space.dimensions);
            answers.push(Ok(Added::OtherModel { model, dimensions }));
            continue;
        }
        *revision += 1;
        let key = add.key();
        let lasting = twins.get_mut(&key).filter(|twin| twin.expires_at.is_none_or(|at| at > memory.at));
        if let Some(twin) = lasting {
            answers.push(match twin.merged(memory) {
                Ok(()) => {
                    keep_merged(tx, memory, twin, *revision).await?;
                    Ok(Added::Known { id: twin.id.clone(), created_at: twin.created_at })
                }
                Err(error) => Err(error),
            });
            continue;
        }
        let Some(embedded) = &add.vectors else {
            answers.push(Ok(Added::Lacking));
            continue;
        };
        if let Some(expired) = twins.remove(&key) {
            super::change::delete(tx, &memory.workspace_id, &[expired.id]).await?;
        }
        push(memory, *revision, &mut memories)?;
        vectors.push(args![&memory.workspace_id, &memory.id, &embedded.model, &*embedded.bytes()]);
        let (id, created_at) = (memory.id.clone(), memory.at);
        answers.push(Ok(Added::New { id: id.clone(), created_at }));
        let (expires_at, metadata) = (memory.expires_at, memory.metadata.clone());
        twins.insert(key, Twin { id, created_at, expires_at, metadata });
        if memory_is_repeated(group, add) {
            // One that comes again in this group is merged into a row that is there.
            insert(tx, std::mem::replace(&mut memories, Rows::new(14)), Rows::new(4)).await?;
        }
    }
    insert(tx, memories, vectors).await?;
    Ok(answers)
}

/// Whether another of the group has the same content.
fn memory_is_repeated(group: &[&Add], add: &Add) -> bool {
    let same = |other: &&&Add| {
        let (a, b) = (&other.memory, &add.memory);
        a.hash == b.hash && a.namespace == b.namespace && a.workspace_id == b.workspace_id
    };
    group.iter().filter(same).count() > 1
}

/// Each workspace's space with the revision that its first memory comes after.
/// The spaces are locked in one order, whoever else does this.
async fn raise_all(tx: &mut Tx, group: &[&Add]) -> Result<BTreeMap<WorkspaceId, (Space, i64)>, StoreError> {
    let mut counts: BTreeMap<&WorkspaceId, (Option<&Vectors>, u32)> = BTreeMap::new();
    for add in group {
        let (vectors, count) = counts.entry(&add.memory.workspace_id).or_default();
        *vectors = vectors.or(add.vectors.as_ref());
        *count += 1;
    }
    let mut raised = BTreeMap::new();
    for (workspace_id, (vectors, count)) in counts {
        if let Some(space) = space::raise(tx, workspace_id, vectors, count).await? {
            let before = space.revision - i64::from(count);
            raised.insert(workspace_id.clone(), (space, before));
        }
    }
    Ok(raised)
}

async fn twins(tx: &mut Tx, group: &[&Add]) -> Result<HashMap<Key, Twin>, StoreError> {
    let mut keys = Rows::new(3);
    for add in group {
        let NewMemory { workspace_id, namespace, hash, .. } = &add.memory;
        keys.push(args![workspace_id, namespace, hash]);
    }
    let found = tx
        .select_rows(
            "with given (workspace_id, namespace, content_hash) as (values ROWS) \
             select m.workspace_id, m.namespace, m.content_hash, m.id, m.created_at, m.expires_at, m.metadata \
             from given g cross join memories m where g.workspace_id is not null \
             and m.workspace_id = g.workspace_id and m.namespace = g.namespace \
             and m.content_hash = g.content_hash",
            keys,
        )
        .await?;
    found
        .iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let key = (columns.parse()?, columns.text()?, columns.hash()?);
            let twin = Twin {
                id: columns.parse()?,
                created_at: columns.time()?,
                expires_at: columns.optional_time()?,
                metadata: columns.json()?,
            };
            Ok((key, twin))
        })
        .collect()
}

impl Twin {
    /// What was there with what is new; an error when that is too much.
    fn merged(&mut self, new: &NewMemory) -> Result<(), StoreError> {
        let mut metadata = self.metadata.clone();
        metadata.extend(new.metadata.clone());
        let bytes = to_json(&metadata)?.len();
        if bytes > MAX_METADATA_BYTES {
            return Err(StoreError::Unstorable(format!(
                "`metadata` has {bytes} bytes as JSON together with what the memory `{}` has already; \
                 at most {MAX_METADATA_BYTES} fit",
                self.id
            )));
        }
        self.metadata = metadata;
        self.expires_at = self.expires_at.zip(new.expires_at).map(|(one, other)| one.max(other));
        Ok(())
    }
}

async fn keep_merged(tx: &mut Tx, new: &NewMemory, twin: &Twin, revision: i64) -> Result<(), StoreError> {
    tx.execute(
        "update memories set metadata = $3, expires_at = $4, updated_at = $5, revision = $6 \
         where workspace_id = $1 and id = $2",
        args![&new.workspace_id, &twin.id, to_json(&twin.metadata)?, twin.expires_at, new.at, revision],
    )
    .await
    .map(drop)
}

fn push(memory: &NewMemory, revision: i64, rows: &mut Rows) -> Result<(), StoreError> {
    rows.push(args![
        &memory.workspace_id,
        &memory.id,
        &memory.namespace,
        &memory.content,
        &memory.hash,
        to_json(&memory.metadata)?,
        memory.at,
        memory.at,
        memory.expires_at,
        &memory.created_by,
        memory.run_id,
        memory.step.as_deref(),
        revision,
        revision
    ]);
    Ok(())
}

async fn insert(tx: &mut Tx, memories: Rows, vectors: Rows) -> Result<(), StoreError> {
    tx.execute_rows(
        "with given (workspace_id, id, namespace, content, content_hash, metadata, created_at, updated_at, \
         expires_at, created_by, run_id, step, revision, born) as (values ROWS) \
         insert into memories (workspace_id, id, namespace, content, content_hash, metadata, created_at, \
         updated_at, expires_at, created_by, run_id, step, revision, born) \
         select * from given where workspace_id is not null",
        memories,
    )
    .await?;
    tx.execute_rows(
        "with given (workspace_id, memory_id, model, vectors) as (values ROWS) \
         insert into memory_vectors (workspace_id, memory_id, model, vectors) \
         select * from given where workspace_id is not null",
        vectors,
    )
    .await
    .map(drop)
}
