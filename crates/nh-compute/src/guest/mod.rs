//! The hub's end of the channel to a guest (`nh_guest::protocol`).

mod channel;
mod error;
mod queue;
mod stream;

pub use channel::Guest;
pub use error::GuestError;
pub use stream::{Event, Sender, Stream};

/// The program that is the first process of each sandbox, linked statically.
pub static PROGRAM: &[u8] = include_bytes!(env!("NH_GUEST"));
