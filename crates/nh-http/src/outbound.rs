use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use tokio::time::{Instant, timeout_at};
use tower::Service as _;

use crate::body::{Body, Response};
use crate::connection::Connection;
use crate::connector::Connector;
use crate::error::{HttpError, Phase, chain};
use crate::guard::Guard;
use crate::limits::Limits;
use crate::pool::{Lease, Origin, Pool};
use crate::redirect;
use crate::resolve::{Resolve, SystemResolver};
use crate::settings::HttpSettings;
use crate::tls;

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("neuralhub/", env!("CARGO_PKG_VERSION")));

/// A pooled client of one trust level. Clones share the pool. Its connections
/// end when the last clone is dropped.
#[derive(Clone)]
pub struct Outbound {
    gate: Connector,
    connector: HttpsConnector<Connector>,
    pool: Pool,
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
        let gate = connector.clone();
        let connector = HttpsConnector::from((connector, tls::client_config()?));
        Ok(Self { gate, connector, pool: Pool::default() })
    }

    /// Refuses a URL that [`Outbound::send`] would refuse whenever it is asked,
    /// without looking a name up. One that passes may still be refused then.
    pub fn check(&self, url: &Uri) -> Result<(), HttpError> {
        check_url(url)?;
        self.gate.check(url)
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
            let location = redirect::location(answer.0.status(), answer.0.headers());
            if let (Some((head, body)), Some(location)) = (again, location) {
                if redirects_left == 0 {
                    return Err(HttpError::TooManyRedirects { host, max_redirects: limits.max_redirects });
                }
                redirects_left -= 1;
                request = redirect::follow(Request::from_parts(head, body), answer.0.status(), location)
                    .map_err(|message| HttpError::BadRedirect { host, message })?;
                continue;
            }
            return respond(answer, host, final_url, is_head, limits, deadline);
        }
    }

    /// One request, until its answer's head is here.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        host: &str,
        limits: Limits,
        deadline: Instant,
    ) -> Result<(http::Response<Incoming>, Lease), HttpError> {
        let late = |phase, after_ms| {
            let (phase, after_ms) =
                if Instant::now() >= deadline { (Phase::Total, limits.total_ms) } else { (phase, after_ms) };
            HttpError::TimedOut { host: host.to_owned(), phase, after_ms }
        };
        let (origin, mut request) = directed(request)?;
        loop {
            let idle = self.pool.take(&origin);
            let is_reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                // Boxed, so that the many requests that need no new connection do not carry what
                // making one takes.
                None => {
                    let connect = Box::pin(self.connect(&origin, host));
                    timeout_at(deadline.min(after(limits.connect_ms)), connect)
                        .await
                        .map_err(|_| late(Phase::Connect, limits.connect_ms))??
                }
            };
            let answer =
                timeout_at(deadline.min(after(limits.first_byte_ms)), connection.exchange(request)).await;
            let mut error = match answer.map_err(|_| late(Phase::FirstByte, limits.first_byte_ms))? {
                Ok(answer) => return Ok((answer, Lease::new(self.pool.clone(), origin, connection))),
                Err(error) => error,
            };
            // The server may close an idle connection at any time; what it
            // cannot have seen is asked again.
            request = match error.take_message() {
                Some(unsent) if is_reused => unsent,
                _ => {
                    let message = chain(&error.into_error());
                    return Err(HttpError::Broken { host: host.to_owned(), message });
                }
            };
        }
    }

    async fn connect(&self, origin: &Origin, host: &str) -> Result<Connection, HttpError> {
        let (scheme, authority) = origin.clone();
        let target = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let target = target.map_err(|error| HttpError::InvalidUrl(error.to_string()))?;
        let failed = |message| HttpError::Connect { host: host.to_owned(), message };
        let stream = self.connector.clone().call(target).await.map_err(|error| {
            // The connector's own word, where it is the one that failed.
            match error.downcast::<HttpError>() {
                Ok(ours) => *ours,
                Err(other) => failed(chain(other.as_ref())),
            }
        })?;
        Connection::start(stream).await.map_err(|error| failed(chain(&error)))
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

/// Where a request goes, and the request as that server is to see it: its
/// target without the origin, and a `Host`.
fn directed(request: Request<Full<Bytes>>) -> Result<(Origin, Request<Full<Bytes>>), HttpError> {
    let invalid = |message: String| HttpError::InvalidUrl(message);
    let (mut head, body) = request.into_parts();
    let url = std::mem::take(&mut head.uri).into_parts();
    let (Some(scheme), Some(authority)) = (url.scheme, url.authority) else {
        return Err(invalid("the URL has no scheme or no host".to_owned()));
    };
    let mut target = http::uri::Parts::default();
    target.path_and_query = url.path_and_query;
    head.uri = Uri::from_parts(target).map_err(|error| invalid(error.to_string()))?;
    if !head.headers.contains_key(HOST) {
        let is_default =
            matches!((scheme.as_str(), authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
        let host = if is_default { authority.host() } else { authority.as_str() };
        let host = HeaderValue::from_str(host).map_err(|error| invalid(error.to_string()))?;
        head.headers.insert(HOST, host);
    }
    Ok(((scheme, authority), Request::from_parts(head, body)))
}

fn respond(
    (answer, lease): (http::Response<Incoming>, Lease),
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
    let body = Body::new(incoming, lease, host, limits, deadline);
    Ok(Response { status: head.status, headers: head.headers, final_url, body })
}
