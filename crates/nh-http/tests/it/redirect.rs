use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use nh_http::{HttpError, Limits, Outbound, SystemResolver};
use tokio::io::AsyncWriteExt;

use crate::server::{Server, following, get, guarded, ok, redirect};

/// `/from` redirects with `status` to `/to`, which answers `there`.
async fn pair(status: u16) -> Server {
    Server::start(move |request, mut stream| async move {
        let answer = if request.contains(" /from") { redirect(status, "/to?x=1#part") } else { ok("there") };
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
}

fn post(url: &str) -> Request<Bytes> {
    Request::post(url)
        .header("authorization", "Bearer secret")
        .header("cookie", "a=b")
        .header("x-api-key", "secret")
        .header("accept", "text/plain")
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{}"))
        .unwrap()
}

fn client() -> Outbound {
    guarded(Arc::new(SystemResolver))
}

#[tokio::test]
async fn a_relative_redirect_is_followed_and_told() {
    let server = pair(302).await;
    let answer = client().send(get(&server.url("/from")), following(1)).await.unwrap();
    assert_eq!(answer.final_url.to_string(), server.url("/to?x=1"));
    assert_eq!(answer.text().await.unwrap(), "there");
}

#[tokio::test]
async fn the_method_becomes_get_where_browsers_do_so() {
    for (status, method, expected) in [
        (301, Method::POST, "GET"),
        (302, Method::POST, "GET"),
        (303, Method::POST, "GET"),
        (303, Method::PUT, "GET"),
        (303, Method::HEAD, "HEAD"),
        (302, Method::PUT, "PUT"),
        (307, Method::POST, "POST"),
        (308, Method::POST, "POST"),
    ] {
        let server = pair(status).await;
        let mut request = post(&server.url("/from"));
        *request.method_mut() = method.clone();
        client().send(request, following(1)).await.unwrap();
        let second = server.requests().remove(1);
        assert!(second.starts_with(&format!("{expected} /to?x=1 ")), "{status} {method}: {second}");
        assert_eq!(second.ends_with("{}"), expected != "GET", "{status} {method}: {second}");
        assert_eq!(second.contains("content-type"), expected != "GET", "{status} {method}: {second}");
        assert!(second.contains("authorization: Bearer secret"), "the same origin keeps it: {second}");
    }
}

#[tokio::test]
async fn no_credential_crosses_to_another_origin() {
    let other = Server::fixed(ok("there")).await;
    let server = Server::fixed(redirect(302, &other.url("/to"))).await;
    client().send(post(&server.url("/from")), following(1)).await.unwrap();
    let second = other.requests().remove(0).to_ascii_lowercase();
    for secret in ["authorization", "cookie", "x-api-key", "secret", "content-type", "{}"] {
        assert!(!second.contains(secret), "{secret}: {second}");
    }
    assert!(second.contains("accept: text/plain"), "{second}");
    assert!(second.contains(&format!("host: {}", other.address)), "{second}");
}

#[tokio::test]
async fn no_body_crosses_to_another_origin() {
    let other = Server::fixed(ok("there")).await;
    let server = Server::fixed(redirect(307, &other.url("/to"))).await;
    let error = client().send(post(&server.url("/from")), following(1)).await.unwrap_err();
    assert!(matches!(error, HttpError::BadRedirect { .. }), "{error}");
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn redirects_are_counted() {
    let server = Server::fixed(redirect(302, "/again")).await;
    let error = client().send(get(&server.url("/")), following(3)).await.unwrap_err();
    assert_eq!(error, HttpError::TooManyRedirects { host: "127.0.0.1".to_owned(), max_redirects: 3 });
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn without_leave_a_redirect_is_handed_back() {
    let server = Server::fixed(redirect(302, "/again")).await;
    let answer = client().send(get(&server.url("/")), Limits::default()).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("/again"));
}

#[tokio::test]
async fn a_redirect_without_a_usable_location_is_handed_back_or_told() {
    let server = Server::fixed("HTTP/1.1 302 Go\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client().send(get(&server.url("/")), following(1)).await.unwrap();
    assert_eq!(answer.status, 302);
    let server = Server::fixed(redirect(302, "http://[broken/")).await;
    let error = client().send(get(&server.url("/")), following(1)).await.unwrap_err();
    assert!(matches!(error, HttpError::BadRedirect { .. }), "{error}");
}
