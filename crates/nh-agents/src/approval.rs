//! Steps that wait for a person: what they ask, and what was answered.

use nh_engine::{Outcome, Step, Wait, approval_of};
use nh_types::run::RunError;
use serde_json::{Map, Value};

/// The kind of such a step in the journal.
pub const APPROVAL_STEP: &str = "approval";

/// The code of what was denied.
pub const DENIED: &str = "denied";

/// Asks for `name` to be done with `arguments`.
pub fn step(id: &str, name: &str, arguments: Value, for_ms: Option<i64>) -> Step {
    Step {
        id: id.to_owned(),
        kind: APPROVAL_STEP.to_owned(),
        name: name.to_owned(),
        arguments,
        repeatable: true,
        wait: Some(Wait::Signal { name: approval_of(id), for_ms }),
    }
}

/// The answer as it is sent to the run, and as the journal keeps it.
pub fn answer(
    approved: bool,
    by: &str,
    arguments: Option<Map<String, Value>>,
    comment: Option<String>,
) -> Value {
    let mut answer = Map::new();
    answer.insert("approved".to_owned(), approved.into());
    answer.insert("by".to_owned(), by.into());
    if let Some(comment) = comment {
        answer.insert("comment".to_owned(), comment.into());
    }
    if let Some(arguments) = arguments {
        answer.insert("arguments".to_owned(), arguments.into());
    }
    Value::Object(answer)
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// With other arguments than were asked for, if any are there.
    Approved { arguments: Option<Value> },
    /// By a person, or because nobody answered in time.
    Denied(RunError),
}

impl Verdict {
    pub fn read(outcome: &Outcome) -> Self {
        let answer = match outcome {
            Outcome::Completed(answer) => answer,
            Outcome::Failed(error) => return Self::Denied(error.clone()),
        };
        if answer["approved"] == Value::Bool(true) {
            return Self::Approved { arguments: answer.get("arguments").cloned() };
        }
        let message = match answer["comment"].as_str() {
            Some(comment) => format!("A person denied it: {comment}"),
            None => "A person denied it.".to_owned(),
        };
        Self::Denied(RunError::new(DENIED, message))
    }
}

/// Names that users may give signals: none of them is one of the hub's own.
pub fn is_signal_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}
