//! Asks servers for their tools: when they are registered, from time to time, soon after they
//! failed or said that their tools are others, and less often the longer they cannot be used.
//! Nodes that share a store share the work.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use nh_mcp::Listed;
use nh_store::StoreError;
use nh_store::mcp_servers::{self, Claim, Hurry, McpServerRecord, Saw};
use nh_types::mcp::{McpSeen, McpTool, SeenMcpTool};
use nh_types::{Timestamp, WorkspaceId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::local::Local;
use super::sessions::Reached;
use super::{McpServers, listing};

const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a check may take, the wait for a program's start among that.
const CHECK_WITHIN: Duration = Duration::from_secs(90);
/// How long a claim holds: longer than a check.
pub const CLAIM_MS: i64 = 120_000;
const EVERY_MS: i64 = 5 * 60 * 1000;
/// After the first failure, and doubled with each; and the least between two checks.
const RETRY_MS: i64 = 15_000;
const MAX_RETRY_MS: i64 = 10 * 60 * 1000;
/// How long a request waits for what a server answers; the rest is done behind it.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(6);
/// A check asks itself.
const FAILURE_KEPT: Duration = Duration::ZERO;

/// A check of a server as it was changed last; it is over when the sender is gone.
#[derive(Clone)]
pub(super) struct UnderWay {
    of: Option<Timestamp>,
    over: watch::Receiver<()>,
}

/// A server, and None for the workspace of a program.
type Checked = (Option<WorkspaceId>, String);
pub(super) type Checking = HashMap<Checked, UnderWay>;

/// Until the hub stops.
pub async fn keep(servers: McpServers, stopping: CancellationToken) {
    loop {
        servers.0.sessions.sweep(servers.0.clock.now());
        servers.check_due().await;
        tokio::select! {
            () = stopping.cancelled() => return,
            () = servers.0.hurry.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

impl McpServers {
    /// Ends all sessions, and programs with all that they started. There are no others after.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.sessions.clear();
        self.0.tasks.close();
        if timeout(END_WITHIN, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("not all MCP servers could be ended in time");
        }
    }

    /// Asks a registered server for its tools, and keeps what it says. After ten seconds the rest
    /// is done behind the request.
    pub async fn check(&self, workspace_id: &WorkspaceId, name: &str) -> Result<(), StoreError> {
        let until = Instant::now() + SHOWN_WITHIN;
        loop {
            let Some(record) = mcp_servers::find(&self.0.store, workspace_id, name).await? else {
                return Ok(());
            };
            let of = Some(record.updated_at);
            let mut check = self.begin_check(record);
            let is_late = timeout_at(until, check.over.changed()).await.is_err();
            // It may have begun before the server was changed.
            if is_late || check.of == of {
                return Ok(());
            }
        }
    }

    /// Asks a program again.
    pub async fn check_local(&self, workspace_id: &WorkspaceId, name: &str) {
        let of_name = |local: &Local| local.is_for(workspace_id) && local.name() == name;
        if let Some(place) = self.0.local.iter().position(of_name) {
            let _ = timeout(SHOWN_WITHIN, self.begin_local_check(place).over.changed()).await;
        }
    }

    /// Begins to ask all whose time has come.
    pub async fn check_due(&self) {
        let now = self.0.clock.now();
        for (place, local) in self.0.local.iter().enumerate() {
            if local.state().next_at.is_none_or(|at| at <= now) {
                self.begin_local_check(place);
            }
        }
        if let Err(error) = self.check_registered(now).await {
            tracing::error!(%error, "the MCP servers that are due cannot be read");
        }
    }

    async fn check_registered(&self, now: Timestamp) -> Result<(), StoreError> {
        let room = u32::try_from(self.0.checks.available_permits()).unwrap_or(u32::MAX);
        for (workspace_id, name, due_at) in mcp_servers::due(&self.0.store, now, room).await? {
            let until = now.plus_millis(CLAIM_MS);
            let claim = Claim { workspace_id: workspace_id.clone(), name: name.clone(), due_at, until };
            if self.0.store.write(claim).await?
                && let Some(record) = mcp_servers::find(&self.0.store, &workspace_id, &name).await?
            {
                self.begin_check(record);
            }
        }
        Ok(())
    }

    /// Has a tool's server asked soon: it failed, or its tools are others.
    pub(super) async fn hurry(&self, workspace_id: &WorkspaceId, tool: &McpTool) {
        let (name, now) = (tool.mcp_server.clone(), self.0.clock.now());
        if tool.generation.is_none() {
            if let Some(local) = self.local(workspace_id).find(|local| local.name() == name) {
                let mut state = local.state();
                let soonest = state.checked_at.map(|at| at.plus_millis(RETRY_MS)).unwrap_or(now).max(now);
                state.next_at = state.next_at.map(|at| at.min(soonest));
            }
            return;
        }
        let hurry = Hurry { workspace_id: workspace_id.clone(), name, now, least_ms: RETRY_MS };
        match self.0.store.write(hurry).await {
            Ok(()) => self.0.hurry.notify_one(),
            Err(error) => tracing::error!(%error, "an MCP server could not be put down for a check"),
        }
    }

    fn begin_check(&self, record: McpServerRecord) -> UnderWay {
        let key = (Some(record.workspace_id.clone()), record.definition.name.clone());
        let (servers, of) = (self.clone(), Some(record.updated_at));
        self.begin(key, of, async move {
            if let Err(error) = servers.check_now(&record).await {
                let server = &record.definition.name;
                tracing::error!(%error, server, "what was seen of an MCP server cannot be kept");
            }
        })
    }

    fn begin_local_check(&self, place: usize) -> UnderWay {
        let (servers, key) = (self.clone(), (None, self.0.local[place].name().to_owned()));
        self.begin(key, None, async move { servers.check_local_now(&servers.0.local[place]).await })
    }

    /// One at a time of each server: who comes meanwhile joins it.
    fn begin(
        &self,
        key: Checked,
        of: Option<Timestamp>,
        check: impl Future<Output = ()> + Send + 'static,
    ) -> UnderWay {
        let mut checking = self.0.checking.lock().unwrap_or_else(PoisonError::into_inner);
        checking.retain(|_, check| check.over.has_changed().is_ok());
        if let Some(under_way) = checking.get(&key) {
            return under_way.clone();
        }
        let (end, over) = watch::channel(());
        let under_way = UnderWay { of, over };
        checking.insert(key, under_way.clone());
        let (checks, closing) = (self.0.checks.clone(), self.0.closing.clone());
        self.0.tasks.spawn(async move {
            let _end = end;
            let Ok(_permit) = checks.acquire().await else { return };
            tokio::select! {
                () = closing.cancelled() => {}
                () = check => {}
            }
        });
        under_way
    }

    async fn check_now(&self, record: &McpServerRecord) -> Result<(), StoreError> {
        let (seen, is_changed) = match timeout(CHECK_WITHIN, self.look(record)).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(fault)) => (with_fault(&record.seen, fault), false),
            Err(_) => (with_fault(&record.seen, "it takes too long to say what it offers".to_owned()), false),
        };
        if let (Some(fault), None) = (&seen.fault, &record.seen.fault) {
            let (server, workspace_id) = (&record.definition.name, &record.workspace_id);
            tracing::warn!(server, %workspace_id, fault, "an MCP server cannot be used");
        }
        let (failures, wait_ms) = after(record.failures, &seen, is_changed);
        let checked_at = self.0.clock.now();
        let saw = Saw {
            workspace_id: record.workspace_id.clone(),
            name: record.definition.name.clone(),
            of: record.updated_at,
            seen: (seen != record.seen).then_some(seen),
            failures,
            checked_at,
            next_at: checked_at.plus_millis(wait_ms),
        };
        self.0.store.write(saw).await
    }

    async fn look(&self, record: &McpServerRecord) -> Result<(McpSeen, bool), String> {
        let reached = self.reach(record, FAILURE_KEPT).await.map_err(|error| error.message)?;
        self.seen(&record.definition.name, reached, &record.seen.tools).await
    }

    async fn check_local_now(&self, local: &Local) {
        let known = local.state().seen.tools.clone();
        let look = async {
            let reached = self.reach_local(local, FAILURE_KEPT).await.map_err(|error| error.message)?;
            self.seen(local.name(), reached, &known).await
        };
        let looked = timeout(CHECK_WITHIN, look).await;
        let now = self.0.clock.now();
        let (seen, is_changed) = match looked {
            Ok(Ok(looked)) => looked,
            Ok(Err(fault)) => (with_fault(&local.state().seen, fault), false),
            Err(_) => {
                (with_fault(&local.state().seen, "it takes too long to say what it offers".to_owned()), false)
            }
        };
        if let Some(fault) = &seen.fault {
            tracing::warn!(server = local.name(), fault, "a local MCP server cannot be used");
        }
        let mut state = local.state();
        let (failures, wait_ms) = after(state.failures, &seen, is_changed);
        (state.seen, state.failures, state.checked_at) = (seen, failures, Some(now));
        state.next_at = Some(now.plus_millis(wait_ms));
        drop(state);
        local.is_checked();
    }

    /// What it offers now, and whether it said meanwhile that this is others. An error says why
    /// it cannot be used.
    async fn seen(
        &self,
        name: &str,
        reached: Reached,
        known: &[SeenMcpTool],
    ) -> Result<(McpSeen, bool), String> {
        let session = reached.session.as_ref().map_err(|error| reached.told(error))?.clone();
        let listed = session.tools().await.map_err(|error| {
            self.give_up(&reached);
            reached.told(&error)
        })?;
        let about = session.about();
        let shown = |text: String| listing::shown(&reached.redaction.text(&text));
        let (server, protocol_version) = (about.0.map(&shown), about.1.map(&shown));
        let (tools, skipped) = self.taken(name, listed, reached, known.to_vec()).await?;
        let seen = McpSeen { fault: None, server, protocol_version, tools, skipped };
        Ok((seen, session.is_list_changed()))
    }

    /// Schemas are computed with: off the threads that answer, and one list at a time.
    async fn taken(
        &self,
        name: &str,
        listed: Listed,
        reached: Reached,
        known: Vec<SeenMcpTool>,
    ) -> Result<listing::Taken, String> {
        let name = name.to_owned();
        let _turn = self.0.listing.acquire().await;
        let taking = move || listing::taken(&name, listed, &reached.redaction, &known);
        self.0.tasks.spawn_blocking(taking).await.map_err(|_| "its list could not be read".to_owned())
    }
}

fn with_fault(seen: &McpSeen, fault: String) -> McpSeen {
    McpSeen { fault: Some(fault), ..seen.clone() }
}

/// Failures in a row, and how long the server is left in peace.
fn after(failures: u32, seen: &McpSeen, is_changed: bool) -> (u32, i64) {
    match seen.fault {
        None if is_changed => (0, RETRY_MS),
        None => (0, EVERY_MS),
        Some(_) => (failures.saturating_add(1), (RETRY_MS << failures.min(10)).min(MAX_RETRY_MS)),
    }
}
