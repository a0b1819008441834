//! `neuralhub memory` and `neuralhub setup`, against a hub that embeds by the local model.

use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Output, Stdio};

use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::hub::{TestHub, command, read, text};

const FACT: &str = "Mara prefers window seats on short flights.";

/// What a client command prints and how it ends when it reads `input`.
fn with_input(hub: &TestHub, arguments: &[&str], input: &str) -> Output {
    let mut child = command(hub.folder.path())
        .args(arguments)
        .env("NEURALHUB_URL", &hub.url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("ends")
}

fn lines(file: &str) -> Vec<Value> {
    file.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn memories_are_found_by_their_meaning_and_forgotten() {
    let hub = TestHub::start();
    assert!(text(&hub.client(&["memory"]).stderr).contains("No memories."));
    let added = hub.client(&["memory", "add", FACT, "--metadata", r#"{"topic": {"name": "travel"}}"#]);
    let id = text(&added.stdout).trim().to_owned();
    assert!(id.starts_with("mem_"), "{}", text(&added.stderr));
    let again = hub.client(&["memory", "add", FACT]);
    assert_eq!(text(&again.stdout).trim(), id);
    assert!(text(&again.stderr).contains("remembered already"), "{}", text(&again.stderr));
    let piped = with_input(&hub, &["memory", "add", "-", "--namespace", "ops"], "Deploys are on Mondays.\n");
    assert!(piped.status.success(), "{}", text(&piped.stderr));

    let found = text(&hub.client(&["memory", "search", "Where does Mara like to sit on a plane?"]).stdout);
    let row = found.lines().nth(1).expect("a row");
    assert!(row.contains(&id) && row.contains(FACT) && !found.contains("Mondays"), "{found}");
    let everywhere = hub.json(&["memory", "search", "On which day do we deploy?", "--namespace", "*"]);
    assert_eq!(everywhere[0]["content"], "Deploys are on Mondays.");
    let filter = r#"{"topic.name": {"$ne": "travel"}}"#;
    let others = hub.json(&["memory", "search", "a plane", "--namespace", "*", "--filter", filter]);
    assert_eq!(others.as_array().map(Vec::len), Some(1), "{others}");
    assert_eq!(hub.json(&["memory", "search", FACT, "--min-similarity", "0.99"])[0]["id"], json!(id));
    assert_eq!(hub.json(&["memory", "get", &id])["metadata"], json!({"topic": {"name": "travel"}}));
    assert!(text(&hub.client(&["memory", "list", "--namespace", "ops"]).stdout).contains("Mondays"));
    assert_eq!(hub.json(&["memory", "model", "neuralhub/minilm", "--wait"])["next"], json!(null));

    assert_eq!(hub.client(&["memory", "delete", &id]).status.code(), Some(0));
    assert_eq!(hub.client(&["memory", "get", &id]).status.code(), Some(4));
    assert_eq!(hub.json(&["memory", "delete", "--namespace", "ops"]), json!({"deleted": 1}));
    assert_eq!(hub.json(&["memory", "list", "--namespace", "*"])["memories"], json!([]));
}

fn with_key<'a>(key: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["memory"], arguments, &["--key", key]].concat()
}

#[test]
fn a_key_of_another_workspace_finds_nothing_of_this_one() {
    let hub = TestHub::start();
    let run = hub.json(&["run", "tool:memory_store", &json!({"content": FACT}).to_string()]);
    let id = hub.json(&["memory", "list"])["memories"][0]["id"].as_str().expect("an id").to_owned();
    hub.json(&["workspaces", "create", "theirs"]);
    let made = ["keys", "create", "--workspace", "theirs", "--name", "N", "--scopes", "*"];
    let key = hub.json(&made)["key"].as_str().expect("the raw key").to_owned();
    let theirs = |arguments: &[&str]| hub.json(&with_key(&key, arguments));
    let refused = |arguments: &[&str]| hub.client(&with_key(&key, arguments)).status.code();

    let question = "Where does Mara like to sit on a plane?";
    assert_eq!(theirs(&["search", question, "--namespace", "*"]), json!([]));
    assert_eq!(theirs(&["model"])["memories"], 0);
    let of_run = run["runId"].as_str().expect("a run");
    for which in [&["--namespace", "*"][..], &["--run", of_run], &["--filter", "{}"]] {
        assert_eq!(theirs(&[&["list"], which].concat())["memories"], json!([]), "{which:?}");
        let exported = hub.client(&with_key(&key, &[&["export"], which].concat()));
        assert_eq!((exported.status.code(), text(&exported.stdout)), (Some(0), String::new()), "{which:?}");
        assert_eq!(theirs(&[&["delete"], which].concat()), json!({"deleted": 0}), "{which:?}");
    }
    assert_eq!((refused(&["get", &id]), refused(&["delete", &id])), (Some(4), Some(4)));

    // What is the same is theirs alone, and new.
    let line = json!({"content": FACT}).to_string();
    let imported = with_input(&hub, &with_key(&key, &["import", "-", "--json"]), &line);
    let counts: Value = serde_json::from_slice(&imported.stdout).expect("JSON");
    assert_eq!((&counts["created"], &counts["existing"]), (&json!(1), &json!(0)));
    let found = theirs(&["search", question, "--namespace", "*"]);
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_ne!(found[0]["id"], json!(id));
    assert_eq!(theirs(&["delete", "--namespace", "*"]), json!({"deleted": 1}));
    assert_eq!(hub.json(&["memory", "search", question])[0]["id"], json!(id));
}

#[test]
fn what_is_mistyped_is_refused_before_anything_is_done() {
    let hub = TestHub::start();
    for (arguments, told) in [
        (&["delete"][..], "say which memories"),
        (&["delete", "mem_1", "--namespace", "n"], "cannot be used with"),
        (&["add", "x", "--metadata", "{"], "--metadata must be JSON"),
        (&["add", "x", "--expires-at", "tomorrow"], "`tomorrow` is not a time"),
        (&["list", "--filter", "topic=travel"], "--filter must be JSON"),
        (&["import", "absent.jsonl"], "absent.jsonl cannot be read"),
    ] {
        let refused = hub.client(&[&["memory"], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(text(&refused.stderr).contains(told), "{arguments:?}: {}", text(&refused.stderr));
    }
    let refused = hub.client(&["memory", "list", "--filter", r#"{"a": {"$like": "b"}}"#]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("`filter.a.$like`"), "{}", text(&refused.stderr));
}

#[test]
fn an_import_tells_which_lines_are_wrong_and_repeating_it_adds_nothing_twice() {
    let hub = TestHub::start();
    let mut file: Vec<String> = (1..=210)
        .map(|n| json!({"content": format!("Fact {n}."), "metadata": {"n": n}}).to_string())
        .collect();
    file[2] = "no JSON".to_owned();
    file[3] = String::new();
    // Lines of a second request are counted on.
    file[204] = json!({"content": "x", "namespace": "no name"}).to_string();
    file[205] = format!("\"{}", "y".repeat(600_000));
    std::fs::write(hub.folder.path().join("facts.jsonl"), file.join("\n")).expect("written");

    let first = hub.client(&["memory", "import", "facts.jsonl"]);
    let (told, summary) = (text(&first.stderr), text(&first.stdout));
    assert_eq!(first.status.code(), Some(1), "{told}");
    let counts: Vec<&str> = summary.split_whitespace().collect();
    assert_eq!(counts, ["created", "206", "existing", "0", "failed", "3"]);
    for fault in ["line 3: ", "line 205: `namespace` is `no name`", "line 206: the line has 600002 bytes"] {
        assert!(told.contains(fault) && told.contains("3 of 210 lines"), "{told}");
    }

    let again = with_input(&hub, &["memory", "import", "-", "--json"], &file.join("\n"));
    assert_eq!(again.status.code(), Some(1));
    let counts: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!((&counts["created"], &counts["existing"]), (&json!(0), &json!(206)));
    assert_eq!(counts["errors"][1]["line"], 205);
    let mended = with_input(&hub, &["memory", "import", "-"], "{\"content\": \"Fact 3.\"}\r\n");
    assert_eq!(mended.status.code(), Some(0), "{}", text(&mended.stderr));
    assert_eq!(hub.json(&["memory", "model"])["memories"], 207);
}

#[test]
fn an_export_is_what_an_import_takes() {
    let hub = TestHub::start();
    let facts = [
        json!({"content": FACT, "metadata": {"topic": "travel"}, "expires_at": "2100-01-01T00:00:00.000Z"}),
        json!({"content": "Zeile eins\nZeile zwei: ä \u{1f600}", "namespace": "ops", "metadata": {"n": 2}}),
    ];
    let input = facts.iter().map(|fact| format!("{fact}\n")).collect::<String>();
    assert!(with_input(&hub, &["memory", "import", "-"], &input).status.success());

    let exported = hub.client(&["memory", "export", "all.jsonl", "--namespace", "*"]);
    assert!(text(&exported.stderr).contains("2 memories are in all.jsonl"), "{}", text(&exported.stderr));
    let file = read(&hub.folder.path().join("all.jsonl"));
    assert!(!hub.folder.path().join("all.jsonl.part").exists());
    assert_eq!(text(&hub.client(&["memory", "export", "--namespace", "*"]).stdout), file);
    assert_eq!(lines(&text(&hub.client(&["memory", "export", "--filter", r#"{"n": 2}"#]).stdout)).len(), 0);

    // A link stays one, and what is no file is never replaced by one.
    std::os::unix::fs::symlink("all.jsonl", hub.folder.path().join("link")).expect("linked");
    assert!(hub.client(&["memory", "export", "link", "--namespace", "*"]).status.success());
    assert!(std::fs::symlink_metadata(hub.folder.path().join("link")).expect("there").is_symlink());
    let pipe = hub.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().expect("runs");
    assert!(hub.client(&["memory", "export", "pipe", "--namespace", "*"]).status.success());
    assert_eq!(text(&reader.wait_with_output().expect("ends").stdout), file);
    assert!(std::fs::metadata(&pipe).expect("there").file_type().is_fifo());

    let other = TestHub::start();
    let imported = with_input(&other, &["memory", "import", "-"], &file);
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    let shown = |hub: &TestHub| {
        let all = lines(&text(&hub.client(&["memory", "export", "--namespace", "*"]).stdout));
        let mut all: Vec<String> = all
            .iter()
            .map(|one| {
                format!("{} {} {} {}", one["content"], one["namespace"], one["metadata"], one["expires_at"])
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(shown(&other), shown(&hub));
    // What cannot be had leaves the file as it was.
    assert_eq!(
        hub.client(&["memory", "export", "all.jsonl", "--namespace", "no name"]).status.code(),
        Some(4)
    );
    assert_eq!(read(&hub.folder.path().join("all.jsonl")), file);
}

#[test]
fn an_import_is_tried_again_when_the_hub_is_busy_and_says_how_far_it_came() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hub = runtime.block_on(Upstream::start()).expect("a port");
    let answer = json!({"created": 200, "existing": 0, "failed": 0, "errors": []});
    let refusal = |status, kind: &str, code: &str, message: &str| {
        Reply::json(status, &json!({"error": {"message": message, "type": kind, "code": code}}))
    };
    hub.reply(refusal(429, "rate_limit_error", "queue_full", "busy").with_header("retry-after", "1"));
    hub.reply(Reply::json(200, &answer));
    hub.reply(refusal(500, "server_error", "internal_error", "broken"));
    let folder = tempfile::tempdir().expect("a folder");
    let file: String = (0..300).map(|n| format!("{{\"content\": \"Fact {n}.\"}}\n")).collect();
    std::fs::write(folder.path().join("facts.jsonl"), file).expect("written");
    let url = hub.base_url();
    let broken_off = command(folder.path())
        .args(["memory", "import", "facts.jsonl", "--key", "k", "--url", url.trim_end_matches("/v1")])
        .output()
        .expect("runs");
    let told = text(&broken_off.stderr);
    assert_eq!(broken_off.status.code(), Some(1), "{told}");
    assert!(told.contains("busy") && told.contains("trying again in 1 s"), "{told}");
    assert!(told.contains("on the lines up to 200 is stored") && told.contains("same command"), "{told}");
    assert_eq!(hub.calls().len(), 3);
}

#[test]
fn a_missing_model_is_told_with_what_fetches_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = TestHub::start_with(folder, &[("NEURALHUB__MEMORY__WEIGHTS_DIR", "nothing-here")]);
    let refused = hub.client(&["memory", "add", FACT]);
    let told = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    for part in ["nothing-here", "run `neuralhub setup`", "503 embedder_unavailable"] {
        assert!(told.contains(part), "{told}");
    }
    let doctor = text(&hub.client(&["doctor"]).stdout);
    assert!(doctor.contains("note   embedding model ./data/models/all-MiniLM-L6-v2"), "{doctor}");
    let weights = hub.data().join("models/all-MiniLM-L6-v2");
    std::fs::create_dir_all(&weights).expect("made");
    std::fs::write(weights.join("model.safetensors"), "short").expect("written");
    let doctor = hub.client(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text(&doctor.stdout).contains("has 5 bytes instead of 90868376"), "{}", text(&doctor.stdout));
}

#[test]
fn a_model_that_is_there_is_not_fetched_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let setup = |more: &[&str]| {
        let mut setup = command(folder.path());
        setup.arg("setup").args(more).env("NEURALHUB__MEMORY__WEIGHTS_DIR", nh_testkit::weights());
        setup.output().expect("runs")
    };
    let done = setup(&[]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("already; nothing is to do"), "{}", text(&done.stdout));
    let told: Value = serde_json::from_slice(&setup(&["--json"]).stdout).expect("JSON");
    assert_eq!(told["fetched"], false);
    assert_eq!(setup(&["--config", "absent.toml"]).status.code(), Some(2));
}
