//! The program that the hub carries, run here as it is.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use nh_compute::guest::{Event, Guest, GuestError, PROGRAM, Stream};
use nh_guest::protocol::{
    Answer, Ended, Execute, FailureKind, Killed, Language, Prepare, Request, Run, WINDOW,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::task::TaskTracker;

struct Here {
    guest: Guest,
    child: Child,
    home: TempDir,
}

async fn start() -> Here {
    let home = TempDir::new().expect("a folder");
    let program = home.path().join("guest");
    std::fs::write(&program, PROGRAM).expect("written");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o500)).expect("a program");
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let (output, input) = (child.stdout.take().expect("a pipe"), child.stdin.take().expect("a pipe"));
    let guest = Guest::connect(output, input, &TaskTracker::new());
    let env = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").expect("a path"))]);
    let home_path = home.path().to_str().expect("text").to_owned();
    let prepare =
        Prepare { home: home_path, env, max_processes: 64, max_memory: 1 << 30, user: None, renewal: None };
    guest.prepare(prepare).await.expect("ready");
    Here { guest, child, home }
}

fn command(command: &[&str]) -> Request {
    let command = command.iter().map(|&part| part.to_owned()).collect();
    Request::Execute(Execute { command, has_stdin: true, timeout_ms: 60_000, max_output: 1 << 20 })
}

async fn all(mut stream: Stream) -> (String, Ended) {
    let mut out = Vec::new();
    loop {
        match stream.next().await.expect("an event") {
            Event::Out(bytes) => out.extend_from_slice(&bytes),
            Event::Answer(Answer::Ended(ended)) => return (String::from_utf8(out).expect("text"), ended),
            _ => {}
        }
    }
}

#[tokio::test]
async fn commands_and_code_run() {
    let here = start().await;
    let stream = here.guest.open(command(&["cat"])).expect("open");
    let said = "said ".repeat(100_000);
    let sender = stream.sender().clone();
    let sends = async {
        assert!(sender.send(said.as_bytes()).await.expect("sent"));
        sender.end().expect("ended");
    };
    let ((), (heard, ended)) = tokio::join!(sends, all(stream));
    assert_eq!((heard == said, ended.exit_code), (true, 0));
    let code = "print('out')\n41 + 1".to_owned();
    let run =
        Run { language: Language::Python, code, stdin: String::new(), timeout_ms: 60_000, max_output: 1000 };
    let mut stream = here.guest.open(Request::Run(run)).expect("open");
    let (mut out, mut shown) = (Vec::new(), Vec::new());
    let ended = loop {
        match stream.next().await.expect("an event") {
            Event::Out(bytes) => out.extend_from_slice(&bytes),
            Event::Artifact(artifact) => shown.push(artifact.data["text/plain"].clone()),
            Event::Answer(Answer::Ended(ended)) => break ended,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((&out[..], &shown[..], ended.exit_code), (&b"out\n"[..], &["42".to_owned()][..], 0));
    assert_eq!(stream.next().await, Err(GuestError::Gone), "nothing comes after the answer");
}

#[tokio::test]
async fn what_is_dropped_is_killed() {
    let here = start().await;
    let mut stream = here.guest.open(command(&["sh", "-c", "echo $$; exec sleep 600"])).expect("open");
    let Ok(Event::Out(pid)) = stream.next().await else { panic!("it tells its number") };
    drop(stream);
    let pid = std::str::from_utf8(&pid).expect("text").trim();
    let gone = format!("while [ -e /proc/{pid}/exe ]; do :; done; echo gone");
    let (out, _) = all(here.guest.open(command(&["sh", "-c", &gone])).expect("open")).await;
    assert_eq!(out, "gone\n");
    let stream = here.guest.open(command(&["sleep", "600"])).expect("open");
    stream.sender().cancel().expect("cancelled");
    assert_eq!(all(stream).await.1.killed, Some(Killed::Cancelled));
}

#[tokio::test]
async fn files_go_in_and_out() {
    let here = start().await;
    let bytes: Vec<u8> = (0..3 * WINDOW).map(|at| (at % 251) as u8).collect();
    let stream = here.guest.open(Request::WriteFile { path: "a/b".to_owned() }).expect("open");
    assert!(stream.sender().send(&bytes).await.expect("sent"));
    stream.sender().end().expect("ended");
    assert_eq!(stream.answer().await, Ok(Answer::Done));
    assert_eq!(std::fs::read(here.home.path().join("a/b")).expect("a file"), bytes);
    let mut stream = here.guest.open(Request::ReadFile { path: "a/b".to_owned() }).expect("open");
    let mut read = Vec::new();
    while let Event::Data(more) = stream.next().await.expect("an event") {
        read.extend_from_slice(&more);
    }
    assert_eq!(read, bytes);
    let missing =
        here.guest.open(Request::ReadFile { path: "none".to_owned() }).expect("open").answer().await;
    assert!(matches!(missing, Err(GuestError::Failed(failure)) if failure.kind == FailureKind::NotFound));
}

#[tokio::test]
async fn a_guest_that_is_gone_says_so_to_all() {
    let mut here = start().await;
    let mut stream = here.guest.open(command(&["sleep", "600"])).expect("open");
    here.child.start_kill().expect("killed");
    assert_eq!(stream.next().await, Err(GuestError::Gone));
    here.guest.closed().await;
    assert_eq!(here.guest.open(Request::Ping).err(), Some(GuestError::Gone));
}

#[tokio::test]
async fn closing_ends_the_guest() {
    let mut here = start().await;
    here.guest.close();
    assert!(here.child.wait().await.expect("it ended").success());
}
