//! Files in and out.

use nh_guest::protocol::{Answer, Entry, FailureKind, Frame, Request, WINDOW};

use crate::host::{Host, Told};

fn write(host: &mut Host, path: &str, bytes: &[u8]) -> Told {
    let (stream, frames) = host.open(Request::WriteFile { path: path.to_owned() });
    let mut credit = WINDOW as usize;
    for chunk in bytes.chunks(32 * 1024) {
        while credit < chunk.len() {
            match frames.recv().expect("a frame") {
                Frame::Credit(more) => credit += more as usize,
                other => panic!("{other:?} before the end"),
            }
        }
        credit -= chunk.len();
        host.send(stream, Frame::Data(chunk.to_vec()));
    }
    host.send(stream, Frame::End);
    host.hear(stream, &frames)
}

fn read(host: &mut Host, path: &str) -> Told {
    host.ask(Request::ReadFile { path: path.to_owned() })
}

fn list(host: &mut Host, path: &str) -> Answer {
    host.ask(Request::List { path: path.to_owned() }).answer
}

#[test]
fn files_come_back_as_they_went_in() {
    let mut host = Host::start();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(write(&mut host, "a/b/ü.bin", &bytes).answer, Answer::Done);
    let told = read(&mut host, "a/b/ü.bin");
    assert_eq!((told.answer, told.data == bytes), (Answer::Done, true));
    write(&mut host, "a/b/ü.bin", b"");
    assert!(read(&mut host, "a/b/ü.bin").data.is_empty());
    let entry = |name: &str, is_folder| Entry { name: name.to_owned(), is_folder, size: 0 };
    assert_eq!(list(&mut host, "a"), Answer::Entries(vec![entry("b", true)]));
    assert_eq!(list(&mut host, "a/b"), Answer::Entries(vec![entry("ü.bin", false)]));
    assert_eq!(host.ask(Request::Remove { path: "a".to_owned() }).answer, Answer::Done);
    assert_eq!(list(&mut host, ""), Answer::Entries(Vec::new()));
}

#[test]
fn a_folder_that_is_too_large_is_not_listed() {
    let mut host = Host::start();
    let script = "n=$(printf 'x%.0s' $(seq 200)); for i in $(seq 1400); do : > $n$i; done";
    assert_eq!(host.execute(&["bash", "-c", script]).ended().exit_code, 0);
    let failure = host.ask(Request::List { path: String::new() }).failure().clone();
    assert_eq!(failure.message, "the folder has too many entries to list; at most 10000");
}

#[test]
fn a_file_that_is_given_up_is_not_there() {
    let mut host = Host::start();
    let (stream, frames) = host.open(Request::WriteFile { path: "half".to_owned() });
    host.send(stream, Frame::Data(vec![1; 1000]));
    host.send(stream, Frame::Cancel);
    host.hear(stream, &frames).failure();
    assert_eq!(list(&mut host, ""), Answer::Entries(Vec::new()));
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let mut host = Host::start();
    host.execute(&["sh", "-c", "ln -s /etc out; ln -s /etc/hostname name; mkfifo pipe; mkdir folder"]);
    for path in ["", "/etc/hostname", "../x", "a/../../x", "a//b", "./a", "a/.", "a\0b", &"a/".repeat(40)] {
        assert_eq!(read(&mut host, path).failure().kind, FailureKind::Invalid, "read {path:?}");
        assert_eq!(write(&mut host, path, b"x").failure().kind, FailureKind::Invalid, "write {path:?}");
        let removed = host.ask(Request::Remove { path: path.to_owned() });
        assert_eq!(removed.failure().kind, FailureKind::Invalid, "remove {path:?}");
    }
    for path in ["out/hostname", "name", "pipe", "folder"] {
        let failure = read(&mut host, path).failure().clone();
        assert_eq!(failure.kind, FailureKind::Invalid, "{path}: {}", failure.message);
    }
    assert_eq!(write(&mut host, "out/x", b"x").failure().kind, FailureKind::Invalid);
    assert_eq!(write(&mut host, "folder", b"x").failure().message, "`folder` is a folder");
    assert_eq!(read(&mut host, "none").failure().kind, FailureKind::NotFound);
    // A link's own name can be written and removed; what it leads to stays.
    assert_eq!(write(&mut host, "name", b"ours").answer, Answer::Done);
    assert_eq!(read(&mut host, "name").data, b"ours");
    assert_eq!(host.ask(Request::Remove { path: "out".to_owned() }).answer, Answer::Done);
    assert!(std::path::Path::new("/etc/hostname").exists());
}
