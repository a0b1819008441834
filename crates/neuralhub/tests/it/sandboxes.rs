//! A hub of the real binary with sandboxes that is killed, and its commands.

use std::io::{Read, Write};

use serde_json::json;

use crate::hub::{TestHub, command, text, with_sandboxes};

fn start(folder: tempfile::TempDir) -> TestHub {
    let variables = with_sandboxes(folder.path());
    TestHub::start_with(folder, &variables)
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
    let metrics = http.get("/metrics", &[]).expect("an answer").body;
    for counted in
        ["neuralhub_sandboxes_running 1", "neuralhub_sandbox_start_seconds_count{from=\"nothing\"} 1"]
    {
        assert!(metrics.lines().any(|line| line == counted), "{counted}: {metrics}");
    }
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

/// Code that tries, and tells what it came to.
const ATTEMPTS: &str = r#"
import glob, os, socket
def connects(host, port):
    try:
        socket.create_connection((host, port), 2).close()
        return True
    except OSError:
        return False
found = [name for name in ('127.0.0.1', 'localhost', '0.0.0.0', '::1', HOST) if connects(name, PORT)]
found += ['network'] if connects('1.1.1.1', 53) else []
texts = [str(dict(os.environ))]
for pattern in ('/proc/*/environ', '/proc/*/cmdline', '/proc/mounts', '/etc/*', '/root/*', '/run/*', '/tmp/*', '/home/*/*'):
    for name in glob.glob(pattern):
        try:
            texts.append(open(name, 'rb').read(1_000_000).decode(errors='replace'))
        except OSError:
            pass
found += [secret[:4] for secret in SECRETS if any(secret in text for text in texts)]
found += [name for name in ('/dev/sda', '/dev/vda', '/dev/kvm', '/dev/mem') if os.path.exists(name)]
found += ['/sys/fs/cgroup is written'] if os.access('/sys/fs/cgroup', os.W_OK) else []
print(found)
"#;

#[test]
fn a_sandbox_reaches_nothing_of_its_hub() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut variables = with_sandboxes(folder.path()).to_vec();
    variables.push(("SECRET_OF_THE_OPERATOR", "s3cr3t-of-the-operator"));
    let hub = TestHub::start_with(folder, &variables);
    let made = hub.json(&["sandbox", "create", "python"]);
    let id = made["id"].as_str().expect("an id");
    let own = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let address = own.connect("192.0.2.1:9").and_then(|()| own.local_addr());
    let host = address.map_or("127.0.0.1".to_owned(), |address| address.ip().to_string());
    let secrets = [hub.key(), "s3cr3t-of-the-operator".to_owned(), hub.folder.path().display().to_string()];
    let port = hub.url.rsplit(':').next().expect("a port");
    let code = format!("HOST, PORT, SECRETS = {host:?}, {port}, {secrets:?}\n{ATTEMPTS}");
    // What it is told to look for is not among what it finds.
    let code = format!("{code}\nSECRETS = None");
    let told = hub.client(&["sandbox", "exec", id, "--language", "python", &code]);
    assert_eq!(text(&told.stdout), "[]\n", "{}", text(&told.stderr));
    assert_eq!(hub.stop().0, Some(0));
}

/// A server that speaks something of its own once it was asked to.
const SHOUTER: &str = r#"
import socket, threading
def serve(connection):
    head = b''
    while b'\r\n\r\n' not in head:
        head += connection.recv(1000)
    wanted = b'upgrade: websocket' in head.lower() and b'authorization' not in head.lower()
    connection.sendall(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n' if wanted
        else b'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n')
    while wanted and (data := connection.recv(1000)):
        connection.sendall(data.upper())
    connection.close()
listener = socket.create_server(('127.0.0.1', 8080))
def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
"#;

#[test]
fn both_ends_may_go_on_in_another_protocol() {
    let hub = start(tempfile::tempdir().expect("a folder"));
    let made = hub.json(&["sandbox", "create", "python"]);
    let id = made["id"].as_str().expect("an id");
    let told = hub.client(&["sandbox", "exec", id, "--language", "python", SHOUTER]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let mut stream = std::net::TcpStream::connect(hub.http().address).expect("connected");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a limit");
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {id}.localhost\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        hub.key()
    );
    stream.write_all(head.as_bytes()).expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend_from_slice(&byte);
    }
    assert!(text(&answer).starts_with("HTTP/1.1 101 "), "{}", text(&answer));
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).expect("written");
        let mut said = vec![0; word.len()];
        stream.read_exact(&mut said).expect("read");
        assert_eq!(text(&said), word.to_uppercase());
    }
    // A hub that stops does not wait for it.
    assert_eq!(hub.stop().0, Some(0));
}
