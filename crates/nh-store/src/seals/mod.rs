//! Secrets at rest: AES-256-GCM (NIST SP 800-38D) under the operator's master
//! key, bound to the workspace, table and row that hold them.
//!
//! [`prove`] shows at start that the key is this store's, and seals anew what
//! an older key sealed.

mod proof;
mod sealer;
mod secrets;

pub use proof::{Proof, prove};
pub use sealer::{MasterKey, Place, Sealed, Sealer};
pub use secrets::{Put, Remove, RemoveOwned, open, owned_row};
