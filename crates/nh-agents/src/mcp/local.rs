//! A server in the configuration. What is seen of it is in memory: its program runs here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nh_mcp::LocalServer;
use nh_types::mcp::{McpSeen, McpServerView};
use nh_types::{Timestamp, WorkspaceId};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{listing, shown};

const DEFAULT_SECONDS: u32 = 60;

pub(super) struct Local {
    pub(super) settings: LocalServer,
    workspaces: Vec<WorkspaceId>,
    state: Mutex<LocalState>,
    /// Whether it was asked since the start of the hub.
    was_checked: watch::Sender<bool>,
}

#[derive(Clone, Default)]
pub(super) struct LocalState {
    pub(super) seen: McpSeen,
    pub(super) failures: u32,
    pub(super) checked_at: Option<Timestamp>,
    /// None: at once.
    pub(super) next_at: Option<Timestamp>,
}

impl Local {
    pub(super) fn new(settings: LocalServer, workspaces: Vec<WorkspaceId>) -> Self {
        Self { settings, workspaces, state: Mutex::default(), was_checked: watch::Sender::new(false) }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn timeout_seconds(&self) -> u32 {
        self.settings.timeout_seconds.unwrap_or(DEFAULT_SECONDS)
    }

    pub(super) fn is_for(&self, workspace_id: &WorkspaceId) -> bool {
        self.workspaces.contains(workspace_id)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LocalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_checked(&self) {
        self.was_checked.send_replace(true);
    }

    /// Until it was asked for the first time, or this moment comes.
    pub(super) async fn first_check(&self, until: Instant) {
        let mut was_checked = self.was_checked.subscribe();
        let _ = timeout_at(until, was_checked.wait_for(|was_checked| *was_checked)).await;
    }

    pub(super) fn view(&self) -> McpServerView {
        let state = self.state().clone();
        McpServerView {
            name: self.name().to_owned(),
            timeout_seconds: self.timeout_seconds(),
            tools: state.seen.tools.iter().map(|tool| listing::name(self.name(), &tool.tool)).collect(),
            next_check_at: state.next_at,
            ..shown(&state.seen, state.checked_at)
        }
    }
}
