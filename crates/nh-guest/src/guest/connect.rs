use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown as Side, shutdown};

use super::channel::Channel;
use super::inbox::Inbox;
use super::{failed, invalid};
use crate::protocol::{Answer, CHUNK, Failure, Frame, WINDOW};

/// For a server that listens and accepts nobody.
const PATIENCE: Duration = Duration::from_secs(10);

/// Passes on what a server inside and the hub say to each other, until both are through.
pub(super) fn connect(port: u16, channel: &Channel, stream: u32, inbox: &Inbox) -> Result<Answer, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => invalid(format!("nothing listens on port {port} in the sandbox")),
        _ => failed(error),
    })?;
    server.set_nonblocking(true).map_err(failed)?;
    let mut passing = Passing {
        server: File::from(OwnedFd::from(server)),
        waiting: VecDeque::new(),
        credit: WINDOW,
        hub_is_through: false,
        server_is_through: false,
    };
    passing.pass(channel, stream, inbox).map_err(failed)?;
    Ok(Answer::Done)
}

struct Passing {
    server: File,
    /// For the server, from the hub.
    waiting: VecDeque<Vec<u8>>,
    /// Bytes that the hub takes.
    credit: u32,
    hub_is_through: bool,
    server_is_through: bool,
}

impl Passing {
    fn pass(&mut self, channel: &Channel, stream: u32, inbox: &Inbox) -> io::Result<()> {
        loop {
            let taken = inbox.take();
            if taken.is_cancelled {
                return Ok(());
            }
            self.credit = self.credit.saturating_add(taken.credit).min(WINDOW);
            self.waiting.extend(taken.data);
            self.give(channel, stream)?;
            if taken.has_ended && self.waiting.is_empty() && !self.hub_is_through {
                self.hub_is_through = true;
                shutdown(&self.server, Side::Write).or_else(gone)?;
            }
            self.read(channel, stream)?;
            if self.hub_is_through && self.server_is_through {
                return Ok(());
            }
            self.poll(inbox)?;
        }
    }

    fn give(&mut self, channel: &Channel, stream: u32) -> io::Result<()> {
        while let Some(bytes) = self.waiting.front_mut() {
            match rustix::io::write(&self.server, bytes) {
                Ok(written) => {
                    channel.send(stream, Frame::Credit(written as u32));
                    bytes.drain(..written);
                    if bytes.is_empty() {
                        self.waiting.pop_front();
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, channel: &Channel, stream: u32) -> io::Result<()> {
        let mut bytes = [0; CHUNK];
        while self.credit > 0 && !self.server_is_through {
            let most = CHUNK.min(self.credit as usize);
            match self.server.read(&mut bytes[..most]) {
                Ok(0) => {
                    self.server_is_through = true;
                    channel.send(stream, Frame::End);
                }
                Ok(read) => {
                    self.credit -= read as u32;
                    channel.send(stream, Frame::Data(bytes[..read].to_vec()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn poll(&self, inbox: &Inbox) -> io::Result<()> {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, self.credit > 0 && !self.server_is_through);
        wanted.set(PollFlags::OUT, !self.waiting.is_empty());
        let mut waiting = vec![PollFd::from_borrowed_fd(inbox.event(), PollFlags::IN)];
        // One that is through for now would be told of as hung up, over and over.
        if !wanted.is_empty() {
            waiting.push(PollFd::new(&self.server, wanted));
        }
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn gone(error: rustix::io::Errno) -> io::Result<()> {
    match error {
        rustix::io::Errno::NOTCONN => Ok(()),
        error => Err(error.into()),
    }
}
