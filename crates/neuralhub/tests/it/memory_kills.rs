//! A hub that is killed in the middle of imports: what it answered for is there,
//! once, and found by its meaning; importing the same again adds the rest.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;

use nh_testkit::{SeededIds, TestStore};
use nh_types::Ids as _;
use serde_json::{Value, json};

use crate::crash::{Place, temporary};
use crate::http::Client;
use crate::kills::kills;

/// Lines of a request that is stored in several parts: the hub stores 64 at once.
const MANY_LINES: usize = 80;
/// Lines of a request that is soon answered.
const FEW_LINES: usize = 16;
/// Of these so many are sent to one hub, unless it dies before.
const REQUESTS: usize = 16;
/// As many as there are contents for.
const MOST_KILLS: u64 = 10_000 / (FEW_LINES * REQUESTS) as u64;
/// Points that a hub passes before it dies: hardly more than its start takes, or
/// about as many as its requests do.
const POINTS: std::ops::Range<u64> = 10..150;

/// No identifiers, which would find a line whatever its embedding is.
fn content(number: usize) -> String {
    const WHO: [&str; 10] =
        ["Mara", "Jonas", "Ada", "Wren", "Tariq", "Lena", "Pavel", "Ines", "Kofi", "Yuki"];
    const DOES: [&str; 10] =
        ["drinks", "paints", "sells", "mends", "loses", "counts", "hides", "carries", "washes", "borrows"];
    const WHAT: [&str; 10] =
        ["tea", "boats", "lamps", "clocks", "keys", "sheep", "letters", "ladders", "windows", "umbrellas"];
    const WHERE: [&str; 10] =
        ["Riga", "Lisbon", "Oslo", "Quito", "Turin", "Lagos", "Bern", "Osaka", "Cork", "Perth"];
    let word = |words: [&'static str; 10], of: usize| words[of % 10];
    let (who, does) = (word(WHO, number), word(DOES, number / 10));
    format!("{who} {does} {} in {}.", word(WHAT, number / 100), word(WHERE, number / 1000))
}

fn lines(contents: &[String]) -> String {
    contents.iter().map(|content| format!("{}\n", json!({"content": content}))).collect()
}

/// The contents of one request.
fn request(number: usize, lines: usize) -> Vec<String> {
    (number * lines..(number + 1) * lines).map(content).collect()
}

impl Client {
    fn exported(&self) -> Vec<String> {
        let answer = self.get("/v1/memory/export", &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let content = |line: &str| {
            let memory: Value = serde_json::from_str(line).unwrap();
            memory["content"].as_str().unwrap().to_owned()
        };
        answer.body.lines().map(content).collect()
    }

    fn memories(&self) -> u64 {
        self.get("/v1/memory/model", &[]).unwrap().json()["memories"].as_u64().unwrap()
    }

    /// Each is the nearest to itself.
    fn find(&self, contents: impl IntoIterator<Item = String>) {
        for content in contents {
            let question = content.replace(' ', "+");
            let hits = self.get(&format!("/v1/memory/search?limit=1&q={question}"), &[]).unwrap().json();
            assert_eq!(hits[0]["content"], json!(content), "{hits}");
        }
    }
}

/// What is there after a restart, without anything twice.
fn once(client: &Client) -> BTreeSet<String> {
    let all = client.exported();
    let distinct: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(distinct.len(), all.len(), "something is there twice");
    assert_eq!(client.memories(), all.len() as u64);
    distinct
}

/// Importing all of it again adds what is lacking.
fn complete(place: &Place, contents: &[String], acknowledged: &[String]) {
    let hub = place.start(None).expect("it starts");
    let there = once(&hub.client);
    let lost: Vec<_> = acknowledged.iter().filter(|content| !there.contains(*content)).collect();
    assert!(lost.is_empty(), "answered for, and gone: {lost:?}");
    hub.client.find(acknowledged.iter().step_by(7).cloned());
    hub.client.find(there.iter().step_by(11).cloned());

    let told = hub.client.import(&lines(contents)).unwrap().json();
    assert_eq!(told["existing"], json!(there.len()), "{told}");
    assert_eq!(told["created"], json!(contents.len() - there.len()), "{told}");
    assert_eq!(once(&hub.client), contents.iter().cloned().collect());
    hub.client.find(contents.iter().step_by(13).cloned());
    drop(hub);
    place.check(0);
}

/// Killed by SIGKILL with some of a request stored and the rest still to come.
fn killed_within_a_request(place: &Place) {
    let mut hub = place.start(None).expect("it starts");
    let (first, second) = (request(0, MANY_LINES), request(1, MANY_LINES));
    let told = hub.client.import(&lines(&first)).unwrap().json();
    assert_eq!(told["created"], json!(MANY_LINES), "{told}");
    let body = lines(&second);
    let sent = lines(&second[..MANY_LINES - 5]);
    let mut connection = hub.client.begin_import(body.len()).unwrap();
    connection.write_all(sent.as_bytes()).unwrap();
    // It has begun to store them, and waits for what is missing.
    while hub.client.memories() <= MANY_LINES as u64 {
        std::thread::yield_now();
    }
    hub.child.kill().unwrap();
    hub.child.wait().unwrap();
    drop(hub);
    complete(place, &[first.clone(), second].concat(), &first);
}

/// The contents of the requests that were answered, until one was not.
fn import_all(client: &Client, requests: Range<usize>) -> Vec<String> {
    let answered = requests.map(|number| request(number, FEW_LINES)).take_while(|contents| {
        let Ok(answer) = client.import(&lines(contents)) else { return false };
        assert_eq!((answer.status, &answer.json()["failed"]), (200, &json!(0)), "{}", answer.body);
        true
    });
    answered.flatten().collect()
}

/// Killed by crash points at commits, again and again, in the middle of what two
/// clients import: commits hold writes of both.
fn killed_at_commits(place: &Place, kills: u64) {
    let (chance, mut next, mut acknowledged) = (SeededIds::new(4711), 0, Vec::new());
    for _ in 0..kills.min(MOST_KILLS) {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        let point = POINTS.start + u64::from_le_bytes(bytes) % (POINTS.end - POINTS.start);
        let Some(mut hub) = place.start(Some(point)) else { continue };
        let (middle, end) = (next + REQUESTS / 2, next + REQUESTS);
        std::thread::scope(|scope| {
            let client = &hub.client;
            let clients =
                [next..middle, middle..end].map(|requests| scope.spawn(|| import_all(client, requests)));
            acknowledged.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
        });
        next = end;
        // One that did not come so far is killed here.
        let _ = hub.child.kill();
        hub.child.wait().unwrap();
    }
    let contents: Vec<String> = (0..next).flat_map(|number| request(number, FEW_LINES)).collect();
    complete(place, &contents, &acknowledged);
}

fn on_sqlite() -> Place {
    Place { directory: temporary(), store: None }
}

/// With the runtime that keeps the schema's connections going.
fn on_postgres() -> (Place, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(TestStore::postgres());
    (Place { directory: temporary(), store: Some(store) }, runtime)
}

#[test]
fn an_import_that_is_killed_halfway_loses_and_repeats_nothing_on_sqlite() {
    killed_within_a_request(&on_sqlite());
}

#[test]
fn an_import_that_is_killed_halfway_loses_and_repeats_nothing_on_postgres() {
    let (place, _runtime) = on_postgres();
    killed_within_a_request(&place);
}

#[test]
fn imports_that_are_killed_at_commits_lose_and_repeat_nothing_on_sqlite() {
    killed_at_commits(&on_sqlite(), kills().div_ceil(2));
}

#[test]
fn imports_that_are_killed_at_commits_lose_and_repeat_nothing_on_postgres() {
    let (place, _runtime) = on_postgres();
    killed_at_commits(&place, kills().div_ceil(2));
}
