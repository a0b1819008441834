//! [`Memories`]: what is remembered is embedded and stored, and found again.

use std::sync::Arc;

use nh_store::memories::{
    self as rows, Add, AddForGood, Added, Change, Changed, MemoryRecord, NewContent, NewMemory, Vectors,
};
use nh_store::{Idempotency, Once, Store, StoreError, idempotency};
use nh_types::memory::{ChangeMemory, CreateMemory, MemoryView};
use nh_types::{ApiError, ErrorCode, MemoryId, RunId, SharedClock, SharedIds, WorkspaceId};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::check;
use crate::embedder::{Embedder, Remote};
use crate::index::Index;
use crate::local::Local;
use crate::settings::MemorySettings;
use crate::weights::Weights;

/// Tries of a write that finds that another model is in use by now.
pub(crate) const MAX_TRIES: usize = 4;

/// Why something could not be remembered or searched.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// What was asked for is not acceptable, or not to be had at present.
    #[error(transparent)]
    Refused(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// On whose behalf something is remembered or searched.
#[derive(Clone, Copy)]
pub struct Author<'a> {
    pub workspace_id: &'a WorkspaceId,
    /// `key:42` or `session:user_…`.
    pub created_by: &'a str,
    pub run: Option<(RunId, &'a str)>,
    /// On whose account a provider embeds.
    pub remote: &'a dyn Remote,
}

/// What [`Memories`] is made of.
pub struct MemoriesSetup<'s> {
    pub store: Store,
    pub weights: Weights,
    /// What embeds the memories of workspaces that have none yet.
    pub default_model: String,
    pub settings: &'s MemorySettings,
    pub clock: SharedClock,
    pub ids: SharedIds,
}

/// Every workspace's memories. Clones share all of it.
#[derive(Clone)]
pub struct Memories {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) embedder: Embedder,
    pub(crate) index: Index,
    pub(crate) default_model: String,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    /// Told when memories are to be embedded anew.
    pub(crate) model_changed: Notify,
}

impl Memories {
    pub fn new(setup: MemoriesSetup<'_>) -> Self {
        let MemoriesSetup { store, weights, default_model, settings, clock, ids } = setup;
        let embedder = Embedder { local: Arc::new(Local::new(weights, settings)) };
        let index = Index::new(settings.max_index_mib.saturating_mul(1 << 20), settings.pgvector_above);
        let model_changed = Notify::new();
        Self { inner: Arc::new(Inner { store, embedder, index, default_model, clock, ids, model_changed }) }
    }

    /// Embeds texts by the local model: a vector of length 1 and the number of
    /// tokens for each.
    pub async fn embed_locally(&self, texts: Vec<String>) -> Result<Vec<(Vec<f32>, usize)>, ApiError> {
        self.inner.embedder.local.embed_many(texts).await
    }

    /// Stores a memory; what comes back is durable.
    pub async fn add(
        &self,
        author: Author<'_>,
        new: CreateMemory,
        once: Option<Idempotency>,
    ) -> Result<Once<Added>, MemoryError> {
        // The first answer is given again, whatever became of the memory since.
        if let Some(once) = &once
            && let Some(earlier) = idempotency::earlier(&self.inner.store, once).await?
        {
            return Ok(earlier);
        }
        let memory = self.new_memory(author, new)?;
        self.store_new(author, memory, once).await
    }

    /// Where a content is kept already.
    pub async fn known(
        &self,
        workspace_id: &WorkspaceId,
        namespace: Option<&str>,
        content: &str,
    ) -> Result<Option<MemoryView>, MemoryError> {
        let namespace = namespace.unwrap_or(check::DEFAULT_NAMESPACE);
        let (store, now) = (&self.inner.store, self.inner.clock.now());
        let found = rows::find_content(store, workspace_id, namespace, &hash(content), now).await?;
        Ok(found.map(|record| record.view))
    }

    pub(crate) fn new_memory(&self, author: Author<'_>, new: CreateMemory) -> Result<NewMemory, ApiError> {
        let now = self.inner.clock.now();
        check::content(&new.content)?;
        Ok(NewMemory {
            workspace_id: author.workspace_id.clone(),
            id: MemoryId::generate(self.inner.ids.as_ref()),
            namespace: check::namespace(new.namespace)?,
            hash: hash(&new.content),
            content: new.content,
            metadata: check::metadata(new.metadata)?,
            expires_at: check::expires_at(new.expires_at, now)?,
            created_by: author.created_by.to_owned(),
            run_id: author.run.map(|(run_id, _)| run_id),
            step: author.run.map(|(_, step)| step.to_owned()),
            at: now,
        })
    }

    /// Embeds and stores. A content that is there already is not embedded again.
    async fn store_new(
        &self,
        author: Author<'_>,
        memory: NewMemory,
        once: Option<Idempotency>,
    ) -> Result<Once<Added>, MemoryError> {
        let mut vectors = match self.is_known(&memory).await? {
            true => None,
            false => Some(self.embed_new(author, &memory.content).await?),
        };
        for _ in 0..MAX_TRIES {
            let add = Add { memory: memory.clone(), vectors: vectors.take() };
            match self.write_new(add, once.clone()).await? {
                Some(done) => return Ok(done),
                None => vectors = Some(self.embed_new(author, &memory.content).await?),
            }
        }
        Err(changing().into())
    }

    pub(crate) async fn is_known(&self, memory: &NewMemory) -> Result<bool, StoreError> {
        let NewMemory { workspace_id, namespace, hash, at, .. } = memory;
        let known = rows::find_content(&self.inner.store, workspace_id, namespace, hash, *at).await?;
        Ok(known.is_some())
    }

    async fn embed_new(&self, author: Author<'_>, content: &str) -> Result<Vectors, MemoryError> {
        let model = self.model(author.workspace_id).await?;
        Ok(self.inner.embedder.content(author.remote, &model, content).await?)
    }

    /// None: the embeddings by the workspace's present model are needed.
    pub(crate) async fn write_new(
        &self,
        add: Add,
        once: Option<Idempotency>,
    ) -> Result<Option<Once<Added>>, MemoryError> {
        let store = &self.inner.store;
        let given = add.vectors.as_ref().map(|vectors| (vectors.model.clone(), vectors.dimensions));
        let added = match once {
            None => store.write(add).await.map(Once::First),
            // Of an answer that is tried again no record may be kept.
            Some(once) => store.write_once(Some(once), AddForGood(add)).await,
        };
        match added {
            Ok(Once::First(Added::OtherModel { model, dimensions })) => {
                check_dimensions(given, &model, dimensions)?;
                Ok(None)
            }
            Ok(Once::First(Added::Lacking)) | Err(StoreError::Missing(_)) => Ok(None),
            added => Ok(Some(added?)),
        }
    }

    /// What embeds the workspace's memories.
    pub(crate) async fn model(&self, workspace_id: &WorkspaceId) -> Result<String, StoreError> {
        let space = rows::space(&self.inner.store, workspace_id).await?;
        Ok(space.map_or_else(|| self.inner.default_model.clone(), |space| space.model))
    }

    pub async fn find(
        &self,
        workspace_id: &WorkspaceId,
        id: &MemoryId,
    ) -> Result<Option<MemoryView>, MemoryError> {
        let now = self.inner.clock.now();
        Ok(rows::find(&self.inner.store, workspace_id, id, now).await?.map(|record| record.view))
    }

    /// Changes a memory; None when there is none such.
    pub async fn change(
        &self,
        author: Author<'_>,
        id: &MemoryId,
        change: ChangeMemory,
    ) -> Result<Option<MemoryView>, MemoryError> {
        let store = &self.inner.store;
        for _ in 0..MAX_TRIES {
            let now = self.inner.clock.now();
            let Some(record) = rows::find(store, author.workspace_id, id, now).await? else {
                return Ok(None);
            };
            let memory = self.changed(record, change.clone())?;
            let hash = hash(&memory.view.content);
            let content = match &change.content {
                Some(content) => {
                    let model = self.model(author.workspace_id).await?;
                    let vectors = self.inner.embedder.content(author.remote, &model, content).await?;
                    Some(NewContent { hash, vectors })
                }
                None => None,
            };
            let given = content
                .as_ref()
                .map(|NewContent { vectors, .. }| (vectors.model.clone(), vectors.dimensions));
            let write =
                Change { workspace_id: author.workspace_id.clone(), memory: memory.clone(), content, hash };
            match store.write(write).await? {
                Changed::Done => return Ok(Some(memory.view)),
                Changed::Twin(twin) => return Err(is_twin(&twin).into()),
                Changed::OtherModel { model, dimensions } => {
                    check_dimensions(given, &model, dimensions)?;
                }
                Changed::Stale => {}
            }
        }
        Err(changing().into())
    }

    fn changed(&self, mut record: MemoryRecord, change: ChangeMemory) -> Result<MemoryRecord, ApiError> {
        let now = self.inner.clock.now();
        let view = &mut record.view;
        if let Some(content) = change.content {
            check::content(&content)?;
            view.content = content;
        }
        if let Some(metadata) = change.metadata {
            view.metadata = check::metadata(metadata)?;
        }
        if let Some(namespace) = change.namespace {
            view.namespace = check::namespace(Some(namespace))?;
        }
        if let Some(expires_at) = change.expires_at {
            view.expires_at = check::expires_at(expires_at, now)?;
        }
        view.updated_at = now;
        Ok(record)
    }
}

pub(crate) fn hash(content: &str) -> [u8; 32] {
    Sha256::digest(content.as_bytes()).into()
}

/// The same model with another number of dimensions is another model.
pub(crate) fn check_dimensions(
    given: Option<(String, u32)>,
    model: &str,
    dimensions: u32,
) -> Result<(), ApiError> {
    let other = given.filter(|(of, has)| of == model && *has != dimensions);
    other.map_or(Ok(()), |(_, has)| {
        let message = format!(
            "`{model}` gives embeddings of {has} numbers now, and the workspace's memories have {dimensions}; \
             have them embedded by another model with PUT /v1/memory/model"
        );
        Err(ApiError::new(ErrorCode::EmbedderUnavailable, message))
    })
}

pub(crate) fn changing() -> ApiError {
    let message = "the memory or the workspace's model is being changed by others; try again";
    ApiError::new(ErrorCode::Conflict, message)
}

fn is_twin(twin: &MemoryId) -> ApiError {
    let message =
        format!("the memory `{twin}` of this namespace has this content already; change or delete that one");
    ApiError::new(ErrorCode::AlreadyExists, message).param("content")
}
