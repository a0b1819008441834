//! One try of a delivery.

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use nh_http::{Body, Limits, Outbound};
use nh_types::Timestamp;

use super::backoff;

/// The time-outs that Standard Webhooks recommends are 15 to 30 s. Of the body
/// only the beginning is read, whatever its length.
const LIMITS: Limits = Limits {
    connect_ms: 10_000,
    first_byte_ms: 15_000,
    between_bytes_ms: 15_000,
    total_ms: 15_000,
    max_body_bytes: u64::MAX,
    max_redirects: 0,
};
const MAX_RESPONSE_BYTES: usize = 1024;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What is sent.
pub(super) struct Message<'m> {
    pub(super) url: &'m str,
    pub(super) id: &'m str,
    pub(super) timestamp: &'m str,
    pub(super) signature: &'m str,
    pub(super) body: Bytes,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status_code: Option<u16>,
    /// None: it was delivered.
    pub(super) error: Option<String>,
    pub(super) response: Option<String>,
    pub(super) retry_after_ms: Option<i64>,
    /// It must not be tried again.
    pub(super) is_last: bool,
}

impl Answer {
    pub(super) fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

pub(super) async fn send(http: &Outbound, message: Message<'_>, now: Timestamp) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri(message.url)
        .header(CONTENT_TYPE, JSON)
        .header(ID, message.id)
        .header(TIMESTAMP, message.timestamp)
        .header(SIGNATURE, message.signature)
        .body(message.body);
    let request = match request {
        Ok(request) => request,
        Err(error) => return Answer::failed(format!("the URL cannot be asked: {error}")),
    };
    let response = match http.send(request, LIMITS).await {
        Ok(response) => response,
        Err(error) => return Answer::failed(error.to_string()),
    };
    let status_code = Some(response.status.as_u16());
    if response.status.is_success() {
        return Answer { status_code, ..Answer::default() };
    }
    Answer {
        status_code,
        error: Some(explain(response.status)),
        retry_after_ms: response.header(RETRY_AFTER).and_then(|asked| backoff::retry_after_ms(asked, now)),
        is_last: response.status == StatusCode::GONE,
        response: Some(beginning(response.body).await),
    }
}

fn explain(status: StatusCode) -> String {
    let help = match status {
        StatusCode::GONE => ", so it is not told again",
        status if status.is_redirection() => {
            "; redirects are not followed: name the URL that it redirects to in `webhook_url`"
        }
        _ => "",
    };
    format!("the receiver answered {status}{help}")
}

/// The first bytes of what was said, as text that can be stored.
async fn beginning(mut body: Body) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_RESPONSE_BYTES {
        // What breaks off is kept as far as it came.
        let Some(Ok(piece)) = body.next().await else { break };
        bytes.extend_from_slice(&piece[..piece.len().min(MAX_RESPONSE_BYTES - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")
}
