//! A run's journal: its events as the store keeps them. [`History`] is folded
//! from them. The API's events, the live stream and a resumed run
//! all read these rows.

use nh_store::runs::{self, EventReference, EventRow};
use nh_store::{Store, StoreError};
use nh_types::model::Usage;
use nh_types::run::RunError;
use nh_types::{JsonText, RunId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::history::StepsTaken;

/// Journal rows read at once.
const JOURNAL_PAGE: u32 = 1000;

/// One thing to do: a model call, a tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the run, and the same each time the run is decided anew.
    #[serde(rename = "step")]
    pub id: String,
    /// Such as `model` or `tool`.
    pub kind: String,
    /// The model's id or the tool's name.
    pub name: String,
    /// What it is given. A model step's messages follow from the journal and
    /// are not written again.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
    /// Whether it may be done again when a crash hides what came of it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub repeatable: bool,
    /// What it waits for, instead of being performed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde calls
fn is_yes(flag: &bool) -> bool {
    *flag
}

fn nothing() -> Usage {
    Usage::NONE
}

fn is_nothing(usage: &Usage) -> bool {
    *usage == Usage::NONE
}

impl Step {
    /// The same for every try of this step.
    pub fn idempotency_key(&self, run: RunId) -> String {
        format!("{run}:{}", self.id)
    }

    pub fn begins_run(&self) -> bool {
        matches!(self.wait, Some(Wait::Run { .. }))
    }
}

/// What a step waits for. A run that only waits holds no slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// For a time from its start.
    Sleep {
        for_ms: i64,
    },
    SleepUntil {
        at: Timestamp,
    },
    /// For the first signal of that name which no other step has taken; it
    /// fails when that does not come in time.
    Signal {
        name: String,
        for_ms: Option<i64>,
    },
    /// For the end of a run that the step begins: see [`crate::Work::child`].
    Run {
        run_id: Option<RunId>,
    },
}

/// The name of the signal that approves or denies a step.
pub fn approval_of(step: &str) -> String {
    format!("approval:{step}")
}

/// What the journal holds, in the words of `type` and `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    #[serde(rename = "run.created")]
    Created { target: String, run_type: String },
    #[serde(rename = "step.started")]
    StepStarted(Step),
    #[serde(rename = "step.completed")]
    StepCompleted {
        step: String,
        output: Value,
        usage: Usage,
        /// Of a step that began a run: what that one's steps took.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        within: Vec<StepsTaken>,
    },
    #[serde(rename = "step.failed")]
    StepFailed {
        step: String,
        error: RunError,
        #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
        usage: Usage,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        within: Vec<StepsTaken>,
    },
    /// A word to the run that no step waited for yet.
    #[serde(rename = "signal.received")]
    SignalReceived { name: String, data: JsonText, by: String },
    /// Another process, or this one after a restart, took the run up; `again`
    /// names the steps in flight that are done again.
    #[serde(rename = "run.resumed")]
    Resumed { again: Vec<String> },
    /// What stands before was taken over from another run; `step` is the first
    /// that was not.
    #[serde(rename = "run.forked")]
    Forked { from: RunId, step: Option<String> },
    /// The run waits for a decision on `step`.
    #[serde(rename = "run.waiting")]
    Waiting { step: String, reason: String },
    #[serde(rename = "run.succeeded")]
    Succeeded { result: Value },
    #[serde(rename = "run.failed")]
    Failed { error: RunError },
    #[serde(rename = "run.cancelled")]
    Cancelled {},
}

/// A row of the journal that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("journal event {seq} of type `{kind}` is unreadable: {source}")]
pub struct UnreadableEvent {
    pub seq: i64,
    pub kind: String,
    pub source: serde_json::Error,
}

impl Event {
    pub(crate) fn to_row(&self, seq: i64, at: Timestamp) -> EventRow {
        // Serialising these types cannot fail: no map has a key that is not text.
        let tagged = serde_json::to_string(&self).unwrap_or_default();
        let (kind, data) = taken_apart(&tagged).unwrap_or_default();
        let data = JsonText::new(data.to_owned()).unwrap_or_default();
        EventRow { seq, kind: kind.to_owned(), at, data }
    }

    /// That a step failed which used nothing.
    pub(crate) fn failed(step: String, error: RunError) -> Self {
        Self::StepFailed { step, error, usage: Usage::NONE, within: Vec::new() }
    }

    /// The part of it that users, models and tools bring, with the field in
    /// which it stands.
    pub(crate) fn value(&self) -> Option<(&'static str, String)> {
        let (field, value) = match self {
            Event::StepStarted(step) => ("arguments", &step.arguments),
            Event::StepCompleted { output, .. } => ("output", output),
            Event::Succeeded { result } => ("result", result),
            Event::SignalReceived { data, .. } => return Some(("data", data.as_str().to_owned())),
            _ => return None,
        };
        Some((field, serde_json::to_string(value).unwrap_or_default()))
    }

    /// The step that was started or came to an end.
    pub(crate) fn step(&self) -> Option<&str> {
        match self {
            Event::StepStarted(step) => Some(&step.id),
            Event::StepCompleted { step, .. } | Event::StepFailed { step, .. } => Some(step),
            Event::Created { .. }
            | Event::Resumed { .. }
            | Event::Forked { .. }
            | Event::SignalReceived { .. }
            | Event::Waiting { .. }
            | Event::Succeeded { .. }
            | Event::Failed { .. }
            | Event::Cancelled {} => None,
        }
    }

    /// A row of which a value is kept apart is unreadable until that is put in.
    pub fn read(row: &EventRow) -> Result<Event, UnreadableEvent> {
        let unreadable = |source| UnreadableEvent { seq: row.seq, kind: row.kind.clone(), source };
        if EventReference::read(row.data.as_str()).is_some() {
            return Err(unreadable(serde::de::Error::custom("a value of it is kept apart")));
        }
        let tagged = format!(r#"{{"type":{},"data":{}}}"#, Value::from(row.kind.as_str()), row.data.as_str());
        serde_json::from_str(&tagged).map_err(unreadable)
    }
}

/// `{"type":"step.started","data":…}` is kept as two columns. No kind has a
/// letter that JSON escapes.
fn taken_apart(tagged: &str) -> Option<(&str, &str)> {
    let (kind, rest) = tagged.strip_prefix(r#"{"type":""#)?.split_once('"')?;
    Some((kind, rest.strip_prefix(r#","data":"#)?.strip_suffix('}')?))
}

/// A run's whole journal as its rows have it, in order; empty when the workspace
/// has no such run. [`crate::Engine::journal`] has the large values in their places.
pub async fn read_journal(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Vec<EventRow>, StoreError> {
    let mut rows: Vec<EventRow> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |row| row.seq);
        let page = runs::events(store, workspace_id, run_id, after, JOURNAL_PAGE).await?;
        let last = page.len() < JOURNAL_PAGE as usize;
        rows.extend(page);
        if last {
            return Ok(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(id: &str) -> Step {
        Step {
            id: id.into(),
            kind: "tool".into(),
            name: "calculate".into(),
            arguments: json!({"expression": "1+1"}),
            repeatable: true,
            wait: None,
        }
    }

    #[test]
    fn events_keep_their_words_and_survive_the_store() {
        let events = [
            (Event::Created { target: "agent_default".into(), run_type: "agent".into() }, "run.created"),
            (Event::StepStarted(step("tool:1")), "step.started"),
            (
                Event::StepCompleted {
                    step: "tool:1".into(),
                    output: json!("2"),
                    usage: Usage::NONE,
                    within: Vec::new(),
                },
                "step.completed",
            ),
            (
                Event::StepFailed {
                    step: "tool:1".into(),
                    error: RunError::new("timeout", "slow"),
                    usage: Usage::NONE,
                    within: Vec::new(),
                },
                "step.failed",
            ),
            (
                Event::SignalReceived { name: "go".into(), data: json!({"a": 1}).into(), by: "key:1".into() },
                "signal.received",
            ),
            (Event::Resumed { again: vec!["tool:1".into()] }, "run.resumed"),
            (
                Event::Forked {
                    from: "019a0000-0000-7000-8000-000000000000".parse().expect("an id"),
                    step: Some("tool:1".into()),
                },
                "run.forked",
            ),
            (Event::Waiting { step: "tool:1".into(), reason: "why".into() }, "run.waiting"),
            (Event::Succeeded { result: json!("done") }, "run.succeeded"),
            (Event::Failed { error: RunError::new("timeout", "slow") }, "run.failed"),
            (Event::Cancelled {}, "run.cancelled"),
        ];
        for (event, kind) in events {
            let row = event.to_row(7, Timestamp::from_millis(1));
            assert_eq!(row.kind, kind);
            assert!(row.data.as_str().starts_with('{'), "{kind}");
            assert_eq!(Event::read(&row).expect("readable"), event);
        }
    }
}
