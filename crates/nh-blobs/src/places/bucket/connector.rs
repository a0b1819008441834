use async_trait::async_trait;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use nh_http::{Limits, Outbound};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientOptions, Error};

/// Sending a piece may be as slow as this: 8 MiB take two minutes then.
const SLOWEST_BYTES_PER_MS: u64 = 64;

/// A piece is read as fast as a client takes it.
const LIMITS: Limits = Limits {
    connect_ms: 10_000,
    first_byte_ms: 30_000,
    between_bytes_ms: 60_000,
    total_ms: 60 * 60_000,
    max_body_bytes: u64::MAX,
    max_redirects: 0,
};

/// The hub's own client, in place of the one that `object_store` would bring.
#[derive(Debug)]
pub(super) struct OverOutbound;

impl HttpConnector for OverOutbound {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error| Error::Generic { store: "S3", source: Box::new(error) };
        Ok(HttpClient::new(Service(Outbound::operator().map_err(failed)?)))
    }
}

#[derive(Debug)]
struct Service(Outbound);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        // A piece is in one part, so this copies nothing.
        let body = body.collect().await?.to_bytes();
        let first_byte_ms = LIMITS.first_byte_ms + body.len() as u64 / SLOWEST_BYTES_PER_MS;
        let limits = Limits { first_byte_ms, ..LIMITS };
        let answer = self.0.send(http::Request::from_parts(head, body), limits).await.map_err(failed)?;
        let body = StreamBody::new(answer.body.map_ok(Frame::data).map_err(failed));
        let mut response = HttpResponse::new(HttpResponseBody::new(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

/// The kind decides what is tried again.
fn failed(error: nh_http::HttpError) -> HttpError {
    let kind = if error.is_before_sending() {
        HttpErrorKind::Connect
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error)
}
