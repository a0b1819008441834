//! [`Hub`]: the store, the models, the tools and the engine of one process,
//! put together so that runs can be started and shown.

use std::sync::Arc;
use std::time::Duration;

use nh_blobs::Blobs;
use nh_compute::Compute;
use nh_engine::{EndedRun, Engine, EngineError, EngineSettings, Submitted, Watch};
use nh_mcp::LocalServer;
use nh_memory::Memories;
use nh_models::{Ledger, Models, OwnProviders};
use nh_store::seals::Sealer;
use nh_store::{Idempotency, Once, Store, StoreError, agents, idempotency, workflows};
use nh_types::agent::AgentDefinition;
use nh_types::key::KeyLimits;
use nh_types::run::{ForkRun, RetryRun, RunView, StartRun};
use nh_types::{ApiError, ErrorCode, KeyId, RunId, ScopeSet, SharedClock, SharedIds, WorkspaceId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::mcp::McpServers;
use crate::program::RunProgram;
use crate::spending::Spending;
use crate::target::Target;
use crate::tools::{Tools, Workshop};
use crate::webhooks::Webhooks;
use crate::{fork, start, view};

/// Why a run could not be started or shown.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What was asked for is not acceptable.
    #[error(transparent)]
    Refused(#[from] ApiError),
    #[error(transparent)]
    Engine(EngineError),
}

impl From<EngineError> for HubError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::TooLarge { field, .. } => {
                Self::Refused(ApiError::new(ErrorCode::PayloadTooLarge, error.to_string()).param(field))
            }
            other => Self::Engine(other),
        }
    }
}

impl From<StoreError> for HubError {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

/// On whose behalf a run is started.
#[derive(Clone, Debug)]
pub struct RunCaller {
    pub workspace_id: WorkspaceId,
    pub scopes: ScopeSet,
    /// `key:42` or `session:user_…`.
    pub created_by: String,
    /// What the key is held to.
    pub limits: KeyLimits,
}

impl RunCaller {
    /// The key, if it is one.
    pub(crate) fn key_id(&self) -> Option<KeyId> {
        self.created_by.strip_prefix("key:")?.parse().ok()
    }
}

/// How a run comes about.
#[derive(Clone, Debug)]
pub enum RunRequest {
    Start(StartRun),
    /// Of a run that failed or was cancelled.
    Retry(RunId, RetryRun),
    Fork(RunId, ForkRun),
}

/// What a [`Hub`] is made of.
pub struct HubSetup<'s> {
    pub store: Store,
    pub models: Models,
    pub memories: Memories,
    pub blobs: Blobs,
    pub compute: Compute,
    pub tools: Tools,
    pub webhooks: Webhooks,
    /// Those that `models` asks too.
    pub own_providers: OwnProviders,
    /// Servers of the Model Context Protocol that are programs of this machine.
    pub mcp_servers: Vec<LocalServer>,
    pub clock: SharedClock,
    pub ids: SharedIds,
    pub settings: &'s EngineSettings,
    pub stopping: CancellationToken,
}

#[derive(Clone)]
pub struct Hub {
    pub store: Store,
    pub models: Models,
    pub own_providers: OwnProviders,
    pub memories: Memories,
    pub blobs: Blobs,
    pub compute: Compute,
    pub tools: Tools,
    pub mcp: McpServers,
    pub(crate) workshop: Workshop,
    pub(crate) webhooks: Webhooks,
    pub engine: Engine,
    pub ledger: Ledger,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    /// Told when a schedule was made or changed here.
    pub schedules_changed: Arc<Notify>,
}

impl Hub {
    /// What seals the store's secrets.
    pub fn sealer(&self) -> &Sealer {
        &self.webhooks.sealer
    }

    pub async fn start(setup: HubSetup<'_>) -> Result<Self, EngineError> {
        let HubSetup {
            store,
            models,
            memories,
            blobs,
            compute,
            tools,
            webhooks,
            own_providers,
            mcp_servers,
            clock,
            ids,
            settings,
            stopping,
        } = setup;
        let ledger = Ledger::new(
            store.clone(),
            clock.clone(),
            ids.clone(),
            models.usage().clone(),
            models.workspace_limits(),
        );
        let (sealer, http) = (webhooks.sealer.clone(), webhooks.http.clone());
        let mcp = McpServers::start(store.clone(), sealer, http, clock.clone(), mcp_servers).await?;
        let workshop = Workshop {
            compute: compute.clone(),
            http: webhooks.http.clone(),
            store: store.clone(),
            sealer: webhooks.sealer.clone(),
            mcp: mcp.clone(),
        };
        let program = Arc::new(RunProgram {
            models: models.clone(),
            memories: memories.clone(),
            tools: tools.clone(),
            workshop: workshop.clone(),
            clock: clock.clone(),
            ledger: ledger.clone(),
            store: store.clone(),
        });
        let engine =
            Engine::start(store.clone(), program, clock.clone(), ids.clone(), settings, stopping).await?;
        let schedules_changed = Arc::default();
        Ok(Self {
            store,
            models,
            own_providers,
            memories,
            blobs,
            compute,
            tools,
            mcp,
            workshop,
            webhooks,
            engine,
            ledger,
            clock,
            ids,
            schedules_changed,
        })
    }

    /// The hub's tools, those that the workspace registered, and those of its servers.
    pub async fn tools_of(&self, workspace_id: &WorkspaceId) -> Result<Tools, StoreError> {
        let own = nh_store::tools::all(&self.store, workspace_id).await?;
        let tools = self.tools.with(&self.workshop, own.iter().map(|tool| &tool.definition));
        Ok(tools.with_servers(self.mcp.tools(workspace_id).await?))
    }

    /// Checks what is asked for and stores the run; what comes back is durable.
    pub async fn start_run(
        &self,
        caller: &RunCaller,
        request: RunRequest,
        once: Option<Idempotency>,
    ) -> Result<Submitted, HubError> {
        // The first answer is given again, whatever became of the target since.
        if let Some(once) = &once {
            match idempotency::earlier(&self.store, once).await? {
                Some(Once::Replay(run_id)) => return Ok(Submitted::Replay(run_id)),
                Some(Once::Mismatch) => return Ok(Submitted::Mismatch),
                Some(Once::First(_)) | None => {}
            }
        }
        let (store, tools) = (&self.store, &self.tools_of(&caller.workspace_id).await?);
        let mut run = match request {
            RunRequest::Start(body) => {
                let default_model = self.models.default_model(&caller.workspace_id).await;
                start::new_run(store, tools, default_model.map_err(ApiError::from)?, caller, body).await?
            }
            RunRequest::Retry(of, body) => fork::retried(&self.engine, tools, caller, of, body).await?,
            RunRequest::Fork(of, body) => fork::forked(&self.engine, tools, caller, of, body).await?,
        };
        self.webhooks.check_run(&mut run)?;
        if let Some(account) = Spending::read(&run.definition).key_account(self.clock.now()) {
            self.ledger.check_left(&run.workspace_id, &account).await.map_err(ApiError::from)?;
        }
        Ok(self.engine.submit(run, once).await?)
    }

    /// That what an agent names as runs of its own is there.
    pub async fn check_agents_runs(
        &self,
        workspace_id: &WorkspaceId,
        definition: &AgentDefinition,
    ) -> Result<(), HubError> {
        for (place, name) in definition.tools.iter().enumerate() {
            let is_there = match Target::of_run(name) {
                Some(Target::Agent(id)) => agents::current(&self.store, workspace_id, &id).await?.is_some(),
                Some(Target::Workflow(id)) => {
                    workflows::current(&self.store, workspace_id, &id).await?.is_some()
                }
                _ => true,
            };
            if !is_there {
                let message = format!("there is no `{name}` in this workspace");
                return Err(start::invalid(&format!("tools[{place}]"), message).into());
            }
        }
        Ok(())
    }

    /// The whole run, with its tool calls; None when there is none such in the
    /// workspace.
    pub async fn run_view(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Option<RunView>, HubError> {
        let read = self.engine.read(workspace_id, run_id).await?;
        Ok(read.map(|(run, history)| view::run(&run, &history, &self.tools)))
    }

    /// Waits for the run's end and shows it; None when the wait ends first.
    pub async fn wait_for_run(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
        wait: Duration,
    ) -> Result<Option<RunView>, HubError> {
        let ended = self.engine.wait(workspace_id, run_id, wait).await?;
        Ok(ended.map(|ended| self.view_of(&ended)))
    }

    /// The same for a run that was just started.
    pub async fn wait_for_started(
        &self,
        workspace_id: &WorkspaceId,
        started: Watch,
        wait: Duration,
    ) -> Result<Option<RunView>, HubError> {
        let ended = self.engine.wait_for_started(workspace_id, started, wait).await?;
        Ok(ended.map(|ended| self.view_of(&ended)))
    }

    fn view_of(&self, ended: &EndedRun) -> RunView {
        view::run(&ended.run, &ended.history, &self.tools)
    }
}
