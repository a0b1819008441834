//! What is done in the background: expired objects go, what nobody has any
//! more is emptied, and what is stored is metered.

use std::time::Duration;

use futures_util::future::join_all;
use nh_store::blobs::{Condemn, Defer, Emptied, GiveUp, Meter, RemoveExpired};
use nh_types::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobError, Blobs, HOLD_MS};

const PAUSE: Duration = Duration::from_secs(30);
const AT_ONCE: u32 = 500;
/// Each may have thousands of parts.
const UPLOADS_AT_ONCE: u32 = 10;
/// Between what may have left something and the sweep, so that one is for many.
const GATHER: Duration = Duration::from_secs(1);
/// Places that are read are looked at again so much later.
const READ_AGAIN_MS: i64 = 60_000;
/// A bucket takes a while for each.
const REMOVALS_AT_ONCE: usize = 16;
/// A put may be late by what a write waits for at most, and clocks differ.
const GRACE_MS: i64 = 10 * 60_000;

/// Until the hub stops.
pub async fn keep(blobs: Blobs, stopping: CancellationToken) {
    let work = async {
        let inner = &blobs.inner;
        // Where one process has the store, whatever was being filled before it began
        // is nobody's any more, and what is filled since is held off for longer.
        if !inner.store.is_shared() {
            let at = inner.began_at.plus_millis(HOLD_MS - 1);
            told("remove what uploads left", blobs.sweep(at).await);
        }
        loop {
            told("remove expired objects", blobs.remove_expired().await);
            told("give up old uploads", blobs.give_up_uploads().await);
            told("meter what is stored", blobs.meter().await);
            told("remove what nobody has", blobs.sweep(inner.clock.now().plus_millis(-GRACE_MS)).await);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = inner.freed.notified() => tokio::time::sleep(GATHER).await,
            }
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = work => {}
    }
}

fn told(what: &str, done: Result<(), BlobError>) {
    if let Err(error) = done {
        tracing::warn!(%error, "could not {what}; it is tried again");
    }
}

impl Blobs {
    async fn remove_expired(&self) -> Result<(), BlobError> {
        let inner = &self.inner;
        loop {
            let removed = inner.store.write(RemoveExpired { at: inner.clock.now(), limit: AT_ONCE }).await?;
            if removed < u64::from(AT_ONCE) {
                return Ok(());
            }
        }
    }

    async fn give_up_uploads(&self) -> Result<(), BlobError> {
        let inner = &self.inner;
        loop {
            // One that is being completed has its time.
            let at = inner.clock.now().plus_millis(-HOLD_MS);
            let given_up = inner.store.write(GiveUp { at, limit: UPLOADS_AT_ONCE }).await?;
            if given_up < u64::from(UPLOADS_AT_ONCE) {
                return Ok(());
            }
        }
    }

    /// Writes into the ledger what is stored, of workspaces for which that was last done an hour
    /// ago, by whichever node; [`keep`] does it all the time.
    pub async fn meter(&self) -> Result<(), BlobError> {
        let inner = &self.inner;
        let price_per_gb_month = inner.settings.price_per_gb_month;
        loop {
            let meter = Meter { at: inner.clock.now(), price_per_gb_month, limit: AT_ONCE };
            if inner.store.write(meter).await? < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Empties the places that nobody holds off since before `at`.
    async fn sweep(&self, at: Timestamp) -> Result<(), BlobError> {
        let inner = &self.inner;
        loop {
            let places = inner.store.write(Condemn { at, limit: AT_ONCE }).await?;
            if places.is_empty() {
                return Ok(());
            }
            let (read, places): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|place| inner.readers.has(place));
            if !read.is_empty() {
                let until = at.plus_millis(READ_AGAIN_MS);
                inner.store.write(Defer { places: read, until }).await?;
            }
            let (mut emptied, mut failed) = (Vec::with_capacity(places.len()), None);
            for some in places.chunks(REMOVALS_AT_ONCE) {
                let removed = join_all(some.iter().map(|place| inner.places.remove(place))).await;
                let is_away = removed.iter().all(Result::is_err);
                for (place, removed) in some.iter().zip(removed) {
                    match removed {
                        Ok(()) => emptied.push(place.clone()),
                        Err(error) => failed = Some(error),
                    }
                }
                if is_away {
                    break;
                }
            }
            inner.store.write(Emptied(emptied)).await?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }
}
