use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use nh_memory::{Author, Memories, MemoriesSetup, MemorySettings, Query, Remote, Weights};
use nh_store::memories::Added;
use nh_store::{Once, Store, workspaces};
use nh_testkit::{FixedClock, SeededIds};
use nh_types::agent::AgentDefinition;
use nh_types::memory::{CreateMemory, MemoryHit};
use nh_types::{ApiError, Clock, ErrorCode, MemoryId, SharedIds, WorkspaceId};

/// A stand-in for a provider: the words of a text, each in one of as many
/// dimensions as the model's name ends in.
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) texts: AtomicUsize,
    /// Texts after which it is down; 0: never.
    pub(crate) down_after: AtomicUsize,
}

impl Remote for Words {
    fn embed<'a>(
        &'a self,
        model: &'a str,
        texts: Vec<String>,
    ) -> BoxFuture<'a, Result<Vec<Vec<f32>>, ApiError>> {
        let before = self.texts.fetch_add(texts.len(), Ordering::SeqCst);
        let limit = self.down_after.load(Ordering::SeqCst);
        let dimensions = model.rsplit('-').next().and_then(|number| number.parse().ok());
        let answer = match dimensions {
            _ if limit > 0 && before >= limit => Err(ApiError::new(ErrorCode::UpstreamError, "it is down")),
            None => Err(ApiError::new(ErrorCode::ModelNotFound, "no provider serves it")),
            Some(dimensions) if model.contains("noise") => {
                Ok(texts.iter().map(|text| noise(text, dimensions)).collect())
            }
            Some(dimensions) => Ok(texts.iter().map(|text| of_words(text, dimensions)).collect()),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn of_words(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.001; dimensions];
    for word in
        text.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
    {
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        vector[hasher.finish() as usize % dimensions] += 1.0;
    }
    vector
}

/// A vector that looks like any other; texts that begin with the same word have
/// some of it in common.
fn noise(text: &str, dimensions: usize) -> Vec<f32> {
    let of = |text: &str, place: usize| {
        let mut hasher = DefaultHasher::new();
        (text, place).hash(&mut hasher);
        hasher.finish() as f32 / u64::MAX as f32 - 0.5
    };
    let first = text.split(' ').next().unwrap_or_default();
    (0..dimensions).map(|place| of(first, place) + of(text, place)).collect()
}

pub(crate) const MODEL: &str = "fake/words-4096";

/// One process' memories on a store.
pub(crate) struct Hub {
    pub(crate) memories: Memories,
    pub(crate) clock: FixedClock,
    pub(crate) ids: SharedIds,
    pub(crate) remote: Arc<Words>,
    pub(crate) store: Store,
}

impl Hub {
    pub(crate) fn new(store: &Store, seed: u64) -> Self {
        Self::with(store, seed, nh_testkit::weights(), MODEL, &MemorySettings::default())
    }

    pub(crate) fn with(
        store: &Store,
        seed: u64,
        weights: PathBuf,
        model: &str,
        settings: &MemorySettings,
    ) -> Self {
        let (clock, ids): (_, SharedIds) = (FixedClock::default(), Arc::new(SeededIds::new(seed)));
        let memories = Memories::new(MemoriesSetup {
            store: store.clone(),
            weights: Weights::new(weights, None),
            default_model: model.to_owned(),
            settings,
            clock: Arc::new(clock.clone()),
            ids: ids.clone(),
        });
        Self { memories, clock, ids, remote: Arc::default(), store: store.clone() }
    }

    pub(crate) async fn workspace(&self, name: &str) -> WorkspaceId {
        let id = WorkspaceId::generate(self.ids.as_ref());
        let workspace =
            workspaces::Workspace { id: id.clone(), name: name.to_owned(), created_at: self.clock.now() };
        let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
        self.store.write(create).await.expect("a workspace");
        id
    }

    pub(crate) fn author<'a>(&'a self, workspace_id: &'a WorkspaceId) -> Author<'a> {
        Author { workspace_id, created_by: "key:1", run: None, remote: self.remote.as_ref() }
    }

    pub(crate) async fn add(&self, workspace_id: &WorkspaceId, content: &str) -> MemoryId {
        let new =
            CreateMemory { content: content.to_owned(), metadata: None, namespace: None, expires_at: None };
        match self.memories.add(self.author(workspace_id), new, None).await.expect("a memory") {
            Once::First(Added::New { id, .. } | Added::Known { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn search(
        &self,
        workspace_id: &WorkspaceId,
        text: &str,
        limit: usize,
    ) -> Vec<MemoryHit> {
        let query =
            Query { text: text.to_owned(), limit, min_similarity: None, namespace: None, filter: None };
        self.memories.search(self.author(workspace_id), query).await.expect("hits")
    }

    pub(crate) async fn best(&self, workspace_id: &WorkspaceId, text: &str) -> String {
        let hits = self.search(workspace_id, text, 1).await;
        hits.first().map(|hit| hit.content.clone()).unwrap_or_default()
    }
}
