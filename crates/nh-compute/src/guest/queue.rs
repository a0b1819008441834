use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nh_guest::protocol::{Frame, WINDOW};
use tokio::sync::Notify;

use super::GuestError;

/// Bytes of artifacts that may come beside a bound on output: the guest counts one only
/// when it is whole.
const SLACK: u64 = 64 * 1024;

/// What came of one stream and was not taken yet. Its bytes are bounded, so whoever
/// takes slowly keeps no other stream waiting.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something came.
    came: Notify,
    /// More may be sent, or nothing any more.
    credited: Notify,
}

struct State {
    frames: VecDeque<Frame>,
    /// Bytes of output that may still come.
    output: u64,
    /// Bytes of `Data` that may come before more is granted.
    window: u32,
    /// Bytes of `Data` that may be sent before more is granted.
    credit: u32,
    has_answered: bool,
    ended: Option<GuestError>,
}

impl Queue {
    /// For a stream whose request allows so many bytes of output.
    pub(super) fn new(max_output: u64) -> Self {
        let output = max_output.saturating_add(SLACK);
        let state = State {
            frames: VecDeque::new(),
            output,
            window: WINDOW,
            credit: WINDOW,
            has_answered: false,
            ended: None,
        };
        Self { state: Mutex::new(state), came: Notify::new(), credited: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error: the guest may not say this here.
    pub(super) fn put(&self, frame: Frame) -> Result<(), GuestError> {
        let mut state = self.state();
        match &frame {
            Frame::Out(bytes) | Frame::Error(bytes) | Frame::Artifact(bytes) => {
                let left = state.output.checked_sub(bytes.len() as u64);
                state.output = left.ok_or(GuestError::Broken("more output than it may tell"))?;
            }
            Frame::Data(bytes) => {
                let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let left = state.window.checked_sub(size);
                state.window = left.ok_or(GuestError::Broken("more bytes than were granted"))?;
            }
            Frame::Credit(bytes) => {
                let credit = state.credit.checked_add(*bytes).filter(|credit| *credit <= WINDOW);
                state.credit = credit.ok_or(GuestError::Broken("it took more than was sent"))?;
                self.credited.notify_one();
                return Ok(());
            }
            Frame::End | Frame::Answer(_) => {}
            Frame::Request(_) | Frame::Cancel => return Err(GuestError::Broken("a frame of the hub's")),
        }
        match (state.frames.back_mut(), frame) {
            (Some(Frame::Out(there)), Frame::Out(more)) | (Some(Frame::Error(there)), Frame::Error(more)) => {
                there.extend_from_slice(&more);
            }
            (Some(Frame::End | Frame::Answer(_)), Frame::End) => {
                return Err(GuestError::Broken("more after an end"));
            }
            (_, frame) => state.frames.push_back(frame),
        }
        state.has_answered |= matches!(state.frames.back(), Some(Frame::Answer(_)));
        self.came.notify_one();
        self.credited.notify_one();
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn end(&self, error: GuestError) {
        self.state().ended.get_or_insert(error);
        self.came.notify_one();
        self.credited.notify_one();
    }

    pub(super) async fn next(&self) -> Result<Frame, GuestError> {
        loop {
            {
                let mut state = self.state();
                if let Some(frame) = state.frames.pop_front() {
                    return Ok(frame);
                }
                if let Some(error) = &state.ended {
                    return Err(error.clone());
                }
            }
            self.came.notified().await;
        }
    }

    /// Waits until bytes may be sent; how many of `wanted`. None: the guest answered, so
    /// it takes no more.
    pub(super) async fn credit(&self, wanted: u32) -> Result<Option<u32>, GuestError> {
        loop {
            {
                let mut state = self.state();
                if state.has_answered {
                    return Ok(None);
                }
                if let Some(error) = &state.ended {
                    return Err(error.clone());
                }
                if state.credit > 0 {
                    let granted = wanted.min(state.credit);
                    state.credit -= granted;
                    return Ok(Some(granted));
                }
            }
            self.credited.notified().await;
        }
    }

    /// Bytes of `Data` were taken.
    pub(super) fn granted(&self, bytes: u32) {
        let mut state = self.state();
        state.window = state.window.saturating_add(bytes).min(WINDOW);
    }
}
