//! Asks servers for their tools: when they are registered, from time to time, soon after they
//! failed or said that their tools are others, and less often the longer they cannot be used.
//! Nodes that share a store share the work.

use std::time::Duration;

use nh_mcp::McpError;
use nh_store::StoreError;
use nh_store::mcp_servers::{self, Claim, McpServerRecord, Saw};
use nh_types::mcp::McpSeen;
use nh_types::{Timestamp, WorkspaceId};
use tokio_util::sync::CancellationToken;

use super::local::Local;
use super::{McpServers, listing};

const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a claim holds: a check takes 40 s at most.
pub const CLAIM_MS: i64 = 60_000;
const EVERY_MS: i64 = 5 * 60 * 1000;
/// After the first failure, and doubled with each.
const RETRY_MS: i64 = 15_000;
const MAX_RETRY_MS: i64 = 10 * 60 * 1000;
const END_WITHIN: Duration = Duration::from_secs(6);

/// Until the hub stops; programs are then told to end.
pub async fn keep(servers: McpServers, stopping: CancellationToken) {
    loop {
        servers.0.sessions.sweep(servers.0.clock.now());
        servers.check_due().await;
        tokio::select! {
            () = stopping.cancelled() => break,
            () = servers.0.hurry.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    servers.0.sessions.clear();
    servers.0.tasks.close();
    if tokio::time::timeout(END_WITHIN, servers.0.tasks.wait()).await.is_err() {
        tracing::warn!("not all MCP servers could be ended in time");
    }
}

impl McpServers {
    /// Begins to ask all whose time has come.
    pub async fn check_due(&self) {
        let now = self.0.clock.now();
        for place in 0..self.0.local.len() {
            let servers = self.clone();
            if self.0.local[place].is_due(now) {
                self.0.tasks.spawn(async move { servers.check_local_now(&servers.0.local[place]).await });
            }
        }
        if let Err(error) = self.check_registered(now).await {
            tracing::error!(%error, "the MCP servers that are due cannot be read");
        }
    }

    async fn check_registered(&self, now: Timestamp) -> Result<(), StoreError> {
        let room = u32::try_from(self.0.checks.available_permits()).unwrap_or(u32::MAX);
        for (workspace_id, name, due_at) in mcp_servers::due(&self.0.store, now, room).await? {
            let Ok(permit) = self.0.checks.clone().try_acquire_owned() else { break };
            let until = now.plus_millis(CLAIM_MS);
            let claim = Claim { workspace_id: workspace_id.clone(), name: name.clone(), due_at, until };
            if !self.0.store.write(claim).await? {
                continue;
            }
            let servers = self.clone();
            self.0.tasks.spawn(async move {
                let _permit = permit;
                if let Err(error) = servers.check_now(&workspace_id, &name).await {
                    tracing::error!(%error, server = name, "what was seen of an MCP server cannot be kept");
                }
            });
        }
        Ok(())
    }

    pub(super) async fn check_now(&self, workspace_id: &WorkspaceId, name: &str) -> Result<(), StoreError> {
        let Some(record) = mcp_servers::find(&self.0.store, workspace_id, name).await? else { return Ok(()) };
        let seen = self.seen(&record).await;
        if let (Some(fault), None) = (&seen.fault, &record.seen.fault) {
            tracing::warn!(server = name, %workspace_id, fault, "an MCP server cannot be used");
        }
        let (failures, wait_ms) = after(record.failures, &seen);
        let checked_at = self.0.clock.now();
        let saw = Saw {
            workspace_id: workspace_id.clone(),
            name: name.to_owned(),
            of: record.updated_at,
            seen: (seen != record.seen).then_some(seen),
            failures,
            checked_at,
            next_at: checked_at.plus_millis(wait_ms),
        };
        self.0.store.write(saw).await
    }

    async fn seen(&self, record: &McpServerRecord) -> McpSeen {
        let fault = match self.remote_session(record).await {
            Ok((Ok(session), redaction)) => match session.tools().await {
                Ok(listed) => {
                    let (tools, skipped) = listing::taken(&record.definition.name, listed);
                    let (server, protocol_version) = session.about();
                    let seen = McpSeen { fault: None, server, protocol_version, tools, skipped };
                    return without_secrets(seen, &redaction);
                }
                Err(error) => redaction.text(&error.to_string()),
            },
            Ok((Err(error), redaction)) => redaction.text(&error.to_string()),
            Err(error) => error.message,
        };
        McpSeen { fault: Some(fault), ..record.seen.clone() }
    }

    pub(super) async fn check_local_now(&self, local: &Local) {
        let looked = async {
            let session = self.local_session(local).await?;
            let listed = session.tools().await?;
            session.take_list_changed();
            Ok::<_, McpError>((listing::taken(local.name(), listed), session.about()))
        };
        let looked = looked.await;
        let now = self.0.clock.now();
        let mut state = local.state();
        match looked {
            Ok(((tools, skipped), (server, protocol_version))) => {
                state.seen = McpSeen { fault: None, server, protocol_version, tools, skipped };
            }
            Err(error) => {
                tracing::warn!(server = local.name(), %error, "a local MCP server cannot be used");
                state.seen.fault = Some(error.to_string());
            }
        }
        let (failures, wait_ms) = after(state.failures, &state.seen);
        (state.failures, state.checked_at) = (failures, Some(now));
        state.next_at = Some(now.plus_millis(wait_ms));
    }
}

impl Local {
    /// Whether it is to be asked; if so, whoever asked this does that.
    fn is_due(&self, now: Timestamp) -> bool {
        let mut state = self.state();
        let is_due = state.next_at.is_none_or(|at| at <= now);
        if is_due {
            state.next_at = Some(now.plus_millis(2 * CLAIM_MS));
        }
        is_due
    }
}

/// Failures in a row, and how long the server is left in peace.
fn after(failures: u32, seen: &McpSeen) -> (u32, i64) {
    match seen.fault {
        None => (0, EVERY_MS),
        Some(_) => (failures.saturating_add(1), (RETRY_MS << failures.min(10)).min(MAX_RETRY_MS)),
    }
}

fn without_secrets(seen: McpSeen, redaction: &crate::secret_headers::redact::Redaction) -> McpSeen {
    let kept = serde_json::to_value(&seen).map(|value| redaction.value(value));
    kept.and_then(serde_json::from_value).unwrap_or_else(|_| McpSeen {
        fault: Some("its list has its own secrets in it, where they cannot be taken out".to_owned()),
        ..McpSeen::default()
    })
}
