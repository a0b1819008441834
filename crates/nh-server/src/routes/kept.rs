//! The header by which a request says whether an answer that is kept will do, and by which it is
//! told whether it got one.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use http::header::AGE;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use nh_models::{CacheTold, CacheUse, Caller, MAX_CACHE_SECONDS};
use nh_types::{ApiError, ErrorCode};

use crate::app::App;
use crate::failure::Failure;

const HEADER: HeaderName = HeaderName::from_static("x-neuralhub-cache");

/// What a request says of it.
pub(crate) struct Kept(CacheUse);

impl FromRequestParts<Arc<App>> for Kept {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Failure> {
        let Some(given) = parts.headers.get(HEADER) else { return Ok(Self(CacheUse::default())) };
        let given = given.to_str().unwrap_or_default().trim();
        let seconds = match given {
            "no" => Some(0),
            _ => given.parse().ok().filter(|seconds| (1..=MAX_CACHE_SECONDS).contains(seconds)),
        };
        if seconds.is_none() {
            let given: String = given.chars().take(80).collect();
            let message = format!(
                "`x-neuralhub-cache` is `{given}`; it must be `no`, or 1 to {MAX_CACHE_SECONDS} seconds"
            );
            return Err(ApiError::new(ErrorCode::InvalidRequest, message).param(HEADER.as_str()).into());
        }
        Ok(Self(CacheUse::of(seconds)))
    }
}

impl Kept {
    pub(super) fn caller(&self, caller: Caller) -> Caller {
        Caller { cache: self.0.clone(), ..caller }
    }

    /// Says of an answer whether it was given before, and how many seconds ago.
    pub(super) fn tell(&self, app: &App, mut response: Response) -> Response {
        let headers = response.headers_mut();
        match self.0.told() {
            Some(CacheTold::Hit(at)) => {
                let seconds = u64::try_from(app.clock.now().millis_since(at)).unwrap_or_default() / 1_000;
                headers.insert(HEADER, HeaderValue::from_static("hit"));
                headers.insert(AGE, HeaderValue::from(seconds));
            }
            Some(CacheTold::Miss) => drop(headers.insert(HEADER, HeaderValue::from_static("miss"))),
            None => {}
        }
        response
    }
}
