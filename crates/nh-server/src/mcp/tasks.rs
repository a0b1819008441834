//! A run as a task (extension `io.modelcontextprotocol/tasks`, SEP-2663): its id is the
//! run's, and what it asks of a person is a request for input.

use nh_agents::StepDecision;
use nh_store::runs::CancelOutcome;
use nh_types::run::{RunState, RunView, WaitKind, WaitView};
use nh_types::{RunId, Scope};
use rmcp::ErrorData;
use rmcp::model::{
    DetailedTask, ElicitRequest, ElicitRequestParams, ElicitationSchema, GetTaskResult, InputRequest,
    InputRequests, JsonObject, Task, TaskPayload, TaskStatus, UpdateTaskParams,
};
use serde_json::{Value, json};

use super::call::found;
use super::server::Server;
use super::shown::{self, refused};
use crate::routes::runs::caller;

const POLL_INTERVAL_MS: u64 = 1000;
/// What a person answers.
const APPROVE: &str = "approve";
const COMMENT: &str = "comment";

/// As it is before anybody asks further.
pub(super) fn of_run(run: &RunView) -> Task {
    let status = match run.state {
        RunState::Success | RunState::Failed => TaskStatus::Completed,
        RunState::Cancelled => TaskStatus::Cancelled,
        // Another branch may go on meanwhile.
        _ if asks(run).next().is_some() => TaskStatus::InputRequired,
        RunState::Pending | RunState::Running | RunState::Waiting => TaskStatus::Working,
    };
    let updated = run.finished_at.or(run.started_at).unwrap_or(run.created_at);
    Task::new(run.run_id.to_string(), status, run.created_at.to_string(), updated.to_string())
        .with_status_message(format!("the run is {}", run.status))
        .with_poll_interval_ms(POLL_INTERVAL_MS)
}

/// The steps that wait for a person.
fn asks(run: &RunView) -> impl Iterator<Item = &WaitView> {
    run.waiting_for.iter().filter(|wait| matches!(wait.kind, WaitKind::Approval | WaitKind::Decision))
}

pub(super) async fn get(server: &Server, task_id: &str) -> Result<GetTaskResult, ErrorData> {
    let run = found(server, permitted(server, task_id, Scope::RunRead)?).await?;
    let task = of_run(&run);
    let payload = match task.status {
        TaskStatus::InputRequired => TaskPayload::InputRequired { input_requests: requests(&run)? },
        // A failed call is a result too: `isError` says so.
        TaskStatus::Completed => TaskPayload::Completed { result: object(&shown::result(&run))? },
        TaskStatus::Cancelled => TaskPayload::Cancelled,
        _ => TaskPayload::Working,
    };
    Ok(GetTaskResult::new(DetailedTask::new(task, payload)))
}

fn requests(run: &RunView) -> Result<InputRequests, ErrorData> {
    asks(run).map(|wait| Ok((wait.step.clone(), request(wait)?))).collect()
}

fn request(wait: &WaitView) -> Result<InputRequest, ErrorData> {
    let message = match wait.kind {
        WaitKind::Decision => {
            format!("Nobody knows whether `{}` took effect before a crash. Do it again?", wait.name)
        }
        _ => format!("Approve `{}` with {}?", wait.name, wait.arguments),
    };
    let schema = json!({
        "type": "object",
        "properties": {
            APPROVE: {"type": "boolean", "title": "Approve"},
            COMMENT: {"type": "string", "title": "Comment", "maxLength": 4096},
        },
        "required": [APPROVE],
    });
    let schema: ElicitationSchema = serde_json::from_value(schema).map_err(internal)?;
    let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: schema };
    Ok(InputRequest::Elicitation(ElicitRequest::new(params)))
}

/// Each answer decides the step that it names. Who declines has denied. All of them are looked
/// at before any counts.
pub(super) async fn update(server: &Server, request: UpdateTaskParams) -> Result<(), ErrorData> {
    let run_id = permitted(server, &request.task_id, Scope::RunWrite)?;
    let run = found(server, run_id).await?;
    let mut decisions = Vec::new();
    for (step, answer) in request.input_responses {
        if !asks(&run).any(|wait| wait.step == step) {
            let (step, waiting) = (shortened(&step), asks(&run).map(|wait| wait.step.as_str()));
            let waiting = waiting.collect::<Vec<_>>().join(", ");
            let message = format!("no step `{step}` of the task waits for input; waiting: [{waiting}]");
            return Err(ErrorData::invalid_params(message, None));
        }
        decisions.push(decision(step, &answer)?);
    }
    for decision in decisions {
        let decided = server.app.hub.decide_step(&caller(&server.principal), run_id, decision).await;
        decided.map_err(|error| refused(error.into()))?;
    }
    Ok(())
}

fn decision(step: String, answer: &Value) -> Result<StepDecision, ErrorData> {
    let said = &answer["content"];
    let approved = match (answer["action"].as_str(), &said[APPROVE]) {
        (Some("accept"), Value::Bool(approved)) => *approved,
        (Some("decline" | "cancel"), _) => false,
        _ => {
            let message = format!(
                "the answer to `{}` must have an `action`: `accept` with `content.{APPROVE}` true or \
                 false, `decline` or `cancel`",
                shortened(&step)
            );
            return Err(ErrorData::invalid_params(message, None));
        }
    };
    let comment = said[COMMENT].as_str().map(str::to_owned);
    Ok(StepDecision { step: Some(step), approved, arguments: None, comment })
}

pub(super) async fn cancel(server: &Server, task_id: &str) -> Result<(), ErrorData> {
    let run_id = permitted(server, task_id, Scope::RunWrite)?;
    let outcome = server.app.hub.engine.cancel(&server.principal.workspace_id, run_id).await;
    match outcome.map_err(|error| refused(error.into()))? {
        CancelOutcome::Cancelled | CancelOutcome::Requested | CancelOutcome::Finished(_) => Ok(()),
        CancelOutcome::Missing => Err(missing(task_id)),
    }
}

fn permitted(server: &Server, task_id: &str, scope: Scope) -> Result<RunId, ErrorData> {
    server.principal.require(scope).map_err(|error| refused(error.into()))?;
    task_id.parse().map_err(|_| missing(task_id))
}

fn missing(task_id: &str) -> ErrorData {
    let message = format!("there is no task `{}` in this workspace", shortened(task_id));
    ErrorData::invalid_params(message, None)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn object(result: &impl serde::Serialize) -> Result<JsonObject, ErrorData> {
    match serde_json::to_value(result).map_err(internal)? {
        Value::Object(object) => Ok(object),
        other => Err(internal(format!("a result is {other}"))),
    }
}

fn internal(error: impl std::fmt::Display) -> ErrorData {
    tracing::error!(%error, "a task could not be told");
    ErrorData::internal_error("the hub failed to answer; its log has the cause", None)
}
