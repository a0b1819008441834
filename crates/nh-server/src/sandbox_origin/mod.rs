//! The origins of sandboxes: `{id}.localhost` and `{id}-{port}.localhost`, or the same
//! below `[compute] sandbox_domain`. What comes to one goes to a server in that sandbox,
//! once who asks may: with a key, or with the token of the sandbox's `url`, for which a
//! browser gets a cookie. None of these reaches the sandbox.

mod access;
mod forward;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::header::{CACHE_CONTROL, HOST, REFERRER_POLICY, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use nh_store::sandboxes::SandboxRecord;
use nh_types::{ErrorCode, SandboxId};

use crate::app::App;
use crate::auth::Principal;
use crate::failure::{Answer, Failure};

/// Marks an answer as a sandbox's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded;

/// What a sandbox's plain `url` leads to.
const PORT: u16 = 8080;

/// A server in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: SandboxId,
    pub(crate) port: u16,
}

/// Whether the request is for an origin of a sandbox. An error: for one that can be none.
pub(crate) fn target(app: &App, request: &Request) -> Option<Answer<Target>> {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    // As RFC 9112 has it, section 3.2.2, what stands in the target comes before `Host`.
    let authority = request.uri().authority().cloned().or(named)?;
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let label = host.strip_suffix(app.hub.compute.domain())?.strip_suffix('.')?;
    if !label.starts_with("sbx-") && app.hub.compute.domain() == "localhost" {
        return None;
    }
    let parsed = parse(label);
    Some(parsed.ok_or_else(|| {
        let label: String = label.chars().take(80).collect();
        let message = format!("`{label}` names no sandbox; the hub's API is at its own address");
        Failure::new(ErrorCode::NotFound, message)
    }))
}

/// `sbx-…` or `sbx-…-3000`.
fn parse(label: &str) -> Option<Target> {
    if let Ok(id) = label.parse() {
        return Some(Target { id, port: PORT });
    }
    let (id, port) = label.rsplit_once('-')?;
    let is_plain = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    Some(Target { id: id.parse().ok()?, port: port.parse().ok().filter(|_| is_plain)? })
}

/// Where a server in the sandbox can be reached, with a token.
pub(crate) fn url(
    app: &App,
    headers: &HeaderMap,
    principal: &Principal,
    record: &SandboxRecord,
) -> Answer<String> {
    let base = app.base_url(headers);
    let (scheme, authority) = base.split_once("://").unwrap_or(("http", &base));
    let port = authority.parse::<Authority>().ok().and_then(|authority| authority.port_u16());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let token = access::Token::new(principal, record).seal(app, &record.id)?;
    Ok(format!("{scheme}://{}.{}{port}/?{}={token}", record.id, app.hub.compute.domain(), access::PARAM))
}

/// Answers with what the sandbox does.
pub(crate) async fn answer(app: &Arc<App>, target: Target, request: Request) -> Answer<Response> {
    match access::check(app, &target, request).await? {
        access::Checked::May { workspace_id, request, cookie } => {
            let mut response = forward::forward(app, &workspace_id, &target, request).await?;
            response.extensions_mut().insert(Forwarded);
            if let Some(cookie) = cookie {
                let headers = response.headers_mut();
                headers.append(SET_COOKIE, cookie);
                // Nobody between here and there keeps the cookie, or tells where it was got.
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            }
            Ok(response)
        }
        access::Checked::Redirect(response) => Ok(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_a_sandbox_and_a_port() {
        let target = |label: &str| parse(label).map(|target| (target.id.to_string(), target.port));
        assert_eq!(target("sbx-0123456789abcdef"), Some(("sbx-0123456789abcdef".to_owned(), 8080)));
        assert_eq!(target("sbx-0123456789abcdef-3000"), Some(("sbx-0123456789abcdef".to_owned(), 3000)));
        for label in [
            "sbx-0123456789abcdef-",
            "sbx-0123456789abcdef-0",
            "sbx-0123456789abcdef-080",
            "sbx-0123456789abcdef-65536",
            "sbx-0123456789abcdef-+80",
            "sbx-0123456789abcde",
            "x.sbx-0123456789abcdef",
            "",
        ] {
            assert_eq!(target(label), None, "{label}");
        }
    }
}
