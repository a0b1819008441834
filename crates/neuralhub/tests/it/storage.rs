//! `neuralhub storage`, against the real hub, and against ones that fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::hub::{TestHub, command, read, text};

/// Of all parts but the last.
const PART_BYTES: usize = 8 << 20;
/// As one `printf part` has it.
const HASH_OF_PART: &str = "37a680133bd09342f934afb8dd2c7d9e1b624da5f35e3a38adb103e37c055ed1";

/// Lines that are all different, so that no part of them is like another.
fn lines(bytes: usize) -> String {
    let mut all = String::with_capacity(bytes + 20);
    let mut number = 0;
    while all.len() < bytes {
        all.push_str(&format!("line {number}\n"));
        number += 1;
    }
    all.truncate(bytes);
    all
}

fn write(hub: &TestHub, name: &str, content: impl AsRef<[u8]>) {
    let path = hub.folder.path().join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content).expect("written");
}

fn storage(hub: &TestHub, arguments: &[&str]) -> Output {
    hub.client(&[&["storage"], arguments].concat())
}

/// What a command that must succeed says on stderr.
fn said(hub: &TestHub, arguments: &[&str]) -> String {
    let output = storage(hub, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

fn shown(hub: &TestHub, arguments: &[&str]) -> Value {
    hub.json(&[&["storage"], arguments].concat())
}

/// All files below a folder, by their names within it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(path).expect("readable"));
        }
    }
    found
}

#[test]
fn files_of_any_size_go_there_and_back() {
    let hub = TestHub::start();
    for (name, size) in
        [("empty.txt", 0), ("small.txt", 9), ("part.txt", PART_BYTES), ("large.txt", 40 << 20)]
    {
        let content = lines(size);
        write(&hub, name, &content);
        let put = storage(&hub, &["put", name, "docs/"]);
        assert!(put.status.success(), "{name}: {}", text(&put.stderr));
        let url = text(&put.stdout);
        assert!(url.trim().ends_with(&format!("/docs/{name}")) && url.starts_with(&hub.url), "{url}");
        let told = said(&hub, &["get", &format!("docs/{name}"), "back/"]);
        assert!(told.contains(&format!("back/{name} is written")), "{told}");
        assert!(read(&hub.folder.path().join("back").join(name)) == content, "{name} is another");
    }
    assert_eq!(files(&hub.folder.path().join("back")).len(), 4, "nothing unfinished is left");
    let uploads = hub.http().get("/v1/storage/uploads", &[]).expect("answered").json();
    assert_eq!(uploads["uploads"], json!([]));
}

#[test]
fn what_is_there_is_replaced_only_when_that_is_asked() {
    let hub = TestHub::start();
    write(&hub, "a.csv", "Ada,1843\n");
    let public = ["put", "a.csv", "--access", "public", "--expires-at", "2100-01-01T00:00:00Z"];
    let object = shown(&hub, &public);
    assert_eq!(
        (&object["access"], &object["contentType"]),
        (&json!("public"), &json!("text/csv; charset=utf-8"))
    );
    assert_eq!(object["expiresAt"], "2100-01-01T00:00:00.000Z");
    for content in ["Ada,1843\n", "Grace,1952\n"] {
        write(&hub, "a.csv", content);
        let refused = storage(&hub, &public);
        assert_eq!(refused.status.code(), Some(4));
        let told = text(&refused.stderr);
        assert!(told.contains("`a.csv` already; --overwrite replaces it (409 blob_exists"), "{told}");
    }
    let overwrite = [&public[..], &["--overwrite"]].concat();
    assert!(said(&hub, &overwrite).contains("a.csv is stored"));
    assert!(said(&hub, &overwrite).contains("a.csv is unchanged"));
    // The same bytes, but not the same object.
    let private = shown(&hub, &["put", "a.csv", "--overwrite", "--content-type", "text/x-names"]);
    assert_eq!((&private["access"], &private["expiresAt"]), (&json!("private"), &json!(null)));
    assert_eq!(private["contentType"], "text/x-names");

    assert!(said(&hub, &["get", "a.csv"]).contains("a.csv is unchanged"));
    write(&hub, "a.csv", "mine");
    let refused = storage(&hub, &["get", "a.csv"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("a.csv is there already, and another; --overwrite replaces it"));
    assert_eq!(read(&hub.folder.path().join("a.csv")), "mine");
    said(&hub, &["get", "a.csv", "--overwrite"]);
    assert_eq!(read(&hub.folder.path().join("a.csv")), "Grace,1952\n");
}

#[test]
fn folders_go_there_and_back_whatever_their_names() {
    let hub = TestHub::start();
    let names = [
        "a.txt",
        "ä ö/日本語 ✓.txt",
        "100%/#1?.txt",
        "deep/er/+&=.txt",
        "deep/'\"<>.txt",
        ".hidden",
        "a%20b",
    ];
    for name in names {
        write(&hub, &format!("in/{name}"), name);
    }
    let inside = hub.folder.path().join("in");
    std::os::unix::fs::symlink("a.txt", inside.join("link")).expect("linked");
    std::os::unix::fs::symlink(".", inside.join("circle")).expect("linked");
    let output = storage(&hub, &["put", "in", "my folder"]);
    assert_eq!(text(&output.stdout), "put           8 (85 B)\nunchanged     0\n", "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("in/circle is left out: it is no file"),
        "{}",
        text(&output.stderr)
    );
    write(&hub, "in/deep/new.txt", "new");
    assert_eq!(shown(&hub, &["put", "in/", "my folder/"]), json!({"put": 1, "unchanged": 8, "bytes": 3}));
    write(&hub, "in/deep/new.txt", "NEW");
    let refused = storage(&hub, &["put", "in", "my folder"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        text(&refused.stderr).contains("`my folder/deep/new.txt` already; --overwrite"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(shown(&hub, &["put", "in", "my folder", "--overwrite"])["put"], 1);

    let made = hub.http().post("/v1/storage/folders", &[], &json!({"pathname": "my folder/nothing"}));
    assert_eq!(made.expect("answered").status, 201);
    let output = storage(&hub, &["get", "my folder/", "out"]);
    assert!(text(&output.stdout).starts_with("fetched       9 ("), "{}", text(&output.stderr));
    fs::remove_file(inside.join("circle")).expect("removed");
    let (sent, got) = (files(&inside), files(&hub.folder.path().join("out")));
    assert_eq!(got, sent);
    assert!(hub.folder.path().join("out/nothing").is_dir());
    assert_eq!(shown(&hub, &["get", "my folder/", "out"]), json!({"fetched": 0, "unchanged": 9, "bytes": 0}));
    // Without a target it has its own name; where that is a folder's, slashes tell which is meant.
    said(&hub, &["get", "my folder/deep/"]);
    assert_eq!(files(&hub.folder.path().join("deep")).len(), 3);
    let refused = storage(&hub, &["get", "my folder"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("`my folder` is a folder; `my folder/` gets"));
    for name in names {
        assert_eq!(
            text(&storage(&hub, &["get", &format!("my folder/{name}"), "-"]).stdout).len(),
            name.len()
        );
    }
}

#[test]
fn pipes_are_put_and_got() {
    let hub = TestHub::start();
    for size in [0, 5, PART_BYTES + 1_000_000] {
        let content = lines(size);
        let mut child = command(hub.folder.path())
            .args(["storage", "put", "-", "piped.txt", "--overwrite"])
            .env("NEURALHUB_URL", &hub.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        child.stdin.take().expect("piped").write_all(content.as_bytes()).expect("written");
        assert!(child.wait_with_output().expect("ends").status.success());
        assert!(text(&storage(&hub, &["get", "piped.txt", "-"]).stdout) == content, "{size}");
    }
    // What is no file is never replaced by one.
    let pipe = hub.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().expect("runs");
    write(&hub, "small.txt", "small");
    said(&hub, &["put", "small.txt"]);
    said(&hub, &["get", "small.txt", "pipe"]);
    assert_eq!(text(&reader.wait_with_output().expect("ends").stdout), "small");
}

/// Begins an upload as a command that broke off has, with these parts.
fn broken_off(hub: &TestHub, wanted: &Value, parts: &[&str]) {
    let begun = hub.http().post("/v1/storage/uploads", &[], wanted).expect("answered").json();
    let id = begun["id"].as_str().expect("an id").to_owned();
    for (index, part) in parts.iter().enumerate() {
        let path = format!("/v1/storage/uploads/{id}/parts/{}", index + 1);
        assert_eq!(hub.http().send_text("PUT", &path, part).expect("answered").status, 200);
    }
}

#[test]
fn a_put_that_broke_off_sends_only_the_rest() {
    let hub = TestHub::start();
    let content = lines(3 * PART_BYTES + 5);
    write(&hub, "big.txt", &content);
    let (right, wrong) = (&content[..PART_BYTES], &content[PART_BYTES + 1..2 * PART_BYTES + 1]);
    broken_off(&hub, &json!({"pathname": "big.txt"}), &[right, wrong]);
    // That of a longer name, and one that would become public, are others.
    broken_off(&hub, &json!({"pathname": "big.txt.old"}), &[right, wrong]);
    broken_off(
        &hub,
        &json!({"pathname": "big.txt", "access": "public"}),
        &[right, &content[PART_BYTES..2 * PART_BYTES]],
    );
    let told = said(&hub, &["put", "big.txt"]);
    assert!(told.contains("8.39 MB of big.txt came before, and were kept"), "{told}");
    let object = &shown(&hub, &["ls", "big.txt"])["blobs"][0];
    assert_eq!((&object["size"], &object["access"]), (&json!(content.len()), &json!("private")));
    assert!(text(&storage(&hub, &["get", "big.txt", "-"]).stdout) == content);
    let told = said(&hub, &["put", "big.txt", "--overwrite", "--access", "public"]);
    assert!(!told.contains("came before"), "what does not replace is another: {told}");
}

#[test]
fn a_get_that_broke_off_fetches_only_the_rest() {
    let hub = TestHub::start();
    let (content, folder) = (lines(300_000), hub.folder.path());
    write(&hub, "source", &content);
    let object = shown(&hub, &["put", "source", "data.txt"]);
    let hash = &object["sha256"].as_str().expect("a hash")[..16];
    let part = format!("data.txt.{hash}.part");
    let other = "data.txt.0123456789abcdef.part";
    write(&hub, other, "of what it was before");
    for begun in [&content[..100_000], &content[..], "no part of it"] {
        write(&hub, &part, begun);
        let told = said(&hub, &["get", "data.txt"]);
        assert!(told.contains("came before, and were kept"), "{told}");
        assert!(read(&folder.join("data.txt")) == content && !folder.join(&part).exists());
        fs::remove_file(folder.join("data.txt")).expect("removed");
    }
    write(&hub, &part, format!("{content}and more"));
    assert!(!said(&hub, &["get", "data.txt"]).contains("came before"));
    assert!(read(&folder.join("data.txt")) == content);
    assert_eq!(read(&folder.join(other)), "of what it was before");

    write(&hub, &part, "");
    let busy = fs::File::open(folder.join(&part)).expect("there");
    busy.lock().expect("locked");
    fs::remove_file(folder.join("data.txt")).expect("removed");
    let refused = storage(&hub, &["get", "data.txt"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("another command writes to"), "{}", text(&refused.stderr));
}

#[test]
fn long_lists_are_told_whole_and_removed_whole() {
    let hub = TestHub::start();
    for number in 0..1003 {
        write(&hub, &format!("many/{number}.txt"), number.to_string());
    }
    write(&hub, "top.txt", "top");
    said(&hub, &["put", "top.txt"]);
    assert_eq!(shown(&hub, &["put", "many"])["put"], 1003);
    let all = shown(&hub, &["ls", "--recursive"]);
    assert_eq!((all["blobs"].as_array().map(Vec::len), &all["hasMore"]), (Some(1004), &json!(false)));
    let folded = shown(&hub, &[]);
    assert_eq!(
        (folded["blobs"].as_array().map(Vec::len), folded["folders"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    let table = text(&storage(&hub, &["ls"]).stdout);
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SIZE", "UPLOADED", "TYPE", "NAME"], "{table}");
    assert_eq!(rows[1], ["-", "-", "folder", "many/"], "{table}");
    assert_eq!((&rows[2][..2], rows[2].last()), (&["3", "B"][..], Some(&"top.txt")), "{table}");
    assert_eq!(shown(&hub, &["ls", "many/100"])["blobs"].as_array().map(Vec::len), Some(4));

    let refused = storage(&hub, &["rm", "many/"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("`many/` is a folder; --recursive"), "{}", text(&refused.stderr));
    assert!(said(&hub, &["rm", "top.txt"]).contains("top.txt is removed"));
    assert_eq!(shown(&hub, &["rm", "many/1.txt", "many/2.txt", "many/1.txt"]), json!({"removed": 2}));
    assert!(said(&hub, &["rm", "--recursive", "many"]).contains("1001 objects are removed"));
    assert!(said(&hub, &["ls"]).contains("No objects."));
}

#[test]
fn what_cannot_be_is_told_and_changes_nothing() {
    let hub = TestHub::start();
    write(&hub, "there.txt", "there");
    write(&hub, "odd/back\\slash", "x");
    write(&hub, "odd/fine", "x");
    said(&hub, &["put", "there.txt"]);
    for (arguments, code, told) in [
        (&["get", "absent"][..], 4, "there is nothing named `absent`; `neuralhub storage ls` lists"),
        (&["get", "absent/"], 4, "nothing named `absent/`"),
        (&["get", "there.tx"], 4, "nothing named `there.tx`"),
        (&["get", "there.txt/"], 4, "nothing named"),
        (&["get", "/"], 2, "name the folder"),
        (&["get", "odd/", "-"], 2, "a folder cannot go to stdout"),
        (&["get", "a/../b"], 4, "has the segment `..`"),
        (&["rm", "there.txt", "absent"], 4, "nothing named `absent`"),
        (&["rm", "--recursive", "there.txt"], 4, "nothing named"),
        (&["rm"], 2, "required"),
        (&["put", "absent"], 2, "absent cannot be read"),
        (&["put", "-"], 2, "what comes from stdin needs a name"),
        (&["put", "there.txt", "a//b"], 2, "has an empty segment"),
        (&["put", "odd"], 2, "has the character U+005C"),
        (&["put", "there.txt", "x", "--access", "all"], 2, "it must be `private` or `public`"),
        (&["put", "there.txt", "x", "--expires-at", "soon"], 2, "`soon` is not a time"),
        (&["put", "there.txt", "x", "--content-type", "no\ntype"], 2, "header"),
        (&["ls", "--key", "nh_wrong"], 4, "invalid_credential"),
        (&["put", "there.txt", "x", "--url", "http://127.0.0.1:1"], 5, "no hub answers"),
    ] {
        let output = storage(&hub, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(told), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_eq!(shown(&hub, &["ls", "--recursive"])["blobs"].as_array().map(Vec::len), Some(1));

    let key = hub.json(&["keys", "create", "--name", "R", "--scopes", "storage:read"]);
    let key = key["key"].as_str().expect("the raw key");
    for (arguments, code) in [(["get", "there.txt"], 0), (["put", "odd/fine"], 4), (["rm", "there.txt"], 4)] {
        let output = storage(&hub, &[&arguments[..], &["--key", key]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    }
}

fn object(name: &str, size: usize, hash: &str) -> Value {
    json!({"url": "", "downloadUrl": "", "pathname": format!("ws_00000000000000000000000000/{name}"), "contentType": "text/plain",
        "size": size, "etag": format!("\"{hash}\""), "sha256": hash, "access": "private",
        "uploadedAt": "2026-01-01T00:00:00.000Z", "expiresAt": null,
        "source": {"createdBy": "key:1", "runId": null, "step": null}})
}

fn list(objects: &[Value]) -> Value {
    json!({"blobs": objects, "folders": [], "cursor": null, "hasMore": false})
}

/// A client of a hub that a test plays.
fn client_of(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut client = command(folder);
    client.arg("storage").args(arguments).args(["--key", "k", "--url", url]);
    client
}

#[test]
fn no_name_that_a_hub_tells_leads_out_of_the_folder() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hub = runtime.block_on(Upstream::start()).expect("a port");
    let url = hub.base_url();
    for name in ["f/../../evil", "f//etc/evil", "f/a/../../../evil", "f/./evil", "f/%2e%2e/evil", "f/a\\evil"]
    {
        let folder = tempfile::tempdir().expect("a folder");
        hub.reply(Reply::json(
            200,
            &list(&[object("f/good", 4, HASH_OF_PART), object(name, 4, HASH_OF_PART)]),
        ));
        let refused = client_of(url.trim_end_matches("/v1"), folder.path(), &["get", "f/", "out"]).output();
        let refused = refused.expect("runs");
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(text(&refused.stderr).contains("would be written outside"), "{}", text(&refused.stderr));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{name}");
    }
}

#[test]
fn a_busy_hub_is_asked_again_and_does_it_once() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hub = runtime.block_on(Upstream::start()).expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "part").expect("written");
    let refusal = |status, kind: &str, code: &str, message: &str| {
        Reply::json(status, &json!({"error": {"message": message, "type": kind, "code": code}}))
    };
    let busy = refusal(503, "server_error", "overloaded", "busy").with_header("retry-after", "1");
    hub.reply(Reply::json(200, &list(&[])));
    hub.reply(busy);
    hub.reply(Reply::json(201, &object("file", 4, HASH_OF_PART)));
    let url = hub.base_url();
    let put = client_of(url.trim_end_matches("/v1"), folder.path(), &["put", "file"]).output().expect("runs");
    let told = text(&put.stderr);
    assert!(told.contains("busy") && told.contains("trying again in 1 s"), "{told}");
    assert_eq!(put.status.code(), Some(0), "{told}");
    let keys: Vec<_> = hub.calls()[1..].iter().map(|call| call.headers["idempotency-key"].clone()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");

    // What passes not is not asked again.
    hub.reply(Reply::json(200, &list(&[])));
    hub.reply(refusal(413, "insufficient_quota", "quota_exceeded", "full"));
    let put = client_of(url.trim_end_matches("/v1"), folder.path(), &["put", "file"]).output().expect("runs");
    assert_eq!((put.status.code(), hub.calls().len()), (Some(4), 5));
}

#[test]
fn a_lost_connection_is_taken_up_where_it_broke() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let found = list(&[object("file", 4, HASH_OF_PART)]).to_string();
    let etag = format!("etag: \"{HASH_OF_PART}\"");
    let answers = [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{found}", found.len()),
        format!("HTTP/1.1 200 OK\r\n{etag}\r\ncontent-length: 4\r\n\r\npa"),
        format!("HTTP/1.1 206 Partial Content\r\n{etag}\r\ncontent-length: 2\r\n\r\nrt"),
    ];
    let playing = std::thread::spawn(move || {
        answers.map(|answer| {
            let (mut stream, _) = listener.accept().expect("a connection");
            let request = BufReader::new(stream.try_clone().expect("cloned")).lines();
            let head: Vec<String> =
                request.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).expect("written");
            head.join("\n")
        })
    });
    let folder = tempfile::tempdir().expect("a folder");
    let got = client_of(&url, folder.path(), &["get", "file"]).output().expect("runs");
    assert!(got.status.success(), "{}", text(&got.stderr));
    assert!(text(&got.stderr).contains("trying again in 1 s"), "{}", text(&got.stderr));
    assert_eq!(read(&folder.path().join("file")), "part");
    let [_, first, second] = playing.join().expect("played");
    assert!(!first.contains("range"), "{first}");
    assert!(second.contains("range: bytes=2-") && second.contains("if-range: \""), "{second}");
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let hub = runtime.block_on(Upstream::start()).expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "part").expect("written");
    hub.reply(Reply::json(200, &list(&[])));
    hub.reply(Reply::Silent);
    let url = hub.base_url();
    let child = client_of(url.trim_end_matches("/v1"), folder.path(), &["put", "file"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    while hub.calls().len() < 2 {
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let ended = child.wait_with_output().expect("ends");
    let told = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(
        told.contains("the same command goes on from there") && told.contains("stopped by Ctrl-C"),
        "{told}"
    );
}
