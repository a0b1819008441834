use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nh_guest::protocol::{ARTIFACT_COST, Frame, WINDOW};
use tokio::sync::Notify;

use super::GuestError;

/// Frames that wait: beyond, output goes to what waits of its kind, so that it comes
/// whole, if not in its exact order.
const MANY: usize = 1024;

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
    /// Bytes of `Data` that were taken and not granted anew.
    taken: u32,
    /// Bytes of `Data` that may be sent before more is granted.
    credit: u32,
    has_answered: bool,
    ended: Option<GuestError>,
}

impl Queue {
    /// For a stream whose request allows so many bytes of output.
    pub(super) fn new(max_output: u64) -> Self {
        let state = State {
            frames: VecDeque::new(),
            output: max_output,
            window: WINDOW,
            taken: 0,
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
        let broken = |what| Err(GuestError::Broken(what));
        match &frame {
            Frame::Out(bytes) | Frame::Error(bytes) | Frame::Artifact(bytes) | Frame::Data(bytes)
                if bytes.is_empty() =>
            {
                return broken("a frame of nothing");
            }
            Frame::Out(bytes) | Frame::Error(bytes) | Frame::Artifact(bytes) => {
                let extra = if matches!(frame, Frame::Artifact(_)) { ARTIFACT_COST } else { 0 };
                match state.output.checked_sub(bytes.len() as u64 + extra) {
                    Some(left) => state.output = left,
                    None => return broken("more output than it may tell"),
                }
            }
            Frame::Data(bytes) => match state.window.checked_sub(size_of(bytes)) {
                Some(left) => state.window = left,
                None => return broken("more bytes than were granted"),
            },
            Frame::Credit(bytes) => {
                match state.credit.checked_add(*bytes).filter(|credit| *bytes > 0 && *credit <= WINDOW) {
                    Some(credit) => state.credit = credit,
                    None => return broken("it took what was not sent"),
                }
                self.credited.notify_one();
                return Ok(());
            }
            Frame::End | Frame::Answer(_) => {}
            Frame::Request(_) | Frame::Cancel => return broken("a frame of the hub's"),
        }
        let is_last = matches!(state.frames.back(), Some(Frame::End | Frame::Answer(_)));
        if is_last && !matches!(frame, Frame::Answer(_)) {
            return broken("more after an end");
        }
        let there = match state.frames.len() > MANY {
            true => state.frames.iter_mut().rev().find(|there| discriminant(*there) == discriminant(&frame)),
            false => state.frames.back_mut(),
        };
        match (there, frame) {
            (Some(Frame::Out(there)), Frame::Out(more))
            | (Some(Frame::Error(there)), Frame::Error(more))
            | (Some(Frame::Data(there)), Frame::Data(more)) => there.extend_from_slice(&more),
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
                    if state.credit > 0 {
                        self.credited.notify_one();
                    }
                    return Ok(Some(granted));
                }
            }
            self.credited.notified().await;
        }
    }

    /// Bytes of `Data` were taken; how many more are to be granted now: not a few at a
    /// time, as a guest may take none of what it is told.
    pub(super) fn taken(&self, bytes: &[u8]) -> Option<u32> {
        let mut state = self.state();
        state.taken = state.taken.saturating_add(size_of(bytes));
        let granted = Some(state.taken).filter(|taken| *taken >= WINDOW / 4)?;
        state.taken = 0;
        state.window = state.window.saturating_add(granted).min(WINDOW);
        Some(granted)
    }
}

fn size_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
