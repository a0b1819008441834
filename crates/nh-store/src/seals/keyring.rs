use nh_types::{SharedIds, WorkspaceId};
use secrecy::{SecretSlice, SecretString};

use crate::{Store, StoreError};

/// 32 bytes that the operator keeps.
#[derive(Clone)]
pub struct MasterKey(#[allow(dead_code)] SecretSlice<u8>);

impl MasterKey {
    pub const LENGTH_BYTES: usize = 32;

    /// The content of a master key file: exactly 32 bytes.
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, StoreError> {
        todo!()
    }
}

/// Seals and opens values.
#[derive(Clone)]
pub struct Sealer {}

impl Sealer {
    /// Seals under `master`; opens under `master` and `old_masters`.
    pub fn new(_master: &MasterKey, _old_masters: &[MasterKey], _ids: SharedIds) -> Self {
        todo!()
    }

    pub fn seal(
        &self,
        _workspace_id: &WorkspaceId,
        _table: &str,
        _row_id: &str,
        _plaintext: &SecretString,
    ) -> Result<Vec<u8>, StoreError> {
        todo!()
    }

    pub fn open(
        &self,
        _workspace_id: &WorkspaceId,
        _table: &str,
        _row_id: &str,
        _sealed: &[u8],
    ) -> Result<SecretString, StoreError> {
        todo!()
    }
}

/// What [`prove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The store had no seal yet; it belongs to this key from now on.
    First,
    /// The master key is the store's.
    Same,
    /// An old key was the store's: so many secrets were sealed anew.
    Rotated { secrets: u64 },
}

/// Proves at start that the master key fits this store, and seals anew under it
/// what an old key sealed. A key that does not fit is
/// [`StoreError::WrongMasterKey`].
pub async fn prove(_store: &Store, _sealer: &Sealer) -> Result<Proof, StoreError> {
    todo!()
}
