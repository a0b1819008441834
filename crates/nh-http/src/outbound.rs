use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until};

use crate::body::{Body, Response};
use crate::connector::Connector;
use crate::error::{HttpError, Phase, chain};
use crate::guard::Guard;
use crate::limits::Limits;
use crate::redirect;
use crate::resolve::{Resolve, SystemResolver};
use crate::settings::HttpSettings;
use crate::tls;

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("neuralhub/", env!("CARGO_PKG_VERSION")));
const IDLE_MS: u64 = 60_000;
const MAX_IDLE_PER_HOST: usize = 128;

/// A pooled client of one trust level. Clones share the pool. Its connections
/// end when the last clone is dropped.
#[derive(Clone)]
pub struct Outbound {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
}

impl Outbound {
    /// For URLs that the operator configured: no guard.
    pub fn operator() -> Result<Self, HttpError> {
        Self::new(Connector::new(Arc::new(SystemResolver), None))
    }

    /// For URLs from anyone else: public addresses only, and what
    /// `settings.allow_networks` adds; never `own_listeners` (what the hub
    /// itself is bound to, with the ports that it got).
    pub fn guarded(settings: &HttpSettings, own_listeners: Vec<SocketAddr>) -> Result<Self, HttpError> {
        Self::guarded_with(Guard::new(settings, own_listeners), Arc::new(SystemResolver))
    }

    /// As [`Outbound::guarded`], with another resolver.
    pub fn guarded_with(guard: Guard, resolver: Arc<dyn Resolve>) -> Result<Self, HttpError> {
        Self::new(Connector::new(resolver, Some(guard)))
    }

    fn new(connector: Connector) -> Result<Self, HttpError> {
        let connector = HttpsConnector::from((connector, tls::client_config()?));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends `request` and gives the answer's head; its body is read under
    /// `limits`. Any status is an answer, not an error. No answer is
    /// decompressed, and none is asked to be compressed.
    pub async fn send(&self, request: Request<Bytes>, limits: Limits) -> Result<Response, HttpError> {
        let deadline = Instant::now() + Duration::from_millis(limits.total_ms);
        let mut request = request;
        request.headers_mut().entry(USER_AGENT).or_insert(USER_AGENT_VALUE);
        let mut redirects_left = limits.max_redirects;
        loop {
            let host = check_url(request.uri())?;
            let (head, body) = request.into_parts();
            let again = (limits.max_redirects > 0).then(|| (head.clone(), body.clone()));
            let final_url = head.uri.clone();
            let is_head = head.method == Method::HEAD;
            let answer =
                self.exchange(Request::from_parts(head, Full::new(body)), &host, limits, deadline).await?;
            let location = redirect::location(answer.status(), answer.headers());
            if let (Some((head, body)), Some(location)) = (again, location) {
                if redirects_left == 0 {
                    return Err(HttpError::TooManyRedirects { host, max_redirects: limits.max_redirects });
                }
                redirects_left -= 1;
                request = redirect::follow(Request::from_parts(head, body), answer.status(), location)
                    .map_err(|message| HttpError::BadRedirect { host, message })?;
                continue;
            }
            return respond(answer, host, final_url, is_head, limits, deadline);
        }
    }

    /// One request, until its answer's head is here.
    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        host: &str,
        limits: Limits,
        deadline: Instant,
    ) -> Result<http::Response<Incoming>, HttpError> {
        let mut connection = capture_connection(&mut request);
        let mut answer = pin!(self.client.request(request));
        let mut phase = (Phase::Connect, limits.connect_ms);
        let mut timer = pin!(sleep_until(deadline.min(after(limits.connect_ms))));
        let mut is_connecting = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(|error| explain(&error, host)),
                connected = async { connection.wait_for_connection_metadata().await.is_some() }, if is_connecting => {
                    is_connecting = false;
                    if connected {
                        phase = (Phase::FirstByte, limits.first_byte_ms);
                        timer.as_mut().reset(deadline.min(after(limits.first_byte_ms)));
                    }
                }
                () = &mut timer => {
                    let (phase, after_ms) =
                        if Instant::now() >= deadline { (Phase::Total, limits.total_ms) } else { phase };
                    return Err(HttpError::TimedOut { host: host.to_owned(), phase, after_ms });
                }
            }
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

fn after(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// The host of a URL that can be asked at all.
fn check_url(url: &Uri) -> Result<String, HttpError> {
    let invalid = |message: &str| Err(HttpError::InvalidUrl(message.to_owned()));
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => {
            return invalid(&format!("the scheme `{other}` cannot be used; only http and https can"));
        }
        None => return invalid("the URL has no scheme; it must begin with http:// or https://"),
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return invalid("a URL must not hold a user name or password");
    }
    match url.host() {
        Some(host) if !host.is_empty() => Ok(host.to_owned()),
        _ => invalid("the URL names no host"),
    }
}

fn respond(
    answer: http::Response<Incoming>,
    host: String,
    final_url: Uri,
    is_head: bool,
    limits: Limits,
    deadline: Instant,
) -> Result<Response, HttpError> {
    let (head, incoming) = answer.into_parts();
    let announced = hyper::body::Body::size_hint(&incoming).lower();
    if !is_head && announced > limits.max_body_bytes {
        return Err(HttpError::TooLarge { host, max_body_bytes: limits.max_body_bytes });
    }
    let body = Body::new(incoming, host, limits, deadline);
    Ok(Response { status: head.status, headers: head.headers, final_url, body })
}

/// The connector's own word where it failed, else what hyper says.
fn explain(error: &hyper_util::client::legacy::Error, host: &str) -> HttpError {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<HttpError>() {
            return ours.clone();
        }
        cause = inner.source();
    }
    let host = host.to_owned();
    let message = std::error::Error::source(error).map_or_else(|| error.to_string(), chain);
    if error.is_connect() {
        HttpError::Connect { host, message }
    } else {
        HttpError::Broken { host, message }
    }
}
