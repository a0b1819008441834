//! Sealed values, one row each, beside the rows that they belong to.

use nh_types::WorkspaceId;
use secrecy::SecretSlice;

use super::{Place, Sealed, Sealer};
use crate::columns::Columns;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// Keeps a sealed value for a row of another table, in place of the one that
/// was there. Made by [`Put::sealing`].
pub struct Put {
    workspace_id: WorkspaceId,
    table: &'static str,
    row_id: String,
    sealed: Sealed,
}

impl Put {
    pub fn sealing(
        sealer: &Sealer,
        workspace_id: &WorkspaceId,
        table: &'static str,
        row_id: &str,
        plaintext: &SecretSlice<u8>,
    ) -> Result<Self, StoreError> {
        let place = Place { workspace_id: Some(workspace_id), table, row_id };
        let sealed = sealer.seal(place, plaintext)?;
        Ok(Self { workspace_id: workspace_id.clone(), table, row_id: row_id.to_owned(), sealed })
    }
}

impl Write for Put {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "insert into secrets (workspace_id, owner_table, row_id, key_id, sealed) values ($1, $2, $3, $4, $5) \
             on conflict (workspace_id, owner_table, row_id) \
             do update set key_id = excluded.key_id, sealed = excluded.sealed",
            args![
                &self.workspace_id,
                self.table,
                &self.row_id,
                self.sealed.key_id.as_slice(),
                self.sealed.bytes.as_slice()
            ],
        )
        .await
        .map(drop)
    }
}

/// Removes the sealed value of a row.
#[derive(Clone, Debug)]
pub struct Remove {
    pub workspace_id: WorkspaceId,
    pub table: &'static str,
    pub row_id: String,
}

impl Write for Remove {
    /// False when there was none.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let removed = tx
            .execute(
                "delete from secrets where workspace_id = $1 and owner_table = $2 and row_id = $3",
                args![&self.workspace_id, self.table, &self.row_id],
            )
            .await?;
        Ok(removed > 0)
    }
}

/// The row of one of several secrets of a registration. `/` must not be in the owner's name.
pub fn owned_row(owner: &str, secret: &str, generation: &str, origin: &str) -> String {
    format!("{owner}/{secret}/{generation}/{origin}")
}

/// Removes all secrets of a registration that are in rows as [`owned_row`] names them.
#[derive(Clone, Debug)]
pub struct RemoveOwned {
    pub workspace_id: WorkspaceId,
    pub table: &'static str,
    pub owner: String,
}

impl Write for RemoveOwned {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        // `0` follows `/`: all rows of this name, and no other's.
        let (first, past) = (format!("{}/", self.owner), format!("{}0", self.owner));
        tx.execute(
            "delete from secrets where workspace_id = $1 and owner_table = $2 and row_id >= $3 and row_id < $4",
            args![&self.workspace_id, self.table, first, past],
        )
        .await
        .map(drop)
    }
}

/// Opens the sealed value of a row, if there is one.
pub async fn open(
    store: &Store,
    sealer: &Sealer,
    workspace_id: &WorkspaceId,
    table: &'static str,
    row_id: &str,
) -> Result<Option<SecretSlice<u8>>, StoreError> {
    let sealed = store
        .find(
            "select key_id, sealed from secrets where workspace_id = $1 and owner_table = $2 and row_id = $3",
            args![workspace_id, table, row_id],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Sealed { key_id: columns.bytes()?, bytes: columns.bytes()? })
            },
        )
        .await?;
    let place = Place { workspace_id: Some(workspace_id), table, row_id };
    sealed.map(|sealed| sealer.open(place, &sealed)).transpose()
}
