//! Searching, listing and deleting: all that picks memories out of many.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nh_store::StoreError;
use nh_store::memories::{self as rows, Embedded, Selection, Space};
use nh_types::memory::{MemoryHit, MemoryView};
use nh_types::{MemoryId, Page, PageRequest, RunId, WorkspaceId};

use crate::check;
use crate::filter::Filter;
use crate::identifiers::Fingerprint;
use crate::index::{Found, Key, Searched, Wanted, id_of, key_of};
use crate::memories::{Author, MAX_TRIES, Memories, MemoryError, changing, check_dimensions};
use crate::rank::{self, Question, Ranked};

pub const DEFAULT_LIMIT: usize = 10;
pub const MAX_LIMIT: usize = 100;

/// Of what the codes find, so many times what is asked for is compared exactly,
/// and at least so many.
const CANDIDATES_PER_HIT: usize = 4;
const MIN_CANDIDATES: usize = 40;
/// How many times more it is when too few were of use.
const GROWTH: usize = 4;
/// With a filter, so many candidates are looked at; when those do not suffice, all
/// metadata is looked at first.
const MAX_FILTERED_CANDIDATES: usize = 640;
/// How far a code's cosine may be from the exact one.
const CODE_ERROR: f64 = 0.03;
/// An identifier that more memories have says little.
const MOST_NAMING: usize = 64;

/// Named by all identifiers of a question together.
const MOST_NAMED: usize = 200;

const PAGE_ROWS: u32 = 1000;
/// Of a list with a filter, in one request.
const MAX_PAGES_READ: usize = 20;
const DELETED_AT_ONCE: usize = 500;

/// What is searched for.
#[derive(Clone, Debug)]
pub struct Query {
    pub text: String,
    /// 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// From -1 to 1.
    pub min_similarity: Option<f64>,
    /// Absent: all.
    pub namespace: Option<String>,
    pub filter: Option<Filter>,
}

/// Which memories are meant.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Absent: of all namespaces.
    pub namespace: Option<String>,
    pub filter: Option<Filter>,
    pub run_id: Option<RunId>,
}

impl Which {
    fn selection(&self) -> Selection {
        Selection { namespace: self.namespace.clone(), run_id: self.run_id }
    }
}

impl Memories {
    /// The memories that are nearest to the question in meaning, best first.
    pub async fn search(&self, author: Author<'_>, query: Query) -> Result<Vec<MemoryHit>, MemoryError> {
        check::question(&query.text)?;
        let begun = std::time::Instant::now();
        let workspace_id = author.workspace_id;
        for _ in 0..MAX_TRIES {
            let Some(space) = rows::space(&self.inner.store, workspace_id).await? else {
                return Ok(Vec::new());
            };
            let vector = self.inner.embedder.question(author.remote, &space.model, &query.text).await?;
            check_dimensions(
                Some((space.model.clone(), vector.len() as u32)),
                &space.model,
                space.dimensions,
            )?;
            metrics::histogram!("neuralhub_memory_embed_seconds").record(begun.elapsed());
            let looking = std::time::Instant::now();
            let search = Search {
                memories: self,
                space: &space,
                question: Question::new(&query.text, vector),
                query: &query,
                is_old: AtomicBool::new(false),
            };
            if let Some(hits) = search.hits().await? {
                metrics::histogram!("neuralhub_memory_search_seconds").record(looking.elapsed());
                return Ok(hits);
            }
            // Another model came into use meanwhile.
        }
        Err(changing().into())
    }

    /// The memories that are meant, newest first.
    pub async fn list(
        &self,
        workspace_id: &WorkspaceId,
        which: &Which,
        page: &PageRequest,
    ) -> Result<Page<MemoryView>, MemoryError> {
        let (store, now) = (&self.inner.store, self.inner.clock.now());
        let Some(filter) = &which.filter else {
            return Ok(rows::list(store, workspace_id, &which.selection(), now, page).await?);
        };
        let mut found = Page { items: Vec::new(), next: page.after.clone() };
        // A page may be short, and go on, when few memories match.
        for _ in 0..MAX_PAGES_READ {
            let more = PageRequest { limit: PAGE_ROWS.min(page.limit.max(100)), after: found.next.take() };
            let read = rows::list(store, workspace_id, &which.selection(), now, &more).await?;
            let room = page.limit as usize - found.items.len();
            let mut matching = read.items.into_iter().filter(|memory| filter.matches(&memory.metadata));
            found.items.extend(matching.by_ref().take(room));
            if matching.next().is_some() {
                found.next = found.items.last().map(rows::cursor_after);
                return Ok(found);
            }
            found.next = read.next;
            if found.next.is_none() || found.items.len() == page.limit as usize {
                break;
            }
        }
        Ok(found)
    }

    /// Deletes one; false when there is none such.
    pub async fn delete(&self, workspace_id: &WorkspaceId, id: &MemoryId) -> Result<bool, MemoryError> {
        Ok(self.delete_all(workspace_id, vec![id.clone()]).await? > 0)
    }

    /// Deletes those that are meant, and counts them. They go in batches: one
    /// that is broken off has deleted some, and goes on when it is asked again.
    pub async fn delete_which(&self, workspace_id: &WorkspaceId, which: &Which) -> Result<u64, MemoryError> {
        let mut deleted = 0;
        let mut after = String::new();
        loop {
            let described =
                rows::describe(&self.inner.store, workspace_id, &which.selection(), &after, PAGE_ROWS)
                    .await?;
            let Some(last) = described.last() else { return Ok(deleted) };
            last.id.as_str().clone_into(&mut after);
            let ids: Vec<MemoryId> = described
                .into_iter()
                .filter(|memory| which.filter.as_ref().is_none_or(|filter| filter.matches(&memory.metadata)))
                .map(|memory| memory.id)
                .collect();
            for ids in ids.chunks(DELETED_AT_ONCE) {
                deleted += self.delete_all(workspace_id, ids.to_vec()).await?;
            }
        }
    }

    async fn delete_all(&self, workspace_id: &WorkspaceId, ids: Vec<MemoryId>) -> Result<u64, MemoryError> {
        let gone: HashSet<Key> = ids.iter().map(key_of).collect();
        let delete = rows::Delete { workspace_id: workspace_id.clone(), ids };
        let deleted = self.inner.store.write(delete).await?;
        self.inner.index.forget(&self.inner.store, workspace_id, None, &gone).await;
        Ok(deleted)
    }
}

/// One search under way.
struct Search<'s> {
    memories: &'s Memories,
    space: &'s Space,
    question: Question,
    query: &'s Query,
    /// The workspace's model is another by now.
    is_old: AtomicBool,
}

impl Search<'_> {
    /// None when the workspace's model is another by now.
    async fn hits(&self) -> Result<Option<Vec<MemoryHit>>, MemoryError> {
        let inner = &self.memories.inner;
        let Some(index) = inner.index.current(&inner.store, self.space).await? else { return Ok(None) };
        let mut seen = HashSet::new();
        let (named, is_all) = self.named(&index).await?;
        let mut ranked = self.look_at(&named, &mut seen).await?;
        // Unless what an index does not know decides about those that are farther.
        let is_by_nearness = is_all && !self.question.has_quoted() && self.query.filter.is_none();
        let mut best = is_by_nearness.then_some(self.query.limit.max(rank::MOST_LIKE));
        let mut count = MIN_CANDIDATES.max(self.query.limit * CANDIDATES_PER_HIT);
        let (mut among, mut near) = (None, 0);
        loop {
            let found = self.nearest(&index, count, best.take(), among.clone()).await?;
            let looked_at = self.look_at(&found.keys, &mut seen).await?;
            near += looked_at.len();
            ranked.extend(looked_at);
            if found.is_all || near >= self.query.limit {
                break;
            }
            count *= GROWTH;
            if count > MAX_FILTERED_CANDIDATES && among.is_none() && self.query.filter.is_some() {
                among = Some(Arc::new(self.matching().await?));
            }
        }
        rank::sort(&mut ranked);
        self.associate(&index, &mut ranked, &mut seen).await?;
        if self.is_old.load(Ordering::Relaxed) {
            return Ok(None);
        }
        ranked.truncate(self.query.limit);
        Ok(Some(ranked.into_iter().map(|one| one.hit).collect()))
    }

    /// The memories in which an identifier of the question is written, and whether
    /// these are all: identifiers that many have are left out.
    async fn named(&self, index: &Searched) -> Result<(Vec<Key>, bool), StoreError> {
        let identifiers = self.question.identifiers.iter();
        let prints: Vec<Fingerprint> =
            identifiers.map(|identifier| Fingerprint::of_identifier(identifier)).collect();
        let with = index.with(&self.memories.inner.store, &prints, MOST_NAMING).await?;
        let is_all = with.iter().all(Option::is_some);
        let mut named = with.into_iter().flatten().flatten().collect::<Vec<_>>();
        let is_all = is_all && named.len() <= MOST_NAMED;
        named.truncate(MOST_NAMED);
        Ok((named, is_all))
    }

    /// Lifts what is associated with the best, which stays the first.
    async fn associate(
        &self,
        index: &Searched,
        ranked: &mut Vec<Ranked>,
        seen: &mut HashSet<Key>,
    ) -> Result<(), MemoryError> {
        if self.query.limit == 1 {
            return Ok(());
        }
        let (owners, names) = rank::names_of(&ranked[..ranked.len().min(rank::MOST_LIKE)]);
        let most = rank::most_sharing(index.rows());
        let sharing = index.with(&self.memories.inner.store, &names, most).await?;
        let shares = rank::associates(&owners, sharing);
        if shares.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = shares.keys().copied().collect();
        ranked.extend(self.look_at(&keys, seen).await?);
        let rest = &mut ranked[1..];
        rest.iter_mut().for_each(|one| one.lift(&shares));
        rank::sort(rest);
        Ok(())
    }

    async fn is_changed(&self) -> Result<bool, StoreError> {
        let now = rows::space(&self.memories.inner.store, &self.space.workspace_id).await?;
        Ok(now.is_some_and(|now| now.model_since != self.space.model_since))
    }

    async fn nearest(
        &self,
        index: &Searched,
        count: usize,
        best: Option<usize>,
        among: Option<Arc<HashSet<Key>>>,
    ) -> Result<Found, MemoryError> {
        let wanted = Wanted {
            vector: self.question.vector.clone(),
            namespace: self.query.namespace.clone(),
            at: self.memories.inner.clock.now(),
            among,
            at_least: self.query.min_similarity.map_or(f32::MIN, |least| (least - CODE_ERROR) as f32),
            count,
            best,
        };
        index.nearest(&self.memories.inner.store, wanted).await
    }

    /// Compares exactly those that were not looked at yet, as the store has them now.
    async fn look_at(&self, keys: &[Key], seen: &mut HashSet<Key>) -> Result<Vec<Ranked>, MemoryError> {
        let new: Vec<Key> = keys.iter().copied().filter(|key| seen.insert(*key)).collect();
        let ids: Vec<MemoryId> = new.iter().filter_map(id_of).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let inner = &self.memories.inner;
        let found = rows::find_many(&inner.store, &self.space.workspace_id, &self.space.model, &ids).await?;
        if found.len() < ids.len() && self.is_changed().await? {
            self.is_old.store(true, Ordering::Relaxed);
        } else if found.len() < ids.len() {
            let there: HashSet<Key> = found.iter().map(|one| key_of(&one.memory.view.id)).collect();
            let gone = new.into_iter().filter(|key| !there.contains(key)).collect();
            let Space { workspace_id, model, .. } = self.space;
            inner.index.forget(&inner.store, workspace_id, Some(model), &gone).await;
        }
        let ranked = found.into_iter().filter(|one| self.counts(one)).map(|one| self.question.rank(one));
        let least = self.query.min_similarity.unwrap_or(-1.0);
        Ok(ranked.filter(|one| one.hit.similarity >= least).collect())
    }

    fn counts(&self, found: &Embedded) -> bool {
        let view = &found.memory.view;
        view.expires_at.is_none_or(|at| at > self.memories.inner.clock.now())
            && self.query.namespace.as_ref().is_none_or(|name| *name == view.namespace)
            && self.query.filter.as_ref().is_none_or(|filter| filter.matches(&view.metadata))
    }

    /// All memories whose metadata match the filter.
    async fn matching(&self) -> Result<HashSet<Key>, StoreError> {
        let selection = Selection { namespace: self.query.namespace.clone(), run_id: None };
        let mut matching = HashSet::new();
        let mut after = String::new();
        loop {
            let described = rows::describe(
                &self.memories.inner.store,
                &self.space.workspace_id,
                &selection,
                &after,
                PAGE_ROWS,
            )
            .await?;
            let Some(last) = described.last() else { return Ok(matching) };
            last.id.as_str().clone_into(&mut after);
            let matches = |memory: &rows::Described| {
                self.query.filter.as_ref().is_none_or(|filter| filter.matches(&memory.metadata))
            };
            matching
                .extend(described.iter().filter(|memory| matches(memory)).map(|memory| key_of(&memory.id)));
        }
    }
}
