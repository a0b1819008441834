//! Whether a provider is worth asking. One that fails several times in a row is left alone for a
//! while (a circuit breaker): its callers are told at once, or go to another, instead of each
//! waiting for it. Then one call tries, and its end says for all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_types::Timestamp;
use nh_types::provider::{ProviderHealth, ProviderStatus};

/// Failures in a row.
const RESTS_AFTER: u32 = 5;
/// Doubled with each try that fails.
const REST_MS: i64 = 5_000;
const MAX_REST_MS: i64 = 120_000;

#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    rests_until: Option<Timestamp>,
    /// Whether one tries for all.
    is_tried: bool,
    last_success_at: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
    last_failure: Option<String>,
}

/// One call's leave to ask. Dropped without an end it says nothing of the provider.
pub(crate) struct Leave {
    health: Arc<Health>,
    /// It tries for all.
    is_trial: bool,
}

impl Health {
    /// None: it is left alone now.
    pub(crate) fn ask(self: &Arc<Self>, now: Timestamp) -> Option<Leave> {
        let mut state = self.state();
        let is_trial = match state.rests_until {
            None => false,
            Some(until) if until > now || state.is_tried => return None,
            Some(_) => true,
        };
        state.is_tried |= is_trial;
        drop(state);
        Some(Leave { health: self.clone(), is_trial })
    }

    pub(crate) fn shown(&self, now: Timestamp) -> ProviderHealth {
        let state = self.state().clone();
        ProviderHealth {
            status: match state.rests_until {
                Some(until) if until > now => ProviderStatus::Resting,
                _ if state.failures > 0 => ProviderStatus::Failing,
                _ => ProviderStatus::Healthy,
            },
            failures_in_a_row: state.failures,
            rests_until: state.rests_until.filter(|until| *until > now),
            last_success_at: state.last_success_at,
            last_failure_at: state.last_failure_at,
            last_failure: state.last_failure,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// An answer has begun: whoever tries for all has done so, and the others need not wait for
    /// its end.
    pub(crate) fn answered(&mut self) {
        if std::mem::take(&mut self.is_trial) {
            let mut state = self.health.state();
            (state.is_tried, state.failures, state.rests_until) = (false, 0, None);
        }
    }

    /// It answered, whatever it said.
    pub(crate) fn succeeded(self, now: Timestamp) {
        let mut state = self.health.state();
        (state.failures, state.rests_until) = (0, None);
        state.last_success_at = Some(now);
    }

    pub(crate) fn failed(self, now: Timestamp, why: String) {
        let mut state = self.health.state();
        (state.last_failure_at, state.last_failure) = (Some(now), Some(why));
        // Those that were under way when it was left alone count no more.
        if state.rests_until.is_some() && !self.is_trial {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        let rests = state.failures.saturating_sub(RESTS_AFTER - 1);
        if rests > 0 {
            let rest_ms = (REST_MS << (rests - 1).min(10)).min(MAX_REST_MS);
            state.rests_until = Some(now.plus_millis(rest_ms));
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.is_trial {
            self.health.state().is_tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn fail(health: &Arc<Health>, now: i64) {
        health.ask(at(now)).expect("asked").failed(at(now), "no".to_owned());
    }

    #[test]
    fn after_five_failures_one_tries_for_all() {
        let health = Arc::<Health>::default();
        (0..4).for_each(|_| fail(&health, 0));
        health.ask(at(0)).expect("asked").succeeded(at(0));
        (0..5).for_each(|_| fail(&health, 0));
        assert!(health.ask(at(0)).is_none() && health.ask(at(REST_MS - 1)).is_none());
        assert_eq!(health.shown(at(1)).status, ProviderStatus::Resting);
        let trial = health.ask(at(REST_MS)).expect("one");
        assert!(health.ask(at(REST_MS)).is_none(), "the others wait for its end");
        trial.failed(at(REST_MS), "no".to_owned());
        assert!(health.ask(at(2 * REST_MS)).is_none());
        // Who was called off says nothing.
        drop(health.ask(at(3 * REST_MS)).expect("one"));
        health.ask(at(3 * REST_MS)).expect("one").succeeded(at(3 * REST_MS));
        assert!(health.ask(at(3 * REST_MS)).is_some() && health.ask(at(3 * REST_MS)).is_some());
        assert_eq!(health.shown(at(4 * REST_MS)).status, ProviderStatus::Healthy);
    }

    #[test]
    fn a_rest_has_an_end() {
        let health = Arc::<Health>::default();
        let mut now = 0;
        for _ in 0..40 {
            fail(&health, now);
            now += MAX_REST_MS;
        }
        assert!(health.ask(at(now)).is_some());
        let health = Arc::<Health>::default();
        let under_way: Vec<_> = (0..9).map(|_| health.ask(at(0)).expect("asked")).collect();
        under_way.into_iter().for_each(|leave| leave.failed(at(0), "no".to_owned()));
        assert!(health.ask(at(REST_MS)).is_some(), "what was under way together lengthens no rest");
    }
}
