//! The one outbound HTTP client: a guard against reaching what is private,
//! limits on time and size, redirects followed by hand, and the decoding of
//! server-sent events.
//!
//! This crate must never know what it is used for: no models, no tools, no
//! store. It names no key and logs no URL (query strings can hold keys).
//!
//! Start reading at [`Outbound`]; what may be reached is in [`Guard`] and
//! [`address`].

pub mod address;
mod body;
mod connection;
mod connector;
mod error;
mod guard;
mod limits;
mod outbound;
mod pool;
mod redirect;
mod resolve;
mod settings;
pub mod sse;
mod tls;
mod unpack;

pub use body::{Body, Response};
pub use error::{HttpError, Phase};
pub use guard::Guard;
pub use limits::Limits;
pub use outbound::Outbound;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use settings::HttpSettings;
