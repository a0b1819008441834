//! Signing in: one error for every failure, the same work for every failure,
//! and few tries.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use nh_store::users::{self, User};
use nh_types::{ApiError, ErrorCode, SharedClock, SharedIds};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::password::{self, PasswordError};
use super::rate::Limiters;
use crate::app::App;
use crate::failure::{Answer, Failure};

/// Tries a minute, per address and per e-mail.
const TRIES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
const MAX_LIMITERS: u64 = 50_000;
/// Each check of a password takes about 20 MB and a core.
const MAX_CHECKS_AT_ONCE: usize = 2;

pub(crate) struct Logins {
    tries: Limiters<[u8; 32]>,
    checks: Semaphore,
    /// What a password is checked against when there is no such user.
    decoy: Arc<OnceLock<String>>,
}

impl Logins {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            tries: Limiters::new(clock, MAX_LIMITERS),
            checks: Semaphore::new(MAX_CHECKS_AT_ONCE),
            decoy: Arc::default(),
        }
    }

    /// Counts a try; over the limit it is refused before any work.
    pub(crate) fn count(&self, address: Option<IpAddr>, email: &str) -> Result<(), ApiError> {
        let address = address.map_or_else(String::new, |address| network_of(address).to_string());
        self.count_one("address", &address)?;
        self.count_one("email", &users::normal_email(email))
    }

    fn count_one(&self, kind: &str, value: &str) -> Result<(), ApiError> {
        let key = Sha256::new().chain_update(kind).chain_update([0]).chain_update(value).finalize().into();
        self.tries.check(key, TRIES_A_MINUTE).map(drop).map_err(|seconds| {
            let message = format!("too many tries to sign in; wait {seconds} s");
            ApiError::new(ErrorCode::RateLimited, message).retry_after(seconds)
        })
    }

    /// The user whose e-mail and password these are.
    pub(crate) async fn check(&self, app: &App, email: &str, password: SecretString) -> Answer<User> {
        let user = users::find_by_email(&app.hub.store, email).await?;
        let stored = user.as_ref().map(|user| user.password_hash.clone());
        let _permit = self.checks.acquire().await.map_err(Failure::internal)?;
        let (decoy, ids) = (self.decoy.clone(), app.ids.clone());
        let checked = app.tasks.spawn_blocking(move || check_password(&decoy, &ids, stored, &password));
        let fits = checked.await.map_err(Failure::internal)?.map_err(Failure::internal)?;
        let message = "the e-mail or the password is wrong";
        user.filter(|_| fits).ok_or_else(|| Failure::new(ErrorCode::InvalidLogin, message))
    }
}

fn check_password(
    decoy: &OnceLock<String>,
    ids: &SharedIds,
    stored: Option<String>,
    password: &SecretString,
) -> Result<bool, PasswordError> {
    if decoy.get().is_none() {
        // Another try may have made it by now; either will do.
        let _ = decoy.set(password::hash_password(ids.as_ref(), &"nobody's password".into())?);
    }
    let against = stored.as_deref().or(decoy.get().map(String::as_str)).unwrap_or_default();
    let fits = password::fits(password, against);
    Ok(fits && stored.is_some())
}

/// Who has one IPv6 address usually has its whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// The client's address: the connection's or, when that is this machine (a
/// proxy beside the hub), the last one of `X-Forwarded-For`.
pub(crate) fn client_address(peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let forwarded =
        headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
    Some(last.unwrap_or(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_network_that_one_person_has() {
        let network = |text: &str| network_of(text.parse().expect("address")).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn a_forwarded_address_counts_only_from_this_machine() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-forwarded-for"),
            http::HeaderValue::from_static("198.51.100.1, 203.0.113.9"),
        )]);
        let from = |peer: &str| client_address(Some(peer.parse().expect("address")), &headers);
        assert_eq!(from("127.0.0.1:9"), Some("203.0.113.9".parse().expect("address")));
        assert_eq!(from("192.0.2.1:9"), Some("192.0.2.1".parse().expect("address")));
    }
}
