//! `/v1/resources` with real sandboxes of the template `python`: gVisor's, or those of the
//! driver that NEURALHUB_TEST_SANDBOXES names.

use std::collections::HashSet;
use std::path::Path;

use futures_util::StreamExt;
use http::Method;
use nh_compute::{ComputeSettings, DriverChoice};
use serde_json::{Value, json};

use crate::app::TestApp;

fn driver() -> DriverChoice {
    match std::env::var("NEURALHUB_TEST_SANDBOXES").as_deref() {
        Ok("process") => DriverChoice::Process,
        Ok("microvm") => DriverChoice::Microvm,
        Ok(other) => panic!("NEURALHUB_TEST_SANDBOXES is `{other}`; it is `process` or `microvm`"),
        Err(_) => DriverChoice::Gvisor,
    }
}

/// With nothing started before it is asked for.
pub(crate) async fn app() -> TestApp {
    app_with(|_| {}).await
}

pub(crate) async fn app_with(change: impl FnOnce(&mut ComputeSettings)) -> TestApp {
    app_of("python", change).await
}

/// With this template, which is built unless it is.
pub(crate) async fn app_of(template: &str, change: impl FnOnce(&mut ComputeSettings)) -> TestApp {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.templates");
    let mut settings = ComputeSettings {
        driver: driver(),
        allow_process: true,
        templates_dir: Some(std::path::absolute(kept).expect("a path")),
        pool_size: 0,
        memory_mb: 256,
        disk_mb: 16,
        max_processes: 32,
        ..ComputeSettings::default()
    };
    change(&mut settings);
    let templates = nh_compute::templates(&settings, Path::new("/nowhere")).expect("recipes");
    templates.build(template, |_| {}).await.expect("Debian's package mmdebstrap, root, and its registry");
    if settings.driver == DriverChoice::Microvm {
        templates.build_kernel(|_| {}).await.expect("Debian's package mmdebstrap, and its registry");
    }
    TestApp::with_sandboxes(settings).await
}

pub(crate) async fn create(app: &TestApp) -> String {
    let made = app.post("/v1/resources", json!({"template": "python"})).send().await.ok(201);
    made["id"].as_str().expect("an id").to_owned()
}

pub(crate) async fn exec(app: &TestApp, id: &str, body: Value) -> Value {
    app.post(&format!("/v1/resources/{id}/exec"), body).send().await.ok(200)
}

pub(crate) async fn python(app: &TestApp, id: &str, code: &str) -> Value {
    exec(app, id, json!({"language": "python", "code": code})).await
}

async fn bash(app: &TestApp, id: &str, code: &str) -> Value {
    exec(app, id, json!({"language": "bash", "code": code})).await
}

/// Until so many of the template `python` wait.
async fn warm(app: &TestApp, count: u64) {
    loop {
        let templates = app.get("/v1/templates").send().await.ok(200);
        let mut templates = templates["templates"].as_array().expect("templates").iter();
        if templates.find(|one| one["name"] == "python").expect("python")["warm"] == count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Ends what is left, so that nothing of it outlives the test.
pub(crate) async fn close(app: &TestApp) {
    app.hub.compute.close().await;
}

#[tokio::test]
async fn a_sandbox_keeps_what_code_leaves_until_it_is_deleted() {
    let app = app().await;
    let made =
        app.post("/v1/resources", json!({"template": "python", "env": {"MY_VAR": "value"}})).send().await;
    let made = made.ok(201);
    let id = made["id"].as_str().expect("an id");
    assert_eq!((&made["template"], &made["state"]), (&json!("python"), &json!("running")));
    let isolation = match driver() {
        DriverChoice::Microvm => ["microvm", "microvm_emulated"].as_slice(),
        DriverChoice::Process => &["process"],
        _ => &["gvisor"],
    };
    assert!(isolation.contains(&made["isolation"].as_str().expect("a word")), "{made}");
    assert_eq!(made["network"], "none");
    let url = made["url"].as_str().expect("a url");
    assert!(url.starts_with(&format!("http://{id}.localhost:8080/?token=")), "{url}");
    let list = app.get("/v1/resources").send().await.ok(200);
    assert_eq!((list[0]["id"].as_str(), list.as_array().map(Vec::len)), (Some(id), Some(1)));

    let told = python(&app, id, "import os\nx = 40\nprint(os.environ['MY_VAR'])").await;
    assert_eq!(
        (&told["exit_code"], &told["stdout"], &told["stderr"]),
        (&json!(0), &json!("value\n"), &json!(""))
    );
    let told = python(&app, id, "x + 2").await;
    assert_eq!(told["artifacts"], json!([{"is_result": true, "data": {"text/plain": "42"}}]));
    assert_eq!((&told["killed"], &told["state_reset"]), (&json!(null), &json!(false)));
    let told = python(&app, id, "1 / 0").await;
    assert_eq!(told["exit_code"], 1);
    assert!(told["stderr"].as_str().expect("text").contains("ZeroDivisionError"), "{told}");
    assert_eq!(bash(&app, id, "cd /tmp; Y=5").await["exit_code"], 0);
    assert_eq!(bash(&app, id, "echo $PWD $Y $MY_VAR; echo no >&2; exit 3").await["stdout"], "/tmp 5 value\n");
    let told = exec(&app, id, json!({"command": ["cat", "-"], "stdin": "in"})).await;
    assert_eq!((&told["exit_code"], &told["stdout"]), (&json!(0), &json!("in")));
    let seen = app.get(&format!("/v1/resources/{id}")).send().await.ok(200);
    assert_eq!(seen["usage"]["executions"], 6);
    assert!(seen["usage"]["memory_bytes"].as_u64().is_none_or(|bytes| bytes > 1_000_000), "{seen}");

    assert!(app.delete(&format!("/v1/resources/{id}")).send().await.ok(204).is_null());
    assert_eq!(app.get(&format!("/v1/resources/{id}")).send().await.code(404), "not_found");
    assert_eq!(app.delete(&format!("/v1/resources/{id}")).send().await.code(404), "not_found");
    assert_eq!(app.get("/v1/resources").send().await.ok(200), json!([]));
    close(&app).await;
    let left = std::fs::read_dir(app.files.path().join("compute/sandboxes")).expect("a folder").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn files_go_in_and_out_whole() {
    let app = app().await;
    let id = create(&app).await;
    let files = format!("/v1/resources/{id}/files");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let put = |path: &str, body: Vec<u8>| app.call(Method::PUT, &format!("{files}/{path}")).body(body).send();
    put("data/in/big.bin", bytes.clone()).await.ok(204);
    put("data/a%20b.txt", b"text".to_vec()).await.ok(204);
    let told = python(
        &app,
        &id,
        "import os\nopen('out.txt', 'w').write('made'); os.path.getsize('data/in/big.bin')",
    )
    .await;
    assert_eq!(told["artifacts"][0]["data"]["text/plain"], "1000000");
    let read = app.get(&format!("{files}/data/in/big.bin")).send().await;
    assert_eq!((read.status.as_u16(), read.body.to_vec() == bytes), (200, true));
    assert_eq!(
        (read.header("content-disposition"), read.header("content-security-policy")),
        ("attachment", "sandbox")
    );
    assert_eq!(&app.get(&format!("{files}/out.txt")).send().await.body[..], b"made");
    let entries = app.get(&format!("{files}/data/")).send().await.ok(200);
    let wanted = json!([{"name": "a b.txt", "is_folder": false, "size": 4}, {"name": "in", "is_folder": true, "size": 0}]);
    assert_eq!(entries["entries"], wanted);
    let home = app.get(&files).send().await.ok(200);
    assert!(
        home["entries"].as_array().expect("entries").iter().any(|entry| entry["name"] == "out.txt"),
        "{home}"
    );
    assert_eq!(app.get(&format!("{files}/none.txt")).send().await.code(404), "not_found");
    for (path, code) in [("data", 422), ("..%2f..%2fetc%2fpasswd", 422), ("/etc/passwd", 422)] {
        assert_eq!(app.get(&format!("{files}/{path}")).send().await.code(code), "invalid_value", "{path}");
    }
    assert_eq!(put("too-big", vec![1; 32 << 20]).await.code(409), "conflict");
    assert_eq!(app.get(&format!("{files}/too-big")).send().await.code(404), "not_found");
    app.delete(&format!("{files}/data/")).send().await.ok(204);
    assert_eq!(app.get(&format!("{files}/data/")).send().await.code(404), "not_found");
    close(&app).await;
}

#[tokio::test]
async fn what_code_says_streams_as_it_says_it() {
    let app = app().await;
    let id = create(&app).await;
    let code = "import sys\nprint('één')\nprint('no', file=sys.stderr)\n[1, 2]";
    let body = json!({"language": "python", "code": code, "stream": true});
    let reply = app.post(&format!("/v1/resources/{id}/exec"), body).send().await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    let mut events: Vec<(&str, Value)> = text
        .split_terminator("\n\n")
        .filter_map(|event| event.strip_prefix("event: ")?.split_once("\ndata: "))
        .map(|(name, data)| (name, serde_json::from_str(data).expect("JSON")))
        .collect();
    let (last, end) = events.pop().expect("an event");
    assert_eq!((last, &end["exit_code"], &end["state_reset"]), ("end", &json!(0), &json!(false)));
    let of = |wanted: &str| -> String {
        let texts = events.iter().filter(|(name, _)| *name == wanted);
        texts.filter_map(|(_, data)| data["text"].as_str()).collect()
    };
    assert_eq!((of("stdout").as_str(), of("stderr").as_str()), ("één\n", "no\n"));
    let artifact = events.iter().find(|(name, _)| *name == "artifact").expect("an artifact");
    assert_eq!(artifact.1["data"]["text/plain"], "[1, 2]");
    // What is shown comes after what was written before it.
    for number in 0..30 {
        let body =
            json!({"language": "python", "code": format!("print({number})\n{number}"), "stream": true});
        let reply = app.post(&format!("/v1/resources/{id}/exec"), body).send().await;
        let text = String::from_utf8(reply.body.to_vec()).expect("text");
        let (out, shown) = (text.find("event: stdout"), text.find("event: artifact"));
        assert!(out.is_some() && out < shown, "{text}");
    }
    close(&app).await;
}

#[tokio::test]
async fn limits_are_told_by_name() {
    let app = app().await;
    let id = create(&app).await;
    python(&app, &id, "kept = 1").await;
    let late =
        exec(&app, &id, json!({"language": "python", "code": "while True: pass", "timeout_seconds": 1}))
            .await;
    assert_eq!((&late["killed"], &late["state_reset"]), (&json!("timeout"), &json!(true)));
    let told = python(&app, &id, "kept").await;
    assert!(told["stderr"].as_str().expect("text").contains("NameError"), "{told}");
    let flood = python(&app, &id, "print('x' * 50_000_000)").await;
    assert_eq!((flood["exit_code"].as_i64(), &flood["truncated"]), (Some(0), &json!(true)));
    assert!(flood["stdout"].as_str().expect("text").len() <= 4 << 20);
    let disk = python(&app, &id, "open('big', 'wb').write(b'x' * 30_000_000)").await;
    assert!(disk["stderr"].as_str().expect("text").contains("No space left"), "{disk}");
    // It is told what ended it, and so is whoever asks later.
    let hog = python(&app, &id, "data = b'x' * 1_000_000_000\nprint('survived')").await;
    assert_ne!(hog["stdout"], "survived\n");
    if hog["killed"] == "memory" {
        assert_eq!(hog["state_reset"], true);
    } else {
        assert!(hog["stderr"].as_str().expect("text").contains("MemoryError"), "{hog}");
    }
    let other = create(&app).await;
    let bomb = "import os\nwhile True: os.fork()";
    let reply = app
        .post(&format!("/v1/resources/{other}/exec"), json!({"command": ["python3", "-c", bomb]}))
        .send()
        .await;
    if reply.status == 200 {
        let told = reply.json();
        assert!(told["killed"] == "processes" || told["exit_code"] != 0, "{told}");
    }
    let seen = app.get(&format!("/v1/resources/{other}")).send().await.ok(200);
    if seen["state"] == "stopped" {
        // Whichever limit the host's scheduler lets it reach first.
        assert!(["processes", "memory"].contains(&seen["stop_reason"].as_str().expect("a word")), "{seen}");
        let used =
            app.post(&format!("/v1/resources/{other}/exec"), json!({"command": ["true"]})).send().await;
        assert_eq!(used.code(409), "sandbox_stopped");
        app.delete(&format!("/v1/resources/{other}")).send().await.ok(204);
    }
    let next = create(&app).await;
    assert_eq!(python(&app, &next, "1").await["exit_code"], 0);
    close(&app).await;
}

#[tokio::test]
async fn code_of_one_language_waits_in_a_line_of_sixteen() {
    let app = app().await;
    let id = create(&app).await;
    python(&app, &id, "import time").await;
    let path = format!("/v1/resources/{id}/exec");
    let slow = json!({"language": "python", "code": "time.sleep(2)", "timeout_seconds": 30});
    let (first, rest) = tokio::join!(app.post(&path, slow).send(), async {
        // Until the first has its turn.
        while app.get(&format!("/v1/resources/{id}")).send().await.ok(200)["usage"]["executions"] != 2 {}
        let body = json!({"language": "python", "code": "1"});
        let all = (0..18).map(|_| app.post(&path, body.clone()).send());
        let command = app.post(&path, json!({"command": ["true"]})).send().await;
        assert_eq!(command.ok(200)["exit_code"], 0, "a command waits for no code");
        futures_util::future::join_all(all).await
    });
    first.ok(200);
    let full = rest.iter().filter(|reply| reply.status == 429).count();
    let done = rest.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((full, done), (2, 16));
    let refused = rest.iter().find(|reply| reply.status == 429).expect("one");
    assert_eq!((refused.code(429).as_str(), refused.header("retry-after")), ("queue_full", "1"));
    close(&app).await;
}

#[tokio::test]
async fn a_life_ends_in_time_and_can_be_prolonged() {
    let app = app().await;
    let made =
        app.post("/v1/resources", json!({"template": "python", "timeout_seconds": 2})).send().await.ok(201);
    let path = format!("/v1/resources/{}", made["id"].as_str().expect("an id"));
    let change = |body: Value| app.call(Method::PATCH, &path).json(body).send();
    let longer = change(json!({"timeout_seconds": 3600})).await.ok(200);
    assert!(longer["expires_at"].as_str() > made["expires_at"].as_str(), "{longer}");
    let too_long = change(json!({"timeout_seconds": 86_401})).await;
    assert_eq!(too_long.error(422), ("invalid_value".to_owned(), Some("timeout_seconds".to_owned())));
    change(json!({"timeout_seconds": 1})).await.ok(200);
    let ended = loop {
        let seen = app.get(&path).send().await.ok(200);
        if seen["state"] == "stopped" {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(ended["stop_reason"], "expired");
    assert!(ended.get("url").is_none() && ended["stopped_at"].is_string(), "{ended}");
    assert_eq!(app.get("/v1/resources").send().await.ok(200), json!([]));
    assert_eq!(change(json!({"timeout_seconds": 5})).await.code(409), "sandbox_stopped");
    close(&app).await;
}

#[tokio::test]
async fn a_started_sandbox_is_as_one_that_was_not() {
    let app = app_with(|settings| settings.pool_size = 1).await;
    warm(&app, 1).await;
    let value = "it's \"quoted\"\n\\ \u{2028} é";
    let body = json!({"template": "python", "env": {"MY_VAR": value}});
    let made = app.post("/v1/resources", body).send().await.ok(201);
    let id = made["id"].as_str().expect("an id");
    let told = python(&app, id, "import os; print(os.environ['MY_VAR'], end='')").await;
    assert_eq!((&told["stdout"], &told["state_reset"]), (&json!(value), &json!(false)));
    let told = exec(&app, id, json!({"command": ["sh", "-c", "printf %s \"$MY_VAR\""]})).await;
    assert_eq!(told["stdout"], value);
    close(&app).await;
    let left = std::fs::read_dir(app.files.path().join("compute/sandboxes")).expect("a folder").count();
    assert_eq!(left, 0, "those that nobody took are gone too");
}

/// Where what is started is a copy, it draws other numbers than others.
#[tokio::test]
async fn a_started_sandbox_draws_numbers_of_its_own() {
    let own = tempfile::TempDir::new().expect("a folder");
    let recipe = include_str!("../../../../templates/python/recipe.toml");
    std::fs::create_dir(own.path().join("python")).expect("a folder");
    std::fs::write(
        own.path().join("python/recipe.toml"),
        format!("{recipe}warm = \"import random, tempfile\"\n"),
    )
    .expect("written");
    let app = app_with(|settings| {
        (settings.pool_size, settings.recipes_dir) = (2, Some(own.path().to_owned()));
    })
    .await;
    warm(&app, 2).await;
    let (mut drawn, mut seeds) = (Vec::new(), HashSet::new());
    for _ in 0..3 {
        let id = create(&app).await;
        let told = python(&app, &id, "[random.random(), next(tempfile._get_candidate_names())]").await;
        drawn.push(told["artifacts"][0]["data"]["text/plain"].clone());
        seeds.insert(python(&app, &id, "print(hash('text'))").await["stdout"].to_string());
    }
    assert!(drawn[0].is_string() && drawn[0] != drawn[1] && drawn[1] != drawn[2], "{drawn:?}");
    // What an interpreter draws once, when it starts, tells those that are copies of one.
    assert_eq!(seeds.len(), if driver() == DriverChoice::Microvm { 1 } else { 3 });
    close(&app).await;
}

#[tokio::test]
async fn mistakes_are_named() {
    let app = app_with(|settings| settings.max_per_workspace = 1).await;
    for (body, status, code, param) in [
        (json!({}), 400, "invalid_request", Some("template")),
        (json!({"template": "ruby"}), 422, "invalid_value", Some("template")),
        (json!({"template": "python", "color": 1}), 400, "unknown_field", Some("color")),
        (json!({"template": "python", "network": "egress"}), 422, "not_available", Some("network")),
        (json!({"template": "python", "timeout_seconds": 0}), 422, "invalid_value", Some("timeout_seconds")),
        (json!({"template": "python", "memory_mb": 1}), 422, "invalid_value", Some("memory_mb")),
        (json!({"template": "python", "cpus": 100}), 422, "invalid_value", Some("cpus")),
        (json!({"template": "python", "env": {"A B": "x"}}), 422, "invalid_value", Some("env")),
        (json!({"template": "python", "env": {"A": "x\u{0}"}}), 422, "invalid_value", Some("env")),
    ] {
        let reply = app.post("/v1/resources", body.clone()).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), param.map(str::to_owned)), "{body}");
    }
    let id = create(&app).await;
    let full = app.post("/v1/resources", json!({"template": "python"})).send().await;
    assert_eq!(full.code(429), "queue_full");
    for (body, status, param) in [
        (json!({}), 400, "code"),
        (json!({"language": "python"}), 400, "code"),
        (json!({"code": "1"}), 400, "language"),
        (json!({"language": "ruby", "code": "1"}), 422, "language"),
        (json!({"command": []}), 400, "command"),
        (json!({"command": ["ls"], "language": "bash", "code": "ls"}), 400, "command"),
        (json!({"command": ["ls"], "timeout_seconds": 0}), 422, "timeout_seconds"),
        (json!({"language": "python", "code": "x".repeat(400_000)}), 422, "code"),
    ] {
        let reply = app.post(&format!("/v1/resources/{id}/exec"), body.clone()).send().await;
        assert_eq!(
            reply.error(status).1.as_deref(),
            Some(param),
            "{}",
            &body.to_string()[..80.min(body.to_string().len())]
        );
    }
    let none =
        app.post(&format!("/v1/resources/{id}/exec"), json!({"command": ["no-such-program"]})).send().await;
    assert_eq!(none.code(422), "invalid_value");
    let nobody = app.post("/v1/resources/sbx-0000000000000000/exec", json!({"command": ["ls"]})).send().await;
    assert_eq!(nobody.code(404), "not_found");
    close(&app).await;
}

#[tokio::test]
async fn a_repeated_request_makes_one_sandbox() {
    let app = app().await;
    let body = json!({"template": "python"});
    let send =
        |body: &Value| app.post("/v1/resources", body.clone()).header("idempotency-key", "once").send();
    let first = send(&body).await.ok(201);
    assert_eq!(send(&body).await.ok(201)["id"], first["id"]);
    assert_eq!(send(&json!({"template": "python", "cpus": 0.5})).await.code(409), "idempotency_mismatch");
    assert_eq!(app.get("/v1/resources").send().await.ok(200).as_array().map(Vec::len), Some(1));
    close(&app).await;
}

#[tokio::test]
async fn without_a_driver_everything_else_works() {
    let missing = |settings: &mut ComputeSettings| {
        (settings.driver, settings.runsc) = (DriverChoice::Gvisor, "no-such-runsc".into());
    };
    let app = app_with(missing).await;
    let reply = app.post("/v1/resources", json!({"template": "python"})).send().await;
    assert_eq!(reply.code(503), "no_sandbox_driver");
    let told = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(told.contains("install Debian's package runsc"), "{told}");
    assert_eq!(app.get("/v1/resources").send().await.ok(200), json!([]));
    app.get("/v1/templates").send().await.ok(200);
}

#[tokio::test]
async fn who_comes_after_a_call_that_was_given_up_is_told_what_is_lost() {
    let app = app().await;
    let id = create(&app).await;
    python(&app, &id, "kept = 1").await;
    let body =
        json!({"language": "python", "code": "print('on', flush=True)\nwhile True: pass", "stream": true});
    let reply = app.post(&format!("/v1/resources/{id}/exec"), body).open().await;
    let mut stream = reply.into_body().into_data_stream();
    let first = stream.next().await.expect("an event").expect("bytes");
    assert!(first.starts_with(b"event: stdout"), "{first:?}");
    drop(stream);
    let told = python(&app, &id, "'kept' in globals()").await;
    assert_eq!(
        (&told["state_reset"], &told["artifacts"][0]["data"]["text/plain"]),
        (&json!(true), &json!("False"))
    );
    assert_eq!(python(&app, &id, "1").await["state_reset"], false);
    close(&app).await;
}

#[tokio::test]
async fn what_was_refused_for_want_of_room_may_be_asked_for_again() {
    let app = app_with(|settings| settings.max_per_workspace = 1).await;
    let id = create(&app).await;
    let again =
        || app.post("/v1/resources", json!({"template": "python"})).header("idempotency-key", "once").send();
    assert_eq!(again().await.code(429), "queue_full");
    app.delete(&format!("/v1/resources/{id}")).send().await.ok(204);
    let made = again().await.ok(201);
    assert_eq!(again().await.ok(201)["id"], made["id"]);
    close(&app).await;
}
