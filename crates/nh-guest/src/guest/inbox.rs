use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::channel::Channel;
use super::{failed, locked};
use crate::protocol::{CHUNK, Failure, FailureKind, Frame, WINDOW};

/// What came for a stream and was not taken yet.
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    /// Can be read while something is there, for who waits for other things too.
    event: OwnedFd,
}

struct State {
    data: VecDeque<Vec<u8>>,
    has_ended: bool,
    is_cancelled: bool,
    /// Bytes that may be sent before more is granted.
    credit: u32,
}

/// What is taken from an inbox at once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) data: Vec<Vec<u8>>,
    pub(super) has_ended: bool,
    pub(super) is_cancelled: bool,
    pub(super) credit: u32,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State { data: VecDeque::new(), has_ended: false, is_cancelled: false, credit: WINDOW };
        Ok(Self { state: Mutex::new(state), changed: Condvar::new(), event })
    }

    pub(super) fn put(&self, frame: Frame) {
        let mut state = locked(&self.state);
        match frame {
            Frame::Data(bytes) if !state.has_ended => state.data.push_back(bytes),
            Frame::End => state.has_ended = true,
            Frame::Cancel => state.is_cancelled = true,
            Frame::Credit(bytes) => state.credit = state.credit.saturating_add(bytes).min(WINDOW),
            _ => return,
        }
        drop(state);
        self.changed.notify_all();
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        locked(&self.state).is_cancelled
    }

    /// All that is there, without waiting. Credit is taken too: it is the caller's.
    pub(super) fn take(&self) -> Taken {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        let mut state = locked(&self.state);
        Taken {
            data: state.data.drain(..).collect(),
            has_ended: state.has_ended,
            is_cancelled: state.is_cancelled,
            credit: std::mem::take(&mut state.credit),
        }
    }

    /// Waits for the next bytes, and grants as many; None at their end.
    pub(super) fn next(&self, channel: &Channel, stream: u32) -> Result<Option<Vec<u8>>, Failure> {
        let mut state = locked(&self.state);
        loop {
            if state.is_cancelled {
                return Err(given_up());
            }
            if let Some(bytes) = state.data.pop_front() {
                channel.send(stream, Frame::Credit(bytes.len() as u32));
                return Ok(Some(bytes));
            }
            if state.has_ended {
                return Ok(None);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends bytes as the hub takes them.
    pub(super) fn send(&self, channel: &Channel, stream: u32, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let mut state = locked(&self.state);
            while state.credit == 0 && !state.is_cancelled {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.is_cancelled {
                return Err(given_up());
            }
            let size = bytes.len().min(CHUNK).min(state.credit as usize);
            state.credit -= size as u32;
            drop(state);
            let (now, rest) = bytes.split_at(size);
            channel.send(stream, Frame::Data(now.to_vec()));
            bytes = rest;
        }
        Ok(())
    }
}

/// What whoever gave it up does not hear.
pub(super) fn given_up() -> Failure {
    Failure { kind: FailureKind::Other, ..failed(io::Error::other("it was given up")) }
}
