//! The model of a workspace's memories, and embedding all of them by another.

use nh_store::memories::{
    self as rows, BeginModel, ClaimModel, DropVectors, Embed, FinishModel, Lacking, NoteError,
};
use nh_types::memory::{MemoryModel, NextMemoryModel};
use nh_types::{ApiError, WorkspaceId};
use tokio_util::sync::CancellationToken;

use crate::embedder::{self, Remote};
use crate::memories::{Author, Memories, MemoryError};

/// OpenAI's, for hubs that have it.
pub const REMOTE_MODEL: &str = "openai/text-embedding-3-small";

/// Memories that are embedded at the same time.
const MEMORIES_AT_ONCE: u32 = 32;
/// How long another process waits for one that has stopped in the middle.
const CLAIM_MS: u32 = 60_000;
const DROPPED_AT_ONCE: u32 = 1000;
const MAX_SPACES: u32 = 100;

impl Memories {
    /// What the workspace's memories are embedded by.
    pub async fn model_view(&self, workspace_id: &WorkspaceId) -> Result<MemoryModel, MemoryError> {
        let store = &self.inner.store;
        let memories = rows::count(store, workspace_id).await?;
        let Some(space) = rows::space(store, workspace_id).await? else {
            let model = self.inner.default_model.clone();
            return Ok(MemoryModel { model, dimensions: None, memories, next: None });
        };
        let next = match space.next_model {
            Some(model) => {
                let embedded = rows::count_embedded(store, workspace_id, &model).await?;
                Some(NextMemoryModel { model, embedded, error: space.next_error })
            }
            None => None,
        };
        Ok(MemoryModel { model: space.model, dimensions: Some(space.dimensions), memories, next })
    }

    /// Has all memories embedded by `model`, which must be able to: it is asked
    /// for an embedding first.
    pub async fn change_model(&self, author: Author<'_>, model: &str) -> Result<MemoryModel, MemoryError> {
        let probe = embedder::probe(&self.inner.embedder, author.remote, model).await?;
        let (workspace_id, dimensions) = (author.workspace_id.clone(), probe.dimensions);
        self.inner.store.write(BeginModel { workspace_id, model: model.to_owned(), dimensions }).await?;
        self.inner.model_changed.notify_one();
        self.model_view(author.workspace_id).await
    }

    /// Goes on with all that is being embedded anew.
    pub(crate) async fn reembed_all(
        &self,
        owner: &str,
        remote: &(dyn Fn(&WorkspaceId) -> Box<dyn Remote> + Send + Sync),
        stopping: &CancellationToken,
    ) -> Result<(), MemoryError> {
        for space in rows::changing(&self.inner.store, MAX_SPACES).await? {
            let Some(model) = space.next_model.clone() else { continue };
            let remote = remote(&space.workspace_id);
            let error =
                match self.reembed(owner, &space.workspace_id, &model, remote.as_ref(), stopping).await {
                    Ok(()) => continue,
                    Err(error) => error,
                };
            tracing::warn!(%error, workspace_id = %space.workspace_id, model, "memories cannot be embedded anew; it is tried again");
            let note = NoteError { workspace_id: space.workspace_id, model, error: Some(error.to_string()) };
            self.inner.store.write(note).await?;
        }
        Ok(())
    }

    async fn reembed(
        &self,
        owner: &str,
        workspace_id: &WorkspaceId,
        model: &str,
        remote: &dyn Remote,
        stopping: &CancellationToken,
    ) -> Result<(), MemoryError> {
        let store = &self.inner.store;
        let claim = ClaimModel {
            workspace_id: workspace_id.clone(),
            model: model.to_owned(),
            owner: owner.to_owned(),
            for_ms: CLAIM_MS,
        };
        loop {
            let Some(space) = rows::space(store, workspace_id).await? else { return Ok(()) };
            // Memories that change from here on are looked at again.
            let since = space.revision;
            let mut after = String::new();
            loop {
                if stopping.is_cancelled() || !store.write(claim.clone()).await? {
                    return Ok(());
                }
                let lacking = rows::lacking(store, workspace_id, model, &after, MEMORIES_AT_ONCE).await?;
                let Some(last) = lacking.last() else { break };
                last.id.as_str().clone_into(&mut after);
                self.embed_lacking(workspace_id, model, remote, lacking).await?;
            }
            let dimensions = embedder::probe(&self.inner.embedder, remote, model).await?.dimensions;
            let (workspace_id, model) = (workspace_id.clone(), model.to_owned());
            let finish = FinishModel { workspace_id: workspace_id.clone(), model, dimensions, since };
            if store.write(finish).await? {
                tracing::info!(%workspace_id, "all memories are embedded by the new model");
                return self.drop_old_vectors(&workspace_id).await;
            }
        }
    }

    /// What can be embedded is kept, whatever becomes of the others.
    async fn embed_lacking(
        &self,
        workspace_id: &WorkspaceId,
        model: &str,
        remote: &dyn Remote,
        lacking: Vec<Lacking>,
    ) -> Result<(), MemoryError> {
        let embedder = &self.inner.embedder;
        let contents: Vec<&str> = lacking.iter().map(|memory| memory.content.as_str()).collect();
        let (mut memories, mut refused) = (Vec::with_capacity(lacking.len()), None);
        match embedder.contents(remote, model, &contents).await {
            Ok(embedded) => {
                let of = lacking.iter().zip(embedded);
                memories.extend(of.map(|(memory, vectors)| (memory.id.clone(), memory.hash, vectors)));
            }
            Err(_) => {
                for memory in &lacking {
                    match embedder.contents(remote, model, &[&memory.content]).await {
                        Ok(mut one) => {
                            memories
                                .extend(one.pop().map(|vectors| (memory.id.clone(), memory.hash, vectors)));
                        }
                        Err(error) => {
                            let message = format!("the memory `{}`: {}", memory.id, error.message);
                            refused = Some(ApiError { message, ..error });
                            // One that is down would only be asked again and again.
                            if memories.is_empty() {
                                break;
                            }
                        }
                    }
                }
            }
        }
        self.inner.store.write(Embed { workspace_id: workspace_id.clone(), memories }).await?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Embeddings by models that are not used any more.
    pub(crate) async fn drop_old_vectors(&self, workspace_id: &WorkspaceId) -> Result<(), MemoryError> {
        let mut drop =
            DropVectors { workspace_id: workspace_id.clone(), after: String::new(), limit: DROPPED_AT_ONCE };
        while let Some(last) = self.inner.store.write(drop.clone()).await? {
            drop.after = last;
        }
        Ok(())
    }
}
