//! Providers that workspaces registered, with keys of their own. [`check`] says what may be
//! registered; [`OwnProviders`] has those that are in use in memory.

mod check;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_http::Outbound;
use nh_store::providers::{self, ProviderRecord};
use nh_store::seals::{self, Sealer};
use nh_store::{Store, StoreError};
use nh_types::{SharedClock, SharedIds, Timestamp, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

use crate::provider::Provider;
use crate::{ResolvedProvider, Timeouts};

pub use check::{changed, created, sealed};

/// What another node changed is seen here after so long.
const FRESH_MS: i64 = 1_000;
/// Workspaces whose providers are at hand.
const MAX_WORKSPACES: usize = 1_000;
/// And the models that these may list together, before all are read anew.
const MAX_MODELS: usize = 50_000;

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
    workspaces: Mutex<HashMap<WorkspaceId, Arc<Workspace>>>,
}

#[derive(Default)]
struct Workspace {
    known: Mutex<Known>,
    /// One reads; the others wait for it and use what it found.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// Counts how often it was forgotten.
    generation: u64,
    /// None: they have to be read anew.
    read_at: Option<Timestamp>,
    /// The workspace's own before those of the configuration.
    providers: Option<Providers>,
}

impl OwnProviders {
    pub fn new(
        store: Store,
        sealer: Arc<Sealer>,
        http: Outbound,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self(Arc::new(Inner { store, sealer, http, clock, ids, workspaces: Mutex::default() }))
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
        if let Some(known) = self.fresh(&workspace) {
            return Ok(known);
        }
        let _turn = workspace.reading.lock().await;
        if let Some(known) = self.fresh(&workspace) {
            return Ok(known);
        }
        let now = self.0.clock.now();
        let (generation, known) = workspace.seen();
        let own = self.read(workspace_id, known.as_deref().unwrap_or_default()).await?;
        let providers: Providers = match own.is_empty() {
            true => configured.clone(),
            false => {
                let is_hidden = |name: &str| own.iter().any(|own| own.name() == name);
                let rest = configured.iter().filter(|provider| !is_hidden(provider.name()));
                own.iter().chain(rest).cloned().collect()
            }
        };
        workspace.keep(generation, now, &providers);
        Ok(providers)
    }

    fn workspace(&self, workspace_id: &WorkspaceId) -> Arc<Workspace> {
        let mut workspaces = self.0.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = workspaces.get(workspace_id) {
            return known.clone();
        }
        let models: usize = workspaces.values().map(|workspace| workspace.own_models()).sum();
        if workspaces.len() >= MAX_WORKSPACES || models > MAX_MODELS {
            workspaces.clear();
        }
        workspaces.entry(workspace_id.clone()).or_default().clone()
    }

    fn fresh(&self, workspace: &Workspace) -> Option<Providers> {
        let known = workspace.known();
        let age_ms = self.0.clock.now().millis_since(known.read_at?);
        known.providers.clone().filter(|_| (0..FRESH_MS).contains(&age_ms))
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

impl Workspace {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> (u64, Option<Providers>) {
        let known = self.known();
        (known.generation, known.providers.clone())
    }

    /// Unless one was changed since.
    fn keep(&self, generation: u64, now: Timestamp, providers: &Providers) {
        let mut known = self.known();
        if known.generation == generation {
            known.read_at = Some(now);
            known.providers = Some(providers.clone());
        }
    }

    fn own_models(&self) -> usize {
        let known = self.known();
        let own = known.providers.iter().flat_map(|providers| providers.iter());
        own.filter(|provider| provider.own().is_some()).map(|own| own.shelf().models().len()).sum()
    }
}
