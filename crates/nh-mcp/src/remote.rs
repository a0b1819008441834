//! Streamable HTTP (specification 2026-07-28 and before, "Transports"), on the hub's one outbound
//! client.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use nh_http::sse::{self, Frame, SseLimits};
use nh_http::{HttpError, Limits, Outbound, Response};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;

use crate::error::said;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Of one answer: a result, or a page of a list.
const MAX_BODY_BYTES: u64 = 4_000_000;
const CONNECT_MS: u64 = 10_000;
const MAX_RESUMES: u32 = 30;
const SSE_LIMITS: SseLimits =
    SseLimits { max_line_bytes: MAX_BODY_BYTES as usize, max_event_bytes: MAX_BODY_BYTES as usize };

/// Where a server is, and what it is told with every request.
#[derive(Clone)]
pub struct RemoteServer {
    pub url: String,
    /// With their secrets in them, marked as sensitive. The protocol's own are added.
    pub headers: HeaderMap,
    /// Guarded, where the URL comes from a user.
    pub http: Outbound,
    /// Of one exchange.
    pub timeout_ms: u64,
}

/// The requests of one session.
#[derive(Clone)]
pub(crate) struct Wire {
    server: RemoteServer,
    /// How often an answer that broke off may be gone on with, until the next request.
    resumes: Arc<AtomicU32>,
}

type Failed = StreamableHttpError<HttpError>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

impl Wire {
    pub(crate) fn to(server: RemoteServer) -> Self {
        Self { server, resumes: Arc::default() }
    }

    fn limits(&self) -> Limits {
        Limits {
            connect_ms: CONNECT_MS.min(self.server.timeout_ms),
            first_byte_ms: self.server.timeout_ms,
            between_bytes_ms: self.server.timeout_ms,
            total_ms: self.server.timeout_ms,
            max_body_bytes: MAX_BODY_BYTES,
            // Elsewhere its headers are nobody's business.
            max_redirects: 0,
        }
    }

    async fn exchange(
        &self,
        method: Method,
        more: HashMap<HeaderName, HeaderValue>,
        session_id: Option<Arc<str>>,
        body: Vec<u8>,
    ) -> Result<Response, Failed> {
        let invalid =
            |error: &dyn ToString| StreamableHttpError::Client(HttpError::InvalidUrl(error.to_string()));
        let request = Request::builder().method(method).uri(&self.server.url).body(body.into());
        let mut request = request.map_err(|error| invalid(&error))?;
        let headers = request.headers_mut();
        *headers = self.server.headers.clone();
        headers.extend(more);
        if let Some(id) = session_id {
            headers.insert(SESSION_ID, HeaderValue::from_str(&id).map_err(|error| invalid(&error))?);
        }
        self.server.http.send(request, self.limits()).await.map_err(StreamableHttpError::Client)
    }
}

impl StreamableHttpClient for Wire {
    type Error = HttpError;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        mut headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let has_session = session_id.is_some();
        self.resumes.store(MAX_RESUMES, Ordering::Relaxed);
        let body = serde_json::to_vec(&message)?;
        let response = self.exchange(Method::POST, headers, session_id, body).await?;
        let status = response.status;
        if status == StatusCode::NOT_FOUND && has_session {
            return Err(StreamableHttpError::SessionExpired);
        }
        let session_id = response.header(SESSION_ID).map(str::to_owned);
        if !status.is_success() {
            return refused(&message, has_session, response).await;
        }
        let asks = matches!(message, JsonRpcMessage::Request(_));
        let kind = media_type(&response);
        if !asks || matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        match kind.as_str() {
            EVENTS => Ok(StreamableHttpPostResponse::Sse(events(response), session_id)),
            JSON => {
                let body = response.bytes().await.map_err(StreamableHttpError::Client)?;
                let answer = serde_json::from_slice(&body)?;
                Ok(StreamableHttpPostResponse::Json(of_request(&message, answer)?, session_id))
            }
            other => Err(StreamableHttpError::UnexpectedContentType(Some(said(&other)))),
        }
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session_id: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        self.exchange(Method::DELETE, headers, Some(session_id), Vec::new()).await.map(drop)
    }

    /// Answers that were cut off are gone on with. A stream of nothing but news is not opened:
    /// it would keep a connection to every server, and the lists are read again anyway.
    async fn get_stream(
        &self,
        _: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        mut headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Failed> {
        let Some(last) = last_event_id.and_then(|id| HeaderValue::from_str(&id).ok()) else {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        };
        let take = |left: u32| left.checked_sub(1);
        if self.resumes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        headers.insert(ACCEPT, HeaderValue::from_static(EVENTS));
        headers.insert(LAST_EVENT_ID, last);
        let response = self.exchange(Method::GET, headers, session_id, Vec::new()).await?;
        match (response.status, media_type(&response).as_str()) {
            (StatusCode::OK, EVENTS) => Ok(events(response)),
            (StatusCode::METHOD_NOT_ALLOWED, _) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            (status, _) => {
                Err(unexpected(format!("a stream that broke off cannot be gone on with: {status}")))
            }
        }
    }
}

/// What a refusal means. One of `server/discover` is how servers of before 2026-07-28 show
/// themselves, whatever words it has (specification 2026-07-28, "Backward compatibility").
async fn refused(
    message: &ClientJsonRpcMessage,
    has_session: bool,
    response: Response,
) -> Result<StreamableHttpPostResponse, Failed> {
    let status = response.status;
    let to = response.header(LOCATION).map(said_of).unwrap_or_default();
    let body = response.bytes().await.unwrap_or_default();
    let error = match serde_json::from_slice::<ServerJsonRpcMessage>(&body) {
        Ok(JsonRpcMessage::Error(error)) => Some(error),
        _ => None,
    };
    let is_of_access = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if let JsonRpcMessage::Request(request) = message
        && matches!(request.request, ClientRequest::DiscoverRequest(_))
        && status.is_client_error()
        && !is_of_access
        && !has_session
    {
        let error = error.map(|error| error.error);
        let error = error.unwrap_or_else(|| ErrorData::invalid_request(format!("{status}"), None));
        let answer = ServerJsonRpcMessage::error(error, Some(request.id.clone()));
        return Ok(StreamableHttpPostResponse::Json(answer, None));
    }
    if let Some(error) = error.filter(|_| !is_of_access) {
        return Ok(StreamableHttpPostResponse::Json(
            of_request(message, JsonRpcMessage::Error(error))?,
            None,
        ));
    }
    Err(unexpected(match status {
        _ if status.is_redirection() => {
            format!("it answers {status} and points to {to}; register that address")
        }
        StatusCode::UNAUTHORIZED => format!("it answers {status}: its token or headers are missing or wrong"),
        StatusCode::FORBIDDEN => format!("it answers {status}: the token or the headers do not allow this"),
        _ => format!("it answers {status}: {}", said_of(&String::from_utf8_lossy(&body))),
    }))
}

/// The one answer to a request. An error of a server that did not read the request has no id, or
/// one of its own making.
fn of_request(
    request: &ClientJsonRpcMessage,
    mut answer: ServerJsonRpcMessage,
) -> Result<ServerJsonRpcMessage, Failed> {
    let JsonRpcMessage::Request(request) = request else { return Ok(answer) };
    match &mut answer {
        JsonRpcMessage::Error(error) => error.id = Some(request.id.clone()),
        JsonRpcMessage::Response(response) if response.id.to_string() != request.id.to_string() => {
            return Err(unexpected("it answers another request than the one that it was asked".to_owned()));
        }
        _ => {}
    }
    Ok(answer)
}

fn said_of(text: &str) -> String {
    said(&text)
}

fn unexpected(message: String) -> Failed {
    StreamableHttpError::UnexpectedServerResponse(message.into())
}

fn media_type(response: &Response) -> String {
    let kind = response.header(CONTENT_TYPE).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn events(response: Response) -> Events {
    let events = sse::frames(response.body, SSE_LIMITS).map(|frame| match frame {
        Ok(Frame { event, data, id }) => Ok(Sse { event, data: Some(data), id, retry: None }),
        Err(error) => Err(SseError::Body(Box::new(error))),
    });
    events.boxed()
}
