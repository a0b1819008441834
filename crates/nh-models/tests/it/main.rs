//! At the edge: what callers of `Models` see, against the mock upstream and the
//! offline model.

mod chat;
mod embeddings;
mod harness;
mod models;
mod offline;
mod offline_properties;
mod settings;
mod stream;
mod usage;
