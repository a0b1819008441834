//! Follows one call from its start to its row in the ledger.

use std::sync::Arc;

use nh_store::ledger::{Amount, Bid};
use nh_store::usage::{UsageKind, UsageRow};
use nh_types::model::Usage;
use nh_types::{SharedClock, Timestamp};

use super::Reported;
use super::estimate::tokens_of_bytes;
use super::sink::Place;
use crate::catalogue::Price;
use crate::ledger::{Charge, Settlement};
use crate::limits::{Turn, check_prompt};
use crate::meters::CallMeter;
use crate::models::Inner;
use crate::{Caller, ModelError};

/// Counts what one call uses. Dropped without an end (the client went away, the
/// caller was cancelled, or the answer was cut) it records what was used until
/// then: nothing, as long as what it may cost is not reserved. Its accounts are
/// then charged with no less than that.
pub(crate) struct Meter {
    _turn: Turn,
    /// None once the call is accounted for, or cost nothing.
    place: Option<Place>,
    /// Of a call that is charged: until it is reserved, it is not made.
    settlement: Option<Settlement>,
    reserved: Amount,
    may_be_made: bool,
    /// What is known before the call is made; None once it is accounted for.
    row: Option<UsageRow>,
    meter: Arc<CallMeter>,
    clock: SharedClock,
    kind: UsageKind,
    price: Option<Price>,
    /// A guess, for when the provider does not say.
    prompt_tokens: u64,
    /// Since the provider last said what was used.
    output_bytes: u64,
    reported: Option<Reported>,
    /// Nothing can have been used that is not known.
    is_over: bool,
}

/// What a meter is made for.
pub(crate) struct Metered<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) meter: &'a Arc<CallMeter>,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) kind: UsageKind,
    pub(crate) price: Option<Price>,
    pub(crate) prompt_tokens: u64,
}

impl Metered<'_> {
    fn row(&self, at: Timestamp) -> UsageRow {
        UsageRow {
            workspace_id: self.caller.workspace_id.clone(),
            at,
            key_id: self.caller.key_id,
            run_id: self.caller.run_id,
            agent: self.caller.agent.clone(),
            provider: self.provider.to_owned(),
            model: self.model.to_owned(),
            kind: self.kind,
            usage: Usage::NONE,
            estimated: true,
            saved_usd: None,
        }
    }
}

impl Meter {
    /// Takes a place in the ledger, and among the calls under way, for one that is about to begin.
    pub(crate) async fn begin(hub: &Inner, call: Metered<'_>) -> Result<Self, ModelError> {
        check_prompt(call.caller, call.prompt_tokens)?;
        let turn = hub.under_way.admit(call.caller, hub.workspace_limits.max_concurrent)?;
        Ok(Self {
            _turn: turn,
            place: Some(hub.usage.reserve().await?),
            settlement: None,
            reserved: Amount::default(),
            may_be_made: call.caller.charge.is_none(),
            row: Some(call.row(hub.clock.now())),
            meter: call.meter.clone(),
            clock: hub.clock.clone(),
            kind: call.kind,
            price: call.price,
            prompt_tokens: call.prompt_tokens,
            output_bytes: 0,
            reported: None,
            is_over: false,
        })
    }

    /// Reserves what the call may cost. How many units it was granted.
    pub(crate) async fn reserve(&mut self, charge: &Charge, bid: Bid) -> Result<i64, ModelError> {
        let Some(place) = self.place.take() else { return Err(ModelError::Overloaded) };
        let reservation = charge.reserve(place, bid).await?;
        let units = reservation.units();
        self.reserved = bid.with(units);
        let (place, settlement) = reservation.into_parts();
        (self.place, self.settlement, self.may_be_made) = (place, Some(settlement), true);
        Ok(units)
    }

    pub(crate) fn add_output_bytes(&mut self, bytes: usize) {
        self.output_bytes += bytes as u64;
        self.is_over &= bytes == 0;
    }

    /// The provider's own count; the last one wins, since some repeat a
    /// growing count in every chunk.
    pub(crate) fn report(&mut self, reported: Reported) {
        self.reported = Some(reported);
        self.output_bytes = 0;
    }

    /// What the provider reported last is all: it has said the whole answer.
    pub(crate) fn is_whole(&mut self) {
        self.is_over = self.reported.is_some();
    }

    /// What the call used as far as it is known now, and whether that is a
    /// guess.
    pub(crate) fn usage(&self) -> (Usage, bool) {
        let guess = || Usage { input_tokens: self.prompt_tokens, cost_usd: None, ..Usage::NONE };
        let mut usage = self.reported.map_or_else(guess, |reported| reported.usage);
        let estimated = self.reported.is_none() || self.output_bytes > 0;
        usage.output_tokens = usage.output_tokens.saturating_add(tokens_of_bytes(self.output_bytes));
        if usage.cost_usd.is_none() {
            let surcharge_tokens = self.reported.map_or(0.0, |reported| reported.surcharge_tokens);
            usage.cost_usd =
                self.price.map(|price| price.cost_usd(&usage) + price.of_input(surcharge_tokens));
        }
        (usage, estimated)
    }

    /// The call is over, and its answer is whole.
    pub(crate) fn settle(mut self) -> Usage {
        self.is_over = true;
        self.record()
    }

    /// The provider gave no answer: the call cost what it says, and else nothing.
    pub(crate) fn refused(self) {
        match self.reported {
            Some(_) => {
                self.settle();
            }
            None => self.waive(),
        }
    }

    /// The call was refused or never reached the provider: it cost nothing.
    pub(crate) fn waive(mut self) {
        if let Some((place, settlement)) = self.place.take().zip(self.settlement.take()) {
            place.record(None, Some(settlement.of(self.kind, None)));
        }
    }

    fn record(&mut self) -> Usage {
        let (usage, estimated) = self.usage();
        if let Some(place) = self.place.take().filter(|_| self.may_be_made) {
            self.meter.used(&usage);
            let settlement = self.settlement.take().map(|settlement| {
                let settlement = settlement.of(self.kind, Some(&usage));
                // A model may have thought, or go on, unseen: the provider bills that too.
                if self.is_over { settlement } else { settlement.at_least(self.reserved) }
            });
            let at = self.clock.now();
            let row = self.row.take().map(|row| UsageRow { at, usage, estimated, ..row });
            place.record(row, settlement);
        }
        usage
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.record();
    }
}
