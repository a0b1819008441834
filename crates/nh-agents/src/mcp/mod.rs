//! Servers of the Model Context Protocol whose tools workspaces use: remote ones that a workspace
//! registered, and programs that the operator configured. [`keep`] asks each for its tools from
//! time to time, [`listing`] says what of its answer is taken, [`sessions`] calls them, and
//! [`check`] says what may be registered.

mod check;
mod keep;
mod listing;
mod local;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use nh_http::Outbound;
use nh_mcp::LocalServer;
use nh_store::mcp_servers::{self, McpServerRecord};
use nh_store::seals::Sealer;
use nh_store::{Store, StoreError, workspaces};
use nh_types::mcp::{McpSeen, McpServerKind, McpServerStatus, McpServerView, McpTool};
use nh_types::{SharedClock, Timestamp, WorkspaceId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

pub use check::{changed, created, secrets_of};
pub use keep::{CLAIM_MS, keep};
use local::Local;
use sessions::Sessions;

/// Servers that are asked for their tools at once.
const MAX_CHECKS: usize = 32;
/// How long a request waits for what a server answers; the rest is done behind it.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

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
    checks: Arc<Semaphore>,
    /// Told when a server is to be asked sooner.
    hurry: Notify,
    /// Checks, and what watches programs.
    tasks: TaskTracker,
}

/// A tool that a workspace has by a server, and why it cannot be called now.
pub(crate) struct Offered {
    pub(crate) tool: McpTool,
    pub(crate) unavailable: Option<String>,
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
            checks: Arc::new(Semaphore::new(MAX_CHECKS)),
            hurry: Notify::new(),
            tasks: TaskTracker::new(),
        })))
    }

    /// All tools of a workspace's servers, as they were last seen.
    pub(crate) async fn offered(&self, workspace_id: &WorkspaceId) -> Result<Vec<Offered>, StoreError> {
        let mut offered = Vec::new();
        for local in self.local(workspace_id) {
            let seen = local.state().seen.clone();
            for tool in &seen.tools {
                let unavailable = seen.fault.as_deref().map(|fault| told(local.name(), fault));
                offered.push(Offered {
                    tool: listing::tool(local.name(), tool, local.timeout_seconds(), None),
                    unavailable,
                });
            }
        }
        for record in mcp_servers::all(&self.0.store, workspace_id).await?.iter() {
            let server = &record.definition;
            for tool in record.seen.tools.iter().filter(|tool| listing::is_allowed(server, &tool.tool)) {
                let unavailable = record.seen.fault.as_deref().map(|fault| told(&server.name, fault));
                let generation = Some(server.generation.clone());
                let tool = listing::tool(&server.name, tool, server.timeout_seconds, generation);
                offered.push(Offered { tool, unavailable });
            }
        }
        Ok(offered)
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

    /// Asks a registered server for its tools, and keeps what it says. After ten seconds the rest
    /// is done behind the request.
    pub async fn check(&self, workspace_id: &WorkspaceId, name: &str) -> Result<(), StoreError> {
        let (servers, workspace_id, name) = (self.clone(), workspace_id.clone(), name.to_owned());
        let checking = self.0.tasks.spawn(async move { servers.check_now(&workspace_id, &name).await });
        match tokio::time::timeout(SHOWN_WITHIN, checking).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Asks a program again.
    pub async fn check_local(&self, workspace_id: &WorkspaceId, name: &str) {
        let Some(place) =
            self.0.local.iter().position(|local| local.is_for(workspace_id) && local.name() == name)
        else {
            return;
        };
        let servers = self.clone();
        let checking =
            self.0.tasks.spawn(async move { servers.check_local_now(&servers.0.local[place]).await });
        let _ = tokio::time::timeout(SHOWN_WITHIN, checking).await;
    }

    /// Has a server asked soon, which failed or whose tools are others.
    async fn hurry(&self, workspace_id: &WorkspaceId, name: &str) {
        let now = self.0.clock.now();
        let hurry = mcp_servers::Hurry { workspace_id: workspace_id.clone(), name: name.to_owned(), now };
        match self.0.store.write(hurry).await {
            Ok(()) => self.0.hurry.notify_one(),
            Err(error) => {
                tracing::error!(%error, server = name, "an MCP server could not be put down for a check")
            }
        }
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
