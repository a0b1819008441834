//! Sends what is owed.
//!
//! A delivery is claimed for a minute, tried within a quarter of that, and what
//! came of it is written down. Whoever dies in between leaves a claim that runs
//! out, and another try follows: what is owed arrives at least once, always
//! under the same id.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use nh_store::webhooks::{self, Attempt, Claim, ClaimedDelivery, Lane, Tried};
use nh_store::{Store, StoreError, runs};
use nh_types::webhook::{DeliveryId, DeliveryState};
use nh_types::{Timestamp, WorkspaceId};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Answer, Message};
use super::places::Places;
use super::{backoff, payload, sign};
use crate::hub::Hub;

/// How long a claim holds. A try takes 15 s at most, and the clocks of nodes
/// that share a store may differ a little.
pub(super) const CLAIM_MS: i64 = 60_000;
/// Lanes read at once.
const LANES: u32 = 1000;
/// What other nodes left behind, and clocks that jump, are seen within this
/// time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Sees to all deliveries until the hub stops; what is under way then is
/// finished.
pub async fn keep(hub: Hub, stopping: CancellationToken) {
    let mut deliveries = Deliveries::new(hub.clone());
    while !stopping.is_cancelled() {
        let wait = match deliveries.begin_due().await {
            Ok(Some(next)) => {
                let ms = next.millis_since(hub.clock.now()).max(0);
                Duration::from_millis(ms.unsigned_abs()).min(LOOK_AGAIN)
            }
            Ok(None) => LOOK_AGAIN,
            Err(error) => {
                tracing::error!(%error, "webhooks could not be seen to");
                LOOK_AGAIN
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = hub.engine.webhook_owed().notified() => {}
            () = deliveries.next_end() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    deliveries.finish().await;
}

/// The deliveries that this process has under way.
pub struct Deliveries {
    hub: Hub,
    /// Each ends with its lane.
    under_way: FuturesUnordered<BoxFuture<'static, String>>,
    places: Places,
}

impl Deliveries {
    pub fn new(hub: Hub) -> Self {
        Self { hub, under_way: FuturesUnordered::new(), places: Places::default() }
    }

    /// Begins what is due and has a place, and says when more will be due.
    pub async fn begin_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        loop {
            let store = self.hub.store.clone();
            let lanes = self.beside(lanes(&store)).await?;
            let now = self.hub.clock.now();
            let from = self.places.choose(&lanes, now);
            let next = lanes.iter().map(|lane| lane.due_at).filter(|at| *at > now).min();
            if from.is_empty() {
                return Ok(next);
            }
            let claim = Claim { from, now, until: now.plus_millis(CLAIM_MS) };
            let claimed = self.beside(store.write(claim)).await?;
            if claimed.is_empty() {
                // Another node was faster.
                return Ok(next);
            }
            for delivery in claimed {
                self.places.take(&delivery.lane);
                self.under_way.push(deliver(self.hub.clone(), delivery).boxed());
            }
        }
    }

    /// Does `work` while what is under way goes on: that may hold connections
    /// to the store which the work waits for.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(lane) = self.under_way.next(), if !self.under_way.is_empty() => self.places.give(&lane),
            }
        }
    }

    /// Returns when some of what is under way has ended; never, if nothing is.
    async fn next_end(&mut self) {
        match self.under_way.next().await {
            Some(lane) => self.places.give(&lane),
            None => std::future::pending().await,
        }
        while let Some(Some(lane)) = self.under_way.next().now_or_never() {
            self.places.give(&lane);
        }
    }

    /// Returns when all that is under way has ended: each by itself, in time.
    pub async fn finish(&mut self) {
        while let Some(lane) = self.under_way.next().await {
            self.places.give(&lane);
        }
    }
}

/// All lanes with something pending.
async fn lanes(store: &Store) -> Result<Vec<Lane>, StoreError> {
    let mut lanes: Vec<Lane> = Vec::new();
    loop {
        let after = lanes.last().map(|lane| lane.name.clone()).unwrap_or_default();
        let page = webhooks::lanes(store, &after, LANES).await?;
        let is_last = page.len() < LANES as usize;
        lanes.extend(page);
        if is_last {
            return Ok(lanes);
        }
    }
}

/// Tries a delivery; its claim runs out by itself if that cannot be written
/// down.
async fn deliver(hub: Hub, delivery: ClaimedDelivery) -> String {
    match AssertUnwindSafe(hub.try_delivery(&delivery)).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(run = %delivery.run_id, %error, "a webhook is tried again: the store failed");
        }
        Err(_) => tracing::error!(run = %delivery.run_id, "a webhook is tried again: its try panicked"),
    }
    delivery.lane
}

impl Hub {
    async fn try_delivery(&self, delivery: &ClaimedDelivery) -> Result<(), StoreError> {
        let ClaimedDelivery { run_id, workspace_id, epoch, failures, .. } = delivery;
        let began_at = self.clock.now();
        let answer = self.tell(delivery, workspace_id, began_at).await?;
        let now = self.clock.now();
        let (state, next_at) = match &answer {
            Answer { error: None, .. } => (DeliveryState::Delivered, None),
            Answer { is_last: true, .. } => (DeliveryState::Failed, None),
            Answer { retry_after_ms, .. } => {
                match backoff::next(now, *failures, *retry_after_ms, self.ids.as_ref()) {
                    Some(at) => (DeliveryState::Pending, Some(at)),
                    None => (DeliveryState::Failed, None),
                }
            }
        };
        metrics::counter!("neuralhub_webhook_attempts_total",
            "outcome" => if answer.error.is_none() { "delivered" } else { "failed" })
        .increment(1);
        if state == DeliveryState::Failed {
            // Its error names the host and no more of the URL.
            let error = answer.error.as_deref().unwrap_or_default();
            tracing::warn!(run = %run_id, error, "a webhook is given up");
        }
        let attempt = Attempt {
            at: began_at,
            duration_ms: now.millis_since(began_at).max(0),
            status_code: answer.status_code,
            error: answer.error,
            response: answer.response,
        };
        let (workspace_id, run_id, epoch) = (workspace_id.clone(), *run_id, *epoch);
        self.store.write(Tried { workspace_id, run_id, epoch, attempt, state, next_at }).await
    }

    async fn tell(
        &self,
        delivery: &ClaimedDelivery,
        workspace_id: &WorkspaceId,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let Some(run) = runs::find(&self.store, workspace_id, delivery.run_id).await? else {
            let answer = Answer::failed("the run is no longer there".to_owned());
            return Ok(Answer { is_last: true, ..answer });
        };
        let body = match serde_json::to_vec(&payload::event(run)) {
            Ok(body) => Bytes::from(body),
            Err(error) => return Ok(Answer::failed(format!("the run cannot be told: {error}"))),
        };
        let secrets = self.signing_secrets(workspace_id).await?;
        let id = DeliveryId::of(delivery.run_id).to_string();
        let message = Message {
            url: &delivery.url,
            id: &id,
            timestamp: &sign::seconds(now),
            signature: &sign::signatures(&secrets, &id, now, &body),
            body,
        };
        Ok(attempt::send(&self.webhooks.http, message, now).await)
    }
}
