//! `/v1/run` and `/v1/runs`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use nh_agents::{MAX_WAIT_SECONDS, RunCaller, RunRequest, view};
use nh_engine::Submitted;
use nh_store::runs::{self, CancelOutcome, RunFilter, RunRecord};
use nh_types::run::{AcceptedRun, ForkRun, JournalPage, RetryRun, RunList, RunView, StartRun, Values};
use nh_types::{ApiError, ErrorCode, Page, PageRequest, RunId};

use super::values;
use crate::app::App;
use crate::auth::{Auth, Principal, RunRead, RunWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::{Once, in_flight, mismatch};
use crate::json::Creating;
use crate::paging::{Query, invalid, seal_cursor};
use crate::{run_stream, span};

/// Run an agent, a tool or a workflow.
///
/// With `async` the answer is 202 once the run is durably stored; without, the
/// run is waited for, and the answer is the whole run, a failed one too. When
/// the wait ends first the answer is 202, and the run goes on.
#[utoipa::path(post, path = "/v1/run", tag = "Runs", request_body = StartRun,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = RunView), (status = 202, body = AcceptedRun),
        (status = 409, description = "The Idempotency-Key came before with another body", body = nh_types::ErrorBody)))]
pub(crate) async fn start(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<StartRun>,
) -> Answer<Response> {
    let body = creating.body;
    let wait = (!body.is_async).then(|| body.wait_seconds.unwrap_or(MAX_WAIT_SECONDS));
    begin(&app, &auth, RunRequest::Start(body), wait, creating.once).await
}

/// Run what failed or was cancelled again, from there on.
///
/// The new run takes over the steps that went well, and makes the failed one
/// anew. The body may be left out. What it may do goes beyond neither the old run's scopes nor yours.
#[utoipa::path(post, path = "/v1/run/{runId}/retry", tag = "Runs", request_body = RetryRun,
    params(("runId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = RunView), (status = 202, body = AcceptedRun),
        (status = 409, description = "It goes on, or it succeeded", body = nh_types::ErrorBody)))]
pub(crate) async fn retry(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<RetryRun, true>,
) -> Answer<Response> {
    let body = creating.body;
    let wait = (!body.is_async).then(|| body.wait_seconds.unwrap_or(MAX_WAIT_SECONDS));
    begin(&app, &auth, RunRequest::Retry(parse(&id)?, body), wait, creating.once).await
}

/// Run again from a step on, with another model, prompt, input or tool set.
///
/// The new run shares what came before that step. What it may do goes beyond
/// neither the old run's scopes nor yours.
#[utoipa::path(post, path = "/v1/run/{runId}/fork", tag = "Runs", request_body = ForkRun,
    params(("runId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = RunView), (status = 202, body = AcceptedRun),
        (status = 409, description = "The Idempotency-Key came before with another body", body = nh_types::ErrorBody)))]
pub(crate) async fn fork(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<ForkRun>,
) -> Answer<Response> {
    let body = creating.body;
    let wait = (!body.is_async).then(|| body.wait_seconds.unwrap_or(MAX_WAIT_SECONDS));
    begin(&app, &auth, RunRequest::Fork(parse(&id)?, body), wait, creating.once).await
}

/// Stores a run and answers at once or, with `wait`, when it has ended.
async fn begin(
    app: &App,
    auth: &Principal,
    request: RunRequest,
    wait: Option<i64>,
    once: Option<Once>,
) -> Answer<Response> {
    let once = once.map(|once| once.record(auth, app.clock.now()));
    // From before the run is stored: a repeat that comes right then must not
    // take the first one's place.
    let keyed_wait = once.as_ref().filter(|_| wait.is_some()).map(|once| app.sync_waits.begin(once));
    let is_beside_the_first = matches!(keyed_wait, Some(None));
    let submitted = app.hub.start_run(&caller(auth), request, once).await?;
    let run_id = match &submitted {
        Submitted::Started(watch) => watch.run_id(),
        Submitted::Replay(id) => *id,
        Submitted::Mismatch => return Err(mismatch().into()),
    };
    span::started(run_id);
    if let Some(seconds) = wait {
        // A repeat learns the end, but is not kept waiting beside the first.
        let seconds = if is_beside_the_first { 0 } else { seconds };
        let time = Duration::from_secs(seconds.unsigned_abs());
        let waited = match submitted {
            Submitted::Started(watch) => app.hub.wait_for_started(&auth.workspace_id, watch, time).await,
            _ => app.hub.wait_for_run(&auth.workspace_id, run_id, time).await,
        };
        match waited {
            Ok(Some(run)) => return values::whole(StatusCode::OK, run).await,
            Ok(None) if is_beside_the_first => return Err(in_flight().into()),
            Ok(None) => {}
            // The run is stored and goes on: its id must not be lost, or a
            // client would start it once more.
            Err(error) => tracing::error!(run = %run_id, %error, "a run could not be waited for"),
        }
    }
    Ok((StatusCode::ACCEPTED, axum::Json(view::accepted(run_id))).into_response())
}

/// Get a run with its tool calls.
#[utoipa::path(get, path = "/v1/run/{runId}", tag = "Runs", params(("runId" = String, Path)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = RunView)))]
pub(crate) async fn find(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let found = app.hub.run_view(&auth.workspace_id, parse(&id)?).await?;
    values::whole(StatusCode::OK, found.ok_or_else(|| missing(&id))?).await
}

/// Read a run's journal: as JSON or, with `Accept: text/event-stream`, as a
/// stream that replays it, follows it, and resumes from `Last-Event-ID`.
///
/// Values over 256 KiB are left out, and told in `large`; with `values=full`
/// they are in their places.
#[utoipa::path(get, path = "/v1/run/{runId}/events", tag = "Runs",
    params(("runId" = String, Path), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query), ("values" = Option<Values>, Query), ("Last-Event-ID" = Option<String>, Header)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, description = "The journal", content(
            (JournalPage = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "As a stream: the run has ended, and all of it was seen")))]
pub(crate) async fn events(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Response> {
    let run_id = parse(&id)?;
    let found = runs::find(&app.hub.store, &auth.workspace_id, run_id).await?;
    let run = found.ok_or_else(|| missing(&id))?;
    let (page, is_full) = (query.page()?, query.parsed("values")? == Some(Values::Full));
    query.finish()?;
    let mut response = if wants_event_stream(&headers) {
        run_stream::follow(&app, auth.shared(), &run, &headers, is_full)?
    } else {
        axum::Json(journal(&app, &run, &page, is_full).await?).into_response()
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

async fn journal(app: &App, run: &RunRecord, page: &PageRequest, is_full: bool) -> Answer<JournalPage> {
    let after = page.after.as_deref().unwrap_or("0").parse();
    let after =
        after.map_err(|_| invalid("cursor", "`cursor` is not one that this list gave out".to_owned()))?;
    let rows = runs::events(&app.hub.store, &run.workspace_id, run.id, after, page.limit + 1).await?;
    let mut cut = Page::cut(rows, page.limit, |row| row.seq.to_string());
    let next_cursor = cut.next.as_deref().map(seal_cursor);
    if is_full {
        let values = app.hub.engine.values().as_ref();
        nh_engine::fill_events(values, &run.workspace_id, run.id, &mut cut.items).await?;
    }
    let events = cut.items.into_iter().map(|row| view::journal_event(run.id, row)).collect();
    Ok(JournalPage { events, next_cursor })
}

/// List runs, newest first: those that were started, or with `parent_run_id`
/// those that this run began itself.
#[utoipa::path(get, path = "/v1/runs", tag = "Runs",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query),
        ("state" = Option<nh_types::run::RunState>, Query), ("target" = Option<String>, Query),
        ("type" = Option<nh_types::run::RunType>, Query),
        ("parent_run_id" = Option<String>, Query),
        ("thread_id" = Option<String>, Query),
        ("created_after" = Option<String>, Query, format = DateTime),
        ("created_before" = Option<String>, Query, format = DateTime)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = RunList)))]
pub(crate) async fn list(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<axum::Json<RunList>> {
    let page = query.page()?;
    let filter = RunFilter {
        state: query.parsed("state")?,
        target: query.take("target")?,
        run_type: query.parsed("type")?,
        parent: query.parsed("parent_run_id")?,
        thread_id: query.take("thread_id")?,
        created_after: query.time("created_after")?,
        created_before: query.time("created_before")?,
    };
    query.finish()?;
    let found = runs::list(&app.hub.store, &auth.workspace_id, &filter, &page).await?;
    let next_cursor = found.next.as_deref().map(seal_cursor);
    Ok(axum::Json(RunList { runs: found.items.into_iter().map(view::summary).collect(), next_cursor }))
}

/// Cancel a run. What it has in flight is dropped; one that has ended is a 409.
#[utoipa::path(post, path = "/v1/run/{runId}/cancel", tag = "Runs", params(("runId" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = RunView), (status = 202, description = "Another node will end it", body = RunView),
        (status = 409, description = "It has ended already", body = nh_types::ErrorBody)))]
pub(crate) async fn cancel(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let run_id = parse(&id)?;
    let status = match app.hub.engine.cancel(&auth.workspace_id, run_id).await? {
        CancelOutcome::Cancelled => StatusCode::OK,
        CancelOutcome::Requested => StatusCode::ACCEPTED,
        CancelOutcome::Missing => return Err(missing(&id)),
        CancelOutcome::Finished(state) => {
            let message = format!("the run has ended as {state}; it cannot be cancelled");
            return Err(ApiError::new(ErrorCode::Conflict, message).param("runId").into());
        }
    };
    let run = app.hub.run_view(&auth.workspace_id, run_id).await?;
    values::whole(status, run.ok_or_else(|| missing(&id))?).await
}

pub(crate) fn caller(principal: &Principal) -> RunCaller {
    RunCaller {
        workspace_id: principal.workspace_id.clone(),
        scopes: principal.scopes.clone(),
        created_by: principal.created_by(),
        limits: principal.limits(),
    }
}

/// What is no id names nothing.
pub(super) fn parse(id: &str) -> Answer<RunId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("run", id)
}

fn wants_event_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|list| list.split(',')).any(|range| {
        range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}
