//! The binary from outside, and what holds for the whole workspace.

mod binary;
mod configuration;
mod documents;
mod edges;
mod hub;
