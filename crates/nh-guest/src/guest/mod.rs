//! The program itself: one thread reads the channel and hands frames to streams, each
//! of which has a thread of its own while it lasts.

mod channel;
mod command;
mod connect;
mod files;
mod inbox;
mod interpreter;
mod output;
mod reaper;
mod running;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, setrlimit};

use crate::protocol::{Answer, Failure, FailureKind, Frame, Language, Prepare, Request, VERSION, decode};
use crate::vm;
use channel::Channel;
use inbox::Inbox;
use interpreter::Kept;
use reaper::{Reaper, Started};
use watch::Watch;

/// Streams at once; one is a thread.
const MAX_STREAMS: usize = 256;

/// Files that a process may have open.
const MAX_FILES: u64 = 4096;

/// Bytes read from the channel at once.
const READ_BYTES: usize = 64 * 1024;

/// What all streams share.
struct Guest {
    channel: Channel,
    inboxes: Mutex<HashMap<u32, Arc<Inbox>>>,
    prepared: Mutex<Arc<Prepare>>,
    reaper: Reaper,
    watch: Watch,
    /// Each is locked while it runs code.
    interpreters: BTreeMap<Language, Mutex<Kept>>,
}

/// Serves until `input` ends; then all processes are killed. An error: what came is
/// nothing that the hub says, or it takes nothing any more.
pub fn serve(mut input: impl Read, output: impl Write + Send + 'static) -> io::Result<()> {
    let languages = [Language::Python, Language::Nodejs, Language::Bash];
    let guest = Arc::new(Guest {
        channel: Channel::new(output),
        inboxes: Mutex::default(),
        prepared: Mutex::default(),
        reaper: Reaper::start()?,
        watch: Watch::default(),
        interpreters: languages.into_iter().map(|language| (language, Mutex::default())).collect(),
    });
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    let served = loop {
        match input.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(error),
        }
        if let Err(error) = take(&guest, &mut bytes) {
            break Err(error);
        }
    };
    guest.reaper.kill_all();
    served
}

fn take(guest: &Arc<Guest>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut taken = 0;
    while let Some((stream, frame, length)) = decode(&bytes[taken..]).map_err(io::Error::other)? {
        taken += length;
        match frame {
            Frame::Request(request) => open(guest, stream, request),
            frame => {
                let inbox = locked(&guest.inboxes).get(&stream).cloned();
                // Of a stream that ended meanwhile nothing more is wanted.
                if let Some(inbox) = inbox {
                    inbox.put(frame);
                }
            }
        }
    }
    bytes.drain(..taken);
    Ok(())
}

fn open(guest: &Arc<Guest>, stream: u32, request: Request) {
    if let Err(failure) = try_to_open(guest, stream, request) {
        guest.channel.send(stream, Frame::Answer(Answer::Failed(failure)));
    }
}

fn try_to_open(guest: &Arc<Guest>, stream: u32, request: Request) -> Result<(), Failure> {
    let inbox = Arc::new(Inbox::new().map_err(failed)?);
    {
        let mut inboxes = locked(&guest.inboxes);
        if inboxes.len() >= MAX_STREAMS {
            let message = format!("{MAX_STREAMS} things are under way in the sandbox; wait for one to end");
            return Err(Failure { kind: FailureKind::Exhausted, message });
        }
        inboxes.insert(stream, inbox.clone());
    }
    let serving = guest.clone();
    let begun = thread::Builder::new().spawn(move || {
        let answer = serving.answer(stream, request, &inbox).unwrap_or_else(Answer::Failed);
        locked(&serving.inboxes).remove(&stream);
        serving.channel.send(stream, Frame::Answer(answer));
    });
    if let Err(error) = begun {
        locked(&guest.inboxes).remove(&stream);
        return Err(failed(error));
    }
    Ok(())
}

impl Guest {
    /// As [`Reaper::spawn`] does, and not while others are killed for their number.
    fn spawn<T>(
        &self,
        command: impl FnOnce() -> io::Result<(Command, Vec<OwnedFd>, T)>,
    ) -> io::Result<(Started, T)> {
        let _calm = self.watch.calm();
        self.reaper.spawn(command)
    }

    fn answer(&self, stream: u32, request: Request, inbox: &Inbox) -> Result<Answer, Failure> {
        let prepared = locked(&self.prepared).clone();
        match request {
            Request::Prepare(prepare) => {
                if let Some(renewal) = &prepare.renewal {
                    vm::renew(renewal).map_err(failed)?;
                }
                if getpid() == Pid::INIT {
                    settle(&prepare).map_err(failed)?;
                }
                self.watch.keep(&prepare).map_err(failed)?;
                *locked(&self.prepared) = Arc::new(prepare);
                Ok(Answer::Ready { version: VERSION })
            }
            Request::Execute(execute) => command::execute(self, &prepared, stream, execute, inbox),
            Request::Run(run) => interpreter::run(self, &prepared, stream, run, inbox),
            Request::ReadFile { path } => {
                files::read(&prepared, &path, |bytes| inbox.send(&self.channel, stream, bytes))
            }
            Request::WriteFile { path } => {
                files::write(&prepared, &path, stream, || inbox.next(&self.channel, stream))
            }
            Request::Remove { path } => files::remove(&prepared, &path),
            Request::List { path } => files::list(&prepared, &path),
            Request::Connect { port } => connect::connect(port, &self.channel, stream, inbox),
            Request::Ping => Ok(Answer::Done),
        }
    }
}

/// What not every driver does for a sandbox: it holds all in it to its open files, and
/// gives the home folder to who has it.
fn settle(prepare: &Prepare) -> io::Result<()> {
    for (resource, most) in [(Resource::Nofile, MAX_FILES), (Resource::Core, 0)] {
        // More than it was given it may not take.
        let most = getrlimit(resource).maximum.map_or(most, |given| most.min(given));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    match prepare.user {
        Some((user, group)) => std::os::unix::fs::chown(&prepare.home, Some(user), Some(group)),
        None => Ok(()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure { kind: FailureKind::Invalid, message: message.into() }
}

fn failed(error: io::Error) -> Failure {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::NotFound => FailureKind::NotFound,
        Kind::StorageFull | Kind::OutOfMemory | Kind::WouldBlock | Kind::QuotaExceeded => {
            FailureKind::Exhausted
        }
        Kind::IsADirectory | Kind::NotADirectory | Kind::InvalidInput | Kind::PermissionDenied => {
            FailureKind::Invalid
        }
        _ => FailureKind::Other,
    };
    Failure { kind, message: error.to_string() }
}
