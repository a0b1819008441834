//! A hub that is killed in the middle of uploads: what it answered for is there,
//! whole, nothing is there in part, and what was broken off leaves no file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use nh_testkit::{SeededIds, TestStore};
use nh_types::Ids as _;

use crate::crash::{Place, temporary};
use crate::http::Client;
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

impl Client {
    fn upload(&self, number: usize) -> bool {
        let Ok(answer) =
            self.send_text(&format!("/v1/storage/upload?pathname=objects/{number}"), &content(number))
        else {
            return false;
        };
        assert_eq!(answer.status, 201, "{}", answer.body);
        true
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

fn files(directory: &Path) -> usize {
    let Ok(directories) = std::fs::read_dir(directory.join("data/blobs")) else { return 0 };
    directories.map(|one| std::fs::read_dir(one.unwrap().path()).unwrap().count()).sum()
}

fn killed_at_commits(place: &Place, kills: u64) {
    let (chance, mut next, mut acknowledged) = (SeededIds::new(4712), 0, Vec::new());
    for _ in 0..kills {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        let point = POINTS.start + u64::from_le_bytes(bytes) % (POINTS.end - POINTS.start);
        let Some(mut hub) = place.start(Some(point)) else { continue };
        let (middle, end) = (next + UPLOADS, next + 2 * UPLOADS);
        std::thread::scope(|scope| {
            let client = &hub.client;
            let upload_all =
                |numbers: Range<usize>| numbers.take_while(|number| client.upload(*number)).collect();
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
    let there = hub.client.objects();
    let lost: Vec<_> = acknowledged.iter().filter(|number| !there.contains_key(number)).collect();
    assert!(lost.is_empty(), "answered for, and gone: {lost:?}");
    for (number, name) in &there {
        let read = hub.client.get(&format!("/v1/storage/{name}"), &[]).unwrap();
        assert_eq!((read.status, read.body == content(*number)), (200, true), "{number}");
    }
    if place.store.is_none() {
        let large = there.keys().filter(|number| content(**number).len() > MAX_BYTES_HERE).count();
        while files(place.directory.path()) != large {
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
