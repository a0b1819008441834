//! What models there are and what they cost: the configuration's word first,
//! then the provider's own listing ([`listing`]), then the built-in table
//! ([`table`]).

mod listing;
mod price;
mod shelf;
mod table;

pub(crate) use listing::{ListingBounds, is_id};
pub(crate) use price::Price;
pub(crate) use shelf::{Model, Shelf};
