//! Threads: a run that continues a conversation is shown what was said in it.

use nh_engine::read_value;
use nh_store::Store;
use nh_store::runs::{self, Kept, RunRecord, ThreadPlace, ThreadTurn};
use nh_types::WorkspaceId;
use nh_types::run::RunError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Exchanges that a run is shown, the last ones.
const MAX_TURNS: u32 = 100;

/// Of their inputs and results that are over 256 KiB, together.
const MAX_LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// Beside what [`crate::definition::Definition`] reads: of a fork, which does
/// not stand in the thread itself.
const FIELD: &str = "conversation";

/// The thread, and before which place in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    thread_id: String,
    before: i64,
}

impl Conversation {
    pub(crate) fn of(run: &RunRecord) -> Option<Self> {
        let forked = run.definition.get(FIELD).and_then(|field| Self::deserialize(field).ok());
        let own = |thread: &ThreadPlace| Self { thread_id: thread.thread_id.clone(), before: thread.seq };
        forked.or_else(|| run.thread.as_ref().map(own))
    }

    /// Has a fork see what the original saw.
    pub(crate) fn put_into(&self, definition: &mut Value) {
        if let Some(fields) = definition.as_object_mut() {
            fields.insert(FIELD.to_owned(), serde_json::to_value(self).unwrap_or_default());
        }
    }

    /// What was asked and answered, as messages.
    pub(crate) async fn messages(
        &self,
        store: &Store,
        workspace_id: &WorkspaceId,
    ) -> Result<Vec<Value>, RunError> {
        let before = ThreadPlace { thread_id: self.thread_id.clone(), seq: self.before };
        let turns = runs::thread_turns(store, workspace_id, &before, MAX_TURNS).await;
        let turns = turns.map_err(unreadable)?;
        let values = nh_engine::values_of(store);
        let mut messages = Vec::new();
        for turn in fitting(turns) {
            let read = async |kept, name| match kept {
                Kept::Here(value) => Ok(value),
                Kept::Apart(bytes) => {
                    let text = read_value(values.as_ref(), workspace_id, turn.run_id, name, bytes).await;
                    serde_json::from_str(&text.map_err(unreadable)?).map_err(unreadable)
                }
            };
            messages.extend(said(read(turn.input, "input").await?, read(turn.result, "result").await?));
        }
        Ok(messages)
    }
}

fn unreadable(error: impl std::fmt::Display) -> RunError {
    tracing::error!(%error, "a thread could not be read");
    RunError::new("internal_error", "The thread could not be read; the hub's log has the cause.")
}

/// The last exchanges of which the large values fit together.
fn fitting(mut turns: Vec<ThreadTurn>) -> Vec<ThreadTurn> {
    let large = |kept: &Kept<Value>| match kept {
        Kept::Here(_) => 0,
        Kept::Apart(bytes) => *bytes,
    };
    let mut sum = 0;
    let too_far = turns.iter().rposition(|turn| {
        sum += large(&turn.input) + large(&turn.result);
        sum > MAX_LARGE_BYTES
    });
    turns.drain(..too_far.map_or(0, |place| place + 1));
    turns
}

fn said(input: Value, result: Value) -> Vec<Value> {
    let mut messages = match input["messages"].as_array() {
        // The system prompt is the run's own.
        Some(given) => given.iter().filter(|message| message["role"] != "system").cloned().collect(),
        None => vec![json!({"role": "user", "content": input["goal"]})],
    };
    let answer = match result {
        Value::String(text) => text,
        other => other.to_string(),
    };
    messages.push(json!({"role": "assistant", "content": answer}));
    messages
}
