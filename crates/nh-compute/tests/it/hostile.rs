//! A guest that is an enemy: it loses its channel, and nobody waits for it.

use nh_compute::guest::{Event, Guest, GuestError, Stream};
use nh_guest::protocol::{Answer, Ended, Execute, Frame, MAX_PAYLOAD, Request, WINDOW, encode};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_util::task::TaskTracker;

const MAX_OUTPUT: u64 = 1000;

fn start() -> (Guest, DuplexStream) {
    let (ours, theirs) = duplex(8 * MAX_PAYLOAD);
    let (read, write) = tokio::io::split(ours);
    (Guest::connect(read, write, &TaskTracker::new()), theirs)
}

fn open(guest: &Guest) -> Stream {
    let execute =
        Execute { command: vec!["x".to_owned()], has_stdin: false, timeout_ms: 1, max_output: MAX_OUTPUT };
    guest.open(Request::Execute(execute)).expect("open")
}

fn bytes(frames: &[(u32, Frame)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (stream, frame) in frames {
        encode(*stream, frame, &mut bytes).expect("a frame");
    }
    bytes
}

async fn end_of(mut stream: Stream) -> GuestError {
    loop {
        match stream.next().await {
            Ok(Event::Answer(answer)) => panic!("it answered {answer:?}"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn what_a_guest_may_not_say_ends_its_channel() {
    let chunk = || Frame::Data(vec![0; 64 * 1024]);
    let flood: Vec<(u32, Frame)> = (0..5).map(|_| (1, chunk())).collect();
    let output: Vec<(u32, Frame)> = (0..3).map(|_| (1, Frame::Out(vec![0; 64 * 1024]))).collect();
    let mut too_long = (MAX_PAYLOAD as u32 + 1).to_le_bytes().to_vec();
    too_long.extend_from_slice(&[1, 0, 0, 0, 5]);
    for (what, said) in [
        ("no frame", b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("an unknown kind", vec![0, 0, 0, 0, 1, 0, 0, 0, 99]),
        ("a frame that is too long", too_long),
        ("a stream that was not opened", bytes(&[(7, Frame::Out(vec![1]))])),
        ("stream 0", bytes(&[(0, Frame::End)])),
        ("a request", bytes(&[(1, Frame::Request(Request::Ping))])),
        ("a wish to cancel", bytes(&[(1, Frame::Cancel)])),
        ("more than was granted", bytes(&flood)),
        ("more output than it may", bytes(&output)),
        ("a frame of nothing", bytes(&[(1, Frame::Out(Vec::new()))])),
        ("data of nothing", bytes(&[(1, Frame::Data(Vec::new()))])),
        ("credit of nothing", bytes(&[(1, Frame::Credit(0))])),
        ("artifacts without end", bytes(&vec![(1, Frame::Artifact(b"{}".to_vec())); 100])),
        ("data after its end", bytes(&[(1, Frame::End), (1, Frame::Data(vec![1]))])),
        ("credit for what was not sent", bytes(&[(1, Frame::Credit(1))])),
        ("ends without an end", bytes(&[(1, Frame::End), (1, Frame::End)])),
        ("an answer that is none", b"\x02\0\0\0\x01\0\0\0\x01{}".to_vec()),
    ] {
        let (guest, mut theirs) = start();
        let (first, second) = (open(&guest), open(&guest));
        theirs.write_all(&said).await.expect("written");
        guest.closed().await;
        for error in [end_of(first).await, end_of(second).await] {
            assert!(matches!(error, GuestError::Broken(_)), "{what}: {error}");
        }
        assert!(guest.open(Request::Ping).is_err(), "{what}");
    }
}

#[tokio::test]
async fn output_in_small_pieces_comes_whole() {
    let (guest, mut theirs) = start();
    let mut stream = guest.open(Request::Execute(Execute {
        command: vec!["x".to_owned()],
        has_stdin: false,
        timeout_ms: 1,
        max_output: 200_000,
    }));
    let stream = stream.as_mut().expect("open");
    let pieces = (0..100_000)
        .map(|at| (1, if at % 2 == 0 { Frame::Out(vec![b'o']) } else { Frame::Error(vec![b'e']) }));
    let mut said: Vec<(u32, Frame)> = pieces.collect();
    said.push((1, Frame::Answer(Answer::Done)));
    theirs.write_all(&bytes(&said)).await.expect("written");
    let (mut out, mut error, mut events) = (0, 0, 0);
    loop {
        events += 1;
        match stream.next().await.expect("an event") {
            Event::Out(bytes) => out += bytes.len(),
            Event::Error(bytes) => error += bytes.len(),
            Event::Answer(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((out, error), (50_000, 50_000));
    assert!(events <= 100_001, "{events}");
}

#[tokio::test]
async fn an_artifact_that_is_none_ends_the_stream() {
    let (guest, mut theirs) = start();
    let stream = open(&guest);
    theirs.write_all(&bytes(&[(1, Frame::Artifact(b"[]".to_vec()))])).await.expect("written");
    assert!(matches!(end_of(stream).await, GuestError::Broken(_)));
    guest.closed().await;
}

#[tokio::test]
async fn what_comes_late_for_something_given_up_is_passed_over() {
    let (guest, mut theirs) = start();
    drop(open(&guest));
    let stream = open(&guest);
    let ended = Ended { exit_code: 0, killed: None, truncated: false, state_reset: false, duration_ms: 1 };
    let answer = Frame::Answer(Answer::Ended(ended));
    let said = [(1, Frame::Out(vec![1])), (1, answer.clone()), (1, Frame::Out(vec![1])), (2, answer)];
    theirs.write_all(&bytes(&said)).await.expect("written");
    assert!(matches!(stream.answer().await, Ok(Answer::Ended(_))));
}

#[tokio::test]
async fn who_reads_slowly_keeps_no_other_waiting() {
    let (guest, mut theirs) = start();
    let slow = guest.open(Request::ReadFile { path: "a".to_owned() }).expect("open");
    let quick = open(&guest);
    let mut said: Vec<(u32, Frame)> = (0..WINDOW / 1024).map(|_| (1, Frame::Data(vec![0; 1024]))).collect();
    said.push((2, Frame::Answer(Answer::Done)));
    theirs.write_all(&bytes(&said)).await.expect("written");
    assert_eq!(quick.answer().await, Ok(Answer::Done));
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_answers_is_not_waited_for() {
    for request in [
        Request::ReadFile { path: "a".to_owned() },
        Request::Execute(Execute {
            command: vec!["x".to_owned()],
            has_stdin: false,
            timeout_ms: 5000,
            max_output: MAX_OUTPUT,
        }),
    ] {
        let (guest, mut theirs) = start();
        let stream = guest.open(request).expect("open");
        let began = tokio::time::Instant::now();
        // Saying something from time to time is no answer.
        theirs.write_all(&bytes(&[(1, Frame::End)])).await.expect("written");
        assert_eq!(end_of(stream).await, GuestError::Broken("it does not answer"));
        assert!((5..=60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        guest.closed().await;
    }
    let (guest, _theirs) = start();
    let stream = guest.open(Request::Connect { port: 80 }).expect("open");
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3600), end_of(stream)).await;
    assert!(waited.is_err(), "a server inside may be silent");
}
