//! What the hub and a guest say to each other.
//!
//! Both send frames on one channel, each with the number of a stream. The hub opens a
//! stream with a [`Request`] under a number that it has not used before; whatever
//! belongs to it has this number, until the guest's [`Answer`] ends it. Streams are
//! independent of each other.
//!
//! | frame | from | what |
//! |---|---|---|
//! | `Request` | hub | opens a stream |
//! | `Answer` | guest | ends it |
//! | `Data`, `End` | both | bytes of a file, a port or standard input, and that there are no more |
//! | `Credit` | both | so many bytes of `Data` were taken; at most [`WINDOW`] are on their way |
//! | `Out`, `Error` | guest | what a process wrote on its standard output, or standard error |
//! | `Artifact` | guest | a value that an interpreter shows, as JSON |
//! | `Cancel` | hub | the stream is to end: its process is killed |
//!
//! `Out`, `Error` and `Artifact` are bounded by the request's `max_output`. Who gets
//! what this does not allow ends the channel: for the hub, the sandbox.

mod frame;
mod message;

pub use frame::{Frame, FrameError, HEADER_BYTES, MAX_PAYLOAD, decode, encode};
pub use message::{
    Answer, Artifact, Ended, Entry, Execute, Failure, FailureKind, Killed, Language, Prepare, Renewal,
    Request, Run,
};

/// Bytes of `Data` of one stream and direction that may be on their way.
pub const WINDOW: u32 = 256 * 1024;

/// Bytes that a sender puts into one `Data`, `Out` or `Error` at most, so that
/// streams take turns.
pub const CHUNK: usize = 32 * 1024;

/// What an `Artifact` counts for in `max_output`, beside its bytes.
pub const ARTIFACT_COST: u64 = 64;

/// Of what is said here; the hub refuses a guest that says another one.
pub const VERSION: u32 = 2;
