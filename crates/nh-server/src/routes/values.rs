//! `/v1/run/{runId}/values`: what is too large for a run's journal.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use nh_types::run::RunView;
use nh_types::{RunId, WorkspaceId};

use super::runs::parse;
use crate::app::App;
use crate::auth::{Auth, RunRead};
use crate::failure::{Answer, Failure};

/// What a run's `definition` holds is not the API's.
const NAMES: [&str; 2] = ["input", "result"];
const FIELDS: [&str; 3] = ["arguments", "output", "data"];

/// Get one large value of a run, as JSON.
///
/// Events name those that are over 256 KiB in `large`.
#[utoipa::path(get, path = "/v1/run/{runId}/values/{name}", tag = "Runs",
    params(("runId" = String, Path), ("name" = String, Path)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, description = "The value", body = Object)))]
pub(crate) async fn value(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path((id, name)): Path<(String, String)>,
) -> Answer<Response> {
    let run_id = parse(&id)?;
    let missing = || Failure::not_found("large value", &format!("{id}/values/{name}"));
    if !is_name(&name) {
        return Err(missing());
    }
    let bytes = app.hub.engine.values().bytes(&auth.workspace_id, run_id, &name).await?;
    let bytes = bytes.ok_or_else(missing)?;
    let parts = Parts { app, workspace_id: auth.workspace_id.clone(), run_id, name, sent: 0, bytes };
    let body = Body::from_stream(stream::try_unfold(parts, Parts::next));
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    Ok(response)
}

/// `result`, or `12.output` of event 12.
fn is_name(name: &str) -> bool {
    let of_event = name
        .split_once('.')
        .is_some_and(|(seq, field)| seq.parse::<u32>().is_ok() && FIELDS.contains(&field));
    NAMES.contains(&name) || of_event
}

/// A value on its way to a client, of which one part is in memory.
struct Parts {
    app: Arc<App>,
    workspace_id: WorkspaceId,
    run_id: RunId,
    name: String,
    sent: u64,
    bytes: u64,
}

impl Parts {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        if self.sent >= self.bytes {
            return Ok(None);
        }
        let values = self.app.hub.engine.values();
        let part = values.read(&self.workspace_id, self.run_id, &self.name, self.sent).await;
        match part {
            Ok(part) if !part.is_empty() => {
                self.sent += part.len() as u64;
                Ok(Some((part.into(), self)))
            }
            // The client sees that it did not get all that was announced.
            Ok(_) => Err(std::io::Error::other("the run was removed meanwhile")),
            Err(error) => {
                tracing::error!(run = %self.run_id, %error, "a large value could not be read to its end");
                Err(std::io::Error::other(error))
            }
        }
    }
}

/// A run as an answer. A large one is written on a thread where that holds
/// nobody up.
pub(super) async fn whole(status: StatusCode, run: RunView) -> Answer<Response> {
    if !run.is_large {
        return Ok((status, axum::Json(run)).into_response());
    }
    let written = tokio::task::spawn_blocking(move || (status, axum::Json(run)).into_response()).await;
    written.map_err(Failure::internal)
}
