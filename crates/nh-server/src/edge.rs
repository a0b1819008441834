//! What every request passes on its way in and out: its id, the checks that
//! need no credential, and the one form of every error.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use nh_types::{ApiError, ErrorCode, Rate, WorkspaceId};
use tokio::time::Instant;
use tracing::Instrument;
use url::Url;

use crate::app::App;
use crate::auth::ToldRate;
use crate::auth::api_key::ApiKey;
use crate::failure::{Answer, Failed, Failure};
use crate::mcp::{self, Answered};
use crate::metrics::Meters;
use crate::routes::messages;
use crate::routes::storage::vercel;
use crate::sandbox_origin::{self, Forwarded, Target};
use crate::span;
use crate::unread::Unread;

/// Where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const MAX_REQUEST_ID_CHARS: usize = 128;

/// What the edge needs at each request.
#[derive(Clone)]
pub(crate) struct Edge {
    pub(crate) app: Arc<App>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) methods: Arc<Methods>,
}

/// The methods of each route, for who used another one: axum writes `Allow`
/// only once the answer has left the edge.
pub(crate) struct Methods(HashMap<String, String>);

impl Methods {
    pub(crate) fn new(operations: impl Iterator<Item = (String, Method)>) -> Self {
        let mut by_route: HashMap<String, String> = HashMap::new();
        for (route, method) in operations {
            let methods = by_route.entry(route).or_default();
            if !methods.is_empty() {
                methods.push_str(", ");
            }
            methods.push_str(if method == Method::GET { "GET, HEAD" } else { method.as_str() });
        }
        Self(by_route)
    }

    /// The viewer's files are in no document; they are only read.
    fn of(&self, route: Option<&str>) -> &str {
        route.and_then(|route| self.0.get(route)).map_or("GET, HEAD", String::as_str)
    }
}

/// In whose words an error is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Hub,
    Vercel,
    Mcp,
    Anthropic,
}

impl Dialect {
    fn of(path: &str) -> Self {
        match path {
            mcp::PATH => Self::Mcp,
            _ if vercel::is_below(path) => Self::Vercel,
            _ if messages::is_below(path) => Self::Anthropic,
            _ => Self::Hub,
        }
    }

    fn body(self, error: &ApiError, request_id: String) -> Vec<u8> {
        let body = match self {
            Self::Hub => serde_json::to_vec(&error.body(Some(request_id))),
            Self::Vercel => {
                let mut body = error.body(Some(request_id));
                body.error.code = vercel::code(error.code).to_owned();
                serde_json::to_vec(&body)
            }
            Self::Mcp => serde_json::to_vec(&mcp::error(error, request_id)),
            Self::Anthropic => serde_json::to_vec(&nh_models::served::messages::error(error, &request_id)),
        };
        body.unwrap_or_default()
    }
}

pub(crate) async fn pass(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&edge.app, request.headers());
    let method = request.method().clone();
    let sandbox = sandbox_origin::target(&edge.app, &request);
    // What a path is there is the sandbox's business.
    let dialect = if sandbox.is_some() { Dialect::Hub } else { Dialect::of(request.uri().path()) };
    let path = request.extensions().get::<MatchedPath>().filter(|_| sandbox.is_none()).cloned();
    let span = span::of_request(&request, path.as_ref().map(MatchedPath::as_str));
    let refused = match sandbox {
        Some(_) => refuse_key_in_query(request.uri().query()),
        None => refuse(&edge.app, &request),
    };
    let rate = ToldRate::default();
    let mut request = request;
    request.extensions_mut().insert(rate.clone());
    let (request, unread) = Unread::lend(request);
    let response = match refused {
        Err(error) => {
            drop(request);
            Failure::from(error).into_response()
        }
        Ok(()) => AssertUnwindSafe(handle(&edge.app, sandbox, request, next).instrument(span.clone()))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Failure::internal("a handler panicked; see the line before").into_response()),
    };
    unread.discard(&edge.app);
    let route = path.as_ref().map(MatchedPath::as_str);
    let mut response = finish(response, &method, route, id, &edge.methods, dialect);
    put_rate(response.headers_mut(), rate.get());
    let time = began.elapsed();
    edge.meters.of(route, &method).count(response.status(), time);
    span::answered(&span, response.status());
    tracing::debug!(
        method = method.as_str(),
        route = route.unwrap_or("none"),
        status = response.status().as_u16(),
        ms = time.as_millis() as u64,
        request_id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()),
        "answered"
    );
    response
}

async fn handle(app: &Arc<App>, sandbox: Option<Answer<Target>>, request: Request, next: Next) -> Response {
    let answer = match sandbox {
        None => return next.run(request).await,
        Some(Ok(target)) => Box::pin(sandbox_origin::answer(app, target, request)).await,
        Some(Err(failure)) => Err(failure),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// The client's own, if it is sane; else a new one.
fn request_id(app: &App, headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_REQUEST_ID_CHARS).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(sane) {
        return given.clone();
    }
    let mut buffer = [0; 36];
    let made = app.ids.uuid_v7(app.clock.now()).hyphenated().encode_lower(&mut buffer).as_bytes();
    // Hexadecimal digits and hyphens are always a legal value.
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(made))
        .unwrap_or(HeaderValue::from_static("unknown"))
}

fn refuse(app: &App, request: &Request) -> Result<(), ApiError> {
    refuse_foreign_host(app, request)?;
    refuse_beside_objects(app, request)?;
    refuse_key_in_query(request.uri().query())
}

/// On a loopback bind only names of this machine are answered: a web page that
/// rebinds its own name to 127.0.0.1 is told from a local client by `Host`.
fn refuse_foreign_host(app: &App, request: &Request) -> Result<(), ApiError> {
    if !app.settings.bind.ip().is_loopback() {
        return Ok(());
    }
    let headers = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or("?"));
    let in_target = request.uri().authority().map(http::uri::Authority::as_str);
    for host in headers.chain(in_target) {
        if !is_own_host(app, host) {
            let host: String = host.chars().take(100).collect();
            let message = format!(
                "this hub listens on a loopback address and does not answer for the host `{host}`; \
                 name it in [server] public_url if it is right"
            );
            return Err(ApiError::new(ErrorCode::OriginRefused, message).param("Host"));
        }
    }
    Ok(())
}

fn is_own_host(app: &App, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || [app.settings.public_url.as_ref(), app.hub.blobs.public_origin()]
            .into_iter()
            .flatten()
            .filter_map(Url::host_str)
            .any(|own| own.eq_ignore_ascii_case(name))
}

/// The origin that objects have for themselves (`[blobs] public_origin`) serves
/// nothing else: what a browser runs from one finds no API there.
fn refuse_beside_objects(app: &App, request: &Request) -> Result<(), ApiError> {
    let Some(origin) = app.hub.blobs.public_origin() else { return Ok(()) };
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let hosts = [request.uri().authority().cloned(), named];
    let is_there = |url: &Url| hosts.iter().flatten().any(|host| is_at(host, url));
    if !is_there(origin) || app.settings.public_url.as_ref().is_some_and(is_there) {
        return Ok(());
    }
    let workspace = request.uri().path().strip_prefix("/v1/storage/").and_then(|rest| rest.split('/').next());
    if workspace.is_some_and(|first| first.parse::<WorkspaceId>().is_ok()) {
        return Ok(());
    }
    let message =
        "this origin serves objects only ([blobs] public_origin); the hub's API is at its own address";
    Err(ApiError::new(ErrorCode::NotFound, message))
}

/// Without a port, and with a dot at its end, it is the same place.
fn is_at(host: &Authority, url: &Url) -> bool {
    let port = host
        .port_u16()
        .or_else(|| Url::parse(&format!("{}://x", url.scheme())).ok()?.port_or_known_default());
    let name = host.host().trim_end_matches('.');
    port == url.port_or_known_default() && url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(name))
}

/// Query strings end up in logs and histories.
fn refuse_key_in_query(query: Option<&str>) -> Result<(), ApiError> {
    let Some(query) = query.filter(|query| query.len() >= 40) else { return Ok(()) };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if ApiKey::is_in(&value) || ApiKey::is_in(&name) {
            let message = "an API key came in the query string, where logs keep it: send it as \
                           `Authorization: Bearer nh_…`, and revoke this one";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message).param("Authorization"));
        }
    }
    Ok(())
}

fn finish(
    mut response: Response,
    method: &Method,
    route: Option<&str>,
    id: HeaderValue,
    methods: &Methods,
    dialect: Dialect,
) -> Response {
    // A sandbox's own answers are no errors of the hub, and some others are told already.
    let extensions = response.extensions();
    if extensions.get::<Forwarded>().is_none() && extensions.get::<Answered>().is_none() {
        if response.status() == StatusCode::METHOD_NOT_ALLOWED && method == Method::OPTIONS {
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            response = explain(response, method, route, &id, methods, dialect);
        }
    }
    let headers = response.headers_mut();
    if dialect == Dialect::Anthropic {
        headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
    }
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Gives an error its body and headers; a 5xx is logged, once.
fn explain(
    mut response: Response,
    method: &Method,
    route: Option<&str>,
    id: &HeaderValue,
    methods: &Methods,
    dialect: Dialect,
) -> Response {
    let failed = response.extensions_mut().remove::<Failed>();
    let request_id = id.to_str().unwrap_or_default().to_owned();
    let error = match &failed {
        Some(Failed(failure)) => failure.error.clone(),
        None => unexplained(response.status(), method, methods.of(route)),
    };
    if error.code.status() >= 500 {
        let cause = failed.map(|failed| failed.0.chain()).unwrap_or_default();
        let (method, code) = (method.as_str(), error.code.as_str());
        let told = error.message.as_str();
        tracing::error!(request_id, method, route, code, told, cause, "a request failed");
    }
    *response.body_mut() = Body::from(dialect.body(&error, request_id));
    let headers = response.headers_mut();
    headers.remove(http::header::CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.code.status() == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if error.code.status() == 409 && !error.code.is_retryable() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(seconds) = error.retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    put_rate(headers, error.rate.as_deref().copied());
    response
}

/// As OpenAI has them; what an error says of another limit stays
/// (<https://platform.openai.com/docs/guides/rate-limits>).
fn put_rate(headers: &mut HeaderMap, rate: Option<Rate>) {
    let Some(Rate { of, limit, remaining, reset_seconds }) = rate else { return };
    let values = [
        ("limit", limit.to_string()),
        ("remaining", remaining.to_string()),
        ("reset", format!("{reset_seconds}s")),
    ];
    for (what, value) in values {
        let name = HeaderName::try_from(format!("x-ratelimit-{what}-{of}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.entry(name).or_insert(value);
        }
    }
}

/// An error that axum itself answered with.
fn unexplained(status: StatusCode, method: &Method, allowed: &str) -> ApiError {
    let (code, message) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let given: String = method.as_str().chars().take(40).collect();
            (ErrorCode::MethodNotAllowed, format!("this path does not take {given}; it takes {allowed}"))
        }
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "there is nothing at this path".to_owned()),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::PayloadTooLarge, "the body is too large".to_owned()),
        status if status.is_client_error() => {
            (ErrorCode::InvalidRequest, "the request cannot be understood".to_owned())
        }
        _ => (ErrorCode::Internal, "the hub failed to answer".to_owned()),
    };
    ApiError::new(code, message)
}
