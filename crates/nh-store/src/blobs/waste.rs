use nh_types::Timestamp;

use super::Piece;
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{StoreError, Tx, Write};

/// Of a place that is nobody's for good: it may be empty already.
const CONDEMNED: i64 = -1;
/// Who reads an object of several pieces on another node while it is replaced or
/// deleted has so long to come to its end. A node knows its own readers.
const READ_ON_MS: i64 = 50 * 60_000;

/// Says that somebody fills a place until then, before they begin.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub place: String,
    pub until: Timestamp,
}

impl Write for Reserve {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let sql = "insert into blob_waste (place, until) values ($1, $2)";
        tx.execute(sql, args![&self.place, self.until]).await.map(drop)
    }
}

/// Says that it goes on until then, with all that it has begun.
#[derive(Clone, Debug)]
pub struct Renew {
    pub places: Vec<String>,
    pub until: Timestamp,
}

impl Write for Renew {
    /// False: it went on for too long, and a place was taken for waste.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let mut rows = Rows::new(3);
        for place in &self.places {
            rows.push(args![place, self.until, CONDEMNED]);
        }
        let renewed = tx
            .execute_rows(
                "with given (place, until, condemned) as (values ROWS) \
                 update blob_waste set until = given.until from given \
                 where blob_waste.place = given.place and blob_waste.until <> given.condemned",
                rows,
            )
            .await?;
        Ok(renewed == self.places.len() as u64)
    }
}

/// Condemns places that their owner gives up before they are an object's.
#[derive(Clone, Debug)]
pub struct Discard(pub Vec<String>);

impl Write for Discard {
    /// Those that are to be emptied: not what is an object's after all.
    type Output = Vec<String>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Vec<String>, StoreError> {
        let mut condemned = Vec::with_capacity(self.0.len());
        for place in &self.0 {
            let sql = "update blob_waste set until = $2 where place = $1";
            if tx.execute(sql, args![place, CONDEMNED]).await? == 1 {
                condemned.push(place.clone());
            }
        }
        Ok(condemned)
    }
}

/// Condemns what nobody holds off since before `at`; places that are to be emptied,
/// those included that were condemned before.
#[derive(Clone, Copy, Debug)]
pub struct Condemn {
    pub at: Timestamp,
    pub limit: u32,
}

impl Write for Condemn {
    type Output = Vec<String>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Vec<String>, StoreError> {
        let rows = tx
            .returning(
                "update blob_waste set until = $2 where place in \
                 (select place from blob_waste where until <= $1 order by until limit $3) returning place",
                args![self.at, CONDEMNED, self.limit],
            )
            .await?;
        rows.iter().map(|row| Columns::of(row).text()).collect()
    }
}

/// Leaves places that were condemned as they are until then.
#[derive(Clone, Debug)]
pub struct Defer {
    pub places: Vec<String>,
    pub until: Timestamp,
}

impl Write for Defer {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for place in &self.places {
            let sql = "update blob_waste set until = $2 where place = $1 and until = $3";
            tx.execute(sql, args![place, self.until, CONDEMNED]).await?;
        }
        Ok(())
    }
}

/// Forgets places that were condemned and emptied.
#[derive(Clone, Debug)]
pub struct Emptied(pub Vec<String>);

impl Write for Emptied {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for place in &self.0 {
            let sql = "delete from blob_waste where place = $1 and until = $2";
            tx.execute(sql, args![place, CONDEMNED]).await?;
        }
        Ok(())
    }
}

/// Puts the places of bytes that no object has any more to the waste. One that is
/// open can be read to its end in any case.
pub(super) async fn let_go(tx: &mut Tx, pieces: &[Piece], at: Timestamp) -> Result<(), StoreError> {
    match pieces.len() {
        2.. if tx.is_shared() => put(tx, pieces, at.plus_millis(READ_ON_MS).as_millis()).await,
        _ => condemn(tx, pieces).await,
    }
}

/// Puts places to the waste that nobody reads.
pub(super) async fn condemn(tx: &mut Tx, pieces: &[Piece]) -> Result<(), StoreError> {
    put(tx, pieces, CONDEMNED).await
}

async fn put(tx: &mut Tx, pieces: &[Piece], until: i64) -> Result<(), StoreError> {
    let mut rows = Rows::new(2);
    for Piece(place, _) in pieces {
        rows.push(args![place, until]);
    }
    tx.execute_rows(
        "with given (place, until) as (values ROWS) \
         insert into blob_waste (place, until) select place, until from given where place is not null",
        rows,
    )
    .await
    .map(drop)
}

/// Takes places out of the waste, for an object; false when nobody held one off any
/// longer, so that it may be empty.
pub(super) async fn take(tx: &mut Tx, pieces: &[Piece], at: Timestamp) -> Result<bool, StoreError> {
    for Piece(place, _) in pieces {
        let sql = "delete from blob_waste where place = $1 and until > $2";
        if tx.execute(sql, args![place, at]).await? != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of a write that could not [`take`] what it has to.
pub(super) fn late() -> StoreError {
    StoreError::Missing("the places of an upload that took too long".to_owned())
}
