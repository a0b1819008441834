//! What is reserved ahead. A write to the store costs more than the rest of a call together, so
//! where calls on the same accounts follow each other closely one reservation, and one settlement,
//! is made for many of them. It is as safe as theirs: an advance is reserved like any call, only
//! where many times as much is left, and lives for a second. What of it was not used by then is
//! given back; calls under way keep their parts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nh_store::Store;
use nh_store::ledger::{Amount, Bid, Limits, Reserve, Reserved, Settle, Trim};
use nh_types::WorkspaceId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Charge, EXPIRES_MS, Settlement};
use crate::usage::Place;

/// Then what was not used is given back.
const LIFE: Duration = Duration::from_secs(1);
/// The next one is made while there is still something of this one.
const RENEWED_AFTER: Duration = Duration::from_millis(500);
/// Calls within [`LIFE`] before anything is reserved ahead.
const BUSY_CALLS: u32 = 16;
/// Calls that an advance is for.
const MIN_CALLS: i64 = 16;
const MAX_CALLS: i64 = 4_096;
/// So many times as much must be left of each account, so that nobody else has to wait for it.
const ROOM: i64 = 16;
/// Sets of accounts that are looked after.
const MAX_PAYERS: usize = 10_000;

/// The accounts that calls are charged to together.
type Accounts = (WorkspaceId, Vec<String>);

/// All of a process. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Advances(Arc<Mutex<HashMap<Accounts, Payer>>>);

struct Payer {
    advance: Option<Arc<Advance>>,
    is_renewing: bool,
    /// Since when these calls were counted that found no advance.
    since: Instant,
    calls: u32,
}

/// Settled when it and all of its parts are gone.
pub(super) struct Advance {
    opened: Instant,
    granted: Amount,
    settled: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    /// For the last settlement. None: nothing was reserved.
    place: Option<Place>,
    /// What is in the store still; its cost is what is not written yet.
    settle: Settle,
    left: Amount,
    under_way: Amount,
    taken: i64,
    is_open: bool,
}

/// What a call may cost, out of an advance.
#[derive(Clone)]
pub(super) struct Part {
    advance: Arc<Advance>,
    reserved: Amount,
}

impl Part {
    /// To be done once.
    pub(super) fn pay(self, cost: Amount) {
        let mut state = self.advance.state();
        state.under_way = state.under_way.minus(self.reserved);
        state.settle.cost = state.settle.cost.plus(cost);
        if state.is_open {
            state.left = state.left.plus(self.reserved).minus(cost);
        }
    }
}

impl Advance {
    fn new(place: Place, settle: Settle, granted: Amount, settled: Arc<Notify>) -> Self {
        let state = State {
            place: Some(place),
            settle,
            left: granted,
            under_way: Amount::default(),
            taken: 0,
            is_open: true,
        };
        Self { opened: Instant::now(), granted, settled, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, wanted: Amount) -> bool {
        let mut state = self.state();
        let fits = state.is_open && state.left.covers(&wanted);
        if fits {
            state.left = state.left.minus(wanted);
            state.under_way = state.under_way.plus(wanted);
            state.taken += 1;
        }
        fits
    }

    /// Whether the next one is due, and for how many calls it should be then.
    fn next(&self, wanted: Amount) -> Option<i64> {
        let age = self.opened.elapsed();
        let state = self.state();
        let is_waning = age >= RENEWED_AFTER || !state.left.plus(state.left).covers(&self.granted);
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX).max(1);
        let life_ms = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
        let calls = state.taken.saturating_mul(life_ms) / age_ms;
        (is_waning || !state.left.covers(&wanted)).then(|| calls.clamp(MIN_CALLS, MAX_CALLS))
    }

    /// Nothing is taken of it any more. What has to be written of it, if calls are under way.
    fn close(&self, token: String) -> Option<Trim> {
        let mut state = self.state();
        (state.is_open, state.left) = (false, Amount::default());
        let (settle, left) = (state.settle.clone(), state.under_way);
        (left != Amount::default()).then_some(Trim { settle, token, left })
    }

    fn trimmed(&self, trim: &Trim) {
        let mut state = self.state();
        state.settle.token.clone_from(&trim.token);
        state.settle.cost = state.settle.cost.minus(trim.settle.cost);
    }

    /// It was not reserved, so it is not settled.
    fn refused(&self) {
        self.state().place = None;
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = state.place.take() else { return };
        let (settle, settled) = (state.settle.clone(), self.settled.clone());
        place.record(None, Some(Settlement { settle, settled, ahead: None }));
    }
}

impl Charge {
    /// A part of what is reserved ahead for these accounts, as much as the call may cost at most.
    pub(super) fn take_ahead(&self, accounts: &[(String, Limits)], bid: &Bid) -> Option<Part> {
        if !self.is_of_many {
            return None;
        }
        let reserved = bid.with(bid.most_units);
        let names = accounts.iter().map(|(name, _)| name.clone()).collect();
        let key = (self.workspace_id.clone(), names);
        let (part, calls) = self.ledger.advances.take(&key, reserved);
        if let Some(calls) = calls {
            let renewal = self.renewal(key, accounts.to_vec(), reserved.times(calls));
            TaskTracker::new().spawn(renewal);
        }
        part
    }

    /// Reserves so much, puts it at hand, and closes it when its time is over. Meanwhile it holds
    /// nothing that others wait for the end of.
    fn renewal(
        &self,
        key: Accounts,
        accounts: Vec<(String, Limits)>,
        granted: Amount,
    ) -> impl Future<Output = ()> + use<> {
        let (ledger, store) = (self.ledger.clone(), self.ledger.store.clone());
        async move {
            let advances = Arc::downgrade(&ledger.advances.0);
            let next_token = ledger.new_token();
            let advance = ledger.reserve_ahead(&key, accounts, granted).await;
            drop(ledger);
            let kept = advance.as_ref().map(Arc::downgrade);
            put(&advances, &key, advance);
            let Some(kept) = kept else { return };
            tokio::time::sleep(LIFE).await;
            close(&store, &advances, &key, &kept, next_token).await;
        }
    }
}

impl super::Ledger {
    fn new_token(&self) -> String {
        self.ids.uuid_v7(self.clock.now()).to_string()
    }

    async fn reserve_ahead(
        &self,
        (workspace_id, names): &Accounts,
        accounts: Vec<(String, Limits)>,
        granted: Amount,
    ) -> Option<Arc<Advance>> {
        let place = self.sink.reserve().await.ok()?;
        let (now, token) = (self.clock.now(), self.new_token());
        let settle = Settle {
            workspace_id: workspace_id.clone(),
            token: token.clone(),
            accounts: names.clone(),
            cost: Amount::default(),
        };
        let advance = Advance::new(place, settle, granted, self.settled.clone());
        let reserve = Reserve {
            workspace_id: workspace_id.clone(),
            id: format!("ahead:{token}"),
            token,
            accounts,
            bid: Bid { fixed: granted, per_unit: Amount::default(), least_units: 0, most_units: 0 },
            room: ROOM,
            now,
            expires_at: now.plus_millis(EXPIRES_MS),
        };
        match self.store.write(reserve).await {
            Ok(Reserved::Units(_)) => Some(Arc::new(advance)),
            Ok(Reserved::Refused(_) | Reserved::Busy(_)) => {
                advance.refused();
                None
            }
            // It may have been kept: dropping it settles it.
            Err(error) => {
                tracing::warn!(%error, "nothing could be reserved ahead; each call is reserved by itself");
                None
            }
        }
    }
}

fn put(advances: &Weak<Mutex<HashMap<Accounts, Payer>>>, key: &Accounts, advance: Option<Arc<Advance>>) {
    let Some(advances) = advances.upgrade() else { return };
    let mut payers = advances.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(payer) = payers.get_mut(key) else { return };
    (payer.is_renewing, payer.calls, payer.since) = (false, 0, Instant::now());
    // What was there before stays for as long as it lives, for who has a part of it.
    let before = advance.is_some().then(|| std::mem::replace(&mut payer.advance, advance));
    drop(payers);
    drop(before);
}

async fn close(
    store: &Store,
    advances: &Weak<Mutex<HashMap<Accounts, Payer>>>,
    key: &Accounts,
    kept: &Weak<Advance>,
    token: String,
) {
    let Some(advance) = kept.upgrade() else { return };
    if let Some(advances) = advances.upgrade() {
        let mut payers = advances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(payer) = payers.get_mut(key)
            && payer.advance.as_ref().is_some_and(|now| Arc::ptr_eq(now, &advance))
        {
            payer.advance = None;
        }
    }
    let Some(trim) = advance.close(token) else { return };
    match store.write(trim.clone()).await {
        Ok(()) => {
            advance.trimmed(&trim);
            advance.settled.notify_waiters();
        }
        Err(error) => tracing::warn!(%error, "what was reserved ahead stays reserved until its calls end"),
    }
}

impl Advances {
    pub(super) fn give_back(&self) {
        let payers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(payers);
    }

    /// A part, if it fits, and for how many calls more is to be reserved now.
    fn take(&self, key: &Accounts, wanted: Amount) -> (Option<Part>, Option<i64>) {
        let mut payers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if payers.len() >= MAX_PAYERS {
            payers.retain(|_, payer| payer.advance.is_some() || payer.is_renewing);
        }
        let now = Instant::now();
        let new = || Payer { advance: None, is_renewing: false, since: now, calls: 0 };
        let payer = payers.entry(key.clone()).or_insert_with(new);
        let (mut part, mut calls) = (None, None);
        if let Some(advance) = &payer.advance {
            calls = advance.next(wanted);
            let advance = advance.clone();
            part = advance.take(wanted).then_some(Part { advance, reserved: wanted });
        } else {
            if now.duration_since(payer.since) > LIFE {
                (payer.since, payer.calls) = (now, 0);
            }
            payer.calls += 1;
            if payer.calls >= BUSY_CALLS {
                calls = Some(MIN_CALLS.max(i64::from(payer.calls)));
            }
        }
        let calls = calls.filter(|_| !payer.is_renewing);
        payer.is_renewing |= calls.is_some();
        (part, calls)
    }
}
