//! Other protocols that the hub itself serves, in front of the one chat protocol. What is here
//! only translates.

pub mod messages;
mod places;
pub mod responses;

pub use places::Places;
