//! Idempotency records: what a POST with an `Idempotency-Key` answered first.

use nh_types::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::columns::Columns;
use crate::ledger::Touched;
use crate::sql::{Arg, Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

/// How long a record counts: 24 h.
pub const LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// The `Idempotency-Key` of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The calling key or session, such as `ws_…/key:42`.
    pub owner: String,
    pub key: String,
    /// Of the method, path and body.
    pub body_hash: [u8; 32],
    pub at: Timestamp,
}

const SELECT: &str =
    "select body_hash, answer from idempotency where owner = $1 and request_key = $2 and created_at > $3";

impl Idempotency {
    /// Records made at this instant or before count no longer.
    fn expired(&self) -> Timestamp {
        self.at.plus_millis(-LIFE_MS)
    }

    fn select_args(&self) -> Vec<Arg> {
        args![&self.owner, &self.key, self.expired()]
    }

    fn read<T: DeserializeOwned>(&self, row: &Row) -> Result<Once<T>, StoreError> {
        let mut columns = Columns::of(row);
        match columns.hash()? == self.body_hash {
            true => Ok(Once::Replay(columns.json()?)),
            false => Ok(Once::Mismatch),
        }
    }
}

/// How a write with an idempotency key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It was made now.
    First(T),
    /// It was made before; this is what it answered then.
    Replay(T),
    /// The key came before with another body; nothing was written.
    Mismatch,
}

/// What an earlier write with this key answered, if there was one: never
/// [`Once::First`]. The last word is the write's own.
pub async fn earlier<T: DeserializeOwned>(
    store: &Store,
    once: &Idempotency,
) -> Result<Option<Once<T>>, StoreError> {
    let found = store.find(SELECT, once.select_args(), |row| once.read(row)).await?;
    Ok(found)
}

/// A write and its record, in one transaction.
pub(crate) struct WriteOnce<W> {
    pub(crate) once: Idempotency,
    pub(crate) write: W,
}

impl<W> Write for WriteOnce<W>
where
    W: Write,
    W::Output: Serialize + DeserializeOwned,
{
    type Output = Once<W::Output>;

    fn touches(&self) -> Vec<Touched<'_>> {
        self.write.touches()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Once<W::Output>, StoreError> {
        let Idempotency { owner, key, body_hash, at } = &self.once;
        let expired = self.once.expired();
        let rows = tx.select(SELECT, self.once.select_args()).await?;
        if let Some(row) = rows.first() {
            return self.once.read(row);
        }
        let output = self.write.apply(tx).await?;
        let kept = tx
            .execute(
                "insert into idempotency (owner, request_key, body_hash, answer, created_at) \
                 values ($1, $2, $3, $4, $5) on conflict (owner, request_key) do update \
                 set body_hash = excluded.body_hash, answer = excluded.answer, created_at = excluded.created_at \
                 where idempotency.created_at <= $6",
                args![owner, key, body_hash, to_json(&output)?, *at, expired],
            )
            .await?;
        match kept {
            // Another node was first. The writer rolls this back and tries
            // again, and then finds that node's record.
            0 => Err(StoreError::Conflict(format!("the Idempotency-Key `{key}` is being used elsewhere"))),
            _ => Ok(Once::First(output)),
        }
    }
}

/// Takes a record back: what it tells of did not come about.
#[derive(Clone, Debug)]
pub struct Withdraw(pub Idempotency);

impl Write for Withdraw {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let Idempotency { owner, key, body_hash, .. } = &self.0;
        tx.execute(
            "delete from idempotency where owner = $1 and request_key = $2 and body_hash = $3",
            args![owner, key, body_hash],
        )
        .await
        .map(drop)
    }
}

/// Removes the records that no longer count.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    pub now: Timestamp,
}

impl Write for Purge {
    /// How many were removed.
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        let expired = self.now.plus_millis(-LIFE_MS);
        tx.execute("delete from idempotency where created_at <= $1", args![expired]).await
    }
}
