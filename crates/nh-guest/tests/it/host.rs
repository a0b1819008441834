//! The hub's end of the channel, as far as tests need it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nh_guest::protocol::{
    Answer, Artifact, Ended, Execute, Failure, Frame, Language, Prepare, Request, Run, VERSION, decode,
    encode,
};
use tempfile::TempDir;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) home: TempDir,
    input: Option<ChildStdin>,
    streams: Arc<Mutex<HashMap<u32, Sender<Frame>>>>,
    next: u32,
}

/// All that came on a stream.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) out: String,
    pub(crate) error: String,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) data: Vec<u8>,
    pub(crate) answer: Answer,
}

impl Told {
    pub(crate) fn ended(&self) -> &Ended {
        match &self.answer {
            Answer::Ended(ended) => ended,
            other => panic!("ended otherwise: {other:?}"),
        }
    }

    pub(crate) fn failure(&self) -> &Failure {
        match &self.answer {
            Answer::Failed(failure) => failure,
            other => panic!("it did not fail: {other:?}"),
        }
    }

    /// What a value looks like as text.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.artifacts.iter().map(|artifact| artifact.data["text/plain"].as_str()).collect()
    }
}

impl Host {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nh-guest"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the guest starts");
        let streams: Arc<Mutex<HashMap<u32, Sender<Frame>>>> = Arc::default();
        let (given, mut output) = (streams.clone(), child.stdout.take().expect("its output"));
        std::thread::spawn(move || {
            let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65_536]);
            while let Ok(read @ 1..) = output.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..read]);
                while let Some((stream, frame, length)) = decode(&bytes).expect("frames") {
                    bytes.drain(..length);
                    if let Some(stream) = given.lock().expect("a lock").get(&stream) {
                        let _ = stream.send(frame);
                    }
                }
            }
            given.lock().expect("a lock").clear();
        });
        let input = child.stdin.take();
        let home = TempDir::new().expect("a folder");
        let mut host = Self { child, home, input, streams, next: 0 };
        // Where scripts/setup puts a Node, if the machine has none.
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/clients/.venv/bin");
        let path = format!("{}:{own}", std::env::var("PATH").expect("a path"));
        let prepare = Prepare {
            user: None,
            home: host.home.path().to_str().expect("a path").to_owned(),
            env: BTreeMap::from([("PATH".to_owned(), path), ("LANG".to_owned(), "C.UTF-8".to_owned())]),
            max_processes: 64,
            max_memory: 1 << 30,
            renewal: None,
        };
        let ready = host.ask(Request::Prepare(prepare));
        assert_eq!(ready.answer, Answer::Ready { version: VERSION });
        host
    }

    /// Opens a stream.
    pub(crate) fn open(&mut self, request: Request) -> (u32, Receiver<Frame>) {
        self.next += 1;
        let (sender, receiver) = channel();
        self.streams.lock().expect("a lock").insert(self.next, sender);
        self.send(self.next, Frame::Request(request));
        (self.next, receiver)
    }

    pub(crate) fn send(&mut self, stream: u32, frame: Frame) {
        let mut bytes = Vec::new();
        encode(stream, &frame, &mut bytes).expect("a frame");
        self.input.as_mut().expect("open").write_all(&bytes).expect("sent");
    }

    /// The hub goes away.
    pub(crate) fn close(&mut self) {
        self.input = None;
    }

    /// Until the stream's answer; what comes of a file or a port is taken.
    pub(crate) fn hear(&mut self, stream: u32, frames: &Receiver<Frame>) -> Told {
        let (mut out, mut error, mut artifacts, mut data) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        loop {
            match frames.recv_timeout(PATIENCE).expect("an answer in time") {
                Frame::Out(bytes) => out.extend(bytes),
                Frame::Error(bytes) => error.extend(bytes),
                Frame::Artifact(json) => artifacts.push(serde_json::from_slice(&json).expect("an artifact")),
                Frame::Data(bytes) => {
                    self.send(stream, Frame::Credit(bytes.len() as u32));
                    data.extend(bytes);
                }
                Frame::Answer(answer) => {
                    let text = |bytes| String::from_utf8(bytes).expect("text");
                    return Told { out: text(out), error: text(error), artifacts, data, answer };
                }
                Frame::End | Frame::Credit(_) => {}
                other => panic!("the guest does not say {other:?}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Told {
        let (stream, frames) = self.open(request);
        self.hear(stream, &frames)
    }

    pub(crate) fn run(&mut self, language: Language, code: &str) -> Told {
        self.ask(Request::Run(of(language, code)))
    }

    pub(crate) fn execute(&mut self, command: &[&str]) -> Told {
        self.ask(Request::Execute(execute(command)))
    }
}

pub(crate) fn of(language: Language, code: &str) -> Run {
    let (code, stdin) = (code.to_owned(), String::new());
    Run { language, code, stdin, timeout_ms: 60_000, max_output: 1 << 20 }
}

pub(crate) fn execute(command: &[&str]) -> Execute {
    let command = command.iter().map(|&part| part.to_owned()).collect();
    Execute { command, has_stdin: false, timeout_ms: 60_000, max_output: 1 << 20 }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.close();
        let _ = self.child.wait();
    }
}
