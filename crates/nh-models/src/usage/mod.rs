//! What each call used: read out of the provider's answer ([`reported`]),
//! guessed where it does not say ([`estimate`]), and carried to the store in
//! batches ([`UsageSink`]).

mod estimate;
mod meter;
mod reported;
mod sink;

pub use estimate::tokens_of;
pub(crate) use estimate::{at_most, prompt_tokens};
pub(crate) use meter::{Meter, Metered};
pub(crate) use reported::Reported;
pub(crate) use sink::Place;
pub use sink::{UsageSink, UsageWriter};
