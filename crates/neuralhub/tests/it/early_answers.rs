//! Answers that are given before a request's body was read reach a client that
//! sends all of it first.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::hub::TestHub;

const BODY_BYTES: usize = 20_000_000;

/// The status that comes once all was sent.
fn status(hub: &TestHub, host: &str, path: &str, key: &str) -> String {
    let mut stream = TcpStream::connect(hub.http().address).expect("it listens");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-length: {BODY_BYTES}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&vec![0; BODY_BYTES]).expect("all is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_client_that_sends_first_hears_why_it_is_refused() {
    let hub = TestHub::start();
    let (key, own) = (hub.key(), hub.http().address.to_string());
    let path = "/v1/storage/upload?pathname=a";
    assert_eq!(hub.http().send_text("POST", path, "there").expect("an answer").status, 201);
    assert_eq!(status(&hub, &own, path, &key), "409");
    assert_eq!(status(&hub, &own, path, "nh_0000000000000000000000000000000000000000"), "401");
    assert_eq!(status(&hub, "evil.example", path, &key), "403");
    assert_eq!(status(&hub, &own, &format!("{path}&key={key}"), &key), "400");
    assert_eq!(status(&hub, &own, "/v1/nothing", &key), "404");
}
