//! `/v1/run/{runId}/signal`, `/approve` and `/deny`: what is told to a run that
//! goes on.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::StepDecision;
use nh_types::run::{ApproveStep, DecidedStep, DenyStep, SentSignal, SignalRun};

use super::runs::{caller, parse};
use crate::app::App;
use crate::auth::{Auth, Principal, RunWrite};
use crate::failure::Answer;
use crate::json::{Creating, Json};

/// Send a run a signal. A step that waits for it goes on; one that comes before
/// its step is kept for it.
#[utoipa::path(post, path = "/v1/run/{runId}/signal", tag = "Runs", request_body = SignalRun,
    params(("runId" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 202, description = "It is durably stored", body = SentSignal),
        (status = 409, description = "The run has ended", body = nh_types::ErrorBody)))]
pub(crate) async fn signal(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(body, _room): Json<SignalRun>,
) -> Answer<(StatusCode, axum::Json<SentSignal>)> {
    let sent = app.hub.signal_run(&caller(&auth), parse(&id)?, body).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(sent)))
}

/// Approve a step that waits for it: it is done, with other arguments if they
/// are given.
#[utoipa::path(post, path = "/v1/run/{runId}/approve", tag = "Runs", request_body = ApproveStep,
    params(("runId" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 202, description = "It is durably stored", body = DecidedStep),
        (status = 409, description = "No such step waits for a decision", body = nh_types::ErrorBody)))]
pub(crate) async fn approve(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<ApproveStep, true>,
) -> Answer<(StatusCode, axum::Json<DecidedStep>)> {
    let ApproveStep { step, arguments, comment } = creating.body;
    decide(&app, &auth, &id, StepDecision { step, approved: true, arguments, comment }).await
}

/// Deny a step that waits for approval: it is not done. An agent is told so and
/// goes on; a workflow's step has failed, code `denied`.
#[utoipa::path(post, path = "/v1/run/{runId}/deny", tag = "Runs", request_body = DenyStep,
    params(("runId" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 202, description = "It is durably stored", body = DecidedStep),
        (status = 409, description = "No such step waits for a decision", body = nh_types::ErrorBody)))]
pub(crate) async fn deny(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<DenyStep, true>,
) -> Answer<(StatusCode, axum::Json<DecidedStep>)> {
    let DenyStep { step, comment } = creating.body;
    decide(&app, &auth, &id, StepDecision { step, approved: false, arguments: None, comment }).await
}

async fn decide(
    app: &App,
    auth: &Principal,
    id: &str,
    decision: StepDecision,
) -> Answer<(StatusCode, axum::Json<DecidedStep>)> {
    let decided = app.hub.decide_step(&caller(auth), parse(id)?, decision).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(decided)))
}
