//! Workspaces with so many memories that PostgreSQL searches them, by pgvector.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::memories::{self, Ann, CaughtUp, Near, Pgvector, Space};
use nh_store::{Store, StoreError};
use nh_types::{MemoryId, Timestamp, WorkspaceId};
use tokio::sync::OnceCell;

use super::{Found, Key, Wanted, id_of, key_of};
use crate::identifiers::{Fingerprint, fingerprints};

/// What is known of the workspaces that were written so often that they may be
/// large; others are not asked about.
pub(super) struct Large {
    /// Memories above which a workspace is large.
    above: u64,
    /// None where it is not to be had, which was said then.
    pgvector: OnceCell<Option<Pgvector>>,
    known: Mutex<HashMap<WorkspaceId, Known>>,
}

#[derive(Clone)]
struct Known {
    /// As it was when the memories were counted.
    space: Space,
    count: u64,
    /// There once searches may go by it.
    ready: Option<Ready>,
}

#[derive(Clone)]
struct Ready {
    ann: Arc<Ann>,
    /// A revision that it has.
    revision: i64,
    /// Held by who brings it up to date.
    updating: Arc<tokio::sync::Mutex<()>>,
}

impl Ready {
    fn new(ann: Ann) -> Self {
        Self { ann: Arc::new(ann), revision: 0, updating: Arc::default() }
    }
}

/// By what a workspace is searched.
pub(super) enum Current {
    /// A block.
    Small,
    Large(Pages),
    /// Its model is another by now.
    OtherModel,
}

impl Large {
    pub(super) fn new(above: u64) -> Self {
        Self { above, pgvector: OnceCell::new(), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each memory has raised the revision at least once.
    pub(super) fn may_have(&self, space: &Space) -> bool {
        u64::try_from(space.revision).unwrap_or_default() > self.above
    }

    /// What is searched in place of a block, with all changes up to the space's
    /// revision.
    pub(super) async fn current(&self, store: &Store, space: &Space) -> Result<Current, StoreError> {
        if !self.may_have(space) {
            return Ok(Current::Small);
        }
        let known = match self.look_up(space) {
            Some(known) => known,
            None => self.examine(store, space).await?.0,
        };
        let Some(ready) = known.ready else { return Ok(Current::Small) };
        let pages = Pages { ann: ready.ann, rows: known.count as usize };
        if ready.revision >= space.revision {
            return Ok(Current::Large(pages));
        }
        // One of this process at a time: who waits for another's turn in the
        // database keeps a connection meanwhile.
        let _updating = ready.updating.lock().await;
        if self.has(space) {
            return Ok(Current::Large(pages));
        }
        let Some(ann) = self.ann(store, space).await? else { return Ok(Current::Small) };
        loop {
            match ann.catch_up(store, true, written).await? {
                CaughtUp::More => {}
                CaughtUp::Done => {
                    self.note(space);
                    return Ok(Current::Large(pages));
                }
                CaughtUp::Gone => {
                    self.known().remove(&space.workspace_id);
                    return Ok(Current::Small);
                }
                CaughtUp::OtherModel => return Ok(Current::OtherModel),
            }
        }
    }

    fn has(&self, space: &Space) -> bool {
        let ready = self.look_up(space).and_then(|known| known.ready);
        ready.is_some_and(|ready| ready.revision >= space.revision)
    }

    fn note(&self, space: &Space) {
        let mut known = self.known();
        let ready = known.get_mut(&space.workspace_id).and_then(|known| known.ready.as_mut());
        if let Some(ready) = ready {
            ready.revision = ready.revision.max(space.revision);
        }
    }

    /// What is known of the workspace as its model embeds it.
    fn look_up(&self, space: &Space) -> Option<Known> {
        self.known()
            .get(&space.workspace_id)
            .filter(|known| known.space.model == space.model && known.space.model_since == space.model_since)
            .cloned()
    }

    /// Counts the workspace's memories and looks whether there is an index of
    /// them; the index that there could be is given too.
    async fn examine(&self, store: &Store, space: &Space) -> Result<(Known, Option<Ann>), StoreError> {
        let count = memories::count(store, &space.workspace_id).await?;
        let mut known = Known { space: space.clone(), count, ready: None };
        let ann = if count > self.above { self.ann(store, space).await? } else { None };
        if let Some(ann) = &ann
            && ann.is_ready(store).await?
        {
            // What it has is seen when it is first searched.
            known.ready = Some(Ready::new(ann.clone()));
        }
        self.known().insert(space.workspace_id.clone(), known.clone());
        Ok((known, ann))
    }

    async fn ann(&self, store: &Store, space: &Space) -> Result<Option<Ann>, StoreError> {
        let look = async || {
            let found = memories::pgvector(store).await?;
            if let Err(missing) = &found {
                let (workspace_id, above) = (&space.workspace_id, self.above);
                tracing::warn!(%workspace_id, "a workspace has more than {above} memories and is searched in memory: {missing}");
            }
            Ok::<_, StoreError>(found.ok())
        };
        let pgvector = self.pgvector.get_or_try_init(look).await?;
        Ok(pgvector.as_ref().and_then(|pgvector| pgvector.of(space)))
    }

    /// Has the workspace searched by pgvector if it has become large; whether it is.
    pub(super) async fn prepare(&self, store: &Store, space: &Space) -> Result<bool, StoreError> {
        if !self.may_have(space) {
            return Ok(false);
        }
        if let Some(known) = self.look_up(space) {
            if known.ready.is_some() {
                return Ok(true);
            }
            let since = u64::try_from(space.revision - known.space.revision).unwrap_or_default();
            if known.count + since <= self.above {
                return Ok(false);
            }
            if known.count > self.above && self.ann(store, space).await?.is_none() {
                return Ok(false);
            }
        }
        let (known, ann) = self.examine(store, space).await?;
        let Some(ann) = ann.filter(|_| known.ready.is_none()) else { return Ok(known.ready.is_some()) };
        let begun = std::time::Instant::now();
        if !ann.build(store, written).await? {
            return Ok(false);
        }
        let (workspace_id, seconds) = (&space.workspace_id, begun.elapsed().as_secs());
        tracing::info!(%workspace_id, memories = known.count, seconds, "the workspace is searched by pgvector from now on");
        let ready = Some(Ready::new(ann));
        self.known().insert(space.workspace_id.clone(), Known { ready, ..known });
        Ok(true)
    }

    /// Removes what expired.
    pub(super) async fn forget_expired(
        &self,
        store: &Store,
        space: &Space,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        match self.look_up(space).and_then(|known| known.ready) {
            Some(ready) => ready.ann.forget_expired(store, at).await,
            None => Ok(()),
        }
    }

    /// Removes what was deleted.
    pub(super) async fn forget(
        &self,
        store: &Store,
        workspace_id: &WorkspaceId,
        gone: &HashSet<Key>,
    ) -> Result<(), StoreError> {
        let known = self.known().get(workspace_id).cloned();
        match known.and_then(|known| known.ready) {
            Some(ready) => ready.ann.forget(store, &ids(gone)).await,
            None => Ok(()),
        }
    }
}

/// A large workspace's embeddings, on PostgreSQL's pages.
pub(crate) struct Pages {
    ann: Arc<Ann>,
    rows: usize,
}

impl Pages {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) async fn nearest(&self, store: &Store, wanted: &Wanted) -> Result<Found, StoreError> {
        let among = wanted.among.as_ref().map(|among| ids(among));
        let near = Near {
            vector: &wanted.vector,
            namespace: wanted.namespace.as_deref(),
            at: wanted.at,
            among: among.as_deref(),
            count: wanted.count.max(1),
        };
        let (mut found, is_all) = self.ann.nearest(store, &near).await?;
        // The index gives them in nearly the right order.
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        let near = found.iter().take_while(|one| one.1 >= f64::from(wanted.at_least)).count();
        let is_all = is_all || near < found.len();
        let mut seen = HashSet::with_capacity(near);
        let keys =
            found.iter().take(near).map(|(id, _)| key_of(id)).filter(|key| seen.insert(*key)).collect();
        Ok(Found { keys, is_all })
    }

    pub(super) async fn with(
        &self,
        store: &Store,
        prints: &[Fingerprint],
        most: usize,
    ) -> Result<Vec<Option<Vec<Key>>>, StoreError> {
        let numbers: BTreeSet<i32> = prints.iter().map(|print| print.number()).collect();
        let numbers: Vec<i32> = numbers.into_iter().collect();
        let mut keys: HashMap<i32, Vec<Key>> = HashMap::new();
        for (number, id) in self.ann.with(store, &numbers, most + 1).await? {
            keys.entry(number).or_default().push(key_of(&id));
        }
        let with = |print: &Fingerprint| keys.get(&print.number()).cloned().unwrap_or_default();
        Ok(prints.iter().map(|print| Some(with(print)).filter(|keys| keys.len() <= most)).collect())
    }
}

fn ids(keys: &HashSet<Key>) -> Vec<MemoryId> {
    keys.iter().filter_map(id_of).collect()
}

fn written(content: &str) -> Vec<i32> {
    fingerprints(content).map(Fingerprint::number).collect()
}
