//! Sandboxes: what runs code that nobody trusts, and how the hub speaks with it.
//!
//! A sandbox is a process of its driver, with [`guest::Guest`] as the only way in and
//! out: two pipes to the program that is its first process. Whatever comes on them is
//! taken as coming from an enemy; at worst its own sandbox is lost.
//!
//! A sandbox has a row (`nh_store::sandboxes`) from before it starts until after nothing
//! of it is left, and a task that follows it from one to the other.
//!
//! This crate must never know routes or agents. Start reading at [`Compute`], then
//! [`drivers`] and [`guest::Guest`].

mod compute;
mod connect;
mod create;
pub mod drivers;
mod error;
mod execute;
mod files;
pub mod guest;
mod live;
mod metering;
mod meters;
mod of_runs;
mod pool;
mod settings;
mod snapshots;
pub mod templates;
mod upkeep;

pub use compute::{Compute, ComputeSetup, Found, MAX_LIFE_SECONDS, templates};
pub use connect::Connection;
pub use create::{Author, New};
pub use error::ComputeError;
pub use execute::{Executing, Said, What, Work};
pub use of_runs::OfRun;
pub use settings::{ComputeSettings, DriverChoice};
pub use upkeep::keep;
