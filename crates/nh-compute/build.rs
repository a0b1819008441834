//! Builds `nh-guest` for the inside of sandboxes, linked statically, so that the hub
//! carries it and needs no file beside its own.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

/// What cargo and clippy set for this build, and the guest's must not have.
const OURS: [&str; 5] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_MAKEFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let guest = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../nh-guest");
    for part in ["src", "Cargo.toml", "../../Cargo.lock", "../../Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", guest.join(part).display());
    }
    let target = format!("{}-unknown-linux-gnu", env::var("CARGO_CFG_TARGET_ARCH")?);
    let directory = Path::new(&env::var("OUT_DIR")?).join("guest");
    let mut cargo = Command::new(env::var("CARGO")?);
    OURS.iter().for_each(|name| {
        cargo.env_remove(name);
    });
    let built = cargo
        .args(["build", "--locked", "--release", "--quiet", "--bin", "nh-guest", "--target", &target])
        .arg("--manifest-path")
        .arg(guest.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()?;
    if !built.success() {
        return Err("nh-guest could not be built for sandboxes; its errors are above".into());
    }
    let program = directory.join(target).join("release/nh-guest");
    println!("cargo::rustc-env=NH_GUEST={}", program.display());
    Ok(())
}
