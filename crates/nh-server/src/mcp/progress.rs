use nh_engine::Watch;
use nh_store::runs;
use nh_types::RunId;
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use serde::Deserialize;

use super::server::Server;

/// Events read at once.
const BATCH: u32 = 256;

/// Tells a client that asked for it what a run begins to do, as the journal says it.
pub(super) struct Progress<'s> {
    server: &'s Server,
    run_id: RunId,
    told: Option<Told>,
    watch: Watch,
    after: i64,
}

struct Told {
    token: ProgressToken,
    peer: Peer<RoleServer>,
}

impl<'s> Progress<'s> {
    pub(super) fn new(server: &'s Server, run_id: RunId, context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        let told = token.map(|token| Told { token, peer: context.peer.clone() });
        Self { server, run_id, told, watch: server.app.hub.engine.watch(run_id), after: 0 }
    }

    /// Waits until there is something to tell, and tells it; for ever where nobody asked.
    pub(super) async fn tell(&mut self) {
        let Some(told) = &self.told else { return std::future::pending().await };
        self.watch.changed().await;
        let (store, workspace_id) = (&self.server.app.hub.store, &self.server.principal.workspace_id);
        let rows = match runs::events(store, workspace_id, self.run_id, self.after, BATCH).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(run = %self.run_id, %error, "a run's progress could not be read");
                return;
            }
        };
        for row in rows {
            self.after = row.seq;
            let Some(step) = (row.kind == "step.started").then(|| row.data.read::<Began>().ok()).flatten()
            else {
                continue;
            };
            let number = row.seq as f64;
            let progress =
                ProgressNotificationParam::new(told.token.clone(), number).with_message(step.to_text());
            if told.peer.notify_progress(progress).await.is_err() {
                self.told = None;
                return;
            }
        }
    }
}

/// What is told of a step.
#[derive(Deserialize)]
struct Began {
    step: String,
    name: String,
}

impl Began {
    fn to_text(&self) -> String {
        format!("{} {}", self.step, self.name)
    }
}
