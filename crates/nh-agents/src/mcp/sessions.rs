//! Sessions with servers, each kept as long as it is used, and the calls in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nh_mcp::{Called, McpError, RemoteServer, Session};
use nh_store::mcp_servers::{self, McpServerRecord};
use nh_types::mcp::McpTool;
use nh_types::{Timestamp, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::local::Local;
use super::{McpServers, listing, secrets_of};
use crate::secret_headers::redact::Redaction;
use crate::tools::ToolError;

/// Of all workspaces together; the one that was not used for the longest time makes room.
const MAX_SESSIONS: usize = 256;
/// Of remote servers; programs run as long as the hub does.
const IDLE_MS: i64 = 5 * 60 * 1000;
/// How long nobody else tries after a session was not come to.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Of what a server says of its failure.
const MAX_SAID_CHARS: usize = 500;
/// Shorter values of variables could not be told from chance.
const MIN_SECRET_BYTES: usize = 8;

/// A server at one time: a change of it makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// None: a program.
    workspace_id: Option<WorkspaceId>,
    name: String,
    of: Option<(String, Timestamp)>,
}

/// What came of the start of a session, for all who waited for it.
struct Started {
    session: Result<Arc<Session>, McpError>,
    at: Instant,
}

#[derive(Clone)]
struct Slot {
    started: Arc<OnceCell<Started>>,
    used_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, Slot>>);

/// A server that is about to be asked.
pub(super) struct Reached {
    key: Key,
    pub(super) session: Result<Arc<Session>, McpError>,
    /// Takes out of its words what it was told.
    pub(super) redaction: Redaction,
    within: Duration,
}

impl Reached {
    pub(super) fn told(&self, error: &McpError) -> String {
        self.redaction.text(&error.to_string()).chars().take(MAX_SAID_CHARS).collect()
    }
}

impl Sessions {
    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the session is, or is made by the first who asks.
    fn slot(&self, key: &Key, now: Timestamp, failure_kept: Duration) -> Arc<OnceCell<Started>> {
        let mut slots = self.slots();
        let is_over = |slot: &Slot| {
            slot.started.get().is_some_and(|started| match &started.session {
                Ok(session) => session.is_closed(),
                Err(_) => started.at.elapsed() >= failure_kept,
            })
        };
        if slots.get(key).is_some_and(is_over) {
            slots.remove(key);
        }
        if !slots.contains_key(key) && slots.len() >= MAX_SESSIONS {
            let oldest = slots.iter().filter(|(key, _)| key.workspace_id.is_some());
            let oldest = oldest.min_by_key(|(_, slot)| slot.used_at).map(|(key, _)| key.clone());
            oldest.map(|oldest| slots.remove(&oldest));
        }
        let slot = slots.entry(key.clone()).or_insert_with(|| Slot { started: Arc::default(), used_at: now });
        slot.used_at = now;
        slot.started.clone()
    }

    /// So that the next one who asks begins another.
    fn forget(&self, key: &Key, session: &Arc<Session>) {
        let mut slots = self.slots();
        let started = slots.get(key).and_then(|slot| slot.started.get());
        if started.is_some_and(|started| started.session.as_ref().is_ok_and(|own| Arc::ptr_eq(own, session)))
        {
            slots.remove(key);
        }
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
    /// Calls a tool of the workspace's server, as the server is registered now. The secrets that
    /// the server was told are taken out of whatever it answers.
    pub(crate) async fn call(
        &self,
        workspace_id: &WorkspaceId,
        tool: &McpTool,
        arguments: Map<String, Value>,
    ) -> Result<Called, ToolError> {
        let reached = match &tool.generation {
            None => {
                let local = self.local(workspace_id).find(|local| local.name() == tool.mcp_server);
                let local = local.ok_or_else(|| gone(&tool.mcp_server))?;
                self.reach_local(local, FAILURE_KEPT).await?
            }
            Some(generation) => {
                let record = self.registered(workspace_id, tool, generation).await?;
                self.reach(&record, FAILURE_KEPT).await?
            }
        };
        let called = match &reached.session {
            Ok(session) => {
                let called = session.call(&tool.mcp_tool, arguments, reached.within).await;
                if session.is_list_changed() {
                    self.hurry(workspace_id, tool).await;
                }
                called
            }
            Err(error) => Err(error.clone()),
        };
        match called {
            Ok(called) => Ok(Called {
                text: reached.redaction.text(&called.text),
                structured: called.structured.map(|value| reached.redaction.value(value)),
                content: reached.redaction.value(called.content),
                ..called
            }),
            Err(error) => {
                let is_over = match &error {
                    McpError::Unreachable(_) | McpError::Closed => true,
                    // Servers that lost a session say so in many ways. A program is not begun anew.
                    McpError::Refused { .. } | McpError::Broken(_) => tool.generation.is_some(),
                    // The server is still to be told that nobody waits.
                    McpError::TimedOut { .. } | McpError::AsksForInput => false,
                };
                if is_over {
                    self.give_up(&reached);
                }
                if error.is_outage() {
                    self.hurry(workspace_id, tool).await;
                }
                Err(failed(&error, reached.told(&error)))
            }
        }
    }

    async fn registered(
        &self,
        workspace_id: &WorkspaceId,
        tool: &McpTool,
        generation: &str,
    ) -> Result<McpServerRecord, ToolError> {
        let servers = mcp_servers::all(&self.0.store, workspace_id).await.map_err(|error| {
            tracing::error!(%error, "the MCP servers of a workspace cannot be read");
            ToolError::new("unavailable_tool", "the servers of the workspace cannot be read now")
        })?;
        let of_tool = |record: &&McpServerRecord| {
            record.definition.name == tool.mcp_server && record.definition.generation == generation
        };
        let record = servers.iter().find(of_tool).ok_or_else(|| gone(&tool.mcp_server))?;
        match listing::is_allowed(&record.definition, &tool.mcp_tool) {
            true => Ok(record.clone()),
            false => {
                let message =
                    format!("`{}` is not among the tools that its server is allowed now", tool.name);
                Err(ToolError::new("unavailable_tool", message))
            }
        }
    }

    /// A session that failed in a way from which it may not come back.
    pub(super) fn give_up(&self, reached: &Reached) {
        if let Ok(session) = &reached.session {
            self.0.sessions.forget(&reached.key, session);
        }
    }

    /// A failure is kept for those who ask within this time.
    pub(super) async fn reach_local(
        &self,
        local: &Local,
        failure_kept: Duration,
    ) -> Result<Reached, ToolError> {
        let is_long = |value: &SecretString| value.expose_secret().len() >= MIN_SECRET_BYTES;
        let values = local.settings.env.iter().filter(|(_, value)| is_long(value));
        let values: Vec<_> = values.map(|(name, value)| (name.clone(), value.clone())).collect();
        let redaction = Redaction::of(&values).map_err(invalid)?;
        let key = Key { workspace_id: None, name: local.name().to_owned(), of: None };
        let start = || Session::with_local(&local.settings, &self.0.tasks);
        let session = self.session(&key, failure_kept, start).await;
        let within = Duration::from_secs(local.timeout_seconds().into());
        Ok(Reached { key, session, redaction, within })
    }

    pub(super) async fn reach(
        &self,
        record: &McpServerRecord,
        failure_kept: Duration,
    ) -> Result<Reached, ToolError> {
        let server = &record.definition;
        let headers = secrets_of(server);
        let secrets = headers.open(&self.0.store, &self.0.sealer, &record.workspace_id).await?;
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
            of: Some((server.generation.clone(), record.updated_at)),
        };
        let session = self.session(&key, failure_kept, || Session::with_remote(remote)).await;
        let within = Duration::from_secs(server.timeout_seconds.into());
        Ok(Reached { key, session, redaction, within })
    }

    async fn session<F>(
        &self,
        key: &Key,
        failure_kept: Duration,
        start: impl FnOnce() -> F,
    ) -> Result<Arc<Session>, McpError>
    where
        F: Future<Output = Result<Session, McpError>>,
    {
        if self.0.closing.is_cancelled() {
            return Err(McpError::Unreachable("the hub is stopping".to_owned()));
        }
        let slot = self.0.sessions.slot(key, self.0.clock.now(), failure_kept);
        let started = slot
            .get_or_init(|| async { Started { session: start().await.map(Arc::new), at: Instant::now() } });
        started.await.session.clone()
    }
}

fn invalid(why: String) -> ToolError {
    ToolError::new("invalid_request", why)
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
