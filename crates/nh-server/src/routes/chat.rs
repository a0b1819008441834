//! `/v1/chat/completions` and `/v1/embeddings`: the hot path. A request costs
//! no database statement here: the key is cached, usage is written in batches.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use nh_models::{Account, CacheUse, Caller, Charge};
use nh_types::{ApiError, ErrorCode};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Auth, ChatWrite, Principal};
use crate::failure::Answer;
use crate::json::Json;
use crate::routes::kept::Kept;

/// How long a call waits for others of its key that hold what is left of its
/// budget.
const PATIENCE: Duration = Duration::from_secs(5);

/// OpenAI's chat completion request. Fields that the hub does not know are
/// passed to the provider unchanged.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used: the body stays as it came
#[schema(example = json!({"model": "google/gemini-2.5-flash-lite", "messages": [{"role": "user", "content": "Hello!"}], "stream": true}))]
pub(crate) struct ChatRequest {
    model: String,
    #[schema(value_type = Vec<Object>)]
    messages: Vec<Value>,
    /// Answer as server-sent events.
    stream: Option<bool>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
}

/// OpenAI's embeddings request.
#[derive(ToSchema)]
#[allow(dead_code)] // only its schema is used: the body stays as it came
#[schema(example = json!({"model": "openai/text-embedding-3-small", "input": "Hello!"}))]
pub(crate) struct EmbeddingsRequest {
    model: String,
    /// Text, a list of texts, or token numbers.
    #[schema(value_type = Object)]
    input: Value,
    /// `float` (the default) or `base64`: little-endian 32-bit floats.
    encoding_format: Option<String>,
    dimensions: Option<u32>,
}

/// Complete a chat: OpenAI's chat completions, also streamed.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "Chat and models", request_body = ChatRequest,
    security(("bearer" = ["chat:write"]), ("session" = ["chat:write"])),
    responses(
        (status = 200, description = "A chat completion, or its chunks as server-sent events", content(
            (Object = "application/json"), (String = "text/event-stream"))),
        (status = 404, description = "No provider serves the model", body = nh_types::ErrorBody),
        (status = 502, description = "The provider failed", body = nh_types::ErrorBody),
        (status = 504, description = "The provider did not answer in time", body = nh_types::ErrorBody)))]
pub(crate) async fn complete(
    auth: Auth<ChatWrite>,
    State(app): State<Arc<App>>,
    kept: Kept,
    Json(body, _room): Json<Map<String, Value>>,
) -> Answer<Response> {
    let caller = kept.caller(caller(&app, &auth));
    // Boxed, so that they are not moved through each layer of the server.
    let answer = if wants_stream(&body)? {
        let frames = Box::pin(app.hub.models.chat_stream(&caller, body)).await?;
        event_stream(Body::from_stream(frames.map(Ok::<_, Infallible>)))
    } else {
        let text = Box::pin(app.hub.models.chat_text(&caller, Cow::Owned(body))).await?;
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
    };
    Ok(kept.tell(&app, answer))
}

/// Embed texts.
#[utoipa::path(post, path = "/v1/embeddings", tag = "Chat and models", request_body = EmbeddingsRequest,
    security(("bearer" = ["chat:write"]), ("session" = ["chat:write"])),
    responses((status = 200, body = Object),
        (status = 404, description = "No provider serves the model", body = nh_types::ErrorBody),
        (status = 502, description = "The provider failed", body = nh_types::ErrorBody),
        (status = 504, description = "The provider did not answer in time", body = nh_types::ErrorBody)))]
pub(crate) async fn embed(
    auth: Auth<ChatWrite>,
    State(app): State<Arc<App>>,
    Json(body, _room): Json<Map<String, Value>>,
) -> Answer<axum::Json<Value>> {
    let answer = app.hub.models.embeddings(&caller(&app, &auth), body).await?;
    Ok(axum::Json(Value::Object(answer.body)))
}

/// Server-sent events, past caches and buffering proxies.
pub(crate) fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

pub(super) fn caller(app: &App, principal: &Principal) -> Caller {
    let (limits, now) = (principal.limits(), app.clock.now());
    let mut accounts = app.hub.ledger.workspace_accounts();
    if let Some(id) = principal.key_id() {
        accounts.extend(limits.budget_usd.map(|usd| Account::of_key(id, usd, now)));
        accounts.extend(limits.models.tokens_per_minute.map(|most| Account::of_key_minute(id, most)));
    }
    Caller {
        workspace_id: principal.workspace_id.clone(),
        key_id: principal.key_id(),
        run_id: None,
        agent: None,
        limits: limits.models,
        cache: CacheUse::default(),
        charge: (!accounts.is_empty()).then(|| Charge {
            ledger: app.hub.ledger.clone(),
            workspace_id: principal.workspace_id.clone(),
            id: format!("call:{}", app.ids.uuid_v7(now)),
            accounts,
            patience: PATIENCE,
            is_of_many: true,
        }),
    }
}

pub(super) fn wants_stream(body: &Map<String, Value>) -> Result<bool, ApiError> {
    match body.get("stream") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(stream)) => Ok(*stream),
        Some(other) => {
            let given: String = other.to_string().chars().take(80).collect();
            let message = format!("`stream` is {given}; it must be true or false");
            Err(ApiError::new(ErrorCode::InvalidRequest, message).param("stream"))
        }
    }
}
