use super::channel::Channel;
use crate::protocol::{ARTIFACT_COST, CHUNK, Frame, MAX_PAYLOAD};

/// What a process or an interpreter says on a stream, up to a bound.
pub(super) struct Output<'c> {
    channel: &'c Channel,
    stream: u32,
    left: u64,
    pub(super) truncated: bool,
}

impl<'c> Output<'c> {
    pub(super) fn new(channel: &'c Channel, stream: u32, max_output: u64) -> Self {
        Self { channel, stream, left: max_output, truncated: false }
    }

    pub(super) fn out(&mut self, bytes: &[u8]) {
        self.send(bytes, Frame::Out);
    }

    pub(super) fn error(&mut self, bytes: &[u8]) {
        self.send(bytes, Frame::Error);
    }

    /// One that does not fit is left out whole.
    pub(super) fn artifact(&mut self, json: &[u8]) {
        let cost = json.len() as u64 + ARTIFACT_COST;
        if cost > self.left || json.len() > MAX_PAYLOAD {
            self.truncated = true;
            return;
        }
        self.left -= cost;
        self.channel.send(self.stream, Frame::Artifact(json.to_vec()));
    }

    /// So many bytes were taken of what the hub sent.
    pub(super) fn credit(&self, bytes: u32) {
        self.channel.send(self.stream, Frame::Credit(bytes));
    }

    fn send(&mut self, bytes: &[u8], frame: impl Fn(Vec<u8>) -> Frame) {
        let kept = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.truncated |= kept < bytes.len();
        self.left -= kept as u64;
        for chunk in bytes[..kept].chunks(CHUNK) {
            self.channel.send(self.stream, frame(chunk.to_vec()));
        }
    }
}
