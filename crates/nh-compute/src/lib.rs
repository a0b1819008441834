//! Sandboxes: what runs code that nobody trusts, and how the hub speaks with it.
//!
//! A sandbox is a process of its driver, with [`guest::Guest`] as the only way in and
//! out: two pipes to the program that is its first process. Whatever comes on them is
//! taken as coming from an enemy; at worst its own sandbox is lost.
//!
//! This crate must never know routes, agents or runs. Start reading at [`drivers`] and
//! [`guest::Guest`].

pub mod drivers;
pub mod guest;
pub mod templates;
