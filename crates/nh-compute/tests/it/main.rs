//! Guests, as the hub speaks with them.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail so

mod drivers;
mod hostile;
mod real;
mod templates;

/// Most drivers do, and building templates does.
fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "the tests of sandboxes and of templates need root");
}
