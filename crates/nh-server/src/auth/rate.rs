//! The rate limit of a key: requests a minute, counted in this process.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use nh_types::{ApiError, ErrorCode, KeyId, SharedClock, WorkspaceId};

use super::{Credential, Principal};

const MAX_LIMITERS: u64 = 10_000;
/// A limiter that was left alone for longer than its minute is full again.
const IDLE: Duration = Duration::from_secs(120);

/// The hub's clock, for governor.
#[derive(Clone)]
pub(crate) struct GovernorClock(SharedClock);

impl governor::clock::Clock for GovernorClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now().as_millis()).unwrap_or_default())
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, GovernorClock, NoOpMiddleware<Duration>>;

/// Limiters by what they count. The least used are forgotten first.
pub(crate) struct Limiters<K> {
    by_key: Cache<K, Arc<Limiter>>,
    clock: GovernorClock,
}

impl<K: std::hash::Hash + Eq + Send + Sync + 'static> Limiters<K> {
    pub(crate) fn new(clock: SharedClock, capacity: u64) -> Self {
        let by_key = Cache::builder().max_capacity(capacity).time_to_idle(IDLE).build();
        Self { by_key, clock: GovernorClock(clock) }
    }

    /// Counts one; over the limit, the seconds to wait.
    pub(crate) fn check(&self, key: K, per_minute: NonZeroU32) -> Result<(), u64> {
        let make = || {
            Arc::new(Limiter::new(
                Quota::per_minute(per_minute),
                InMemoryState::default(),
                self.clock.clone(),
            ))
        };
        let limiter = self.by_key.get_with(key, make);
        limiter.check().map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(60).max(1)
        })
    }
}

pub(crate) struct RateLimits(Limiters<(WorkspaceId, KeyId)>);

impl RateLimits {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self(Limiters::new(clock, MAX_LIMITERS))
    }

    pub(crate) fn check(&self, principal: &Principal) -> Result<(), ApiError> {
        let Credential::Key { id, rate_limit: Some(limit), .. } = &principal.credential else {
            return Ok(());
        };
        let Some(per_minute) = NonZeroU32::new(*limit) else { return Ok(()) };
        let key = (principal.workspace_id.clone(), *id);
        self.0.check(key, per_minute).map_err(|seconds| {
            let message = format!("this key may make {limit} requests a minute; wait {seconds} s");
            ApiError::new(ErrorCode::RateLimited, message).retry_after(seconds)
        })
    }
}
