//! Requests go to a server in a sandbox, and its answers come back.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONNECTION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nh_types::{ApiError, ErrorCode, WorkspaceId};

use super::{Target, access};
use crate::app::App;
use crate::failure::{Answer, Failure};

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

pub(super) async fn forward(
    app: &App,
    workspace_id: &WorkspaceId,
    target: &Target,
    mut request: Request,
) -> Answer<Response> {
    let connection = app.hub.compute.connect(workspace_id, &target.id, target.port).await?;
    let upgrade = upgrade_of(request.headers());
    let ours = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    keep_to_one(request.headers_mut(), upgrade.as_ref());
    let made = http1::Builder::new()
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake::<_, Body>(TokioIo::new(connection))
        .await;
    let (mut sender, connection) = made.map_err(|error| nothing(target, error))?;
    app.tasks.spawn(connection.with_upgrades());
    let answering = tokio::time::timeout(PATIENCE, sender.send_request(request));
    let mut response = match answering.await {
        Ok(answered) => answered.map_err(|error| nothing(target, error))?,
        Err(_) => {
            let message = format!(
                "the server on port {} of the sandbox did not answer within {} seconds",
                target.port,
                PATIENCE.as_secs()
            );
            return Err(Failure::new(ErrorCode::ComponentUnavailable, message));
        }
    };
    let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let Some(ours) = ours.filter(|_| is_switched) {
        let theirs = hyper::upgrade::on(&mut response);
        app.tasks.spawn(pass(ours, theirs, app.stopping.clone()));
    }
    keep_to_one(response.headers_mut(), upgrade.as_ref().filter(|_| is_switched));
    keep_cookies(response.headers_mut());
    Ok(response.map(Body::new))
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

/// What both ends are to speak instead, such as `websocket`.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut names = lists.flat_map(|list| list.split(','));
    let is_asked = names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| is_asked).cloned()
}

/// Takes out what is another connection's, and puts in what both are to speak.
fn keep_to_one(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
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
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade.clone());
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
