use std::future::Future;

use crate::StoreError;

/// One write. It is queued, and the store's one writer applies it with others
/// in one transaction; the answer comes once that is committed.
///
/// Writes that wait at the same time have no order among themselves. A write
/// that answers an error before it changed anything fails alone; one that fails
/// later makes the writer roll the batch back and apply each of it by itself,
/// so `apply` may be called more than once and must depend on nothing but
/// `self` and the database.
pub trait Write: Send + Sync + 'static {
    type Output: Send + 'static;

    fn apply<'t>(
        &'t self,
        tx: &'t mut Tx,
    ) -> impl Future<Output = Result<Self::Output, StoreError>> + Send + 't;
}

/// An open transaction. Only this crate can run statements in it; others
/// compose the writes that are here by calling their `apply`.
pub struct Tx;
