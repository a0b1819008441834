//! Providers that workspaces registered, with keys of their own. [`check`] says what may be
//! registered; [`OwnProviders`] has those that are in use in memory.

mod check;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_http::Outbound;
use nh_store::providers::{self, ProviderRecord};
use nh_store::seals::{self, Sealer};
use nh_store::{Store, StoreError};
use nh_types::{SharedClock, SharedIds, Timestamp, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::TaskTracker;

use crate::provider::Provider;
use crate::{ResolvedProvider, Timeouts};

pub use check::{changed, created, sealed};

/// What another node changed is seen here after so long.
const FRESH_MS: i64 = 1_000;
/// Read so long ago they are read anew beside the calls, so that none waits for that.
const RENEWED_AFTER_MS: i64 = 500;
/// Workspaces whose providers are at hand.
const MAX_WORKSPACES: usize = 10_000;
/// And the models that these may list together.
const MAX_MODELS: usize = 100_000;

/// Who may be asked, in the order in which a model is looked for.
pub(crate) type Providers = Arc<[Arc<Provider>]>;

/// Those of all workspaces. Clones are the same.
#[derive(Clone)]
pub struct OwnProviders(Arc<Inner>);

struct Inner {
    store: Store,
    sealer: Arc<Sealer>,
    /// Guarded: the addresses come from users.
    http: Outbound,
    clock: SharedClock,
    ids: SharedIds,
    at_hand: Mutex<AtHand>,
}

/// What is beyond the bounds is put out, the one that was not used for the longest time first.
#[derive(Default)]
struct AtHand {
    workspaces: HashMap<WorkspaceId, Arc<Workspace>>,
    /// Of all providers that workspaces registered, as counted when each was read.
    models: usize,
}

#[derive(Default)]
struct Workspace {
    used_at: AtomicI64,
    known: Mutex<Known>,
    /// One reads; the others wait for it and use what it found.
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    /// Counts how often it was forgotten.
    generation: u64,
    /// None: they have to be read anew.
    read_at: Option<Timestamp>,
    /// The workspace's own before those of the configuration.
    providers: Option<Providers>,
    /// Its part of [`AtHand::models`].
    models: usize,
}

impl OwnProviders {
    pub fn new(
        store: Store,
        sealer: Arc<Sealer>,
        http: Outbound,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self(Arc::new(Inner { store, sealer, http, clock, ids, at_hand: Mutex::default() }))
    }

    /// To be called when one of the workspace's was registered, changed or deleted.
    pub fn forget(&self, workspace_id: &WorkspaceId) {
        let workspace = self.workspace(workspace_id);
        let mut known = workspace.known();
        known.generation += 1;
        known.read_at = None;
    }

    /// The workspace's own, and then those of the configuration: one of the same name is not
    /// among them.
    pub(crate) async fn before(
        &self,
        workspace_id: &WorkspaceId,
        configured: &Providers,
    ) -> Result<Providers, StoreError> {
        let workspace = self.workspace(workspace_id);
        if let Some((known, age_ms)) = self.fresh(&workspace) {
            if age_ms >= RENEWED_AFTER_MS
                && let Ok(turn) = workspace.reading.clone().try_lock_owned()
            {
                let (own, workspace_id, configured) =
                    (self.clone(), workspace_id.clone(), configured.clone());
                TaskTracker::new().spawn(async move {
                    let _turn = turn;
                    // What cannot be read now is read, or told, by the call that needs it.
                    let _read = own.renew(&workspace_id, &configured, &workspace).await;
                });
            }
            return Ok(known);
        }
        // Boxed: every call comes by here, and hardly any has to read.
        Box::pin(async {
            let _turn = workspace.reading.lock().await;
            match self.fresh(&workspace) {
                Some((known, _)) => Ok(known),
                None => self.renew(workspace_id, configured, &workspace).await,
            }
        })
        .await
    }

    async fn renew(
        &self,
        workspace_id: &WorkspaceId,
        configured: &Providers,
        workspace: &Arc<Workspace>,
    ) -> Result<Providers, StoreError> {
        let now = self.0.clock.now();
        let (generation, known) = workspace.seen();
        let own = match (self.read(workspace_id, known.as_deref().unwrap_or_default()).await, known) {
            (Ok(own), _) => own,
            (Err(error), None) => return Err(error),
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "a workspace's providers cannot be read; those of before are asked");
                return Ok(known);
            }
        };
        let providers: Providers = match own.is_empty() {
            true => configured.clone(),
            false => {
                let is_hidden = |name: &str| own.iter().any(|own| own.name() == name);
                let rest = configured.iter().filter(|provider| !is_hidden(provider.name()));
                own.iter().chain(rest).cloned().collect()
            }
        };
        self.keep((workspace_id, workspace), generation, now, &providers);
        Ok(providers)
    }

    fn workspace(&self, workspace_id: &WorkspaceId) -> Arc<Workspace> {
        let now_ms = self.0.clock.now().as_millis();
        let mut at_hand = self.at_hand();
        let known = at_hand.workspaces.get(workspace_id).cloned();
        let workspace = known.unwrap_or_else(|| {
            if at_hand.workspaces.len() >= MAX_WORKSPACES {
                at_hand.put_out_one(|_| true);
            }
            at_hand.workspaces.entry(workspace_id.clone()).or_default().clone()
        });
        workspace.used_at.store(now_ms, Ordering::Relaxed);
        workspace
    }

    /// Unless one was changed since, or the workspace was put out.
    fn keep(
        &self,
        (workspace_id, workspace): (&WorkspaceId, &Arc<Workspace>),
        generation: u64,
        now: Timestamp,
        providers: &Providers,
    ) {
        let own = providers.iter().filter(|provider| provider.own().is_some());
        let models = own.map(|own| own.shelf().models().len()).sum();
        let mut at_hand = self.at_hand();
        if !at_hand.workspaces.get(workspace_id).is_some_and(|known| Arc::ptr_eq(known, workspace)) {
            return;
        }
        let before = {
            let mut known = workspace.known();
            if known.generation != generation {
                return;
            }
            known.read_at = Some(now);
            known.providers = Some(providers.clone());
            std::mem::replace(&mut known.models, models)
        };
        at_hand.models = at_hand.models.saturating_sub(before).saturating_add(models);
        while at_hand.models > MAX_MODELS && at_hand.put_out_one(|other| !std::ptr::eq(other, &**workspace)) {
        }
    }

    fn at_hand(&self) -> MutexGuard<'_, AtHand> {
        self.0.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, and for how many ms.
    fn fresh(&self, workspace: &Workspace) -> Option<(Providers, i64)> {
        let known = workspace.known();
        let age_ms = self.0.clock.now().millis_since(known.read_at?);
        let providers = known.providers.clone().filter(|_| (0..FRESH_MS).contains(&age_ms))?;
        Some((providers, age_ms))
    }

    /// By name. One that is unchanged is the same as before, with what was seen of it.
    async fn read(
        &self,
        workspace_id: &WorkspaceId,
        before: &[Arc<Provider>],
    ) -> Result<Vec<Arc<Provider>>, StoreError> {
        let mut own = Vec::new();
        for record in providers::all(&self.0.store, workspace_id).await? {
            let known = before.iter().find(|provider| provider.own() == Some(&record));
            own.push(match known {
                Some(known) => known.clone(),
                None => Arc::new(self.made(record).await?),
            });
        }
        Ok(own)
    }

    async fn made(&self, record: ProviderRecord) -> Result<Provider, StoreError> {
        let inner = &*self.0;
        let definition = &record.definition;
        let api_key = match definition.has_api_key {
            true => self.key(&record).await?,
            false => None,
        };
        let settings = ResolvedProvider {
            name: definition.name.clone(),
            kind: definition.kind,
            base_url: definition.base_url.clone(),
            api_key,
            timeouts: Timeouts::default(),
            models: definition.models.clone(),
        };
        let (http, clock, ids) = (inner.http.clone(), inner.clock.clone(), inner.ids.clone());
        Ok(Provider::new(settings, Some(record), http, clock, ids))
    }

    /// None where it cannot be read: who is asked without it says that it is missing.
    async fn key(&self, record: &ProviderRecord) -> Result<Option<SecretString>, StoreError> {
        let Inner { store, sealer, .. } = &*self.0;
        let (workspace_id, row) = (&record.workspace_id, check::key_row(&record.definition));
        let opened = match seals::open(store, sealer, workspace_id, providers::TABLE, &row).await {
            Err(error @ StoreError::Unsealable { .. }) => {
                tracing::error!(provider = record.definition.name, %error, "a key cannot be opened");
                None
            }
            opened => opened?,
        };
        let text = opened.and_then(|key| String::from_utf8(key.expose_secret().to_vec()).ok());
        Ok(text.map(SecretString::from))
    }
}

impl AtHand {
    /// False where there is none with models to put out.
    fn put_out_one(&mut self, may_go: impl Fn(&Workspace) -> bool) -> bool {
        let is_over = self.models > MAX_MODELS;
        let weighs = |workspace: &Workspace| !is_over || workspace.known().models > 0;
        let others = self.workspaces.iter().filter(|(_, other)| may_go(other) && weighs(other));
        let oldest = others.min_by_key(|(_, other)| other.used_at.load(Ordering::Relaxed));
        let Some(id) = oldest.map(|(id, _)| id.clone()) else { return false };
        if let Some(gone) = self.workspaces.remove(&id) {
            self.models = self.models.saturating_sub(std::mem::take(&mut gone.known().models));
        }
        true
    }
}

impl Workspace {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> (u64, Option<Providers>) {
        let known = self.known();
        (known.generation, known.providers.clone())
    }
}
