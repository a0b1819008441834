//! `/v1/messages`: chats as Anthropic's clients ask for them, whoever answers. Its errors have
//! Anthropic's form: see `edge`.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::HeaderMap;
use nh_models::served::messages;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chat::{caller, event_stream, wants_stream};
use super::kept::Kept;
use crate::app::App;
use crate::auth::{Auth, ChatWrite};
use crate::failure::Answer;
use crate::json::Json;

pub(crate) const PATH: &str = "/v1/messages";

/// Anthropic's request for a message.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used: the body stays as it came
#[schema(example = json!({"model": "neuralhub/offline", "max_tokens": 1024, "messages": [{"role": "user", "content": "Hello!"}]}))]
pub(crate) struct MessagesRequest {
    model: String,
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    max_tokens: u64,
    /// A text, or a list of blocks of text.
    #[schema(value_type = Option<Object>)]
    system: Option<Value>,
    /// Answer as server-sent events.
    stream: Option<bool>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
}

/// Anthropic's request for a count of tokens.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used: the body stays as it came
#[schema(example = json!({"model": "neuralhub/offline", "messages": [{"role": "user", "content": "Hello!"}]}))]
pub(crate) struct CountRequest {
    model: String,
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
}

/// What a request would take.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used
pub(crate) struct Count {
    /// An estimate.
    input_tokens: u64,
}

/// Complete a chat as Anthropic's clients ask for it, also streamed. Errors have Anthropic's form.
#[utoipa::path(post, path = "/v1/messages", tag = "Chat and models", request_body = MessagesRequest,
    security(("bearer" = ["chat:write"]), ("session" = ["chat:write"])),
    responses(
        (status = 200, description = "Anthropic's message, or its events as server-sent events", content(
            (Object = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "No provider serves the model"),
        (status = 502, description = "The provider failed"),
        (status = 504, description = "The provider did not answer in time")))]
pub(crate) async fn create_message(
    auth: Auth<ChatWrite>,
    State(app): State<Arc<App>>,
    kept: Kept,
    headers: HeaderMap,
    Json(body, _room): Json<Map<String, Value>>,
) -> Answer<Response> {
    let caller = kept.caller(caller(&app, &auth));
    let is_streamed = wants_stream(&body)?;
    let messages::Request { mut chat, places } = messages::request(body)?;
    messages::put_beta(&mut chat, &headers)?;
    let (models, told) = (&app.hub.models, |error| places.told(error));
    let answer = if is_streamed {
        let frames = models.chat_stream(&caller, chat).await.map_err(told)?;
        event_stream(Body::from_stream(messages::events(frames).map(Ok::<_, Infallible>)))
    } else {
        let completion = models.chat(&caller, Cow::Owned(chat)).await.map_err(told)?;
        axum::Json(messages::answer(completion.body)).into_response()
    };
    Ok(kept.tell(&app, answer))
}

/// Estimate the input tokens of a request by its size: no provider is asked. Errors have
/// Anthropic's form.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "Chat and models", request_body = CountRequest,
    security(("bearer" = ["chat:write"]), ("session" = ["chat:write"])),
    responses((status = 200, body = Count)))]
pub(crate) async fn count_tokens(
    _: Auth<ChatWrite>,
    Json(body, _room): Json<Map<String, Value>>,
) -> Answer<axum::Json<Value>> {
    Ok(axum::Json(messages::count(body)?))
}

/// Whether Anthropic's clients ask there.
pub(crate) fn is_below(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
