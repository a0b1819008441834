//! A hub that is killed in the middle of uploads: what it answered for is there,
//! whole, nothing is there in part, and what was broken off leaves no file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use nh_testkit::{SeededIds, TestStore};
use nh_types::Ids as _;
use serde_json::{Value, json};

use crate::crash::{Place, temporary};
use crate::http::{Answer, Client};
use crate::kills::kills;

/// Uploads of one client to one hub, unless that dies before.
const UPLOADS: usize = 24;
/// Points that a hub passes before it dies: hardly more than its start takes, or
/// about as many as its uploads do.
const POINTS: Range<u64> = 10..150;
/// Larger ones are files.
const MAX_BYTES_HERE: usize = 64 * 1024;

/// Of an object, which is in the database or a file, by turns.
fn content(number: usize) -> String {
    let size = [10, 70_000, 4_000, 300_000][number % 4];
    let line = format!("object {number} ");
    line.chars().cycle().take(size).collect()
}

/// Parts that were answered for: the upload's id, and the part's number.
type Parts = Mutex<BTreeSet<(String, u64)>>;

impl Client {
    /// Whether it was answered for. Some come in parts.
    fn upload(&self, number: usize, parts: &Parts) -> bool {
        let done = match number % 3 {
            0 => self.upload_in_parts(number, parts),
            _ => self.send_text(
                "POST",
                &format!("/v1/storage/upload?pathname=objects/{number}"),
                &content(number),
            ),
        };
        let Ok(answer) = done else { return false };
        assert_eq!(answer.status, 201, "{}", answer.body);
        true
    }

    fn upload_in_parts(&self, number: usize, parts: &Parts) -> std::io::Result<Answer> {
        let wanted = json!({"pathname": format!("objects/{number}")});
        let upload = self.post("/v1/storage/uploads", &[], &wanted)?.json();
        let path = path_of(&upload);
        let content = content(number);
        for (part, text) in (1..).zip(halves(&content)) {
            let answer = self.send_text("PUT", &format!("{path}/parts/{part}"), text)?;
            assert_eq!(answer.status, 200, "{}", answer.body);
            parts.lock().unwrap().insert((upload["id"].as_str().unwrap().to_owned(), part));
        }
        self.post(&format!("{path}/complete"), &[], &json!({}))
    }

    /// Completes the uploads of which all came, and gives up the others.
    fn finish_uploads(&self, answered_for: &BTreeSet<(String, u64)>) {
        let uploads = self.get("/v1/storage/uploads?limit=1000", &[]).unwrap().json();
        for upload in uploads["uploads"].as_array().unwrap() {
            let path = path_of(upload);
            let told = self.get(&path, &[]).unwrap().json();
            let there: BTreeSet<_> = told["parts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part["partNumber"].as_u64().unwrap())
                .collect();
            let id = upload["id"].as_str().unwrap();
            let lost = answered_for.iter().find(|(of, part)| of == id && !there.contains(part));
            assert_eq!(lost, None, "answered for, and gone");
            match there.len() {
                2 => {
                    let answer = self.post(&format!("{path}/complete"), &[], &json!({})).unwrap();
                    assert_eq!(answer.status, 201, "{}", answer.body);
                }
                _ => assert_eq!(self.delete(&path).unwrap().status, 204),
            }
        }
    }

    /// The numbers of all objects with their full names.
    fn objects(&self) -> BTreeMap<usize, String> {
        let mut found = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/storage/list?limit=1000{cursor}"), &[]).unwrap().json();
            for blob in page["blobs"].as_array().unwrap() {
                let name = blob["pathname"].as_str().unwrap();
                let number = name.rsplit_once('/').unwrap().1.parse().unwrap();
                assert_eq!(blob["size"], content(number).len());
                found.insert(number, name.to_owned());
            }
            let Some(next) = page["cursor"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    }
}

fn path_of(upload: &Value) -> String {
    format!("/v1/storage/uploads/{}", upload["id"].as_str().unwrap())
}

fn halves(content: &str) -> [&str; 2] {
    let (first, second) = content.split_at(content.len() / 2);
    [first, second]
}

fn files(directory: &Path) -> usize {
    let Ok(directories) = std::fs::read_dir(directory.join("data/blobs")) else { return 0 };
    directories.map(|one| std::fs::read_dir(one.unwrap().path()).unwrap().count()).sum()
}

fn killed_at_commits(place: &Place, kills: u64) {
    let (chance, mut next, mut acknowledged) = (SeededIds::new(4712), 0, Vec::new());
    let parts = Parts::default();
    for _ in 0..kills {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        let point = POINTS.start + u64::from_le_bytes(bytes) % (POINTS.end - POINTS.start);
        let Some(mut hub) = place.start(Some(point)) else { continue };
        let (middle, end) = (next + UPLOADS, next + 2 * UPLOADS);
        std::thread::scope(|scope| {
            let (client, parts) = (&hub.client, &parts);
            let upload_all = move |numbers: Range<usize>| {
                numbers.take_while(|number| client.upload(*number, parts)).collect()
            };
            let clients = [next..middle, middle..end]
                .map(|numbers| scope.spawn(move || -> Vec<usize> { upload_all(numbers) }));
            acknowledged.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
        });
        next = end;
        // One that did not come so far is killed here.
        let _ = hub.child.kill();
        hub.child.wait().unwrap();
    }
    let hub = place.start(None).expect("it starts");
    hub.client.finish_uploads(&parts.into_inner().unwrap());
    let there = hub.client.objects();
    let lost: Vec<_> = acknowledged.iter().filter(|number| !there.contains_key(number)).collect();
    assert!(lost.is_empty(), "answered for, and gone: {lost:?}");
    for (number, name) in &there {
        let read = hub.client.get(&format!("/v1/storage/{name}"), &[]).unwrap();
        assert_eq!((read.status, read.body == content(*number)), (200, true), "{number}");
    }
    if place.store.is_none() {
        // Each part is a file, however small.
        let files_of = |number: &usize| match number % 3 {
            0 => 2,
            _ => usize::from(content(*number).len() > MAX_BYTES_HERE),
        };
        let all: usize = there.keys().map(files_of).sum();
        while files(place.directory.path()) != all {
            std::thread::yield_now();
        }
    }
    drop(hub);
    place.check(0);
}

#[test]
fn uploads_that_are_killed_are_whole_or_not_there_on_sqlite() {
    killed_at_commits(&Place { directory: temporary(), store: None }, kills().div_ceil(2));
}

#[test]
fn uploads_that_are_killed_are_whole_or_not_there_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(TestStore::postgres());
    killed_at_commits(&Place { directory: temporary(), store: Some(store) }, kills().div_ceil(2));
}
