//! Connections are used again, and only while the server holds them open.

use bytes::Bytes;
use http::{Method, Request};
use nh_http::{Limits, Outbound};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::server::{Server, get, read_request};

fn client() -> Outbound {
    Outbound::operator().unwrap()
}

/// Answers every request of a connection alike.
async fn steady(answer: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| async move {
        while stream.write_all(answer).await.is_ok() {
            if read_request(&mut stream).await.is_empty() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = steady(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let client = client();
    for _ in 0..5 {
        let answer = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hi");
    }
    assert_eq!(server.accepted(), 1, "one connection served all five");
}

#[tokio::test]
async fn an_empty_answer_need_not_be_read_for_it() {
    let server = steady(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let client = client();
    for _ in 0..3 {
        drop(client.send(get(&server.url("/")), Limits::default()).await.unwrap());
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn what_is_answered_at_once_takes_a_connection_each() {
    let server = steady(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let client = client();
    let one = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
    let other = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
    assert_eq!((one.text().await.unwrap(), other.text().await.unwrap()), ("hi".into(), "hi".into()));
    assert_eq!(server.accepted(), 2);
    let two = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
    assert_eq!(two.text().await.unwrap(), "hi");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used() {
    let (closed, mut closing) = mpsc::channel(1);
    let server = Server::start(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
            drop(stream);
            let _ = closed.send(()).await;
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        let answer = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hi");
        closing.recv().await.unwrap();
        // Lets the runtime hear of it from the kernel.
        tokio::task::yield_now().await;
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_a_connection() {
    let server = Server::fixed(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    let client = client();
    for _ in 0..3 {
        let answer = client.send(get(&server.url("/")), Limits::default()).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hi");
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn large_bodies_flow_both_ways() {
    const SIZE: usize = 4_000_000;
    let server = Server::start(|request, mut stream| async move {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let request = Request::builder().method(Method::POST).uri(server.url("/"));
    let request = request.body(Bytes::from(vec![b'a'; SIZE])).unwrap();
    let answer = client().send(request, Limits::default()).await.unwrap().bytes().await.unwrap();
    assert!(answer.len() > SIZE && answer.ends_with(&[b'a'; 1000]));
}
