//! `tools/call`: a run that is waited for.

use std::time::Duration;

use http::request::Parts;
use nh_agents::{HubError, MAX_WAIT_SECONDS, RunRequest};
use nh_engine::Submitted;
use nh_types::RunId;
use nh_types::run::{RunView, StartRun};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CreateTaskResult, ProtocolVersion,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

use super::progress::Progress;
use super::server::Server;
use super::shown::{self, refused};
use super::tasks;
use crate::failure::Failure;
use crate::routes::runs::caller;
use crate::span;

/// What `neuralhub mcp` sends: its one client said what it cancels.
const CANCEL_ON_CLOSE: &str = "x-neuralhub-cancel-on-close";
/// A client that knows tasks is given one for what takes longer.
const TASK_AFTER: Duration = Duration::from_millis(500);

pub(super) async fn call(
    server: &Server,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let hub = &server.app.hub;
    let Some(callable) = server.callable(&request.name).await.map_err(refused)? else {
        let name: String = request.name.chars().take(128).collect();
        let message =
            format!("there is no tool `{name}` that this key may call; tools/list tells which there are");
        return Err(ErrorData::invalid_params(message, None));
    };
    let input = Value::Object(request.arguments.unwrap_or_default());
    let start = StartRun::of(callable.target.run_type(), callable.target.name().to_owned(), input);
    let started = match hub.start_run(&caller(&server.principal), RunRequest::Start(start), None).await {
        Ok(Submitted::Started(watch)) => watch,
        // Without an Idempotency-Key there is no earlier one.
        Ok(_) => return Err(refused(Failure::internal("a run without a key was a repeat"))),
        Err(HubError::Refused(error)) => return Ok(shown::failed(error.message).into()),
        Err(error) => return Err(refused(error.into())),
    };
    let run_id = started.run_id();
    span::started(run_id);
    let takes_tasks = context.client_capabilities().is_some_and(|known| known.supports_tasks());
    let time = match takes_tasks {
        true => TASK_AFTER,
        false => Duration::from_secs(MAX_WAIT_SECONDS.unsigned_abs()),
    };
    let cancels = gives_up_by_closing(&context);
    let RequestContext { ct: gone, meta, peer, extensions, .. } = context;
    let mut progress = Progress::new(server, run_id, meta.get_progress_token(), peer);
    // Not kept while the run goes on.
    drop((meta, extensions));
    let waiting = hub.wait_for_started(&server.principal.workspace_id, started, time);
    tokio::pin!(waiting);
    let ended = loop {
        tokio::select! {
            ended = &mut waiting => break ended,
            () = progress.tell() => {}
            () = gone.cancelled() => return Ok(match cancels {
                true => cancelled(server, run_id).await,
                false => goes_on(run_id),
            }.into()),
        }
    };
    progress.tell_rest().await;
    match ended.map_err(|error| refused(error.into()))? {
        Some(run) => Ok(shown::result(&run).into()),
        None if takes_tasks => Ok(CreateTaskResult::new(tasks::of_run(&found(server, run_id).await?)).into()),
        None => Ok(goes_on(run_id).into()),
    }
}

/// Before 2026-07-28 the end of a connection ends nothing but the wait (specification
/// 2025-11-25, basic/transports, "Sending Messages to the Server"), unless the client says so.
fn gives_up_by_closing(context: &RequestContext<RoleServer>) -> bool {
    let said =
        context.extensions.get::<Parts>().is_some_and(|parts| parts.headers.contains_key(CANCEL_ON_CLOSE));
    said || context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

async fn cancelled(server: &Server, run_id: RunId) -> CallToolResult {
    let cancelling = server.app.hub.engine.cancel(&server.principal.workspace_id, run_id).await;
    if let Err(error) = cancelling {
        tracing::error!(run = %run_id, %error, "a run that its client gave up could not be cancelled");
    }
    shown::failed("the call was cancelled")
}

fn goes_on(run_id: RunId) -> CallToolResult {
    let message = format!(
        "the run {run_id} goes on after {MAX_WAIT_SECONDS} s; read its result later from the resource \
         neuralhub://runs/{run_id}, or with GET /v1/run/{run_id}"
    );
    shown::with_run(shown::failed(message), run_id)
}

pub(super) async fn found(server: &Server, run_id: RunId) -> Result<RunView, ErrorData> {
    let found = server.app.hub.run_view(&server.principal.workspace_id, run_id).await;
    let found = found.map_err(|error| refused(error.into()))?;
    found.ok_or_else(|| refused(Failure::not_found("run", &run_id.to_string())))
}
