//! [`Compute`]: the sandboxes of this process, and how they are found and ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_store::sandboxes::{self, Forget, Prolong, SandboxRecord};
use nh_store::{Store, StoreError};
use nh_types::sandbox::{SandboxState, SandboxUsage, StopReason, TemplateView};
use nh_types::{ApiError, ErrorCode, SandboxId, SharedClock, SharedIds, WorkspaceId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::drivers::{Driver, HostSetup};
use crate::error::{ComputeError, invalid};
use crate::live::{End, Live};
use crate::meters;
use crate::of_runs::OfRuns;
use crate::pool::Pool;
use crate::settings::{ComputeSettings, DriverChoice};
use crate::snapshots::Snapshots;
use crate::templates::{TemplateError, Templates};

/// From its creation on no sandbox lives longer.
pub const MAX_LIFE_SECONDS: u32 = 24 * 60 * 60;
pub(crate) const DEFAULT_LIFE_SECONDS: u32 = 15 * 60;

/// After a look at what isolates sandboxes that found nothing.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How long the end of a sandbox may take whose work is waited for.
const END_LIMIT: Duration = Duration::from_secs(60);

/// What a [`Compute`] is made of.
pub struct ComputeSetup {
    pub store: Store,
    pub settings: ComputeSettings,
    /// What each workspace may spend in a month, in US dollars.
    pub workspace_budget_usd: Option<f64>,
    /// The data directory: sandboxes are in `compute`, templates in `templates`.
    pub data_dir: PathBuf,
    pub clock: SharedClock,
    pub ids: SharedIds,
}

/// The sandboxes of one process. Clones are the same.
#[derive(Clone)]
pub struct Compute {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) settings: ComputeSettings,
    pub(crate) workspace_budget_usd: Option<f64>,
    pub(crate) templates: Templates,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    /// This process, in the rows of its sandboxes.
    pub(crate) node: String,
    /// What follows sandboxes to their ends.
    pub(crate) tasks: TaskTracker,
    pub(crate) driver: watch::Sender<Choice>,
    pub(crate) pool: Pool,
    pub(crate) snapshots: Snapshots,
    pub(crate) of_runs: OfRuns,
    pub(crate) stopping: CancellationToken,
    /// Told when a sandbox was made that ends with its run.
    pub(crate) of_run_made: Notify,
    here: Mutex<HashMap<SandboxId, Here>>,
    directory: PathBuf,
}

/// What isolates sandboxes, as far as that is known.
#[derive(Clone)]
pub(crate) enum Choice {
    /// It is being tried.
    Opening,
    Ready(Driver),
    /// Why there is none, and what to do.
    Missing(String),
}

/// A sandbox of this process.
#[derive(Clone)]
pub(crate) enum Here {
    Starting,
    Running(Arc<Live>),
}

/// A sandbox as its owner sees it.
#[derive(Clone, Debug)]
pub struct Found {
    pub record: SandboxRecord,
    /// Where this process has it.
    pub usage: Option<SandboxUsage>,
}

impl Compute {
    /// Nothing is started yet: [`keep`](crate::keep) does that.
    pub fn new(setup: ComputeSetup) -> Result<Self, TemplateError> {
        let ComputeSetup { store, settings, workspace_budget_usd, data_dir, clock, ids } = setup;
        let templates = templates(&settings, &data_dir)?;
        let driver = match settings.driver {
            DriverChoice::Off => Choice::Missing("[compute] driver is `off`".to_owned()),
            _ => Choice::Opening,
        };
        let node = ids.uuid_v7(clock.now()).to_string();
        let inner = Inner {
            store,
            settings,
            workspace_budget_usd,
            templates,
            clock,
            ids,
            node,
            tasks: TaskTracker::new(),
            driver: watch::Sender::new(driver),
            pool: Pool::default(),
            snapshots: Snapshots::default(),
            of_runs: OfRuns::default(),
            stopping: CancellationToken::new(),
            of_run_made: Notify::new(),
            here: Mutex::default(),
            directory: data_dir.join("compute"),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Tries what isolates sandboxes, and removes what a hub left that was killed; again
    /// where something is missing, as it may be installed meanwhile. Until the hub stops.
    pub(crate) async fn open_driver(&self) {
        let inner = &self.inner;
        if inner.settings.driver == DriverChoice::Off {
            return;
        }
        while !inner.stopping.is_cancelled() {
            let kernel = inner.templates.kernel();
            let setup = HostSetup {
                directory: inner.directory.clone(),
                tasks: inner.tasks.clone(),
                clock: inner.clock.clone(),
                stopping: inner.stopping.clone(),
            };
            let reason = match Driver::open(&inner.settings, kernel.as_deref(), setup).await {
                Ok(driver) => {
                    inner.driver.send_replace(Choice::Ready(driver));
                    return;
                }
                Err(reason) => reason,
            };
            if self.unavailable().as_ref() != Some(&reason) {
                tracing::warn!(reason, "there can be no sandboxes");
            }
            inner.driver.send_replace(Choice::Missing(reason));
            tokio::select! {
                () = tokio::time::sleep(TRY_AGAIN) => {}
                () = inner.stopping.cancelled() => {}
            }
        }
    }

    /// Waits until it is known.
    pub(crate) async fn driver(&self) -> Result<Driver, ComputeError> {
        let mut driver = self.inner.driver.subscribe();
        let known = driver.wait_for(|driver| !matches!(driver, Choice::Opening)).await;
        match known.as_deref() {
            Ok(Choice::Ready(driver)) => Ok(driver.clone()),
            Ok(Choice::Missing(reason)) => Err(no_driver(reason)),
            Ok(Choice::Opening) | Err(_) => Err(no_driver("it is not known yet what can isolate them")),
        }
    }

    /// What comes after the id in the host of a sandbox's own servers.
    pub fn domain(&self) -> &str {
        self.inner.settings.sandbox_domain.as_deref().unwrap_or("localhost")
    }

    /// Why there can be no sandboxes, where that is known.
    pub fn unavailable(&self) -> Option<String> {
        match &*self.inner.driver.borrow() {
            Choice::Missing(reason) => Some(reason.clone()),
            Choice::Opening | Choice::Ready(_) => None,
        }
    }

    pub fn templates(&self) -> Vec<TemplateView> {
        let inner = &self.inner;
        let view = |(name, recipe): (&str, &crate::templates::Recipe)| TemplateView {
            name: name.to_owned(),
            description: recipe.description.clone(),
            language: recipe.language.map(crate::execute::shown),
            packages: recipe.debian.iter().chain(&recipe.pypi).cloned().collect(),
            available: inner.templates.root(name).is_ok_and(|root| root.is_some()),
            warm: inner.pool.count(name),
        };
        inner.templates.recipes().map(view).collect()
    }

    /// Those of a workspace that have not ended, newest first.
    pub async fn list(&self, workspace_id: &WorkspaceId) -> Result<Vec<Found>, StoreError> {
        let records = sandboxes::live(&self.inner.store, workspace_id).await?;
        Ok(records.into_iter().map(|record| self.found(record)).collect())
    }

    pub async fn find(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
    ) -> Result<Option<Found>, StoreError> {
        let record = sandboxes::find(&self.inner.store, workspace_id, id).await?;
        Ok(record.map(|record| self.found(record)))
    }

    pub(crate) fn found(&self, record: SandboxRecord) -> Found {
        let live = self.here_running(&record.workspace_id, &record.id);
        // The files of control groups are read without the lock.
        let usage = live.filter(|_| record.stopped_at.is_none()).map(|live| live.usage());
        Found { record, usage }
    }

    /// Has it live for so long from now on.
    pub async fn prolong(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        seconds: u32,
    ) -> Result<Found, ComputeError> {
        let live = self.live(workspace_id, id).await?;
        check_life(seconds)?;
        let inner = &self.inner;
        let expires_at = inner.clock.now().plus_millis(i64::from(seconds) * 1000);
        let last = live.record.created_at.plus_millis(i64::from(MAX_LIFE_SECONDS) * 1000);
        if expires_at > last {
            let message = format!(
                "`timeout_seconds` is {seconds}: the sandbox would live longer than {MAX_LIFE_SECONDS} seconds \
                 (24 hours), which are over at {last}; create another one for what takes longer"
            );
            return Err(invalid("timeout_seconds", message));
        }
        let prolong = Prolong { workspace_id: workspace_id.clone(), id: id.clone(), expires_at };
        let (compute, store) = (self.clone(), inner.store.clone());
        // The row and the life are changed both, whether or not anybody waits for it.
        let prolonged = inner.tasks.spawn(async move {
            let record = store.write(prolong).await?;
            if record.is_some() {
                live.prolong(Duration::from_secs(seconds.into()));
            }
            match (record, live.last_asked()) {
                (Some(record), None) => Ok(compute.found(record)),
                _ => Err(compute.ending(&live).await),
            }
        });
        prolonged.await.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?
    }

    /// Ends one and forgets it; nothing of it is left. False: there is none.
    pub async fn delete(&self, workspace_id: &WorkspaceId, id: &SandboxId) -> Result<bool, ComputeError> {
        let inner = &self.inner;
        let Some(record) = sandboxes::find(&inner.store, workspace_id, id).await? else { return Ok(false) };
        if record.stopped_at.is_none() {
            let Some(live) = self.here_running(workspace_id, id) else { return Err(self.why_not(&record)) };
            live.ask(End::Deleted);
            if tokio::time::timeout(END_LIMIT, live.gone()).await.is_err() {
                let message =
                    format!("the sandbox `{id}` is being ended, which takes long; look at it again");
                return Err(ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(5).into());
            }
        }
        let forget = Forget { workspace_id: workspace_id.clone(), id: id.clone() };
        inner.store.write(forget).await?;
        Ok(true)
    }

    /// One that runs here.
    pub(crate) async fn live(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
    ) -> Result<Arc<Live>, ComputeError> {
        if let Some(live) = self.here_running(workspace_id, id) {
            return match live.last_asked() {
                None => Ok(live),
                Some(_) => Err(self.ending(&live).await),
            };
        }
        let record = sandboxes::find(&self.inner.store, workspace_id, id).await?;
        let record = record.ok_or_else(|| unknown(id))?;
        Err(self.why_not(&record))
    }

    pub(crate) fn running(&self) -> Vec<Arc<Live>> {
        let running = |here: &Here| match here {
            Here::Running(live) => Some(live.clone()),
            Here::Starting => None,
        };
        self.here().values().filter_map(running).collect()
    }

    fn here_running(&self, workspace_id: &WorkspaceId, id: &SandboxId) -> Option<Arc<Live>> {
        match self.here().get(id)? {
            Here::Running(live) if live.record.workspace_id == *workspace_id => Some(live.clone()),
            _ => None,
        }
    }

    fn why_not(&self, record: &SandboxRecord) -> ComputeError {
        let id = &record.id;
        if record.state == SandboxState::Stopped {
            return ended(id, record.stop_reason.unwrap_or(StopReason::Ended));
        }
        if record.node != self.inner.node {
            let message = format!("the sandbox `{id}` is on another node of the hub; ask that one");
            return ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(5).into();
        }
        let message = format!("the sandbox `{id}` is starting or ending; try again in a second");
        ApiError::new(ErrorCode::Conflict, message).retry_after(1).into()
    }

    /// How a sandbox ended whose channel did, once that is known.
    pub(crate) async fn ending(&self, live: &Live) -> ComputeError {
        let id = &live.record.id;
        if tokio::time::timeout(END_LIMIT, live.gone()).await.is_ok() {
            match sandboxes::find(&self.inner.store, &live.record.workspace_id, id).await {
                Ok(Some(record)) => return ended(id, record.stop_reason.unwrap_or(StopReason::Ended)),
                Ok(None) => return unknown(id),
                Err(error) => return error.into(),
            }
        }
        ended(id, StopReason::Ended)
    }

    pub(crate) fn here(&self) -> MutexGuard<'_, HashMap<SandboxId, Here>> {
        self.inner.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: it is here no more.
    pub(crate) fn put_here(&self, id: SandboxId, now: Option<Here>) {
        let mut here = self.here();
        match now {
            Some(now) => here.insert(id, now),
            None => here.remove(&id),
        };
        meters::running(here.values().filter(|one| matches!(one, Here::Running(_))).count());
    }

    /// Ends all, so that nothing of them is left.
    pub async fn close(&self) {
        let inner = &self.inner;
        inner.stopping.cancel();
        for here in self.here().values() {
            if let Here::Running(live) = here {
                live.ask(End::Stopped(StopReason::HubStopped));
            }
        }
        inner.tasks.close();
        inner.tasks.wait().await;
    }
}

/// The recipes and what was built from them, for who only builds too.
pub fn templates(settings: &ComputeSettings, data_dir: &Path) -> Result<Templates, TemplateError> {
    let directory = settings.templates_dir.clone().unwrap_or_else(|| data_dir.join("templates"));
    Templates::open(directory, settings.recipes_dir.as_deref())
}

fn no_driver(reason: &str) -> ComputeError {
    let message = format!("no sandbox can be isolated on this host: {reason}; docs/compute.md tells more");
    ApiError::new(ErrorCode::NoSandboxDriver, message).into()
}

pub(crate) fn unknown(id: &SandboxId) -> ComputeError {
    ApiError::new(ErrorCode::NotFound, format!("there is no sandbox `{id}` in this workspace")).into()
}

fn ended(id: &SandboxId, reason: StopReason) -> ComputeError {
    let message = format!("the sandbox `{id}` has ended ({reason}); create another one");
    ApiError::new(ErrorCode::SandboxStopped, message).into()
}

pub(crate) fn check_life(seconds: u32) -> Result<(), ComputeError> {
    match (1..=MAX_LIFE_SECONDS).contains(&seconds) {
        true => Ok(()),
        false => {
            let message =
                format!("`timeout_seconds` is {seconds}; it must be 1 to {MAX_LIFE_SECONDS} (24 hours)");
            Err(invalid("timeout_seconds", message))
        }
    }
}
