//! `nh-guest`: speaks with the hub on its standard input and output until that ends.

use std::io::{stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    match nh_guest::guest::serve(stdin(), stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
