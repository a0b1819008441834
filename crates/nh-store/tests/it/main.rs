//! The store's tests, each on SQLite, on PostgreSQL and in memory: run them through
//! `scripts/with-postgres`.

// Clippy knows only functions marked as tests; all of this is test code.
#![allow(clippy::expect_used, clippy::panic)]

mod agents;
mod ann;
mod fixtures;
mod group_commit;
mod hostile;
mod idempotency;
mod keys;
mod lanes;
mod ledger;
mod memory;
mod metering;
mod opening;
mod plans;
mod runs;
mod sandboxes;
mod seals;
mod signals;
mod usage;
mod users;
mod values;
mod waiting;
mod webhooks;
mod workspaces;
