//! Requests go to a server in a sandbox, and its answers come back.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::header::{
    ALT_SVC, CONNECTION, PROXY_AUTHENTICATE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nh_types::{ApiError, ErrorCode, WorkspaceId};

use super::{Target, access};
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::store_failure::shutting_down;

/// From the request until the head of its answer.
const PATIENCE: Duration = Duration::from_secs(300);
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Of one connection alone (RFC 9110, section 7.6.1).
const OF_ONE_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a page of a sandbox could have a browser do to others of its domain, or tell of
/// requests that are the hub's.
const NOT_FOR_BROWSERS: [HeaderName; 7] = [
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("clear-site-data"),
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
    PROXY_AUTHENTICATE,
];

pub(super) async fn forward(
    app: &App,
    workspace_id: &WorkspaceId,
    target: &Target,
    request: Request,
) -> Answer<Response> {
    tokio::select! {
        answered = tokio::time::timeout(PATIENCE, answer(app, workspace_id, target, request)) => {
            answered.unwrap_or_else(|_| {
                let (port, seconds) = (target.port, PATIENCE.as_secs());
                let message = format!(
                    "the server on port {port} of the sandbox did not answer within {seconds} seconds"
                );
                Err(Failure::new(ErrorCode::ComponentUnavailable, message))
            })
        }
        () = app.stopping.cancelled() => Err(shutting_down().into()),
    }
}

async fn answer(
    app: &App,
    workspace_id: &WorkspaceId,
    target: &Target,
    mut request: Request,
) -> Answer<Response> {
    let connection = app.hub.compute.connect(workspace_id, &target.id, target.port).await?;
    let is_upgrade = asks_for_websocket(request.headers());
    let ours = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    keep_to_one(request.headers_mut(), is_upgrade);
    let made = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake::<_, Body>(TokioIo::new(connection))
        .await;
    let (mut sender, connection) = made.map_err(|error| nothing(target, error))?;
    app.tasks.spawn(connection.with_upgrades());
    let mut response = sender.send_request(request).await.map_err(|error| nothing(target, error))?;
    let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    match ours {
        Some(ours) if is_switched => {
            let theirs = hyper::upgrade::on(&mut response);
            app.tasks.spawn(pass(ours, theirs, app.stopping.clone()));
        }
        None if is_switched => {
            let message = "the server in the sandbox went over to a protocol that nobody asked it for";
            return Err(Failure::new(ErrorCode::ComponentUnavailable, message));
        }
        _ => {}
    }
    keep_to_one(response.headers_mut(), is_switched);
    NOT_FOR_BROWSERS.iter().for_each(|name| drop(response.headers_mut().remove(name)));
    keep_cookies(response.headers_mut());
    let stopping = app.stopping.clone().cancelled_owned();
    // A body that would go on for ever ends with the hub.
    Ok(response.map(|body| match body.is_end_stream() {
        true => Body::empty(),
        false => Body::from_stream(Body::new(body).into_data_stream().take_until(Box::pin(stopping))),
    }))
}

/// Both ways until either ends.
async fn pass(
    ours: hyper::upgrade::OnUpgrade,
    theirs: hyper::upgrade::OnUpgrade,
    stopping: tokio_util::sync::CancellationToken,
) {
    let passing = async {
        let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
        // Whichever breaks, both are over.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
    };
    tokio::select! {
        () = passing => {}
        () = stopping.cancelled() => {}
    }
}

/// The one protocol that both ends may go on in: of any other the hub would not know what
/// it carries.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(','));
    let is_asked = names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    is_asked && headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Takes out what is another connection's, and puts in what both are to speak.
fn keep_to_one(headers: &mut HeaderMap, is_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
    if is_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// A sandbox sets cookies for its own host alone, and none of the hub's names.
fn keep_cookies(headers: &mut HeaderMap) {
    let is_for_others = |cookie: &str| {
        let mut attributes = cookie.split(';').skip(1);
        let has_domain = attributes.any(|attribute| {
            attribute.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("domain"))
        });
        has_domain || access::is_hubs(cookie)
    };
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| value.to_str().is_ok_and(|cookie| !is_for_others(cookie)))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for cookie in kept {
        headers.append(SET_COOKIE, cookie);
    }
}

fn nothing(target: &Target, error: hyper::Error) -> Failure {
    let Target { id, port } = target;
    let message = format!(
        "nothing on port {port} of the sandbox `{id}` answers HTTP; start a server there, on 127.0.0.1 or 0.0.0.0"
    );
    let told = ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(1);
    Failure { error: told, cause: Some(Box::new(error)) }
}
