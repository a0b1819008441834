//! Model providers behind one protocol: OpenAI's chat completions and
//! embeddings, plain and streamed, with a catalogue of models and prices and
//! with every call's tokens and cost accounted for.
//!
//! This crate must never know what a run, an agent or an HTTP route is, and it
//! writes to the store only through the batched [`UsageSink`] and the
//! [`ResponseCache`]. Start reading at
//! [`Models`] (`models.rs`): it finds the model's route in memory and hands the
//! call either to a provider (`provider/`, `stream/`) or to the built-in
//! [`offline`] planner.

mod aliases;
mod bids;
mod cache;
mod call;
mod catalogue;
mod chat;
mod embeddings;
mod error;
mod ledger;
mod limits;
mod local;
mod meters;
mod models;
mod offered;
pub mod offline;
pub mod own;
mod passed;
mod provider;
mod routing;
pub mod served;
mod settings;
mod stream;
mod usage;

pub use aliases::ModelAlias;
pub use cache::{CacheTold, CacheUse, ResponseCache};
pub use error::ModelError;
pub use ledger::{Account, Charge, Ledger, Reservation};
pub use local::{Embedded, LocalEmbedder};
pub use models::{Caller, Completion, Models, ModelsSetup};
pub use nh_types::provider::{ModelSettings, ProviderKind};
pub use own::OwnProviders;
pub use settings::{
    CacheSettings, MAX_CACHE_SECONDS, ProviderSettings, ResolvedProvider, Timeouts, WorkspaceLimits,
};
pub use stream::{ChatStream, Listener};
pub use usage::{UsageSink, UsageWriter, tokens_of};
