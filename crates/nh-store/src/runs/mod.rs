//! Runs and their journals.
//!
//! A run's row is the sum of its journal, kept beside it so that lists and
//! claims need not read the journal. `owner` and `epoch` fence writers: whoever
//! claims a run raises its epoch, and a writer with an older epoch changes
//! nothing.

mod append;
mod cancel;
mod claim;
mod insert;
mod read;
mod record;

pub use append::{Append, Appended, RunChange, RunEnding};
pub use cancel::{CancelOutcome, CancelUnowned};
pub use claim::{Claim, ReleaseAll};
pub use insert::Insert;
pub use read::{OwnedRun, RunFilter, count_unfinished, events, find, list, owned};
pub use record::{EventRow, RunRecord};
