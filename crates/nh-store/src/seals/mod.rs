//! Secrets at rest: AES-256-GCM under the master key, bound to the workspace,
//! table and row that hold them.

mod keyring;

pub use keyring::{MasterKey, Proof, Sealer, prove};
