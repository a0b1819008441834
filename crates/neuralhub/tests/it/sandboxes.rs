//! A hub of the real binary with sandboxes that is killed, and its commands.

use serde_json::json;

use crate::hub::{TestHub, command, text, with_sandboxes};

fn start(folder: tempfile::TempDir) -> TestHub {
    let variables = with_sandboxes();
    TestHub::start_with(folder, &variables.each_ref().map(|(name, value)| (*name, value.as_str())))
}

/// Processes of the host that have the hub's folder in their arguments, the hub aside.
fn left(hub: &std::path::Path) -> usize {
    let wanted = hub.join("data/compute").display().to_string().into_bytes();
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let arguments = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    arguments.filter(|arguments| arguments.windows(wanted.len()).any(|part| part == wanted)).count()
}

#[test]
fn a_hub_that_is_killed_leaves_no_sandbox() {
    let hub = start(tempfile::tempdir().expect("a folder"));
    let ids: Vec<String> = (0..3)
        .map(|_| hub.json(&["sandbox", "create", "python"])["id"].as_str().expect("an id").to_owned())
        .collect();
    // One is in the middle of something that would take for ever.
    let mut client = command(hub.folder.path());
    client.env("NEURALHUB_URL", &hub.url).args([
        "sandbox",
        "exec",
        &ids[0],
        "--language",
        "python",
        "while True: pass",
    ]);
    let mut busy = client.stderr(std::process::Stdio::null()).spawn().expect("the client runs");
    while hub.json(&["sandbox"])[2]["usage"]["executions"] != 1 {}
    assert!(left(hub.folder.path()) >= 3);
    let folder = hub.kill();
    busy.wait().expect("it ends");

    let hub = start(folder);
    let next = hub.json(&["sandbox", "create", "python"]);
    let listed = hub.json(&["sandbox"]);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["id"]), (Some(1), &next["id"]));
    let http = hub.http();
    for id in &ids {
        let seen = http.get(&format!("/v1/resources/{id}"), &[]).expect("an answer").json();
        assert_eq!((&seen["state"], &seen["stop_reason"]), (&json!("stopped"), &json!("hub_lost")));
    }
    let folders = std::fs::read_dir(hub.data().join("compute/sandboxes")).expect("a folder");
    assert_eq!(folders.count(), 1);
    let (code, folder) = hub.stop();
    assert_eq!(code, Some(0));
    assert_eq!(left(folder.path()), 0);
    let folders = std::fs::read_dir(folder.path().join("data/compute/sandboxes")).expect("a folder");
    assert_eq!(folders.count(), 0);
}

#[test]
fn commands_end_as_what_they_ran() {
    let hub = start(tempfile::tempdir().expect("a folder"));
    let made = hub.json(&["sandbox", "create", "python", "--env", "NAME=Ada"]);
    let id = made["id"].as_str().expect("an id");
    let exec = |arguments: &[&str]| hub.client(&[&["sandbox", "exec", id], arguments].concat());
    let told = exec(&["--", "sh", "-c", "echo $NAME; echo no >&2; exit 7"]);
    assert_eq!((text(&told.stdout), text(&told.stderr)), ("Ada\n".to_owned(), "no\n".to_owned()));
    assert_eq!(told.status.code(), Some(7));
    let told = exec(&["--timeout", "1", "--language", "python", "while True: pass"]);
    assert_eq!(told.status.code(), Some(137), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains("it was ended by its limit: timeout"), "{}", text(&told.stderr));
    for (arguments, code, said) in [
        (vec!["sandbox", "create", "ruby"], 4, "there is no template `ruby`; there are `nodejs`"),
        (vec!["sandbox", "create", "python", "--env", "X"], 2, "--env is NAME=VALUE; `X` has no `=`"),
        (vec!["sandbox", "exec", "sbx-none", "ls"], 4, "there is no sandbox `sbx-none`"),
        (vec!["sandbox", "cp", "a", "b"], 2, "one of both is in a sandbox"),
        (vec!["sandbox", "rm", "sbx-none"], 4, "there is no sandbox `sbx-none`"),
        (vec!["templates", "build", "ruby"], 2, "there is no template `ruby`"),
    ] {
        let told = hub.client(&arguments);
        assert_eq!(told.status.code(), Some(code), "{arguments:?}: {}", text(&told.stderr));
        assert!(text(&told.stderr).contains(said), "{arguments:?}: {}", text(&told.stderr));
    }
    assert_eq!(hub.stop().0, Some(0));
}
