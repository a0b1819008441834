use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request};
use nh_http::{Guard, HttpError, HttpSettings, Limits, Outbound, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use crate::server::{Server, Silence, get, ok};

fn client() -> Outbound {
    Outbound::operator().unwrap()
}

fn phase(error: HttpError) -> Phase {
    match error {
        HttpError::TimedOut { phase, .. } => phase,
        other => panic!("not a time-out: {other}"),
    }
}

async fn whole(server: &Server, limits: Limits) -> Result<Bytes, HttpError> {
    client().send(get(&server.url("/")), limits).await?.bytes().await
}

#[tokio::test]
async fn a_name_that_is_never_found_passes_the_connect_limit() {
    let guard = Guard::new(&HttpSettings::default(), Vec::new());
    let client = Outbound::guarded_with(guard, Arc::new(Silence)).unwrap();
    let limits = Limits { connect_ms: 20, ..Limits::default() };
    let error = client.send(get("http://slow.example/"), limits).await.unwrap_err();
    assert!(error.is_before_sending());
    assert_eq!(error.to_string(), "`slow.example` took too long: connecting passed 20 ms");
    assert_eq!(phase(error), Phase::Connect);
}

#[tokio::test]
async fn a_silent_server_passes_the_first_byte_limit() {
    let server = Server::start(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let limits = Limits { first_byte_ms: 20, ..Limits::default() };
    assert_eq!(phase(whole(&server, limits).await.unwrap_err()), Phase::FirstByte);
    let limits = Limits { total_ms: 20, ..Limits::default() };
    assert_eq!(phase(whole(&server, limits).await.unwrap_err()), Phase::Total);
}

#[tokio::test]
async fn a_pause_within_the_body_passes_its_limit() {
    let server = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome").await;
        std::future::pending::<()>().await;
    })
    .await;
    let limits = Limits { between_bytes_ms: 20, ..Limits::default() };
    assert_eq!(phase(whole(&server, limits).await.unwrap_err()), Phase::BetweenBytes);
}

/// Each pause is short enough, all of them together are not.
#[tokio::test]
async fn a_slow_drip_passes_the_total_limit() {
    let server = Server::start(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b".").await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let limits = Limits { between_bytes_ms: 60_000, total_ms: 50, ..Limits::default() };
    assert_eq!(phase(whole(&server, limits).await.unwrap_err()), Phase::Total);
}

async fn endless(head: &'static [u8], piece: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| async move {
        let _ = stream.write_all(head).await;
        while stream.write_all(piece).await.is_ok() {}
    })
    .await
}

#[tokio::test]
async fn an_endless_body_is_cut_off_at_the_cap() {
    let capped = Limits { max_body_bytes: 100_000, ..Limits::default() };
    for (head, piece) in [
        (&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 4096][..]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"4\r\nxxxx\r\n"),
    ] {
        let server = endless(head, piece).await;
        let error = whole(&server, capped).await.unwrap_err();
        assert_eq!(error, HttpError::TooLarge { host: "127.0.0.1".to_owned(), max_body_bytes: 100_000 });
    }
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let server = endless(b"HTTP/1.1 200 OK\r\n", b"x-more: yes\r\n").await;
    let error = whole(&server, Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    let server = endless(b"HTTP/1.1 200 OK\r\nx-long: ", b"long").await;
    let error = whole(&server, Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_announced_size_over_the_cap_is_refused_before_it_is_read() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n").await;
    let error = client().send(get(&server.url("/")), Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
    let mut request = get(&server.url("/"));
    *request.method_mut() = Method::HEAD;
    let answer = client().send(request, Limits::default()).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), "", "HEAD tells the size of what it does not send");
}

#[tokio::test]
async fn exactly_the_cap_is_not_over_it() {
    let server = Server::fixed(ok("12345")).await;
    let limits = Limits { max_body_bytes: 5, ..Limits::default() };
    assert_eq!(whole(&server, limits).await.unwrap(), "12345");
    let limits = Limits { max_body_bytes: 4, ..Limits::default() };
    assert!(matches!(whole(&server, limits).await.unwrap_err(), HttpError::TooLarge { .. }));
}

#[tokio::test]
async fn a_wrong_content_length_is_told() {
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await;
    assert!(matches!(whole(&server, Limits::default()).await.unwrap_err(), HttpError::Broken { .. }));
    let server = Server::fixed("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlonger").await;
    assert_eq!(whole(&server, Limits::default()).await.unwrap(), "long");
    let server = Server::fixed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab").await;
    assert!(matches!(whole(&server, Limits::default()).await.unwrap_err(), HttpError::Broken { .. }));
    for length in ["-1", "x", "1, 2", "99999999999999999999999999"] {
        let server = Server::fixed(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nab")).await;
        assert!(whole(&server, Limits::default()).await.is_err(), "{length}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_told() {
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0\0\0\0\0"] {
        let server = Server::fixed(answer).await;
        let error = whole(&server, Limits::default()).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn no_tls_there_is_told_without_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/?key=secret", listener.local_addr().unwrap());
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
        let _ = stream.write_all(ok("no TLS here").as_bytes()).await;
        let _ = stream.shutdown().await;
        stream
    };
    let client = client();
    let (answer, _stream) = tokio::join!(client.send(get(&url), Limits::default()), plain);
    let error = answer.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client().send(get(&format!("http://{address}/")), Limits::default()).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    assert!(error.is_before_sending());
}

#[tokio::test]
async fn the_request_is_what_was_given_and_a_user_agent() {
    let server = Server::fixed(ok("")).await;
    let request =
        Request::put(server.url("/path?q=1")).header("x-mine", "yes").body(Bytes::from("body")).unwrap();
    client().send(request, Limits::default()).await.unwrap();
    let seen = server.requests().remove(0);
    assert!(seen.starts_with("PUT /path?q=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-mine: yes\r\n"), "{seen}");
    assert!(seen.contains("user-agent: neuralhub/"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nbody"), "{seen}");
    assert!(
        !seen.to_ascii_lowercase().contains("accept-encoding"),
        "nothing to decompress, no bombs: {seen}"
    );
}

#[tokio::test]
async fn any_status_is_an_answer() {
    for status in [204, 400, 401, 404, 429, 500, 503] {
        let server = Server::fixed(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(client().send(get(&server.url("/")), Limits::default()).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn a_dropped_body_tells_the_server_to_stop() {
    let (ended, mut end) = mpsc::channel(1);
    let server = Server::start(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome").await;
            let _ = stream.read(&mut [0; 1]).await;
            let _ = ended.send(()).await;
        }
    })
    .await;
    let mut answer = client().send(get(&server.url("/")), Limits::default()).await.unwrap();
    assert_eq!(answer.body.next().await.unwrap().unwrap(), "some");
    drop(answer);
    end.recv().await.unwrap();
}
