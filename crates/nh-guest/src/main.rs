//! `nh-guest`: speaks with the hub on its standard input and output until that ends; as
//! the first program of a virtual machine, on the machine's channel.

use std::io::{self, Write as _, stderr, stdin, stdout};
use std::process::ExitCode;

use nh_guest::{guest, vm};

fn main() -> ExitCode {
    let served = if vm::is_here() { serve_machine() } else { guest::serve(stdin(), stdout()) };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What goes wrong is told on the machine's console.
fn serve_machine() -> io::Result<()> {
    let served = vm::begin().and_then(|channel| guest::serve(channel.try_clone()?, channel));
    if let Err(error) = &served {
        writeln!(stderr(), "nh-guest: {error}")?;
    }
    let ended = vm::end();
    served.and(ended)
}
