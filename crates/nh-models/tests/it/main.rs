//! At the edge: what callers of `Models` see, against the mock upstream and the
//! offline model.

mod harness;
mod offline;
mod offline_properties;
