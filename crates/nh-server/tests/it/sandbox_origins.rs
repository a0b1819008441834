//! Servers in sandboxes, at origins of their own.

use serde_json::json;

use crate::app::{Reply, TestApp};
use crate::sandboxes::{app, close, create, exec, python};

/// Tells what it was asked, and sets cookies.
const SERVER: &str = r#"
import http.server, json, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get('content-length') or 0)
        told = {'method': self.command, 'path': self.path, 'headers': dict(self.headers), 'body': self.rfile.read(length).decode()}
        body = json.dumps(told).encode()
        self.send_response(500 if self.path == '/broken' else 200)
        self.send_header('clear-site-data', '"cookies"')
        self.send_header('report-to', '{}')
        self.send_header('content-type', 'application/json')
        self.send_header('set-cookie', 'mine=1; Path=/')
        self.send_header('set-cookie', 'wide=1; Path=/; Domain=localhost')
        self.send_header('set-cookie', 'nh_session=stolen; Path=/')
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
for port in (8080, 3000):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
"#;

fn ask(app: &TestApp, host: &str, path: &str) -> crate::app::Call {
    app.anonymous(http::Method::GET, path).header("host", host)
}

fn cookies(reply: &Reply) -> Vec<String> {
    let values = reply.headers.get_all("set-cookie").iter();
    values.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_server_in_a_sandbox_is_reached_at_its_own_origin_and_learns_no_credential() {
    let app = app().await;
    let made = app.post("/v1/resources", json!({"template": "python"})).send().await.ok(201);
    let id = made["id"].as_str().expect("an id");
    let url = made["url"].as_str().expect("a url");
    let (host, token) =
        url.strip_prefix("http://").and_then(|url| url.split_once("/?token=")).expect("a token");
    let nothing = ask(&app, host, "/").key(&app.key).send().await;
    assert_eq!(nothing.code(503), "component_unavailable");
    assert_eq!(python(&app, id, SERVER).await["exit_code"], 0);

    // With a key.
    let other = "sid=1; nh_session=secret; __Host-nh_session=secret; theme=dark";
    let call = ask(&app, host, "/a?b=c&token2=d").key(&app.key).header("x-api-key", &app.key);
    let reply = call.header("cookie", other).send().await;
    let told = reply.ok(200);
    assert_eq!(
        (&told["path"], &told["headers"]["cookie"]),
        (&json!("/a?b=c&token2=d"), &json!("sid=1; theme=dark"))
    );
    let names: Vec<String> =
        told["headers"].as_object().expect("headers").keys().map(|name| name.to_lowercase()).collect();
    for name in ["authorization", "x-api-key"] {
        assert!(!names.contains(&name.to_owned()), "{names:?}");
    }
    assert_eq!(cookies(&reply), ["mine=1; Path=/"]);
    assert!(
        !reply.headers.contains_key("clear-site-data") && !reply.headers.contains_key("report-to"),
        "{reply:?}"
    );
    // What it answers is its own, and no error of the hub.
    let broken = ask(&app, host, "/broken").key(&app.key).send().await;
    assert_eq!((broken.status.as_u16(), &broken.json()["path"]), (500, &json!("/broken")));
    let other_port = host.replacen(id, &format!("{id}-3000"), 1);
    assert_eq!(ask(&app, &other_port, "/").key(&app.key).send().await.ok(200)["path"], "/");

    // With the token: a program is answered, a browser sent to the same place without it.
    let reply = ask(&app, host, &format!("/x?token={token}&y=1")).send().await;
    assert_eq!(reply.ok(200)["path"], "/x?y=1");
    let page = ask(&app, host, &format!("/x?token={token}")).header("accept", "text/html").send().await;
    assert_eq!((page.status.as_u16(), page.header("location")), (303, "/x"));
    let cookie = cookies(&page).remove(0);
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && !cookie.contains("Domain"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let far =
        ask(&app, host, &format!("//evil.example/?token={token}")).header("accept", "text/html").send().await;
    assert_eq!(far.header("location"), "/evil.example/");

    assert_eq!(page.header("cache-control"), "no-store");
    // A token of its own is the sandbox's business.
    let own = ask(&app, host, "/?token=jupyter").key(&app.key).send().await.ok(200);
    assert_eq!(own["path"], "/?token=jupyter");
    // That of another sandbox is not.
    let sibling = app.post("/v1/resources", json!({"template": "python"})).send().await.ok(201);
    let (_, siblings) = sibling["url"].as_str().and_then(|url| url.split_once("token=")).expect("a token");
    let told = ask(&app, host, &format!("/?token={siblings}&x=1")).key(&app.key).send().await.ok(200);
    assert_eq!(told["path"], "/?x=1");
    let referer = format!("http://{host}/?token={token}");
    let told = ask(&app, host, "/").key(&app.key).header("referer", &referer).send().await.ok(200);
    assert!(!told.to_string().contains(token), "{told}");
    let worker = ask(&app, host, "/sw.js").key(&app.key).header("service-worker", "script").send().await;
    assert_eq!(worker.code(403), "origin_refused");
    let with_key = ask(&app, host, &format!("/?key={}", app.key)).key(&app.key).send().await;
    assert_eq!(with_key.code(400), "invalid_request");

    // With the cookie, which no other origin can use.
    let tossed = format!("\u{e9}=1; nh_sandbox=junk; {cookie}");
    ask(&app, host, "/").header("cookie", &tossed).send().await.ok(200);
    let included = ask(&app, host, "/").header("cookie", &cookie).header("sec-fetch-site", "same-site");
    assert_eq!(included.header("sec-fetch-mode", "no-cors").send().await.code(403), "origin_refused");
    let told = ask(&app, host, "/").header("cookie", &cookie).send().await.ok(200);
    assert!(told["headers"].get("cookie").is_none(), "{told}");
    let post =
        || app.anonymous(http::Method::POST, "/").header("host", host).header("cookie", &cookie).body("data");
    assert_eq!(post().send().await.code(403), "origin_refused");
    let foreign = post().header("origin", "http://sbx-0000000000000000.localhost:8080").send().await;
    assert_eq!(foreign.code(403), "origin_refused");
    assert_eq!(post().header("origin", &format!("http://{host}")).send().await.ok(200)["body"], "data");

    // Nobody else.
    assert_eq!(ask(&app, host, "/").send().await.code(401), "missing_credential");
    assert_eq!(ask(&app, host, "/?token=AAAA").send().await.code(401), "invalid_credential");
    let sibling = create(&app).await;
    let reply = ask(&app, &host.replace(id, &sibling), &format!("/?token={token}")).send().await;
    assert_eq!(reply.code(401), "invalid_credential", "a token is one sandbox's");
    let (_, theirs) = app.other_workspace().await;
    assert_eq!(ask(&app, host, "/").key(&theirs).send().await.code(404), "not_found");
    let limited = app.key_with("run:read").await;
    assert_eq!(ask(&app, host, "/").key(&limited).send().await.code(403), "missing_scope");

    // The API is not there, and the sandbox not at the API's origin.
    assert_eq!(ask(&app, host, "/v1/keys").key(&app.key).send().await.ok(200)["path"], "/v1/keys");
    assert_eq!(ask(&app, "sbx-none.localhost:8080", "/healthz").send().await.code(404), "not_found");
    assert_eq!(app.get("/?token=x").send().await.code(404), "not_found");

    // A key that is revoked takes its tokens along.
    let key = app.key_with("resources:read").await;
    let seen =
        app.anonymous(http::Method::GET, &format!("/v1/resources/{id}")).key(&key).send().await.ok(200);
    let token = seen["url"].as_str().and_then(|url| url.split_once("token=")).expect("a token").1.to_owned();
    ask(&app, host, &format!("/?token={token}")).send().await.ok(200);
    let keys = app.get("/v1/keys").send().await.ok(200);
    let last = keys["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .filter_map(|key| key["id"].as_i64())
        .max()
        .expect("one");
    app.delete(&format!("/v1/keys/{last}")).send().await.ok(204);
    assert_eq!(ask(&app, host, &format!("/?token={token}")).send().await.code(401), "invalid_credential");
    assert_eq!(exec(&app, id, json!({"command": ["true"]})).await["exit_code"], 0);
    close(&app).await;
}

/// Accepts whoever comes, and says nothing to anybody.
const SILENT: &str = r#"
import socket, threading
listener = socket.create_server(('127.0.0.1', 8080), backlog=200)
kept = []
def accept():
    while True:
        kept.append(listener.accept()[0])
threading.Thread(target=accept, daemon=True).start()
"#;

#[tokio::test]
async fn connections_that_are_given_up_are_over_inside_too() {
    let app = app().await;
    let id = create(&app).await;
    assert_eq!(python(&app, &id, SILENT).await["exit_code"], 0);
    let host = format!("{id}.localhost:8080");
    for _ in 0..100 {
        let asked = ask(&app, &host, "/").key(&app.key).send();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), asked).await.is_err());
    }
    // As many as may be at once, and more, were begun.
    let told =
        python(&app, &id, "import time\nwhile len(kept) < 50: time.sleep(0.01)\nlen(kept) >= 50").await;
    assert_eq!(told["artifacts"][0]["data"]["text/plain"], "True");
    assert_eq!(exec(&app, &id, json!({"command": ["true"]})).await["exit_code"], 0);
    close(&app).await;
}
