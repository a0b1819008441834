//! `/v1/responses`: OpenAI's Responses API over the same models as `/v1/chat/completions`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use nh_models::served::responses::{self, Request};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Auth, ChatWrite};
use crate::failure::Answer;
use crate::json::Json;
use crate::routes::chat::{caller, event_stream};
use crate::routes::kept::Kept;

/// OpenAI's request for a response. No response is kept: `store` is answered as false, and
/// `previous_response_id` is refused.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used: the body stays as it came
#[schema(example = json!({"model": "google/gemini-2.5-flash-lite", "input": "Hello!", "stream": true}))]
pub(crate) struct ResponsesRequest {
    model: String,
    /// A text, or a list of items: messages, calls, their outputs, reasoning.
    #[schema(value_type = Object)]
    input: Value,
    /// What the system says before the input.
    instructions: Option<String>,
    /// Answer as server-sent events.
    stream: Option<bool>,
    /// Functions, which the client runs.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
}

/// Ask for a response: OpenAI's Responses API, also streamed.
#[utoipa::path(post, path = "/v1/responses", tag = "Chat and models", request_body = ResponsesRequest,
    security(("bearer" = ["chat:write"]), ("session" = ["chat:write"])),
    responses(
        (status = 200, description = "A response, or its events as server-sent events", content(
            (Object = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "No provider serves the model", body = nh_types::ErrorBody),
        (status = 502, description = "The provider failed", body = nh_types::ErrorBody),
        (status = 504, description = "The provider did not answer in time", body = nh_types::ErrorBody)))]
pub(crate) async fn respond(
    auth: Auth<ChatWrite>,
    State(app): State<Arc<App>>,
    kept: Kept,
    Json(body, _room): Json<Map<String, Value>>,
) -> Answer<Response> {
    let Request { chat, is_streamed, asked, places } = responses::read(&body)?;
    let (caller, models) = (kept.caller(caller(&app, &auth)), &app.hub.models);
    let told = |error| places.told(error);
    let answer = if is_streamed {
        let chat = models.chat_stream(&caller, chat).await.map_err(told)?;
        let frames = asked.stream(&app.ids, app.clock.now(), chat);
        event_stream(Body::from_stream(frames.map(Ok::<_, Infallible>)))
    } else {
        let completion = models.chat(&caller, Cow::Owned(chat)).await.map_err(told)?;
        axum::Json(asked.answer(&app.ids, &completion.body)).into_response()
    };
    Ok(kept.tell(&app, answer))
}
