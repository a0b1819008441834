//! Sessions with servers, each kept as long as it is used, and the calls in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_mcp::{Called, McpError, RemoteServer, Session};
use nh_store::mcp_servers::{self, McpServerRecord};
use nh_types::mcp::McpTool;
use nh_types::{Timestamp, WorkspaceId};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::local::Local;
use super::{McpServers, secrets_of};
use crate::secret_headers::redact::Redaction;
use crate::tools::ToolError;

/// Of all workspaces together; the one that was not used for the longest time makes room.
const MAX_SESSIONS: usize = 256;
/// Of remote servers; programs run as long as the hub does.
const IDLE_MS: i64 = 5 * 60 * 1000;

/// A server at one time: a change of it makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// None: a program.
    workspace_id: Option<WorkspaceId>,
    name: String,
    of: Option<Timestamp>,
}

#[derive(Clone)]
struct Slot {
    session: Arc<OnceCell<Arc<Session>>>,
    used_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, Slot>>);

impl Sessions {
    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the session is, or is made by the first who asks.
    fn cell(&self, key: Key, now: Timestamp) -> Arc<OnceCell<Arc<Session>>> {
        let mut slots = self.slots();
        let is_ended = |slot: &Slot| slot.session.get().is_some_and(|session| session.is_closed());
        if slots.get(&key).is_some_and(is_ended) {
            slots.remove(&key);
        }
        if !slots.contains_key(&key) && slots.len() >= MAX_SESSIONS {
            let oldest = slots.iter().filter(|(key, _)| key.workspace_id.is_some());
            let oldest = oldest.min_by_key(|(_, slot)| slot.used_at).map(|(key, _)| key.clone());
            oldest.map(|oldest| slots.remove(&oldest));
        }
        let slot = slots.entry(key).or_insert_with(|| Slot { session: Arc::default(), used_at: now });
        slot.used_at = now;
        slot.session.clone()
    }

    /// Ends those that nobody uses any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        let is_used = |key: &Key, slot: &Slot| {
            let is_program = key.workspace_id.is_none();
            is_program || now.as_millis().saturating_sub(slot.used_at.as_millis()) < IDLE_MS
        };
        self.slots().retain(|key, slot| is_used(key, slot));
    }

    pub(super) fn clear(&self) {
        self.slots().clear();
    }
}

impl McpServers {
    /// Calls a tool of the workspace's server. The secrets that the server was told are taken out
    /// of whatever it answers.
    pub(crate) async fn call(
        &self,
        workspace_id: &WorkspaceId,
        tool: &McpTool,
        arguments: Map<String, Value>,
    ) -> Result<Called, ToolError> {
        let within = Duration::from_secs(tool.timeout_seconds.into());
        let Some(generation) = &tool.generation else {
            let local = self.local(workspace_id).find(|local| local.name() == tool.mcp_server);
            let local = local.ok_or_else(|| gone(&tool.mcp_server))?;
            let session =
                self.local_session(local).await.map_err(|error| failed(&error, error.to_string()))?;
            let called = session.call(&tool.mcp_tool, arguments, within).await;
            return called.map_err(|error| failed(&error, error.to_string()));
        };
        let servers = mcp_servers::all(&self.0.store, workspace_id).await;
        let servers = servers.map_err(|error| {
            tracing::error!(%error, "the MCP servers of a workspace cannot be read");
            ToolError::new("unavailable_tool", "the servers of the workspace cannot be read now")
        })?;
        let record = servers.iter().find(|record| record.definition.name == tool.mcp_server);
        let record = record.filter(|record| record.definition.generation == *generation);
        let record = record.ok_or_else(|| gone(&tool.mcp_server))?;
        let (session, redaction) = self.remote_session(record).await?;
        let session = match session {
            Ok(session) => session,
            Err(error) => return Err(self.failed(record, &error, &redaction).await),
        };
        let called = session.call(&tool.mcp_tool, arguments, within).await;
        if session.take_list_changed() {
            self.hurry(workspace_id, &tool.mcp_server).await;
        }
        match called {
            Ok(called) => Ok(Called {
                text: redaction.text(&called.text),
                structured: called.structured.map(|value| redaction.value(value)),
                content: redaction.value(called.content),
                ..called
            }),
            Err(error) => Err(self.failed(record, &error, &redaction).await),
        }
    }

    async fn failed(&self, record: &McpServerRecord, error: &McpError, redaction: &Redaction) -> ToolError {
        if error.is_outage() {
            self.hurry(&record.workspace_id, &record.definition.name).await;
        }
        failed(error, redaction.text(&error.to_string()))
    }

    pub(super) async fn local_session(&self, local: &Local) -> Result<Arc<Session>, McpError> {
        let key = Key { workspace_id: None, name: local.name().to_owned(), of: None };
        let cell = self.0.sessions.cell(key, self.0.clock.now());
        let start = || async { Session::with_local(&local.settings, &self.0.tasks).await.map(Arc::new) };
        cell.get_or_try_init(start).await.cloned()
    }

    /// The session, or why there is none, and what takes the server's secrets out of its words.
    pub(super) async fn remote_session(
        &self,
        record: &McpServerRecord,
    ) -> Result<(Result<Arc<Session>, McpError>, Redaction), ToolError> {
        let server = &record.definition;
        let headers = secrets_of(server);
        let secrets = headers.open(&self.0.store, &self.0.sealer, &record.workspace_id).await?;
        let invalid = |why| ToolError::new("invalid_request", why);
        let redaction = Redaction::of(&secrets).map_err(invalid)?;
        let remote = RemoteServer {
            url: server.url.clone(),
            headers: headers.filled(&secrets).map_err(invalid)?,
            http: self.0.http.clone(),
            // The end of a call is told to the server, which the end of an exchange is not.
            timeout_ms: u64::from(server.timeout_seconds) * 1000 + 1000,
        };
        let key = Key {
            workspace_id: Some(record.workspace_id.clone()),
            name: server.name.clone(),
            of: Some(record.updated_at),
        };
        let cell = self.0.sessions.cell(key, self.0.clock.now());
        let start = || async { Session::with_remote(remote).await.map(Arc::new) };
        Ok((cell.get_or_try_init(start).await.cloned(), redaction))
    }
}

fn failed(error: &McpError, message: String) -> ToolError {
    let code = match error {
        McpError::Unreachable(_) | McpError::Closed => "unavailable_tool",
        McpError::TimedOut { .. } => "timeout",
        McpError::Refused { .. } => "mcp_error",
        McpError::AsksForInput => "asks_for_input",
        McpError::Broken(_) => "invalid_output",
    };
    ToolError::new(code, message)
}

fn gone(server: &str) -> ToolError {
    let message = format!("the MCP server `{server}` was removed, or registered anew, since this run began");
    ToolError::new("unavailable_tool", message)
}
