//! The binary from outside, and what holds for the whole workspace.

mod binary;
mod configuration;
mod crash;
mod documents;
mod edges;
mod http;
mod hub;
