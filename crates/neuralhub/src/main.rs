use std::process::ExitCode;

use clap::Parser;
use neuralhub::cli::Cli;
use neuralhub::output;

/// Requests make many small allocations, and free some on other threads, which
/// the C library's allocator is slower at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format!("error: no asynchronous runtime could be made: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.perform());
    // All is done by now, but perhaps a look at stdin, where nobody may ever say anything.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                output::note(format!("error: {message}"));
            }
            failure.code()
        }
    }
}
