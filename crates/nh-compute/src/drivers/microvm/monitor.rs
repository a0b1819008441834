//! What QEMU is told while its machine runs: its QMP, `docs/interop/qmp-spec.rst` of QEMU.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

/// Bytes of what QEMU says at once.
const MAX_LINE: u64 = 1 << 20;

pub(super) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    pub(super) async fn open(stream: UnixStream) -> io::Result<Self> {
        let mut monitor = Self(BufReader::new(stream));
        monitor.command("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    /// What it returns. An error: it is not done, or QEMU is gone.
    pub(super) async fn command(&mut self, name: &str, arguments: Value) -> io::Result<Value> {
        self.0.write_all(&line(name, arguments)).await?;
        self.returned(name).await
    }

    /// Gives QEMU a descriptor, which it knows by this name from now on.
    pub(super) async fn give(&mut self, descriptor: OwnedFd, name: &str) -> io::Result<()> {
        let line = line("getfd", json!({"fdname": name}));
        let stream = self.0.get_ref();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut buffer = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor.as_fd()];
            buffer.push(SendAncillaryMessage::ScmRights(&descriptors));
            Ok(sendmsg(stream, &[IoSlice::new(&line)], &mut buffer, SendFlags::empty())?)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        self.0.write_all(&line[sent..]).await?;
        self.returned("getfd").await.map(drop)
    }

    async fn returned(&mut self, name: &str) -> io::Result<Value> {
        loop {
            let mut line = String::new();
            if (&mut self.0).take(MAX_LINE).read_line(&mut line).await? == 0 {
                return Err(io::Error::other(format!("QEMU ended at `{name}`")));
            }
            let mut said: Value = serde_json::from_str(&line)?;
            if let Some(error) = said.get("error") {
                return Err(io::Error::other(format!("QEMU at `{name}`: {}", error["desc"])));
            }
            // Its greeting, and what happens meanwhile, have neither.
            if let Some(returned) = said.get_mut("return") {
                return Ok(returned.take());
            }
        }
    }
}

fn line(name: &str, arguments: Value) -> Vec<u8> {
    let mut line = json!({"execute": name, "arguments": arguments}).to_string();
    line.push('\n');
    line.into_bytes()
}
