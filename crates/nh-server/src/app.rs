//! What every handler can reach.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HOST;
use nh_agents::Hub;
use nh_store::{StoreError, idempotency, sessions};
use nh_types::{SharedClock, SharedIds};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::login::Logins;
use crate::auth::{Credentials, RateLimits, SESSION_IDLE_MS};
use crate::body_room::BodyRoom;
use crate::event_stream::EventStreams;
use crate::metrics::Metrics;
use crate::settings::ServerSettings;
use crate::sync_waits::SyncWaits;

/// How often the last uses of keys and sessions are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How often what expired is removed: every so many flushes (an hour).
const PURGE_EVERY_FLUSHES: u64 = 360;

/// What an [`App`] is made of.
pub struct AppSetup {
    pub settings: ServerSettings,
    pub hub: Hub,
    pub clock: SharedClock,
    pub ids: SharedIds,
    pub metrics: Metrics,
    /// Cancelled when the hub begins to stop: nothing new is taken, waits and
    /// event streams end.
    pub stopping: CancellationToken,
}

/// The server's state.
pub struct App {
    pub(crate) settings: ServerSettings,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    pub(crate) metrics: Metrics,
    pub(crate) stopping: CancellationToken,
    pub(crate) credentials: Credentials,
    pub(crate) rate_limits: RateLimits,
    pub(crate) logins: Logins,
    pub(crate) body_room: BodyRoom,
    pub(crate) event_streams: EventStreams,
    pub(crate) sync_waits: SyncWaits,
    pub(crate) tasks: TaskTracker,
    /// `GET /openapi.json`, written when it is first asked for.
    pub(crate) openapi_json: OnceLock<Bytes>,
    /// The operations as `GET /llms-full.txt` lists them.
    pub(crate) llms_operations: OnceLock<String>,
    #[cfg(debug_assertions)]
    has_mcp_fixtures: std::sync::atomic::AtomicBool,
}

impl App {
    pub fn new(setup: AppSetup) -> Arc<Self> {
        Arc::new(Self {
            credentials: Credentials::new(),
            rate_limits: RateLimits::new(setup.clock.clone()),
            logins: Logins::new(setup.clock.clone()),
            body_room: BodyRoom::new(setup.settings.max_body_bytes),
            event_streams: EventStreams::default(),
            sync_waits: SyncWaits::default(),
            tasks: TaskTracker::new(),
            openapi_json: OnceLock::new(),
            llms_operations: OnceLock::new(),
            #[cfg(debug_assertions)]
            has_mcp_fixtures: std::sync::atomic::AtomicBool::new(false),
            settings: setup.settings,
            hub: setup.hub,
            clock: setup.clock,
            ids: setup.ids,
            metrics: setup.metrics,
            stopping: setup.stopping,
        })
    }

    /// Shows what the conformance suite of the Model Context Protocol looks for, beside what
    /// there is. For tests alone: a release has nothing of it.
    #[cfg(debug_assertions)]
    pub fn show_mcp_fixtures(&self) {
        self.has_mcp_fixtures.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(debug_assertions)]
    pub(crate) fn has_mcp_fixtures(&self) -> bool {
        self.has_mcp_fixtures.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Writes down when keys and sessions were last used. [`crate::serve`]
    /// does it every ten seconds and at its end.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.credentials.flush(self).await
    }

    /// Where clients reach the hub, without a slash at the end.
    pub(crate) fn base_url(&self, headers: &HeaderMap) -> String {
        match &self.settings.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => {
                let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                format!("http://{}", host.map_or_else(|| self.settings.bind.to_string(), str::to_owned))
            }
        }
    }

    /// What [`crate::serve`] runs beside its connections, until it stops.
    pub(crate) async fn keep_house(&self) {
        let mut flushes: u64 = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_EVERY) => {}
                () = self.stopping.cancelled() => return,
            }
            self.metrics.upkeep();
            let mut done = self.flush().await;
            if flushes.is_multiple_of(PURGE_EVERY_FLUSHES) && done.is_ok() {
                done = self.purge().await;
            }
            if let Err(error) = done {
                tracing::warn!(%error, "housekeeping failed; it is tried again");
            }
            flushes += 1;
        }
    }

    /// Removes sessions and idempotency records that no longer count.
    async fn purge(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.hub.store.write(sessions::Purge { now, idle_since: now.plus_millis(-SESSION_IDLE_MS) }).await?;
        self.hub.store.write(idempotency::Purge { now }).await?;
        Ok(())
    }
}
