//! What people and programs tell a run that goes on: signals, and what they
//! decide of the steps that wait for it.

use nh_engine::{EngineError, History, approval_of};
use nh_store::runs::{RunRecord, Sent, SignalRow};
use nh_types::run::{DecidedStep, SentSignal, SignalRun, WaitKind, WaitView};
use nh_types::{ApiError, ErrorCode, RunId};
use serde_json::{Map, Value};

use crate::definition::Definition;
use crate::hub::{Hub, HubError, RunCaller};
use crate::start::{bad_input, invalid};
use crate::{approval, view};
use nh_schema as schema;

const MAX_SIGNAL_BYTES: usize = 64 * 1024;
const MAX_COMMENT_CHARS: usize = 4096;

/// Of a step that waits for it.
#[derive(Clone, Debug, Default)]
pub struct StepDecision {
    /// None: of the only one.
    pub step: Option<String>,
    pub approved: bool,
    pub arguments: Option<Map<String, Value>>,
    pub comment: Option<String>,
}

impl Hub {
    /// Durable when the answer comes.
    pub async fn signal_run(
        &self,
        caller: &RunCaller,
        run_id: RunId,
        signal: SignalRun,
    ) -> Result<SentSignal, HubError> {
        for (field, word) in [("name", Some(&signal.name)), ("id", signal.id.as_ref())] {
            if let Some(word) = word.filter(|word| !approval::is_signal_name(word)) {
                let shown: String = word.chars().take(80).collect();
                let rule = "1 to 128 of letters, digits, `_`, `-` and `.`";
                return Err(invalid(field, format!("`{field}` is `{shown}`; it must be {rule}")).into());
            }
        }
        let bytes = signal.data.to_string().len();
        if bytes > MAX_SIGNAL_BYTES {
            let message = format!("`data` has {bytes} bytes as JSON; at most {MAX_SIGNAL_BYTES} fit");
            return Err(ApiError::new(ErrorCode::PayloadTooLarge, message).param("data").into());
        }
        let at = self.clock.now();
        let id = signal.id.unwrap_or_else(|| self.ids.uuid_v7(at).to_string());
        let row = SignalRow {
            id: id.clone(),
            name: signal.name,
            sent_by: caller.created_by.clone(),
            at,
            data: signal.data.into(),
            large: None,
        };
        let status = match self.engine.signal(&caller.workspace_id, run_id, row).await? {
            Sent::Done => "accepted",
            Sent::Repeated => "repeated",
            other => return Err(not_sent(run_id, other).into()),
        };
        Ok(SentSignal { run_id, signal_id: id, status: status.to_owned() })
    }

    /// Approves or denies a step that waits for that.
    pub async fn decide_step(
        &self,
        caller: &RunCaller,
        run_id: RunId,
        decision: StepDecision,
    ) -> Result<DecidedStep, HubError> {
        if decision.comment.as_ref().is_some_and(|comment| comment.chars().count() > MAX_COMMENT_CHARS) {
            let message = format!("`comment` is too long; at most {MAX_COMMENT_CHARS} characters fit");
            return Err(invalid("comment", message).into());
        }
        let found = self.engine.read(&caller.workspace_id, run_id).await?;
        let (run, history) = found.ok_or_else(|| no_run(run_id))?;
        let wait = pick(&run, &history, decision.step.as_deref())?;
        if let Some(arguments) = &decision.arguments {
            self.check_arguments(&run, &wait, arguments)?;
        }
        let StepDecision { approved, arguments, comment, .. } = decision;
        let name = approval_of(&wait.step);
        let asked = history.step(&wait.step).map_or(0, |record| record.seq);
        let at = self.clock.now();
        let id = match wait.kind {
            // One answer to one question.
            WaitKind::Approval => format!("{name}:{asked}"),
            _ => format!("{name}:{}", self.ids.uuid_v7(at)),
        };
        let data = approval::answer(approved, &caller.created_by, arguments, comment).into();
        let row = SignalRow { id, name, sent_by: caller.created_by.clone(), at, data, large: None };
        let sent = self.engine.signal(&caller.workspace_id, run_id, row).await;
        match sent.map_err(of_arguments)? {
            Sent::Done => Ok(DecidedStep { run_id, step: wait.step, approved }),
            Sent::Repeated => {
                let message = format!("the step `{}` was decided already", wait.step);
                Err(ApiError::new(ErrorCode::Conflict, message).param("step").into())
            }
            other => Err(not_sent(run_id, other).into()),
        }
    }

    /// What a tool would refuse is better known now.
    fn check_arguments(
        &self,
        run: &RunRecord,
        wait: &WaitView,
        arguments: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        if wait.kind == WaitKind::Decision {
            let message = "a step that may have taken effect is done again as it was; leave `arguments` out";
            return Err(invalid("arguments", message.to_owned()));
        }
        let tool = wait.name.strip_prefix("tool:").unwrap_or(&wait.name);
        let definition = Definition::read(&run.definition);
        let tools = match &definition {
            Ok(definition) => self.tools.with(&self.workshop, definition.own_tools()),
            Err(_) => self.tools.clone(),
        };
        if tools.get(tool).is_none() {
            return Ok(());
        }
        tools.validate(tool, &Value::Object(arguments.clone())).map_err(|faults| {
            let told = schema::told("arguments", &faults);
            let at = faults.first().map(|fault| schema::place("arguments", &fault.path));
            let message = format!("`arguments` do not fit the schema of `{tool}`: {told}");
            bad_input(at.as_deref().unwrap_or("arguments"), message)
        })
    }
}

/// The step that is meant.
fn pick(run: &RunRecord, history: &History, step: Option<&str>) -> Result<WaitView, ApiError> {
    if run.state.is_terminal() {
        let message = format!("the run has ended as {}; there is nothing to decide", run.state);
        return Err(ApiError::new(ErrorCode::Conflict, message).param("runId"));
    }
    let mut open = view::waiting_for(history);
    open.retain(|wait| matches!(wait.kind, WaitKind::Approval | WaitKind::Decision));
    let told = open.iter().map(|wait| format!("`{}`", wait.step)).collect::<Vec<_>>().join(", ");
    let place = match step {
        Some(step) => open.iter().position(|wait| wait.step == step),
        None if open.len() > 1 => {
            let message = format!("several steps wait for a decision: {told}; name one in `step`");
            return Err(invalid("step", message));
        }
        None => (!open.is_empty()).then_some(0),
    };
    place.map(|place| open.swap_remove(place)).ok_or_else(|| {
        let message = match step {
            _ if told.is_empty() => "the run waits for no decision".to_owned(),
            None => format!("the run waits for a decision on {told}"),
            Some(step) => {
                let step: String = step.chars().take(80).collect();
                format!("the step `{step}` waits for no decision; these do: {told}")
            }
        };
        ApiError::new(ErrorCode::Conflict, message).param("step")
    })
}

/// Nothing else of an answer can be large.
fn of_arguments(error: EngineError) -> EngineError {
    match error {
        EngineError::TooLarge { bytes, most, .. } => {
            EngineError::TooLarge { field: "arguments", bytes, most }
        }
        other => other,
    }
}

fn not_sent(run_id: RunId, sent: Sent) -> ApiError {
    match sent {
        Sent::Finished(state) => {
            let message = format!("the run has ended as {state}; it hears nothing more");
            ApiError::new(ErrorCode::Conflict, message).param("runId")
        }
        Sent::Full => {
            let message = "the run has not taken the signals that it got so far; send it later";
            ApiError::new(ErrorCode::RateLimited, message).retry_after(1)
        }
        Sent::Missing | Sent::Done | Sent::Repeated => no_run(run_id),
    }
}

fn no_run(run_id: RunId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no run `{run_id}` in this workspace")).param("runId")
}
