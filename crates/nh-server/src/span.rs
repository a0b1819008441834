//! The span of a request, for OpenTelemetry, by its conventions for HTTP servers.
//! Of a path that is no route, and of a query, nothing is told: a key may have
//! got into them.

use axum::extract::Request;
use http::{HeaderMap, StatusCode};
use nh_types::RunId;
use nh_types::span::TARGET;
use tracing::Span;
use tracing::field::Empty;

/// Follows the caller's trace, if the request brings one.
pub(crate) fn of_request(request: &Request, route: Option<&str>) -> Span {
    let method = request.method().as_str();
    tracing::info_span!(
        target: TARGET, "request",
        trace.parent = traceparent(request.headers()),
        otel.name = format_args!("{method}{}{}", if route.is_some() { " " } else { "" }, route.unwrap_or_default()),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        url.path = route.map(|_| request.uri().path()),
        url.scheme = "http",
        http.response.status_code = Empty,
        neuralhub.run.id = Empty,
        error.type = Empty,
    )
}

pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
    }
}

/// Says that this request started the run.
pub(crate) fn started(run_id: RunId) {
    let span = Span::current();
    if !span.is_disabled() {
        span.record("neuralhub.run.id", tracing::field::display(run_id));
    }
}

/// The one that there is: of several nobody knows which is right.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all("traceparent").iter();
    let first = given.next()?;
    given.next().is_none().then(|| first.to_str().ok()).flatten()
}
