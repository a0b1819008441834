//! Guests, as the hub speaks with them.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail so

mod drivers;
mod hostile;
mod real;
mod templates;

/// Of the driver and of building templates, which isolate nothing for anybody else yet.
fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "the tests of gVisor and of templates need root");
}
