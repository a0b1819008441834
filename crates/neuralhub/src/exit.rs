//! How a command ends: what it says, and the exit code that scripts read.

use std::process::ExitCode;

use nh_http::HttpError;
use nh_types::ErrorBody;

use crate::config::Faults;

/// The table that `--help` and `docs/cli.md` show.
pub const HELP: &str = "Exit codes:
  0  all was done
  1  it failed, here or in the hub; the message says why
  2  the command line or the configuration is wrong
  3  the run ended, but not in SUCCESS
  4  the hub refused: the key, its scopes, or the request (4xx)
  5  no hub could be reached
`sandbox exec` and `sandbox shell` end as what they ran last.";

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Configuration(#[from] Faults),
    /// What ran in a sandbox ended so; all is already printed.
    #[error("")]
    Ended(u8),
    /// The run was made and ended badly; all is already printed.
    #[error("")]
    RunNotSuccessful,
    #[error("{}", refusal(*status, body))]
    Refused { status: u16, body: Box<ErrorBody>, retry_after_seconds: Option<u64> },
    #[error(
        "no hub answers at {url}: {source}\nStart one with `neuralhub serve`, or name another with --url."
    )]
    Unreachable { url: String, source: HttpError },
    /// A reader such as `head` closed the pipe: not worth a word.
    #[error("")]
    OutputClosed,
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Other(_) => 1,
            Self::Usage(_) | Self::Configuration(_) => 2,
            Self::RunNotSuccessful => 3,
            Self::Ended(code) => *code,
            Self::Refused { status, .. } if *status < 500 => 4,
            Self::Refused { .. } => 1,
            Self::Unreachable { .. } => 5,
        })
    }
}

fn refusal(status: u16, body: &ErrorBody) -> String {
    let error = &body.error;
    let id = error.request_id.as_deref().map(|id| format!(", request {id}")).unwrap_or_default();
    format!("{} ({status} {}{id})", error.message, error.code)
}
