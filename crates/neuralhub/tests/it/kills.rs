//! A hub under load, killed again and again: what it accepted comes to its end,
//! and no step that was recorded is done again.
//!
//! The kills are crash points far into the load, so that each has many runs in
//! the middle of theirs; `NEURALHUB_KILLS` says how many there are (a few,
//! unless it says otherwise).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nh_testkit::{SeededIds, TestStore};
use nh_types::Ids as _;
use serde_json::json;

use crate::crash::{Place, performed, temporary};
use crate::http::Client;

/// Runs under way when the hub dies, about.
const IN_FLIGHT: u64 = 64;
const CLIENTS: usize = 4;
/// Points that a hub passes before it dies: fewer than a start and so many runs
/// take, or many times that.
const POINTS: std::ops::Range<u64> = 20..1200;

pub(crate) fn kills() -> u64 {
    std::env::var("NEURALHUB_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

impl Client {
    fn make_chain(&self) -> std::io::Result<()> {
        let sum =
            |id: &str, text: &str| json!({"id": id, "uses": "tool:calculate", "with": {"expression": text}});
        let chain = json!({"id": "chain", "name": "Chain", "steps": [
            sum("one", "{{ input.n }} + 1"),
            sum("two", "{{ steps.one.output.result }} * 2"),
            sum("three", "{{ steps.two.output.result }} - 2"),
        ]});
        let answer = self.post("/v1/workflows", &[], &chain)?;
        assert!([201, 409].contains(&answer.status), "{}", answer.body);
        Ok(())
    }

    /// Some when the run was accepted; an error when the hub is gone.
    fn begin(&self, number: u64) -> std::io::Result<String> {
        let body = json!({"target": "chain", "type": "workflow", "async": true, "input": {"n": number}});
        let answer = self.post("/v1/run", &[("idempotency-key", &number.to_string())], &body)?;
        assert_eq!(answer.status, 202, "{}", answer.body);
        Ok(answer.json()["runId"].as_str().unwrap().to_owned())
    }
}

/// Submits runs from several clients until the hub dies, or until there are
/// enough; those that it accepted, by their numbers.
fn load(client: &Client, next: &AtomicU64, accepted: &Mutex<BTreeMap<u64, String>>) {
    let most = next.load(Ordering::SeqCst) + 8 * IN_FLIGHT;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    match client.begin(number) {
                        Ok(run) if number < most => accepted.lock().unwrap().insert(number, run),
                        Ok(run) => {
                            accepted.lock().unwrap().insert(number, run);
                            return;
                        }
                        Err(_) => return,
                    };
                }
            });
        }
    });
}

fn survive(place: &Place, kills: u64) {
    let (next, accepted, chance) = (AtomicU64::new(0), Mutex::default(), SeededIds::new(64));
    let hub = place.start(None).expect("it starts");
    hub.client.make_chain().unwrap();
    drop(hub);
    let mut died = 0;
    while died < kills {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        let point = POINTS.start + u64::from_le_bytes(bytes) % (POINTS.end - POINTS.start);
        if let Some(mut hub) = place.start(Some(point)) {
            load(&hub.client, &next, &accepted);
            if hub.child.try_wait().unwrap().is_none() {
                // It did not come so far: then it is killed here.
                hub.child.kill().unwrap();
            }
            hub.child.wait().unwrap();
        }
        died += 1;
    }
    let accepted = accepted.into_inner().unwrap();
    assert!(accepted.len() as u64 >= kills, "only {} runs were accepted", accepted.len());

    let hub = place.start(None).expect("it starts");
    // A run whose answer was lost is there too: the same key tells which it is.
    let submitted = (0..next.into_inner()).map(|number| (number, hub.client.begin(number).unwrap()));
    let all: BTreeMap<u64, String> = submitted.collect();
    assert!(accepted.iter().all(|(number, run)| all[number] == *run), "a key began a second run");
    let again = check(&hub.client, &all);
    for (key, times) in performed(&place.passed()) {
        let allowed = 1 + again.get(&key).copied().unwrap_or(0);
        assert!(
            times <= allowed,
            "{key} was performed {times} times, and in flight at {} crashes",
            allowed - 1
        );
    }
}

/// How often each step was in flight at a crash, by its idempotency key. Every
/// run must have ended well.
fn check(client: &Client, accepted: &BTreeMap<u64, String>) -> BTreeMap<String, u64> {
    let mut again = BTreeMap::new();
    for (number, run) in accepted {
        // The stream ends with the run.
        client.get(&format!("/v1/run/{run}/events"), &[("accept", "text/event-stream")]).unwrap();
        let view = client.get(&format!("/v1/run/{run}"), &[]).unwrap().json();
        assert_eq!(view["state"], "SUCCESS", "{view}");
        assert_eq!(view["result"]["three"]["result"], json!((number * 2).to_string()), "{view}");
        let journal = client.get(&format!("/v1/run/{run}/events"), &[]).unwrap().json();
        for event in journal["events"].as_array().unwrap() {
            for step in event["data"]["again"].as_array().into_iter().flatten() {
                *again.entry(format!("{run}:{}", step.as_str().unwrap())).or_default() += 1;
            }
        }
    }
    again
}

#[test]
fn a_loaded_hub_that_is_killed_again_and_again_loses_and_repeats_nothing_on_sqlite() {
    survive(&Place { directory: temporary(), store: None }, kills());
}

#[test]
fn a_loaded_hub_that_is_killed_again_and_again_loses_and_repeats_nothing_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(TestStore::postgres());
    survive(&Place { directory: temporary(), store: Some(store) }, kills().div_ceil(2));
}
