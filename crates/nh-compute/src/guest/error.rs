use nh_guest::protocol::Failure;

/// Why something did not come to its end in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The guest says so; the sandbox goes on.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// Its channel ended: the sandbox is gone.
    #[error("the sandbox has ended")]
    Gone,
    /// It says what a guest does not say. Its channel is closed.
    #[error("the sandbox broke its protocol: {0}")]
    Broken(&'static str),
}
