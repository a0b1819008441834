use nh_agents::search::SearchSettings;
use nh_agents::tools::Tools;
use serde_json::json;

use super::server::{Server, answer};
use super::{call, plain_tools, tools_with};

/// May fetch from this machine, as our stand-in is here.
fn local_tools() -> Tools {
    tools_with(&["127.0.0.1/32"], &SearchSettings::default(), &|_| None)
}

const PAGE: &str = "<!doctype html><html><head><title>A &amp; B</title><style>p{}</style></head><body>\
    <script>alert('no')</script><h1>Heading</h1><p>First <b>para</b>graph\n with <a href='/more'>a link</a>.</p>\
    <ul><li>one<li>two</ul></body></html>";

#[tokio::test]
async fn a_page_becomes_readable_text() {
    let server = Server::start(|_| answer("200 OK", "text/html; charset=utf-8", PAGE)).await;
    let url = server.url("/page");
    let output = call(&local_tools(), "http_fetch", json!({"url": url})).await.unwrap();
    let text = format!("# Heading\n\nFirst paragraph with a link ({}).\n\n- one\n- two", server.url("/more"));
    assert_eq!(
        output.text,
        format!("HTTP 200 OK from {url} (text/html; charset=utf-8)\nTitle: A & B\n\n{text}")
    );
    assert_eq!(
        output.value,
        json!({
            "url": url, "status": 200, "content_type": "text/html; charset=utf-8", "size_bytes": PAGE.len(),
            "title": "A & B", "text": text, "truncated": false,
        })
    );
    let request = server.requests().remove(0);
    assert!(request.starts_with("GET /page HTTP/1.1"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn other_text_is_given_as_it_is_and_bytes_are_not_shown() {
    let server = Server::start(|request| {
        if request.starts_with("GET /json") {
            answer("200 OK", "application/json", "{\"a\": 1}")
        } else if request.starts_with("GET /bytes") {
            answer("200 OK", "image/png", [0x89, 0x50, 0, 0xff])
        } else if request.starts_with("GET /latin") {
            answer("200 OK", "text/plain; charset=iso-8859-1", b"caf\xe9")
        } else if request.starts_with("GET /meta") {
            answer("200 OK", "text/html", b"<meta charset='shift_jis'><p>\x93\xfa\x96\x7b")
        } else {
            answer("404 Not Found", "text/plain", "no such page")
        }
    })
    .await;
    let tools = local_tools();
    for (path, status, text) in [
        ("/json", 200, "{\"a\": 1}"),
        ("/bytes", 200, "[4 bytes that are not text]"),
        ("/latin", 200, "café"),
        ("/meta", 200, "日本"),
        ("/none", 404, "no such page"),
    ] {
        let output = call(&tools, "http_fetch", json!({"url": server.url(path)})).await.unwrap();
        assert_eq!(output.value["status"], status, "{path}");
        assert_eq!(output.value["text"], text, "{path}");
    }
}

#[tokio::test]
async fn head_asks_for_no_body() {
    let server = Server::start(|_| {
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n"
            .to_vec()
    })
    .await;
    let arguments = json!({"url": server.url("/"), "method": "HEAD"});
    let output = call(&local_tools(), "http_fetch", arguments).await.unwrap();
    assert_eq!(output.text, format!("HTTP 200 OK from {} (text/html)", server.url("/")));
    assert!(server.requests()[0].starts_with("HEAD / "));
}

#[tokio::test]
async fn a_long_page_is_cut_and_a_huge_one_refused() {
    let tools = local_tools();
    let server = Server::start(|_| answer("200 OK", "text/plain", "ü".repeat(30_000))).await;
    let output = call(&tools, "http_fetch", json!({"url": server.url("/long")})).await.unwrap();
    assert_eq!(output.value["truncated"], true);
    assert_eq!(output.value["text"].as_str().unwrap().chars().count(), 20_000);
    assert!(output.text.ends_with("[cut here, after 20000 characters]"));
    let server = Server::start(|_| answer("200 OK", "text/plain", "x".repeat(2_000_001))).await;
    let error = call(&tools, "http_fetch", json!({"url": server.url("/huge")})).await.unwrap_err();
    assert_eq!(error.code, "too_large");
}

#[tokio::test]
async fn nothing_private_is_fetched() {
    let secret = Server::start(|_| answer("200 OK", "text/plain", "secret")).await;
    let tools = plain_tools();
    for url in [
        secret.url("/"),
        format!("http://localhost:{}/", secret.address.port()),
        format!("http://2130706433:{}/", secret.address.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::1]/".to_owned(),
        "http://10.0.0.1/".to_owned(),
    ] {
        let error = call(&tools, "http_fetch", json!({"url": url})).await.unwrap_err();
        assert_eq!(error.code, "address_refused", "{url}: {error}");
    }
    let inward = format!("http://127.0.0.2:{}/", secret.address.port());
    let server = Server::start(move |_| {
        format!("HTTP/1.1 302 Go\r\nlocation: {inward}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let error = call(&local_tools(), "http_fetch", json!({"url": server.url("/")})).await.unwrap_err();
    assert_eq!(error.code, "address_refused", "{error}");
    assert!(secret.requests().is_empty());
}

#[tokio::test]
async fn what_is_no_web_address_is_refused() {
    let tools = plain_tools();
    for url in ["example.com", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)", ""] {
        let error = call(&tools, "http_fetch", json!({"url": url})).await.unwrap_err();
        assert_eq!(error.code, "invalid_arguments", "{url}: {error}");
        assert!(error.message.contains("/url"), "{error}");
    }
    for url in ["http://user:password@example.com/", "http://exa mple.com/", "http://[::1/"] {
        let error = call(&tools, "http_fetch", json!({"url": url})).await.unwrap_err();
        assert!(matches!(error.code.as_str(), "invalid_url" | "invalid_arguments"), "{url}: {error}");
    }
}
