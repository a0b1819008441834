use nh_engine::Watch;
use nh_store::runs;
use nh_types::RunId;
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
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
    may_have_grown: bool,
}

struct Told {
    token: ProgressToken,
    peer: Peer<RoleServer>,
}

impl<'s> Progress<'s> {
    pub(super) fn new(
        server: &'s Server,
        run_id: RunId,
        token: Option<ProgressToken>,
        peer: Peer<RoleServer>,
    ) -> Self {
        let told = token.map(|token| Told { token, peer });
        Self {
            server,
            run_id,
            told,
            watch: server.app.hub.engine.watch(run_id),
            after: 0,
            may_have_grown: true,
        }
    }

    /// Tells what there is to tell, or waits until there may be something; for ever where nobody
    /// asked.
    pub(super) async fn tell(&mut self) {
        if self.told.is_none() {
            return std::future::pending().await;
        }
        if !self.may_have_grown {
            self.watch.changed().await;
            self.may_have_grown = true;
        }
        self.may_have_grown = self.tell_batch().await;
    }

    /// What the run did last.
    pub(super) async fn tell_rest(&mut self) {
        while self.told.is_some() && self.tell_batch().await {}
    }

    /// Whether there may be more.
    async fn tell_batch(&mut self) -> bool {
        let (store, workspace_id) = (&self.server.app.hub.store, &self.server.principal.workspace_id);
        let rows = match runs::events(store, workspace_id, self.run_id, self.after, BATCH).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(run = %self.run_id, %error, "a run's progress could not be read");
                return false;
            }
        };
        let has_more = rows.len() == BATCH as usize;
        for row in rows {
            self.after = row.seq;
            let began = (row.kind == "step.started").then(|| row.data.read::<Began>().ok()).flatten();
            let (Some(step), Some(told)) = (began, &self.told) else { continue };
            let progress = ProgressNotificationParam::new(told.token.clone(), row.seq as f64);
            if told.peer.notify_progress(progress.with_message(step.to_text())).await.is_err() {
                self.told = None;
            }
        }
        has_more
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
