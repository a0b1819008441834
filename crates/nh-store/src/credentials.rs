//! The credential epoch: one number for the whole store, raised by everything
//! that ends or changes what a key or a session may do. Whoever caches
//! credentials reads it often and forgets them all when it has moved.

use crate::columns::Columns;
use crate::sql::args;
use crate::{Store, StoreError, Tx};

pub async fn epoch(store: &Store) -> Result<i64, StoreError> {
    let epoch = store
        .find("select epoch from credential_epoch where id = 1", args![], |row| Columns::of(row).int())
        .await?;
    epoch.ok_or_else(|| StoreError::Corrupt("the credential epoch is gone".to_owned()))
}

pub(crate) async fn raise_epoch(tx: &mut Tx) -> Result<(), StoreError> {
    tx.execute("update credential_epoch set epoch = epoch + 1 where id = 1", args![]).await.map(drop)
}
