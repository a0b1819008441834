//! Commands, each in a process of its own.

use nh_guest::protocol::{Answer, Execute, FailureKind, Frame, Killed, Request, WINDOW};

use crate::host::{Host, execute};

#[test]
fn a_command_tells_its_output_and_how_it_ended() {
    let mut host = Host::start();
    let told = host.execute(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((told.out.as_str(), told.error.as_str(), told.ended().exit_code), ("out\n", "err\n", 3));
    let told = host.execute(&["sh", "-c", "kill -9 $$"]);
    assert_eq!((told.ended().exit_code, told.ended().killed), (137, None));
    let told = host.execute(&["pwd"]);
    assert_eq!(told.out.trim_end(), host.home.path().canonicalize().expect("a path").to_str().expect("text"));
    let told = host.execute(&["env"]);
    let mut names: Vec<&str> = told.out.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH"], "nothing of the guest's own");
}

#[test]
fn what_is_no_program_is_named() {
    let mut host = Host::start();
    let failure = host.execute(&["no-such-program"]).failure().clone();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.message, "there is no program `no-such-program` in this sandbox");
    for program in ["/etc/hostname", "/etc"] {
        let failure = host.execute(&[program]).failure().clone();
        assert_eq!(
            (failure.kind, &failure.message[..]),
            (FailureKind::Invalid, &format!("`{program}` is not a program that can be run")[..])
        );
    }
    assert_eq!(host.execute(&[]).failure().message, "the command has no program");
}

#[test]
fn standard_input_goes_as_fast_as_it_is_read() {
    let mut host = Host::start();
    let (stream, frames) =
        host.open(Request::Execute(Execute { has_stdin: true, ..execute(&["sha256sum"]) }));
    let (chunk, chunks) = (vec![7; 32 * 1024], 64);
    let mut credit = WINDOW;
    for _ in 0..chunks {
        while credit < chunk.len() as u32 {
            match frames.recv().expect("a frame") {
                Frame::Credit(more) => credit += more,
                other => panic!("{other:?} before its input ended"),
            }
        }
        credit -= chunk.len() as u32;
        host.send(stream, Frame::Data(chunk.clone()));
    }
    host.send(stream, Frame::End);
    let told = host.hear(stream, &frames);
    assert_eq!(told.out, "c406296b30d433e27c08e2989ad557c7e9ae7825d1bea14c42aa4ef53c9e8a9d  -\n");
    // One that reads none is not waited for.
    let (stream, frames) = host.open(Request::Execute(Execute { has_stdin: true, ..execute(&["true"]) }));
    host.send(stream, Frame::Data(vec![0; WINDOW as usize]));
    assert_eq!(host.hear(stream, &frames).ended().exit_code, 0);
}

#[test]
fn what_takes_too_long_or_is_given_up_is_killed_with_all_that_it_began() {
    let mut host = Host::start();
    let slow = Execute { timeout_ms: 100, ..execute(&["sh", "-c", "echo begun; sleep 600 & sleep 600"]) };
    let told = host.ask(Request::Execute(slow));
    assert_eq!(
        (told.out.as_str(), told.ended().exit_code, told.ended().killed),
        ("begun\n", 137, Some(Killed::Timeout))
    );
    let leaves = "import os, time\nchild = os.fork()\nif child:\n    os.setpgid(child, child)\n    os.setpgid(0, child)\n\
                  time.sleep(600 if child else 5)";
    let slow = Execute { timeout_ms: 1000, ..execute(&["python3", "-c", leaves]) };
    let told = host.ask(Request::Execute(slow));
    assert_eq!(told.ended().killed, Some(Killed::Timeout), "though it is in another group: {told:?}");
    let (stream, frames) = host.open(Request::Execute(execute(&["sh", "-c", "echo begun; sleep 600"])));
    assert_eq!(frames.recv().expect("its output"), Frame::Out(b"begun\n".to_vec()));
    host.send(stream, Frame::Cancel);
    assert_eq!(host.hear(stream, &frames).ended().killed, Some(Killed::Cancelled));
}

#[test]
fn output_is_bounded_and_the_command_goes_on() {
    let mut host = Host::start();
    let much = Execute {
        max_output: 1000,
        ..execute(&["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; exit 5"])
    };
    let told = host.ask(Request::Execute(much));
    assert_eq!((told.out.len(), told.ended().exit_code, told.ended().truncated), (1000, 5, true));
}

#[test]
fn what_goes_on_in_the_background_is_not_waited_for() {
    let mut host = Host::start();
    let told = host.execute(&["sh", "-c", "sleep 5 & echo done"]);
    assert_eq!((told.out.as_str(), told.ended().exit_code), ("done\n", 0));
    // It may go on to write.
    let writes = "(while [ ! -e go ]; do sleep 0.01; done; echo more; echo more; touch wrote) & echo begun";
    assert_eq!(host.execute(&["sh", "-c", writes]).out, "begun\n");
    let told = host.execute(&["sh", "-c", "touch go; while [ ! -e wrote ]; do sleep 0.01; done; echo seen"]);
    assert_eq!(told.out, "seen\n");
}

#[test]
fn commands_run_side_by_side() {
    let mut host = Host::start();
    let fifo = host.home.path().join("fifo");
    assert_eq!(host.execute(&["mkfifo", "fifo"]).ended().exit_code, 0, "{fifo:?}");
    let (reads, heard) = host.open(Request::Execute(execute(&["cat", "fifo"])));
    let (writes, said) = host.open(Request::Execute(execute(&["sh", "-c", "echo across > fifo"])));
    assert_eq!(host.hear(reads, &heard).out, "across\n");
    assert_eq!(host.hear(writes, &said).ended().exit_code, 0);
}

#[test]
fn nothing_runs_on_when_the_hub_went_away() {
    let mut host = Host::start();
    let (_, frames) = host.open(Request::Execute(execute(&["sh", "-c", "echo $$; exec sleep 600"])));
    let Frame::Out(pid) = frames.recv().expect("its number") else { panic!("no output") };
    let pid: u32 = String::from_utf8(pid).expect("text").trim().parse().expect("a number");
    host.close();
    assert!(host.child.wait().expect("it ended").success());
    let began = std::time::Instant::now();
    while std::path::Path::new(&format!("/proc/{pid}/exe")).exists() {
        assert!(began.elapsed().as_secs() < 60, "it runs on");
        std::thread::yield_now();
    }
}

#[test]
fn it_answers_while_something_runs() {
    let mut host = Host::start();
    let (stream, frames) = host.open(Request::Execute(execute(&["sleep", "600"])));
    assert_eq!(host.ask(Request::Ping).answer, Answer::Done);
    host.send(stream, Frame::Cancel);
    host.hear(stream, &frames);
}
