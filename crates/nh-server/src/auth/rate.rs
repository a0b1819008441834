//! The rate limits of a key and of a workspace: requests a minute, counted in this process.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use nh_types::{ApiError, ErrorCode, KeyId, Rate, SharedClock, Timestamp, WorkspaceId};

use super::{Credential, Principal};

const MAX_LIMITERS: u64 = 10_000;
/// A limiter that was left alone for longer than its minute is full again.
const IDLE: Duration = Duration::from_secs(120);

/// The hub's clock, for governor, which counts on one that is never set back: when it is, no time
/// has passed, and it goes on from there.
#[derive(Clone)]
pub(crate) struct GovernorClock {
    clock: SharedClock,
    passed: Arc<Mutex<Passed>>,
}

struct Passed {
    /// When it was looked at last.
    at: Timestamp,
    ms: u64,
}

impl GovernorClock {
    fn new(clock: SharedClock) -> Self {
        let passed = Passed { at: clock.now(), ms: 0 };
        Self { clock, passed: Arc::new(Mutex::new(passed)) }
    }
}

impl governor::clock::Clock for GovernorClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let more = now.as_millis().saturating_sub(passed.at.as_millis());
        passed.at = now;
        passed.ms = passed.ms.saturating_add(u64::try_from(more).unwrap_or(0));
        Duration::from_millis(passed.ms)
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, GovernorClock, StateInformationMiddleware>;

/// Limiters by what they count. The least used are forgotten first.
pub(crate) struct Limiters<K> {
    by_key: Cache<K, Arc<Limiter>>,
    clock: GovernorClock,
}

impl<K: std::hash::Hash + Eq + Send + Sync + 'static> Limiters<K> {
    pub(crate) fn new(clock: SharedClock, capacity: u64) -> Self {
        let by_key = Cache::builder().max_capacity(capacity).time_to_idle(IDLE).build();
        Self { by_key, clock: GovernorClock::new(clock) }
    }

    /// Counts one, and how many are left; over the limit, the seconds to wait.
    pub(crate) fn check(&self, key: K, per_minute: NonZeroU32) -> Result<u32, u64> {
        let make = || {
            Arc::new(Limiter::new(
                Quota::per_minute(per_minute),
                InMemoryState::default(),
                self.clock.clone(),
            ))
        };
        let limiter = self.by_key.get_with(key, make);
        limiter.check().map(|state| state.remaining_burst_capacity()).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(60).max(1)
        })
    }
}

/// By a key, or by a whole workspace.
pub(crate) struct RateLimits(Limiters<(WorkspaceId, Option<KeyId>)>);

/// Where a request's caller stands, for the edge to tell.
#[derive(Clone, Default)]
pub(crate) struct ToldRate(Arc<OnceLock<Rate>>);

impl ToldRate {
    pub(crate) fn get(&self) -> Option<Rate> {
        self.0.get().copied()
    }
}

impl RateLimits {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self(Limiters::new(clock, MAX_LIMITERS))
    }

    /// Counts a request; its caller's standing is told to `told`. The key comes first, so that one
    /// over its limit takes nothing of what its workspace's others may have.
    pub(crate) fn check(
        &self,
        principal: &Principal,
        of_workspace: Option<u32>,
        told: Option<&ToldRate>,
    ) -> Result<(), ApiError> {
        let workspace_id = &principal.workspace_id;
        let key = match &principal.credential {
            Credential::Key { id, rate_limit: Some(limit), .. } => Some(*id).zip(NonZeroU32::new(*limit)),
            _ => None,
        };
        let rate = key
            .map(|(id, limit)| self.count((workspace_id.clone(), Some(id)), limit, "this key"))
            .transpose()?;
        if let Some(limit) = of_workspace.and_then(NonZeroU32::new) {
            self.count((workspace_id.clone(), None), limit, "this workspace")?;
        }
        if let Some((told, rate)) = told.zip(rate) {
            told.0.get_or_init(|| rate);
        }
        Ok(())
    }

    fn count(
        &self,
        key: (WorkspaceId, Option<KeyId>),
        limit: NonZeroU32,
        who: &str,
    ) -> Result<Rate, ApiError> {
        let per_minute = u64::from(limit.get());
        let rate = |remaining: u64, reset_seconds| Rate {
            of: "requests",
            limit: per_minute,
            remaining,
            reset_seconds,
        };
        match self.0.check(key, limit) {
            Ok(remaining) => {
                let used = per_minute.saturating_sub(u64::from(remaining));
                Ok(rate(u64::from(remaining), (used * 60).div_ceil(per_minute)))
            }
            Err(seconds) => {
                let message = format!("{who} may make {limit} requests a minute; wait {seconds} s");
                Err(ApiError::new(ErrorCode::RateLimited, message).rate(rate(0, seconds)))
            }
        }
    }
}
