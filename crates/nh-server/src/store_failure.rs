//! The store's and the engine's errors as clients see them.

use nh_agents::HubError;
use nh_blobs::BlobError;
use nh_compute::ComputeError;
use nh_engine::EngineError;
use nh_memory::MemoryError;
use nh_models::ModelError;
use nh_store::StoreError;
use nh_types::{ApiError, ErrorCode};

use crate::failure::Failure;

const RETRY_AFTER_SECONDS: u64 = 1;
const QUEUE_RETRY_AFTER_SECONDS: u64 = 5;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let api = match &error {
            StoreError::InvalidCursor(_) => {
                ApiError::new(ErrorCode::InvalidValue, error.to_string()).param("cursor")
            }
            StoreError::Unstorable(_) => ApiError::new(ErrorCode::InvalidValue, error.to_string()),
            StoreError::Conflict(_) => ApiError::new(
                ErrorCode::Conflict,
                "the request does not fit the present state; read it again and retry",
            ),
            StoreError::Overloaded { .. } => {
                ApiError::new(ErrorCode::Overloaded, error.to_string()).retry_after(RETRY_AFTER_SECONDS)
            }
            StoreError::Unavailable(_) | StoreError::TimedOut { .. } => {
                ApiError::new(ErrorCode::ComponentUnavailable, "the store cannot be reached at present")
                    .retry_after(RETRY_AFTER_SECONDS)
            }
            StoreError::Closed => shutting_down(),
            StoreError::Missing(_)
            | StoreError::Corrupt(_)
            | StoreError::Settings(_)
            | StoreError::Migration(_)
            | StoreError::WrongMasterKey
            | StoreError::Unsealable { .. }
            | StoreError::Database(_) => return Failure::internal(error),
        };
        Self { error: api, cause: Some(Box::new(error)) }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::ShuttingDown => shutting_down().into(),
            EngineError::QueueFull { .. } => {
                ApiError::new(ErrorCode::QueueFull, format!("{error}; wait until some have begun"))
                    .retry_after(QUEUE_RETRY_AFTER_SECONDS)
                    .into()
            }
            EngineError::TooLarge { field, .. } => {
                ApiError::new(ErrorCode::PayloadTooLarge, error.to_string()).param(field).into()
            }
            EngineError::Store(error) => error.into(),
            EngineError::Unreadable(_) | EngineError::UnreadableValue { .. } => Failure::internal(error),
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Refused(error) => error.into(),
            HubError::Engine(error) => error.into(),
        }
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::Refused(error) => error.into(),
            MemoryError::Store(error) => error.into(),
        }
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Refused(error) => error.into(),
            BlobError::Store(error) => error.into(),
            BlobError::Files(_) => {
                let message = "the files of the objects cannot be used at present; the hub's log says why";
                let told =
                    ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(RETRY_AFTER_SECONDS);
                Self { error: told, cause: Some(Box::new(error)) }
            }
            BlobError::Bucket(_) => {
                let message =
                    "the bucket that holds the objects cannot be used at present; the hub's log says why";
                let told =
                    ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(RETRY_AFTER_SECONDS);
                Self { error: told, cause: Some(Box::new(error)) }
            }
        }
    }
}

impl From<ComputeError> for Failure {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Refused(error) => error.into(),
            ComputeError::Store(error) => error.into(),
            ComputeError::Start(_) | ComputeError::Guest(_) => {
                let message = "the sandbox could not be started or reached; the hub's log says why";
                let told =
                    ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(RETRY_AFTER_SECONDS);
                Self { error: told, cause: Some(Box::new(error)) }
            }
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self { error: error.clone().into(), cause: Some(Box::new(error)) }
    }
}

pub(crate) fn shutting_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the hub is stopping; try again").retry_after(RETRY_AFTER_SECONDS)
}
