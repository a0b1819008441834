use std::io::Write;
use std::sync::Mutex;

use super::{invalid, locked};
use crate::protocol::{Answer, Frame, encode};

/// The way to the hub, which takes whole frames of one stream after the other.
pub(super) struct Channel(Mutex<Box<dyn Write + Send>>);

impl Channel {
    pub(super) fn new(output: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(output)))
    }

    /// Where the hub takes nothing any more, this ends soon: so does the input.
    pub(super) fn send(&self, stream: u32, frame: Frame) {
        let mut bytes = Vec::new();
        if encode(stream, &frame, &mut bytes).is_err() {
            bytes.clear();
            let failure = Frame::Answer(Answer::Failed(invalid("the answer is too long to be told")));
            if !matches!(frame, Frame::Answer(_)) || encode(stream, &failure, &mut bytes).is_err() {
                return;
            }
        }
        let mut output = locked(&self.0);
        let _ = output.write_all(&bytes).and_then(|()| output.flush());
    }
}
