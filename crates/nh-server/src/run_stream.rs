//! A run's journal as server-sent events: replayed, then followed.
//!
//! Each event's id is its number in the journal, so a client that comes back
//! with `Last-Event-ID` misses nothing and sees nothing twice. Between a step's
//! start and its end stand the words of its model while they are written
//! (`step.delta`): these have no id, and are not replayed. The stream ends
//! after the run's last event, when the hub stops, and when the credential
//! that opened it no longer counts.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, StatusCode};
use nh_agents::view;
use nh_engine::{EngineError, Listening, LiveWord, Watch};
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
    /// The journal may have grown since the last look at it.
    may_have_grown: bool,
    watch: Watch,
    listening: Listening,
    /// Heard, and not sent yet.
    words: VecDeque<Arc<LiveWord>>,
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
        may_have_grown: true,
        watch: app.hub.engine.watch(run.id),
        listening: app.hub.engine.listen(run.id),
        words: VecDeque::new(),
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
        while !self.is_over {
            if self.checked_at.elapsed() >= RECHECK {
                self.checked_at = Instant::now();
                if !self.app.credentials.is_still_good(&self.app, &self.principal).await {
                    return None;
                }
            }
            if self.may_have_grown
                && let Some(frames) = self.read().await?
            {
                return Some(frames);
            }
            if self.sent_at.elapsed() >= KEEP_ALIVE {
                self.sent_at = Instant::now();
                return Some(Bytes::from_static(b": keep-alive\n\n"));
            }
            self.may_have_grown = false;
            self.may_have_grown = tokio::select! {
                () = self.watch.changed() => true,
                word = self.listening.next() => {
                    self.words.push_back(word);
                    // Else the step that speaks may have begun since the last look.
                    if let Some(frames) = self.words_alone() {
                        return Some(frames);
                    }
                    true
                }
                () = tokio::time::sleep(RECHECK) => false,
                () = self.app.stopping.cancelled() => return None,
            };
        }
        None
    }

    /// The events that are not sent yet, and the words that belong between
    /// them, if there are any; None ends the stream.
    async fn read(&mut self) -> Option<Option<Bytes>> {
        // A step speaks once its start is in the journal: what is heard before
        // the look at it comes after that event.
        self.hear();
        let (run_id, after) = (self.run_id, self.after);
        let workspace_id = &self.principal.workspace_id;
        let batch = if self.is_full { 1 } else { BATCH };
        let rows = runs::events(&self.app.hub.store, workspace_id, run_id, after, batch).await;
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
        let mut text = String::new();
        let has_seen_all = rows.len() < batch as usize;
        for row in rows {
            if let Some(step) = step_ended(&row) {
                // It said its last word before its end was stored.
                self.hear();
                self.say(&mut text, |word| word.step == step);
            }
            (self.after, self.is_over) = (row.seq, LAST_KINDS.contains(&row.kind.as_str()));
            write_event(&mut text, run_id, row);
        }
        if has_seen_all && !self.watch.has_changed() {
            self.say(&mut text, |_| true);
        }
        if text.is_empty() {
            return Some(None);
        }
        self.sent_at = Instant::now();
        Some(Some(text.into()))
    }

    async fn filled(&self, mut rows: Vec<EventRow>) -> Result<Vec<EventRow>, EngineError> {
        let values = self.app.hub.engine.values().as_ref();
        nh_engine::fill_events(values, &self.principal.workspace_id, self.run_id, &mut rows).await?;
        Ok(rows)
    }

    /// What was heard, when nothing else has become of the run.
    fn words_alone(&mut self) -> Option<Bytes> {
        if self.watch.has_changed() {
            return None;
        }
        self.hear();
        let mut text = String::new();
        self.say(&mut text, |_| true);
        self.sent_at = Instant::now();
        Some(text.into())
    }

    fn hear(&mut self) {
        self.words.extend(std::iter::from_fn(|| self.listening.try_next()));
    }

    /// Sends words, and keeps the others for later.
    fn say(&mut self, text: &mut String, is_meant: impl Fn(&LiveWord) -> bool) {
        self.words.retain(|word| {
            let is_meant = is_meant(word);
            if is_meant {
                write_word(text, word);
            }
            !is_meant
        });
    }
}

/// The step whose end the event is.
fn step_ended(row: &EventRow) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Ended {
        step: String,
    }
    let is_end = matches!(row.kind.as_str(), "step.completed" | "step.failed");
    row.data.read::<Ended>().ok().filter(|_| is_end).map(|ended| ended.step)
}

fn write_word(text: &mut String, word: &LiveWord) {
    let mut data = word.said.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.insert("step".to_owned(), word.step.as_str().into());
    }
    text.push_str(&format!("event: step.delta\ndata: {data}\n\n"));
}

fn write_event(text: &mut String, run_id: RunId, row: EventRow) {
    let event = view::journal_event(run_id, row);
    // JSON holds no raw line break, so it fits one `data` line.
    let data = serde_json::to_string(&event).unwrap_or_default();
    text.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind));
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return Ok(0) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok()).filter(|id| *id >= 0);
    number.ok_or_else(|| {
        let message = "Last-Event-ID must be the `id` of an event of this stream";
        ApiError::new(ErrorCode::InvalidRequest, message).param("Last-Event-ID")
    })
}
