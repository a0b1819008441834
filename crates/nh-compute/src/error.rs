use nh_guest::protocol::FailureKind;
use nh_store::StoreError;
use nh_types::{ApiError, ErrorCode};

use crate::drivers::StartError;
use crate::guest::GuestError;

/// Why something could not be done with a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// What was asked for is not acceptable, or not now.
    #[error(transparent)]
    Refused(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a sandbox could not be started: {0}")]
    Start(#[from] StartError),
    /// Its sandbox ended meanwhile, or its channel did.
    #[error("{0}")]
    Guest(GuestError),
}

impl From<GuestError> for ComputeError {
    fn from(error: GuestError) -> Self {
        let GuestError::Failed(failure) = error else { return Self::Guest(error) };
        let code = match failure.kind {
            FailureKind::NotFound => ErrorCode::NotFound,
            FailureKind::Exhausted => ErrorCode::Conflict,
            FailureKind::Invalid | FailureKind::Other => ErrorCode::InvalidValue,
        };
        // What a sandbox says is bounded, and no secret of the hub's.
        let message: String = failure.message.chars().take(500).collect();
        Self::Refused(ApiError::new(code, message))
    }
}

pub(crate) fn invalid(param: &str, message: String) -> ComputeError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param).into()
}
