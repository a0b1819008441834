//! Runs and their journals.
//!
//! A run's row is the sum of its journal, kept beside it so that lists and
//! claims need not read the journal. `owner` and `epoch` fence writers: whoever
//! claims a run raises its epoch, and a writer with an older epoch changes
//! nothing. `ready` and `wake_at` say when a run that nobody drives goes on.
//!
//! Statements that name runs by their ids or their parents' say `finished_at + 0 is null`. The sum
//! hides the condition from PostgreSQL's planner, which would otherwise walk the
//! index of all unfinished runs: of a table that is not analysed yet it takes
//! there to be one.

mod append;
mod cancel;
mod check;
mod claim;
mod insert;
mod lane;
mod read;
mod record;
mod reference;
mod retention;
mod signal;
mod thread;
mod turns;
mod values;

pub use append::{Append, Appended, RunChange, RunEnding, Then};
pub use cancel::{CancelOutcome, CancelUnowned};
pub use check::{CheckedRuns, Repair, RunFault, check};
pub use claim::{Claim, Claimed, ReleaseAll, WakeDue, Woken};
pub use insert::Insert;
pub use lane::Group;
pub use read::{
    OwnedRun, QueueDepth, RunFilter, count_unfinished, count_waiting, events, find, list, next_wake, owned,
    queue_depth,
};
pub use record::{Apart, EventRow, Parent, RunRecord, ThreadPlace};
pub use reference::EventReference;
pub use retention::{RemoveFinished, Removed};
pub use signal::{Send, Sent, SignalRow, signals};
pub use thread::{ThreadTurn, thread_turns};
pub use turns::{Share, Shares, Turn};
pub use values::{Kept, LargeValue, RemoveOrphans, value_bytes, value_from};
