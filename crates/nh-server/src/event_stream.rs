//! How many event streams are open at once. Each holds a connection and wakes
//! with its run, so both the process and a workspace have a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nh_types::{ApiError, ErrorCode, WorkspaceId};

const MAX_OPEN: usize = 2000;
const MAX_OPEN_PER_WORKSPACE: usize = 200;
const RETRY_AFTER_SECONDS: u64 = 5;

#[derive(Clone, Debug, Default)]
pub(crate) struct EventStreams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_workspace: HashMap<WorkspaceId, usize>,
}

/// One open stream; dropping it makes room.
#[derive(Debug)]
pub(crate) struct OpenStream {
    workspace_id: WorkspaceId,
    streams: EventStreams,
}

impl EventStreams {
    pub(crate) fn open(&self, workspace_id: &WorkspaceId) -> Result<OpenStream, ApiError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= MAX_OPEN {
            let message = format!("{MAX_OPEN} event streams are open, the most that this hub keeps open");
            return Err(ApiError::new(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER_SECONDS));
        }
        if open.by_workspace.get(workspace_id).is_some_and(|count| *count >= MAX_OPEN_PER_WORKSPACE) {
            let message =
                format!("this workspace has {MAX_OPEN_PER_WORKSPACE} event streams open; close some");
            return Err(ApiError::new(ErrorCode::RateLimited, message).retry_after(RETRY_AFTER_SECONDS));
        }
        open.total += 1;
        *open.by_workspace.entry(workspace_id.clone()).or_default() += 1;
        Ok(OpenStream { workspace_id: workspace_id.clone(), streams: self.clone() })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_workspace.get_mut(&self.workspace_id) {
            *count -= 1;
            if *count == 0 {
                open.by_workspace.remove(&self.workspace_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_cannot_take_all_streams_and_closing_makes_room() {
        let streams = EventStreams::default();
        let mine: WorkspaceId = "ws_aaaaaaaaaaaaaaaaaaaa".parse().expect("id");
        let other: WorkspaceId = "ws_bbbbbbbbbbbbbbbbbbbb".parse().expect("id");
        let mut open: Vec<_> =
            (0..MAX_OPEN_PER_WORKSPACE).map(|_| streams.open(&mine).expect("room")).collect();
        assert_eq!(streams.open(&mine).err().map(|error| error.code), Some(ErrorCode::RateLimited));
        assert!(streams.open(&other).is_ok());
        open.pop();
        assert!(streams.open(&mine).is_ok());
        drop(open);
        assert_eq!(streams.0.lock().expect("lock").total, 0);
        assert!(streams.0.lock().expect("lock").by_workspace.is_empty());
    }
}
