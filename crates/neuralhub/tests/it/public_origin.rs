//! `[blobs] public_origin`: objects have an origin of their own, which serves
//! nothing else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::hub::TestHub;

/// The answer's status and text, for a request to this host.
fn get(hub: &TestHub, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(hub.http().address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

#[test]
fn objects_have_an_origin_that_serves_nothing_else() {
    let variables = [("NEURALHUB__BLOBS__PUBLIC_ORIGIN", "http://blobs.test:8000")];
    let hub = TestHub::start_with(tempfile::tempdir().expect("a folder"), &variables);
    let upload = |name: &str| {
        let path = format!("/v1/storage/upload?pathname={name}&access=public");
        let put = hub.http().send_text("POST", &path, "hello").expect("an answer");
        assert_eq!(put.status, 201, "{}", put.body);
        put.json()["url"].as_str().expect("a url").to_owned()
    };
    let url = upload("a.txt");
    let path = url.strip_prefix("http://blobs.test:8000").unwrap_or_else(|| panic!("{url}"));
    for host in ["blobs.test:8000", "BLOBS.test:8000", &hub.http().address.to_string()] {
        let (status, answer) = get(&hub, host, path);
        assert_eq!((status, answer.ends_with("hello")), (200, true), "{host}: {answer}");
    }
    let signed =
        hub.http().post("/v1/storage/sign", &[], &json!({"pathname": "a.txt"})).expect("an answer").json();
    let signed = signed["url"].as_str().expect("a url");
    let path = signed.strip_prefix("http://blobs.test:8000").unwrap_or_else(|| panic!("{signed}"));
    assert_eq!(get(&hub, "blobs.test:8000", path).0, 200);
    for path in
        ["/v1/storage/list", "/docs", "/v1/auth/me", "/openapi.json", "/v1/storage/vercel", "/healthz"]
    {
        let (status, answer) = get(&hub, "blobs.test:8000", path);
        assert_eq!(status, 404, "{path}: {answer}");
        assert!(answer.contains("serves objects only") || path.ends_with("vercel"), "{path}: {answer}");
    }
    assert_eq!(get(&hub, "other.test", path).0, 403);
}

#[test]
fn an_origin_is_a_scheme_and_a_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = crate::hub::command(folder.path())
        .args(["config", "check"])
        .env("NEURALHUB__BLOBS__PUBLIC_ORIGIN", "https://blobs.test/objects")
        .output()
        .expect("it runs");
    let said = crate::hub::text(&check.stderr) + &crate::hub::text(&check.stdout);
    assert!(!check.status.success() && said.contains("blobs.public_origin"), "{said}");
}
