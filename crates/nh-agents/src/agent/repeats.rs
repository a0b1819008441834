//! Agents that go round in circles: a call that was made several turns in a
//! row, with the same outcome each time, is not made again. The model is told
//! so; when it insists, the run ends.

use nh_engine::{History, Outcome};
use nh_types::run::RunError;

use super::decide::{RequestedCall, requested_calls, tool_step_id, verdict};
use super::messages::shown;
use crate::approval::Verdict;

/// Turns in a row with the same call and outcome, after which it is refused.
const MOST_REPEATS: usize = 3;
/// Turns in a row, the refused ones too, after which the run ends.
const MOST_TURNS: usize = 6;

/// The code of a call that was refused for this, and of a run that ended so.
const REPEATED_CALL: &str = "repeated_call";

/// Why call `index` (from 0) of turn `turn` (from 1) is not made, if it is not.
pub(crate) fn refused(history: &History, turn: usize, index: usize) -> Option<RunError> {
    let calls = calls_of(history, turn);
    let call = calls.get(index)?;
    if streak(history, turn, call) < MOST_REPEATS {
        return None;
    }
    let message = format!(
        "`{}` was called with these arguments {MOST_REPEATS} turns in a row, and the outcome was the same each \
         time; it is not called again. Use what came of it, call something else, or answer.",
        call.tool
    );
    Some(RunError::new(REPEATED_CALL, message))
}

/// Why the run ends with what turn `turn` asks for, if it does.
pub(super) fn circles(history: &History, turn: usize, calls: &[RequestedCall]) -> Option<RunError> {
    if !calls.iter().all(|call| streak(history, turn, call) >= MOST_TURNS) {
        return None;
    }
    let message = format!(
        "The agent asked for the same calls {} turns in a row, although their outcome was the same each time.",
        MOST_TURNS + 1
    );
    Some(RunError::new(REPEATED_CALL, message))
}

/// How many turns before `turn`, without a gap, made the call and had the same
/// outcome.
fn streak(history: &History, turn: usize, call: &RequestedCall) -> usize {
    let mut same: Option<String> = None;
    let mut count = 0;
    for earlier in (1..turn).rev() {
        let found = calls_of(history, earlier)
            .iter()
            .position(|made| made.tool == call.tool && made.arguments == call.arguments);
        let Some(outcome) = found.and_then(|index| outcome(history, earlier, index)) else { break };
        match outcome {
            Outcome::Failed(error) if error.code == REPEATED_CALL => {}
            outcome => {
                let outcome = shown(&outcome);
                if same.as_ref().is_some_and(|same| *same != outcome) {
                    break;
                }
                same = Some(outcome);
            }
        }
        count += 1;
    }
    count
}

fn outcome(history: &History, turn: usize, index: usize) -> Option<Outcome> {
    match verdict(history, turn, index) {
        Some(Verdict::Denied(error)) => Some(Outcome::Failed(error)),
        _ => history.step(&tool_step_id(turn, index))?.outcome().cloned(),
    }
}

fn calls_of(history: &History, turn: usize) -> Vec<RequestedCall> {
    let outcome = history.step(&format!("model:{turn}")).and_then(|record| record.outcome());
    match outcome {
        Some(Outcome::Completed(output)) => requested_calls(&output["message"]),
        _ => Vec::new(),
    }
}
