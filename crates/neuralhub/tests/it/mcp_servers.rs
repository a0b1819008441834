//! Servers of the Model Context Protocol as the whole binary has them: programs of this machine,
//! and what the log and the disk hold of the secrets of remote ones.

use std::path::Path;
use std::time::{Duration, Instant};

use nh_testkit::mcp::{Answer, McpStub, text};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::hub::TestHub;

const SECRET: &str = "sk-hush-0123456789";

/// It starts a program of its own, and says what it sees.
const PROGRAM: &str = r#"
import json, os, subprocess, sys
below = subprocess.Popen(["sleep", "600"])
print("starting", file=sys.stderr)

def answer(method, params):
    if method == "initialize":
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "program", "version": "3"}}
    if method == "tools/list":
        schema = {"type": "object"}
        return {"tools": [{"name": name, "description": name, "inputSchema": schema} for name in ["look", "die"]]}
    if method == "tools/call" and params["name"] == "look":
        seen = {"env": sorted(os.environ), "given": os.environ.get("GIVEN"), "pids": [os.getpid(), below.pid]}
        return {"content": [{"type": "text", "text": json.dumps(seen)}]}
    if method == "tools/call":
        print("dying now", file=sys.stderr)
        os._exit(3)

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = answer(message["method"], message.get("params"))
    reply = {"jsonrpc": "2.0", "id": message["id"]}
    if result is None:
        reply["error"] = {"code": -32601, "message": "there is no such method"}
    else:
        reply["result"] = result
    print(json.dumps(reply), flush=True)
"#;

fn folder(configuration: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("neuralhub.toml"), configuration).expect("written");
    std::fs::write(folder.path().join("program.py"), PROGRAM).expect("written");
    folder
}

fn run(client: &Client, target: &str, input: Value) -> Value {
    let body = json!({"target": target, "type": "tool", "input": input});
    let answer = client.post("/v1/run", &[], &body).expect("answered");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The server, once it is so.
fn until(client: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let server = client.get("/v1/mcp/servers/local", &[]).expect("answered").json();
        if is_so(&server) {
            return server;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{server}");
        std::thread::yield_now();
    }
}

fn is_there(pid: &Value) -> bool {
    // One that ended and that nobody waited for is none.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[test]
fn a_program_is_started_spoken_to_and_ended_with_all_that_it_began() {
    let hub = TestHub::start_with(
        folder(
            "[[mcp_servers]]\nname = \"local\"\ncommand = \"python3\"\nargs = [\"program.py\"]\n\
             env = { GIVEN = \"a gift\" }\npass_env = [\"PATH\"]\n",
        ),
        &[],
    );
    let client = hub.http();
    let server = until(&client, |server| server["status"] == "available");
    assert_eq!((&server["kind"], &server["server"]), (&json!("local"), &json!("program 3")), "{server}");
    assert_eq!(server["tools"], json!(["local.die", "local.look"]));
    let look = || -> Value {
        let ended = run(&client, "local.look", json!({}));
        serde_json::from_str(ended["result"].as_str().expect("text")).expect("JSON")
    };
    let seen = look();
    assert_eq!(seen["given"], "a gift");
    // The hub's own has its settings and its secrets.
    let of_hub = |name: &&Value| name.as_str().is_some_and(|name| name.starts_with("NEURALHUB"));
    assert_eq!(seen["env"].as_array().expect("names").iter().find(of_hub), None);
    let died = run(&client, "local.die", json!({}));
    assert_eq!(died["error"]["code"], "unavailable_tool", "{died}");
    let again = look();
    assert_ne!(again["pids"][0], seen["pids"][0], "another was started");
    let refused = client.delete("/v1/mcp/servers/local").expect("answered");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &json!("conflict")));
    let taken = json!({"name": "local", "url": "https://example.com/mcp"});
    assert_eq!(client.post("/v1/mcp/servers", &[], &taken).expect("answered").status, 409);

    let (code, _folder) = hub.stop();
    assert_eq!(code, Some(0));
    for pid in [&seen["pids"], &again["pids"]].into_iter().flat_map(|pids| pids.as_array().expect("pids")) {
        assert!(!is_there(pid), "{pid} is still there");
    }
}

#[test]
fn why_a_program_cannot_be_used_is_told() {
    let program = "import sys; print('no licence was found', file=sys.stderr); sys.exit(7)";
    let hub = TestHub::start_with(
        folder(&format!(
            "[[mcp_servers]]\nname = \"local\"\ncommand = \"python3\"\nargs = [\"-c\", \"{program}\"]\n\n\
             [[mcp_servers]]\nname = \"none\"\ncommand = \"no-such-program\"\n"
        )),
        &[],
    );
    let client = hub.http();
    let server = until(&client, |server| server["status"] == "unavailable");
    assert!(server["unavailable_reason"].as_str().expect("why").contains("no licence was found"), "{server}");
    let refreshed = client.post("/v1/mcp/servers/none/refresh", &[], &json!({})).expect("answered").json();
    assert!(
        refreshed["unavailable_reason"].as_str().expect("why").contains("no-such-program"),
        "{refreshed}"
    );
}

#[test]
fn secrets_of_tools_are_in_no_log_and_not_on_the_disk() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stub = runtime.block_on(McpStub::start());
    let hub = TestHub::start_with(
        folder("[http]\nallow_networks = [\"127.0.0.0/8\"]\n\n[log]\nlevel = \"trace\"\nformat = \"json\"\n"),
        &[],
    );
    let client = hub.http();
    let server = json!({"name": "remote", "url": stub.url(), "bearer_token": SECRET, "timeout_seconds": 5});
    let made = client.post("/v1/mcp/servers", &[], &server).expect("answered");
    assert_eq!((made.status, &made.json()["status"]), (201, &json!("available")), "{}", made.body);
    let tool = json!({"name": "ask", "description": "Asks.", "kind": "http", "method": "GET", "url": stub.url(),
        "headers": {"X-Key": "{secret:KEY}"}, "secrets": {"KEY": SECRET}});
    let tool = client.post("/v1/tools", &[], &tool).expect("answered");
    assert_eq!(tool.status, 201, "{}", tool.body);
    stub.result(text(SECRET));
    let mut said = vec![made.body, tool.body];
    let ended = run(&client, "remote.find", json!({"words": "x"}));
    assert_eq!(ended["result"], "[secret bearer_token]");
    said.push(ended.to_string());
    // It says again what it was told in every way that it has.
    let ways: [fn() -> Answer; 5] = [
        || Answer::Status(500, SECRET.to_owned()),
        || Answer::Status(401, SECRET.to_owned()),
        || Answer::Error(-32000, SECRET.to_owned()),
        || Answer::Body("application/json", SECRET.into()),
        || Answer::Body("text/event-stream", format!("data: {SECRET}\n\n").into()),
    ];
    for way in ways {
        stub.script(move |_| Some(way()));
        for (target, input) in [("remote.find", json!({"words": "x"})), ("ask", json!({}))] {
            // One that is known to be away is refused at once.
            let body = json!({"target": target, "type": "tool", "input": input});
            said.push(client.post("/v1/run", &[], &body).expect("answered").body);
        }
        let patch = client.send_text("POST", "/v1/mcp/servers/remote/refresh", "").expect("answered");
        said.push(patch.body);
    }
    for path in ["/v1/mcp/servers", "/v1/tools", "/v1/runs", "/v1/mcp/manifest", "/llms-full.txt"] {
        said.push(client.get(path, &[]).expect("answered").body);
    }
    for said in said {
        assert!(!said.contains(SECRET), "{said}");
    }
    let log = hub.log();
    assert!(log.contains("an MCP server cannot be used"), "the log is there: {log}");
    let told = log.lines().find(|line| line.contains(SECRET));
    assert!(told.is_none(), "{told:?}");
    let data = hub.data();
    let (code, _folder) = hub.stop();
    assert_eq!(code, Some(0));
    search(&data);
}

fn search(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            search(&path);
        } else {
            let bytes = std::fs::read(&path).expect("readable");
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} has it", path.display());
        }
    }
}
