//! What is searched: each workspace's embeddings, in memory, or by pgvector where
//! they are many. It is made of the store's rows and brought up to date before
//! each search, so it holds nothing of its own, and what another node wrote is
//! found as well.

mod block;
mod large;
mod quantized;
mod searched;
mod segment;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::memories::{self, Space};
use nh_store::{Store, StoreError};
use nh_types::{Timestamp, WorkspaceId};

use self::large::{Current, Large};
pub(crate) use block::{Block, Found, Wanted, id_of, key_of};
pub(crate) use quantized::dot;
pub(crate) use searched::Searched;
pub(crate) use segment::Key;

/// Rows that are read at once.
const PAGE_ROWS: u32 = 512;

/// The blocks of the workspaces that are searched, up to a bound; those that
/// were not searched for the longest time go first.
pub(crate) struct Index {
    places: Mutex<Places>,
    max_bytes: usize,
    large: Large,
}

#[derive(Default)]
struct Places {
    by_id: HashMap<WorkspaceId, Place>,
    /// Of all blocks.
    bytes: usize,
    /// Uses of the index so far.
    uses: u64,
}

struct Place {
    block: Option<Arc<Block>>,
    bytes: usize,
    /// Held by who brings it up to date.
    updating: Arc<tokio::sync::Mutex<()>>,
    /// The last use of the index that was of this.
    used: u64,
}

impl Index {
    /// A workspace with more than `above` memories is large.
    pub(crate) fn new(max_bytes: usize, above: u64) -> Self {
        Self { places: Mutex::default(), max_bytes, large: Large::new(above) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is searched, with all changes up to the space's revision; None when the
    /// workspace's model is another by now.
    pub(crate) async fn current(&self, store: &Store, space: &Space) -> Result<Option<Searched>, StoreError> {
        match self.large.current(store, space).await? {
            Current::Large(pages) => Ok(Some(Searched::Pages(pages))),
            Current::Small => Ok(Some(Searched::Block(self.block(store, space).await?))),
            Current::OtherModel => Ok(None),
        }
    }

    /// Has the workspace searched by pgvector if it has become large; whether it is.
    pub(crate) async fn prepare_large(
        &self,
        store: &Store,
        space: &Space,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        if !self.large.prepare(store, space).await? {
            return Ok(false);
        }
        self.let_go(&space.workspace_id);
        self.large.forget_expired(store, space, at).await?;
        Ok(true)
    }

    fn let_go(&self, workspace_id: &WorkspaceId) {
        let mut places = self.places();
        places.bytes -= places.by_id.remove(workspace_id).map_or(0, |place| place.bytes);
        metrics::gauge!("neuralhub_memory_index_bytes").set(places.bytes as f64);
    }

    async fn block(&self, store: &Store, space: &Space) -> Result<Arc<Block>, StoreError> {
        let updating = match self.look_up(space) {
            Ok(block) => return Ok(block),
            Err(updating) => updating,
        };
        let _updating = updating.lock_owned().await;
        let old = match self.look_up(space) {
            Ok(block) => return Ok(block),
            Err(_) => self.places().by_id.get(&space.workspace_id).and_then(|place| place.block.clone()),
        };
        let old = old.filter(|block| block.is_of(space));
        let mut block = old.unwrap_or_else(|| Arc::new(Block::empty(space)));
        let read =
            |after| memories::changed_since(store, &space.workspace_id, &space.model, after, PAGE_ROWS);
        let mut rows = read(block.revision).await?;
        while let Some(last) = rows.last().filter(|_| rows.len() == PAGE_ROWS as usize) {
            // The next are read while these are taken in.
            let taken_in = async { Arc::make_mut(&mut block).apply(&rows) };
            let (next, ()) = tokio::join!(read(last.revision), taken_in);
            rows = next?;
        }
        let changed = Arc::make_mut(&mut block);
        changed.apply(&rows);
        // What was deleted has left gaps.
        changed.revision = changed.revision.max(space.revision);
        self.keep(&space.workspace_id, block.clone());
        Ok(block)
    }

    fn look_up(&self, space: &Space) -> Result<Arc<Block>, Arc<tokio::sync::Mutex<()>>> {
        let mut places = self.places();
        places.uses += 1;
        let used = places.uses;
        let place = places.by_id.entry(space.workspace_id.clone()).or_insert_with(|| Place {
            block: None,
            bytes: 0,
            updating: Arc::default(),
            used,
        });
        place.used = used;
        match &place.block {
            Some(block) if block.is_of(space) && block.revision >= space.revision => Ok(block.clone()),
            _ => Err(place.updating.clone()),
        }
    }

    fn keep(&self, workspace_id: &WorkspaceId, block: Arc<Block>) {
        let mut places = self.places();
        // One that was let go meanwhile is searched once and not kept.
        let Some(place) = places.by_id.get_mut(workspace_id) else { return };
        let (before, after) = (place.bytes, block.bytes());
        (place.block, place.bytes) = (Some(block), after);
        places.bytes = places.bytes - before + after;
        while places.bytes > self.max_bytes && places.by_id.len() > 1 {
            let oldest = places.by_id.iter().min_by_key(|(_, place)| place.used).map(|(id, _)| id.clone());
            let Some(gone) = oldest.and_then(|id| places.by_id.remove(&id)) else { break };
            places.bytes -= gone.bytes;
        }
        metrics::gauge!("neuralhub_memory_index_bytes").set(places.bytes as f64);
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.places().bytes < self.max_bytes
    }

    /// Memories that were deleted, or that turned out to be gone from those that
    /// `model` embeds.
    pub(crate) async fn forget(
        &self,
        store: &Store,
        workspace_id: &WorkspaceId,
        model: Option<&str>,
        gone: &HashSet<Key>,
    ) {
        self.forget_in_block(workspace_id, model, gone);
        if let Err(error) = self.large.forget(store, workspace_id, gone).await {
            tracing::warn!(%error, %workspace_id, "what was deleted stays in pgvector's index until it is found again");
        }
    }

    fn forget_in_block(&self, workspace_id: &WorkspaceId, model: Option<&str>, gone: &HashSet<Key>) {
        let block = self.places().by_id.get(workspace_id).and_then(|place| place.block.clone());
        let Some(block) = block.filter(|block| model.is_none_or(|model| model == block.model)) else {
            return;
        };
        let mut left = (*block).clone();
        left.remove(gone);
        self.replace(workspace_id, &block, left);
    }

    /// Unless somebody else was first: what is gone turns out to be so again.
    fn replace(&self, workspace_id: &WorkspaceId, block: &Arc<Block>, by: Block) {
        let mut places = self.places();
        let Some(place) = places.by_id.get_mut(workspace_id) else { return };
        if place.block.as_ref().is_some_and(|now| Arc::ptr_eq(now, block)) {
            let (before, after) = (place.bytes, by.bytes());
            (place.block, place.bytes) = (Some(Arc::new(by)), after);
            places.bytes = places.bytes - before + after;
        }
    }

    /// Lets go of what expired.
    pub(crate) fn sweep(&self, at: Timestamp) {
        let blocks: Vec<(WorkspaceId, Arc<Block>)> = self
            .places()
            .by_id
            .iter()
            .filter_map(|(id, place)| Some((id.clone(), place.block.clone()?)))
            .filter(|(_, block)| block.next_expiry <= at.as_millis())
            .collect();
        for (workspace_id, block) in blocks {
            let mut left = (*block).clone();
            left.remove_expired(at);
            self.replace(&workspace_id, &block, left);
        }
    }
}
