//! A run's journal as server-sent events: replayed, then followed.
//!
//! Each event's id is its number in the journal, so a client that comes back
//! with `Last-Event-ID` misses nothing and sees nothing twice. The stream ends
//! after the run's last event, when the hub stops, and when the credential
//! that opened it no longer counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, StatusCode};
use nh_agents::view;
use nh_engine::{EngineError, Watch};
use nh_store::runs::{self, EventRow, RunRecord};
use nh_types::{ApiError, ErrorCode, RunId};
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Principal;
use crate::event_stream::OpenStream;
use crate::failure::Answer;
use crate::routes::chat::event_stream;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Rows read and sent at once.
const BATCH: u32 = 256;
/// A comment goes out after so long without an event, so that no proxy takes
/// the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The credential is looked at again at most so often.
const RECHECK: Duration = Duration::from_secs(1);
const LAST_KINDS: [&str; 3] = ["run.succeeded", "run.failed", "run.cancelled"];

struct Follower {
    app: Arc<App>,
    principal: Arc<Principal>,
    run_id: RunId,
    after: i64,
    watch: Watch,
    sent_at: Instant,
    checked_at: Instant,
    is_over: bool,
    /// Large values are sent in their places.
    is_full: bool,
    _open: OpenStream,
}

pub(crate) fn follow(
    app: &Arc<App>,
    principal: Arc<Principal>,
    run: &RunRecord,
    headers: &HeaderMap,
    is_full: bool,
) -> Answer<Response> {
    let after = last_event_id(headers)?.min(run.last_seq);
    if run.state.is_terminal() && after == run.last_seq {
        // Tells a browser's EventSource not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        run_id: run.id,
        after,
        watch: app.hub.engine.watch(run.id),
        sent_at: Instant::now(),
        checked_at: Instant::now(),
        is_over: false,
        is_full,
        _open: app.event_streams.open(&principal.workspace_id)?,
        app: app.clone(),
        principal,
    };
    let frames = stream::unfold(follower, |mut follower| async move {
        let frame = follower.next().await?;
        Some((Ok::<_, Infallible>(frame), follower))
    });
    Ok(event_stream(Body::from_stream(frames)))
}

impl Follower {
    /// The next bytes to send; None ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let mut may_have_grown = true;
        while !self.is_over {
            if self.checked_at.elapsed() >= RECHECK {
                self.checked_at = Instant::now();
                if !self.app.credentials.is_still_good(&self.app, &self.principal).await {
                    return None;
                }
            }
            if may_have_grown && let Some(frames) = self.read().await? {
                return Some(frames);
            }
            if self.sent_at.elapsed() >= KEEP_ALIVE {
                self.sent_at = Instant::now();
                return Some(Bytes::from_static(b": keep-alive\n\n"));
            }
            may_have_grown = tokio::select! {
                () = self.watch.changed() => true,
                () = tokio::time::sleep(RECHECK) => false,
                () = self.app.stopping.cancelled() => return None,
            };
        }
        None
    }

    /// The events that are not sent yet, if there are any; None ends the
    /// stream.
    async fn read(&mut self) -> Option<Option<Bytes>> {
        let workspace_id = &self.principal.workspace_id;
        let batch = if self.is_full { 1 } else { BATCH };
        let rows = runs::events(&self.app.hub.store, workspace_id, self.run_id, self.after, batch).await;
        let rows = match rows.map_err(EngineError::from) {
            Ok(rows) if self.is_full => self.filled(rows).await,
            rows => rows,
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                // The client comes back with Last-Event-ID.
                tracing::error!(run = %self.run_id, %error, "an event stream lost the store");
                return None;
            }
        };
        let Some(last) = rows.last() else { return Some(None) };
        self.after = last.seq;
        self.is_over = LAST_KINDS.contains(&last.kind.as_str());
        self.sent_at = Instant::now();
        Some(Some(frames(self.run_id, rows)))
    }

    async fn filled(&self, mut rows: Vec<EventRow>) -> Result<Vec<EventRow>, EngineError> {
        let values = self.app.hub.engine.values().as_ref();
        nh_engine::fill_events(values, &self.principal.workspace_id, self.run_id, &mut rows).await?;
        Ok(rows)
    }
}

fn frames(run_id: RunId, rows: Vec<EventRow>) -> Bytes {
    let mut text = String::new();
    for row in rows {
        let event = view::journal_event(run_id, row);
        // JSON holds no raw line break, so it fits one `data` line.
        let data = serde_json::to_string(&event).unwrap_or_default();
        text.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind));
    }
    text.into()
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok()).filter(|id| *id >= 0);
    number.ok_or_else(|| {
        let message = "Last-Event-ID must be the `id` of an event of this stream";
        ApiError::new(ErrorCode::InvalidRequest, message).param("Last-Event-ID")
    })
}
