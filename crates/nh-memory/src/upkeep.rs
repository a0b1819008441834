//! What is done in the background: embeddings are read before the first search,
//! what expired is removed, and memories are embedded anew.

use std::time::Duration;

use nh_store::StoreError;
use nh_store::memories::{self as rows, ForgetExpired, ReleaseModels};
use nh_types::WorkspaceId;
use tokio_util::sync::CancellationToken;

use crate::embedder::Remote;
use crate::memories::{Memories, MemoryError};

const PAUSE: Duration = Duration::from_secs(30);
const EXPIRED_AT_ONCE: u32 = 500;
const SPACES_AT_ONCE: u32 = 100;

/// Until the hub stops. `remote` embeds on a workspace's account.
pub async fn keep(
    memories: Memories,
    remote: impl Fn(&WorkspaceId) -> Box<dyn Remote> + Send + Sync + 'static,
    stopping: CancellationToken,
) {
    let inner = memories.inner.clone();
    let owner = inner.ids.uuid_v7(inner.clock.now()).to_string();
    let embedding = async {
        told("drop old embeddings", memories.tidy_up().await);
        loop {
            told("embed memories anew", memories.reembed_all(&owner, &remote, &stopping).await);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = inner.model_changed.notified() => {}
            }
        }
    };
    let others = async {
        loop {
            told("remove expired memories", memories.forget_expired().await);
            inner.index.sweep(inner.clock.now());
            tokio::time::sleep(PAUSE).await;
        }
    };
    let large = Box::pin(async {
        loop {
            told("have large workspaces searched by pgvector", memories.prepare_large().await.map(drop));
            tokio::time::sleep(PAUSE).await;
        }
    });
    let work = async {
        told("read the memories' embeddings", memories.warm_up().await);
        tokio::join!(embedding, others, large);
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = work => {}
    }
    told(
        "leave embedding anew to others",
        inner.store.write(ReleaseModels { owner }).await.map_err(Into::into),
    );
}

fn told(what: &str, done: Result<(), MemoryError>) {
    if let Err(error) = done {
        tracing::warn!(%error, "could not {what}; it is tried again");
    }
}

impl Memories {
    /// Reads embeddings as long as there is room for them, so that first searches
    /// need not wait for that.
    async fn warm_up(&self) -> Result<(), MemoryError> {
        let (store, index) = (&self.inner.store, &self.inner.index);
        let mut after = String::new();
        loop {
            let spaces = rows::spaces(store, &after, SPACES_AT_ONCE).await?;
            let Some(last) = spaces.last() else { return Ok(()) };
            last.workspace_id.as_str().clone_into(&mut after);
            for space in spaces {
                if !index.has_room() {
                    return Ok(());
                }
                index.current(store, &space).await?;
            }
        }
    }

    /// Has workspaces that have become large searched by pgvector; how many are.
    /// Each is searched in memory until its index is made.
    pub async fn prepare_large(&self) -> Result<usize, MemoryError> {
        let (store, index) = (&self.inner.store, &self.inner.index);
        let (mut after, mut large, mut failed) = (String::new(), 0, None);
        loop {
            let spaces = rows::spaces(store, &after, SPACES_AT_ONCE).await?;
            let Some(last) = spaces.last() else {
                return failed.map_or(Ok(large), |error: StoreError| Err(error.into()));
            };
            last.workspace_id.as_str().clone_into(&mut after);
            for space in spaces {
                match index.prepare_large(store, &space, self.inner.clock.now()).await {
                    Ok(is_large) => large += usize::from(is_large),
                    // The others need not wait for this one.
                    Err(error) => failed = Some(error),
                }
            }
        }
    }

    /// What a process that was stopped has left.
    async fn tidy_up(&self) -> Result<(), MemoryError> {
        let mut after = String::new();
        loop {
            let spaces = rows::spaces(&self.inner.store, &after, SPACES_AT_ONCE).await?;
            let Some(last) = spaces.last() else { return Ok(()) };
            last.workspace_id.as_str().clone_into(&mut after);
            for space in spaces {
                self.drop_old_vectors(&space.workspace_id).await?;
            }
        }
    }

    async fn forget_expired(&self) -> Result<(), MemoryError> {
        let forget = ForgetExpired { at: self.inner.clock.now(), limit: EXPIRED_AT_ONCE };
        while self.inner.store.write(forget).await? == u64::from(EXPIRED_AT_ONCE) {}
        Ok(())
    }
}
