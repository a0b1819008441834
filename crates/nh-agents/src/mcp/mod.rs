//! Servers of the Model Context Protocol whose tools workspaces use: remote ones that a workspace
//! registered, and programs that the operator configured. [`keep`] asks each for its tools from
//! time to time, [`listing`] says what of its answer is taken, [`sessions`] calls them, and
//! [`check`] says what may be registered.

mod check;
mod keep;
mod listing;
mod local;
mod sessions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nh_http::Outbound;
use nh_mcp::LocalServer;
use nh_store::mcp_servers::{self, McpServerRecord};
use nh_store::seals::Sealer;
use nh_store::{Store, StoreError, workspaces};
use nh_types::mcp::{McpSeen, McpServerKind, McpServerStatus, McpServerView};
use nh_types::{SharedClock, Timestamp, WorkspaceId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tools::{McpCall, Tool};

pub use check::{changed, created, secrets_of};
use keep::Checking;
pub use keep::{CLAIM_MS, keep};
use local::Local;
use sessions::Sessions;

/// Servers that are asked for their tools at once.
const MAX_CHECKS: usize = 32;
/// After the hub's own start.
const START_WITHIN: Duration = Duration::from_secs(15);
/// Workspaces whose servers' tools are at hand.
const MAX_MADE: usize = 1000;

/// All servers, and the sessions with them. Clones are the same.
#[derive(Clone)]
pub struct McpServers(Arc<Inner>);

struct Inner {
    store: Store,
    sealer: Arc<Sealer>,
    /// Guarded: the URLs come from users.
    http: Outbound,
    clock: SharedClock,
    local: Vec<Local>,
    sessions: Sessions,
    /// The tools that were made of the servers of a workspace.
    made: Mutex<HashMap<WorkspaceId, Made>>,
    checks: Arc<Semaphore>,
    checking: Mutex<Checking>,
    /// Whose turn it is to have its list looked through.
    listing: Semaphore,
    /// Told when a server is to be asked sooner.
    hurry: Notify,
    /// Checks, and what watches programs.
    tasks: TaskTracker,
    started: Instant,
    /// There are no new sessions.
    closing: CancellationToken,
}

/// What was made of these records.
struct Made {
    of: Arc<Vec<McpServerRecord>>,
    tools: Arc<[Arc<dyn Tool>]>,
}

impl McpServers {
    /// Workspaces that `local` names and that are not there are told of in the log.
    pub(crate) async fn start(
        store: Store,
        sealer: Arc<Sealer>,
        http: Outbound,
        clock: SharedClock,
        local: Vec<LocalServer>,
    ) -> Result<Self, StoreError> {
        let mut served = Vec::new();
        for settings in local {
            let default = ["default".to_owned()];
            let mut ids = Vec::new();
            for name in settings.workspaces.as_deref().unwrap_or(&default) {
                match workspaces::find_by_name(&store, name).await? {
                    Some(workspace) => ids.push(workspace.id),
                    None => tracing::warn!(
                        server = settings.name,
                        workspace = name,
                        "there is no such workspace for this MCP server; it is looked for at the next start"
                    ),
                }
            }
            served.push(Local::new(settings, ids));
        }
        Ok(Self(Arc::new(Inner {
            store,
            sealer,
            http,
            clock,
            local: served,
            sessions: Sessions::default(),
            made: Mutex::default(),
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
            checking: Mutex::default(),
            listing: Semaphore::new(1),
            hurry: Notify::new(),
            tasks: TaskTracker::new(),
            started: Instant::now(),
            closing: CancellationToken::new(),
        })))
    }

    /// All tools of a workspace's servers, as they were last seen. In the first seconds of a hub
    /// its programs are waited for, so that no run is begun without them.
    pub(crate) async fn tools(&self, workspace_id: &WorkspaceId) -> Result<Vec<Arc<dyn Tool>>, StoreError> {
        let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
        for local in self.local(workspace_id) {
            local.first_check(self.0.started + START_WITHIN).await;
            let seen = local.state().seen.clone();
            let unavailable = seen.fault.as_deref().map(|fault| told(local.name(), fault));
            for tool in &seen.tools {
                let tool = listing::tool(local.name(), tool, local.timeout_seconds(), None);
                tools.push(Arc::new(McpCall::new(tool, unavailable.clone(), self)));
            }
        }
        let records = mcp_servers::all(&self.0.store, workspace_id).await?;
        tools.extend(self.made(workspace_id, records).iter().cloned());
        Ok(tools)
    }

    /// What was made before, where the records are the same.
    fn made(&self, workspace_id: &WorkspaceId, of: Arc<Vec<McpServerRecord>>) -> Arc<[Arc<dyn Tool>]> {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.get(workspace_id).filter(|made| Arc::ptr_eq(&made.of, &of)) {
            return made.tools.clone();
        }
        let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
        for record in of.iter().filter(|record| !self.is_local(workspace_id, &record.definition.name)) {
            let server = &record.definition;
            let unavailable = record.seen.fault.as_deref().map(|fault| told(&server.name, fault));
            for tool in record.seen.tools.iter().filter(|tool| listing::is_allowed(server, &tool.tool)) {
                let generation = Some(server.generation.clone());
                let tool = listing::tool(&server.name, tool, server.timeout_seconds, generation);
                tools.push(Arc::new(McpCall::new(tool, unavailable.clone(), self)));
            }
        }
        if made.len() >= MAX_MADE {
            made.clear();
        }
        let tools: Arc<[_]> = tools.into();
        made.insert(workspace_id.clone(), Made { of, tools: tools.clone() });
        tools
    }

    fn local<'s>(&'s self, workspace_id: &'s WorkspaceId) -> impl Iterator<Item = &'s Local> {
        self.0.local.iter().filter(|local| local.is_for(workspace_id))
    }

    /// Whether the name is one of a server in the configuration.
    pub fn is_local(&self, workspace_id: &WorkspaceId, name: &str) -> bool {
        self.local(workspace_id).any(|local| local.name() == name)
    }

    /// The workspace's servers in the configuration.
    pub fn local_views(&self, workspace_id: &WorkspaceId) -> Vec<McpServerView> {
        self.local(workspace_id).map(Local::view).collect()
    }
}

impl std::fmt::Debug for McpServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServers").finish_non_exhaustive()
    }
}

fn told(server: &str, fault: &str) -> String {
    format!("its MCP server `{server}` cannot be used: {fault}; it is asked again from time to time")
}

/// As the API shows it.
pub fn view(record: McpServerRecord) -> McpServerView {
    let server = record.definition;
    let tools = record.seen.tools.iter().filter(|tool| listing::is_allowed(&server, &tool.tool));
    let tools = tools.map(|tool| listing::name(&server.name, &tool.tool)).collect();
    let shown = shown(&record.seen, record.checked_at);
    McpServerView {
        kind: McpServerKind::Remote,
        url: Some(server.url),
        headers: Some(server.headers),
        secrets: Some(server.secrets),
        allowed_tools: server.allowed_tools,
        timeout_seconds: server.timeout_seconds,
        tools,
        name: server.name,
        next_check_at: Some(record.next_at),
        created_at: Some(record.created_at),
        updated_at: Some(record.updated_at),
        ..shown
    }
}

/// What both kinds have.
fn shown(seen: &McpSeen, checked_at: Option<Timestamp>) -> McpServerView {
    McpServerView {
        name: String::new(),
        kind: McpServerKind::Local,
        status: match (&seen.fault, checked_at) {
            (_, None) => McpServerStatus::Pending,
            (None, _) => McpServerStatus::Available,
            (Some(_), _) => McpServerStatus::Unavailable,
        },
        unavailable_reason: seen.fault.clone(),
        url: None,
        headers: None,
        secrets: None,
        allowed_tools: None,
        timeout_seconds: 0,
        server: seen.server.clone(),
        protocol_version: seen.protocol_version.clone(),
        tools: Vec::new(),
        skipped: seen.skipped.clone(),
        checked_at,
        next_check_at: None,
        created_at: None,
        updated_at: None,
    }
}
