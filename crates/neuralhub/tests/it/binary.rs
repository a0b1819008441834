//! `neuralhub` as a person and a script meet it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::http::Client;
use crate::hub::{TestHub, command, text};

const GOAL: &str = "What is 17 * 23, and what time is it in Tokyo?";

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_first_start_makes_what_it_needs_and_a_stop_is_clean() {
    let hub = TestHub::start();
    let data = hub.data();
    assert_eq!(
        (mode(&data), mode(&data.join("first-key")), mode(&data.join("master.key"))),
        (0o700, 0o600, 0o600)
    );
    assert_eq!(std::fs::metadata(data.join("master.key")).expect("there").len(), 32);
    let (key, log) = (hub.key(), hub.log());
    assert!(
        log.contains("first-key") && !log.contains(&key),
        "the path is told, the key only on a terminal: {log}"
    );
    assert!(log.contains("not a language model"), "{log}");
    for line in log.lines().filter(|line| line.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(line).expect("a log line is JSON");
    }

    let (code, folder) = hub.stop();
    assert_eq!(code, Some(0));
    let again = TestHub::start_with(folder, &[]);
    assert_eq!(again.key(), key);
    assert!(again.client(&["models"]).status.success(), "the first key still works");
}

#[test]
fn a_second_hub_on_the_same_data_says_who_holds_it() {
    let hub = TestHub::start();
    let second = command(hub.folder.path()).args(["serve", "--bind", "127.0.0.1:0"]).output().expect("runs");
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(text(&second.stdout), "");
    let said = text(&second.stderr);
    assert!(said.contains(&hub.url) && said.contains("another hub serves"), "{said}");
}

#[test]
fn a_full_queue_is_told_with_when_to_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = TestHub::start_with(folder, &[("NEURALHUB__ENGINE__MAX_QUEUED_PER_WORKSPACE", "1")]);
    let client = Client {
        address: hub.url.trim_start_matches("http://").parse().expect("an address"),
        key: hub.key(),
    };
    let later = json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"},
        "async": true, "delay_seconds": 3600});
    assert_eq!(client.post("/v1/run", &[], &later).expect("answered").status, 202);
    let metrics = client.get("/metrics", &[]).expect("answered").body;
    assert!(metrics.contains("neuralhub_runs_asleep 1\n"), "{metrics}");
    assert!(metrics.contains("neuralhub_runs_ready 0\n"), "{metrics}");
    let refused = client.post("/v1/run", &[], &later).expect("answered");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("queue_full")));
    let told = refused.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert_eq!(
        told,
        "the workspace has 1 runs in the queue, as many as it may have; wait until some have begun"
    );
}

#[test]
fn a_check_of_the_store_works_beside_a_hub_and_without_one() {
    let hub = TestHub::start();
    assert!(hub.client(&["run", "agent_default", "Calculate 6 * 7"]).status.success());
    let folder = hub.folder.path().to_owned();
    let check = || command(&folder).args(["check", "--json"]).output().expect("runs");
    let beside = check();
    assert_eq!(beside.status.code(), Some(0), "{}", text(&beside.stderr));
    assert_eq!(text(&beside.stdout).split_whitespace().collect::<String>(), r#"{"runs":1,"faults":[]}"#);
    let (code, _folder) = hub.stop();
    assert_eq!(code, Some(0));
    assert_eq!(check().status.code(), Some(0));
    let told = command(&folder).args(["check", "--repair"]).output().expect("runs");
    assert!(text(&told.stderr).contains("1 runs checked; all is well."), "{}", text(&told.stderr));
}

#[test]
fn a_port_in_use_is_told() {
    let hub = TestHub::start();
    let address = hub.url.trim_start_matches("http://");
    let other = command(hub.folder.path()).args(["serve", "--data-dir", "other", "--bind", address]).output();
    let other = other.expect("runs");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains(address), "{}", text(&other.stderr));
}

#[test]
fn a_wrong_configuration_stops_the_start_with_all_its_faults() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("neuralhub.toml"), "[server]\nbindd = 1\n[log]\nlevel = \"loud\"\n")
        .expect("written");
    let output = command(folder.path()).arg("serve").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("did you mean `bind`?") && said.contains("log.level: `loud`"), "{said}");
    assert!(!folder.path().join("data").exists(), "nothing is made before the configuration is right");
}

#[test]
fn an_agent_is_run_and_followed() {
    let hub = TestHub::start();
    let output = hub.client(&["run", "agent_default", GOAL]);
    let (answer, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(answer.contains("391"), "{answer}");
    assert!(told.contains("→ calculate") && told.contains("→ current_time"), "{told}");

    let run = hub.json(&["run", "agent_default", GOAL]);
    assert_eq!(run["state"], "SUCCESS");
    let list = hub.json(&["runs", "--limit", "1"]);
    assert_eq!(list["runs"][0]["runId"], run["runId"]);
    let id = run["runId"].as_str().expect("an id");
    let shown = text(&hub.client(&["runs", "show", id]).stdout);
    assert!(shown.contains("SUCCESS") && shown.contains("391"), "{shown}");
    let ended = hub.client(&["runs", "cancel", id]);
    assert_eq!(
        ended.status.code(),
        Some(4),
        "a run that is done cannot be cancelled: {}",
        text(&ended.stderr)
    );
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let hub = TestHub::start();
    let code = |arguments: &[&str]| hub.client(arguments).status.code();
    assert_eq!(code(&["models"]), Some(0));
    assert_eq!(code(&["moodels"]), Some(2));
    assert_eq!(code(&["run", "agent_default", "x", "--timeout", "0"]), Some(4));
    assert_eq!(code(&["run", "agent_nobody", "x"]), Some(4));
    assert_eq!(code(&["agents", "show", "agent_nobody"]), Some(4));
    assert_eq!(code(&["models", "--key", "nh_wrong"]), Some(4));
    assert_eq!(code(&["models", "--url", "http://127.0.0.1:1"]), Some(5));
    assert_eq!(code(&["models", "--data-dir", "elsewhere"]), Some(2), "no key can be found");
}

#[test]
fn agents_are_made_and_deleted() {
    let hub = TestHub::start();
    let made =
        hub.client(&["agents", "create", "Researcher", "--id", "r", "--tools", "calculate,current_time"]);
    assert_eq!(text(&made.stdout), "r\n", "{}", text(&made.stderr));
    assert_eq!(hub.json(&["agents", "show", "r"])["tools"], json!(["calculate", "current_time"]));
    let listed = text(&hub.client(&["agents"]).stdout);
    assert!(listed.starts_with("AGENT") || listed.contains("AGENT"), "{listed}");
    assert!(listed.contains("Researcher") && listed.contains("agent_default"), "{listed}");
    assert!(hub.client(&["agents", "delete", "r"]).status.success());
    assert_eq!(hub.client(&["agents", "show", "r"]).status.code(), Some(4));
}

#[test]
fn workflows_are_made_run_and_deleted() {
    let hub = TestHub::start();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/report.yaml");
    let made = hub.client(&["workflows", "create", example]);
    assert_eq!(text(&made.stdout), "report\n", "{}", text(&made.stderr));
    assert!(text(&hub.client(&["workflows"]).stdout).contains("Report"));
    std::fs::write(hub.folder.path().join("change.json"), r#"{"name": "Reports"}"#).expect("written");
    assert_eq!(text(&hub.client(&["workflows", "change", "report", "change.json"]).stdout), "report\n");
    assert_eq!(hub.json(&["workflows", "show", "report"])["version"], 2);
    let old = text(&hub.client(&["workflows", "show", "report", "--at", "1"]).stdout);
    assert!(old.contains("Report\n") && old.contains("tool:current_time"), "{old}");

    let mut running = command(hub.folder.path())
        .args(["run", "workflow:report", r#"{"numbers": [3, 4]}"#])
        .env("NEURALHUB_URL", &hub.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut told = BufReader::new(running.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let asked = told.find(|line| line.contains("to approve it: ")).expect("it asks");
    let words = asked.split_whitespace().skip_while(|word| *word != "runs").skip(2);
    let [id, "release", ..] = words.collect::<Vec<_>>()[..] else { panic!("{asked}") };
    let shown = text(&hub.client(&["runs", "show", id]).stdout);
    assert!(shown.contains(&format!("neuralhub runs approve {id} release")), "{shown}");
    assert_eq!(hub.client(&["runs", "approve", id, "nothing"]).status.code(), Some(4));
    assert_eq!(text(&hub.client(&["runs", "approve", id]).stdout), "release is approved\n");
    let done = running.wait_with_output().expect("ends");
    let result: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((done.status.code(), &result["total"]), (Some(0), &json!("7")));
    let children = hub.json(&["runs", "list", "--parent", id]);
    assert_eq!(children["runs"][0]["target"], "agent_default");

    assert_eq!(hub.client(&["run", "workflow:report", "no JSON"]).status.code(), Some(2));
    assert_eq!(hub.client(&["workflows", "create", "absent.yaml"]).status.code(), Some(2));
    assert!(hub.client(&["workflows", "delete", "report"]).status.success());
    assert_eq!(hub.client(&["workflows", "show", "report"]).status.code(), Some(4));
}

#[test]
fn keys_are_made_over_the_api_and_revoked() {
    let hub = TestHub::start();
    let made = hub.json(&["keys", "create", "--name", "CI", "--scopes", "models:read,run:write"]);
    let key = made["key"].as_str().expect("the raw key");
    assert!(hub.client(&["models", "--key", key]).status.success());
    assert_eq!(hub.client(&["keys", "--key", key]).status.code(), Some(4), "no scope for it");
    assert!(!text(&hub.client(&["keys"]).stdout).contains(key), "a list is masked");
    assert!(hub.client(&["keys", "revoke", &made["id"].to_string()]).status.success());
    assert_eq!(hub.client(&["models", "--key", key]).status.code(), Some(4));
    let unknown = hub.client(&["keys", "create", "--name", "x", "--scopes", "everything"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("`everything` is not a scope"), "{}", text(&unknown.stderr));
}

#[test]
fn the_operator_works_beside_a_running_hub() {
    let hub = TestHub::start();
    let workspace = hub.json(&["workspaces", "create", "research"]);
    assert!(workspace["id"].as_str().is_some_and(|id| id.starts_with("ws_")), "{workspace}");
    let twice = hub.client(&["workspaces", "create", "research"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("already"), "{}", text(&twice.stderr));

    let made = hub.json(&[
        "keys",
        "create",
        "--workspace",
        "research",
        "--name",
        "N",
        "--scopes",
        "agents:read,run:write",
    ]);
    let key = made["key"].as_str().expect("the raw key");
    let agents = hub.json(&["agents", "--key", key]);
    assert_eq!(agents.as_array().map(Vec::len), Some(1), "the new workspace has its own agent_default");
    assert_eq!(agents[0]["id"], "agent_default");
    let nowhere = hub.client(&["keys", "create", "--workspace", "nowhere", "--name", "N", "--scopes", "*"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("no workspace `nowhere`"));
}

#[test]
fn users_are_made_with_a_password_from_stdin() {
    let hub = TestHub::start();
    let create_in = |workspace: &str, email: &str, password: &str| {
        let arguments =
            ["users", "create", "--email", email, "--workspace", workspace, "--role", "owner", "--json"];
        let mut child = command(hub.folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runs");
        child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("written");
        child.wait_with_output().expect("ends")
    };
    let create = |email: &str, password: &str| create_in("default", email, password);
    let made = create("Ada@Example.com", "correct horse\n");
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("\"ada@example.com\""), "{}", text(&made.stdout));
    assert!(!text(&made.stdout).contains("horse"));
    assert_eq!(create("ada@example.com", "correct horse\n").status.code(), Some(1));
    assert_eq!(create("bob@example.com", "short\n").status.code(), Some(2));
    // Who is there already joins another workspace, and keeps the password.
    assert!(hub.client(&["workspaces", "create", "research"]).status.success());
    let joined = create_in("research", "ada@example.com", "");
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    assert!(text(&joined.stdout).contains("\"research\""), "{}", text(&joined.stdout));
    assert_eq!(create("not an address", "correct horse\n").status.code(), Some(2));
}

#[test]
fn a_bootstrap_key_works_from_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = text(&command(folder.path()).args(["keys", "generate"]).output().expect("runs").stdout);
    let hub = TestHub::start_with(folder, &[("NEURALHUB_BOOTSTRAP_KEY", key.trim())]);
    assert!(!hub.data().join("first-key").exists());
    assert!(hub.client(&["models", "--key", key.trim()]).status.success());

    let last = if key.trim().ends_with('0') { '1' } else { '0' };
    let mistyped = command(hub.folder.path())
        .args(["serve", "--bind", "127.0.0.1:0", "--data-dir", "other"])
        .env("NEURALHUB_BOOTSTRAP_KEY", format!("{}{last}", &key.trim()[..42]))
        .output()
        .expect("runs");
    assert_eq!(mistyped.status.code(), Some(1));
    assert!(text(&mistyped.stderr).contains("NEURALHUB_BOOTSTRAP_KEY"), "{}", text(&mistyped.stderr));
}

#[test]
fn a_model_is_asked_and_its_words_printed() {
    let hub = TestHub::start();
    let streamed = hub.client(&["chat", "--model", "neuralhub/offline", "Who are you?"]);
    assert!(streamed.status.success(), "{}", text(&streamed.stderr));
    assert!(text(&streamed.stdout).contains("not a language model"), "{}", text(&streamed.stdout));
    let whole = hub.json(&["chat", "Who are you?"]);
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(hub.client(&["chat", "--model", "no/such", "x"]).status.code(), Some(4));
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let hub = TestHub::start();
    let healthy = hub.client(&["doctor", "--json"]);
    assert!(healthy.status.success(), "{}", text(&healthy.stdout));
    let found: serde_json::Value = serde_json::from_slice(&healthy.stdout).expect("JSON");
    let health = |what: &str| {
        found
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["what"].as_str().is_some_and(|text| text.contains(what)))
    };
    assert_eq!(health("hub http").expect("looked at")["health"], "ok");
    assert_eq!(health("API key").expect("looked at")["health"], "ok");
    assert_eq!(health("store").expect("looked at")["health"], "ok");
    assert_eq!(health("providers").expect("looked at")["health"], "note");

    let broken = command(hub.folder.path())
        .args(["doctor", "--url", &hub.url])
        .env("NEURALHUB__PROVIDERS__0__NAME", "gone")
        .env("NEURALHUB__PROVIDERS__0__BASE_URL", "http://127.0.0.1:1/v1")
        .output()
        .expect("runs");
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stdout).contains("WRONG  provider gone"), "{}", text(&broken.stdout));
}

#[test]
fn the_configuration_is_checked_and_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("c.toml"), "[[providers]]\nname = \"x\"\napi_key = \"hunter2\"\n")
        .expect("written");
    let run = |arguments: &[&str]| command(folder.path()).args(arguments).output().expect("runs");
    assert!(run(&["config", "check", "--config", "c.toml"]).status.success());
    let printed = run(&["config", "print", "--config", "c.toml", "--bind", "127.0.0.1:9", "--json"]);
    let tree: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(tree["server"]["bind"], "127.0.0.1:9");
    assert_eq!(tree["providers"][0]["api_key"], "[redacted]");
    let faulty = "[[providers]]\nname = \"a\"\nbase_url = \"ftp://a/\"\n";
    std::fs::write(folder.path().join("c.toml"), faulty).expect("written");
    let refused = run(&["config", "check", "--config", "c.toml"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("providers[0].base_url"), "{}", text(&refused.stderr));
    assert_eq!(run(&["config", "check", "--config", "absent.toml"]).status.code(), Some(2));
    assert!(text(&run(&["config", "reference"]).stdout).contains("NEURALHUB__SERVER__BIND"));
}
