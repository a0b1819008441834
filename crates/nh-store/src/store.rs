use std::path::Path;

use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{EngineKind, Idempotency, Once, StoreError, Write};

/// The store. Clones share one writer and one pool of readers.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens the file, which is made (mode 0600) when it is missing, and brings
    /// its schema up to date.
    pub async fn open_sqlite(_path: &Path) -> Result<Self, StoreError> {
        todo!()
    }

    /// Connects, and brings the schema up to date under an advisory lock.
    pub async fn open_postgres(_url: &SecretString) -> Result<Self, StoreError> {
        todo!()
    }

    pub fn engine(&self) -> EngineKind {
        todo!()
    }

    /// Queues `op` and waits until it is committed. Dropping the future does
    /// not take it back.
    pub async fn write<W: Write>(&self, _op: W) -> Result<W::Output, StoreError> {
        todo!()
    }

    /// The same, with an idempotency record in the same transaction.
    pub async fn write_once<W>(
        &self,
        _once: Option<Idempotency>,
        _op: W,
    ) -> Result<Once<W::Output>, StoreError>
    where
        W: Write,
        W::Output: Serialize + DeserializeOwned,
    {
        todo!()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// Takes no more writes, commits what is queued, and closes the connections.
    pub async fn close(&self) {
        todo!()
    }
}
