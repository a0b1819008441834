//! The hub as a gateway to models, beside nginx as a plain proxy before the same
//! mock upstream, which is a process of its own.

pub mod bench;
pub mod nginx;
pub mod streams;
pub mod upstream;
