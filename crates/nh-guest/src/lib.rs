//! The small program inside a sandbox, and the protocol that it speaks with the hub.
//!
//! It is the first process of a sandbox (PID 1): it runs commands and keeps one
//! interpreter of each language, reads and writes files, reaches servers inside, and
//! reaps what others leave. It uses threads and blocking calls only, so that it is
//! small, starts in a millisecond and can be linked statically.
//!
//! This crate must never know the hub, its stores or its network. Start reading at
//! [`protocol`], which both ends share, then at [`guest::serve`]; [`vm`] comes before it
//! in a virtual machine.

pub mod guest;
pub mod protocol;
pub mod vm;
