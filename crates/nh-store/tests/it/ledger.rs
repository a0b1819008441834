use nh_store::ledger::{self, Amount, Balance, Bid, Dimension, Limits, Reserve, Reserved, Settle, fit};
use nh_store::runs::{RemoveFinished, RunRecord};
use nh_testkit::{TestStore, each_engine};
use nh_types::WorkspaceId;
use nh_types::run::RunState;
use tokio::task::JoinSet;

use crate::fixtures::{insert, later, run, run_id, workspace};

const HOUR_MS: i64 = 3_600_000;

fn tokens(limit: i64) -> Limits {
    Limits { tokens: Some(limit), ..Limits::default() }
}

fn amount(tokens: i64) -> Amount {
    Amount { tokens, ..Amount::default() }
}

/// 10 tokens in, and from 5 to `most` out.
fn bid(most: i64) -> Bid {
    Bid { fixed: amount(10), per_unit: amount(1), least_units: 5, most_units: most }
}

/// The token is the id: for calls that are made once.
fn reserve(ws: &WorkspaceId, id: &str, accounts: &[(&str, i64)], bid: Bid) -> Reserve {
    Reserve {
        workspace_id: ws.clone(),
        id: id.to_owned(),
        token: id.to_owned(),
        accounts: accounts.iter().map(|(name, limit)| ((*name).to_owned(), tokens(*limit))).collect(),
        bid,
        room: 1,
        now: later(0),
        expires_at: later(HOUR_MS),
    }
}

fn again(token: &str, made: Reserve) -> Reserve {
    Reserve { token: token.to_owned(), ..made }
}

fn settle(ws: &WorkspaceId, token: &str, accounts: &[&str], tokens: i64) -> Settle {
    let accounts = accounts.iter().map(|name| (*name).to_owned()).collect();
    Settle { workspace_id: ws.clone(), token: token.to_owned(), accounts, cost: amount(tokens) }
}

async fn spent(store: &TestStore, ws: &WorkspaceId, account: &str) -> i64 {
    ledger::spent(store.store(), ws, account).await.expect("readable").tokens
}

#[test]
fn what_is_left_is_granted_when_nothing_else_is_under_way() {
    let at = |spent, reserved| Balance { spent: amount(spent), reserved: amount(reserved) };
    let fits = |limit, balance| fit(&bid(50), &[("a", tokens(limit), balance)]);
    assert_eq!(fits(100, at(0, 0)), Reserved::Units(50));
    assert_eq!(fits(100, at(40, 0)), Reserved::Units(50));
    assert_eq!(fits(100, at(60, 0)), Reserved::Units(30));
    assert_eq!(fits(100, at(85, 0)), Reserved::Units(5));
    assert!(
        matches!(fits(100, at(86, 0)), Reserved::Refused(short) if short.dimension == Dimension::Tokens && short.wanted == 15)
    );
    // What others hold may come back.
    assert!(matches!(fits(100, at(0, 60)), Reserved::Busy(_)));
    assert!(matches!(fits(100, at(86, 14)), Reserved::Refused(_)));
    // The strictest account decides, and one that cannot ever be met at once.
    let two = |second| fit(&bid(50), &[("a", tokens(100), at(60, 0)), ("b", tokens(70), second)]);
    assert_eq!(two(at(40, 0)), Reserved::Units(20));
    assert!(matches!(two(at(0, 40)), Reserved::Busy(short) if short.account == "b"));
    assert!(matches!(two(at(56, 40)), Reserved::Refused(short) if short.account == "b"));
    // A bound on what the call does not take is none.
    let free = Limits { picodollars: Some(0), ..Limits::default() };
    assert_eq!(fit(&bid(50), &[("a", free, Balance::default())]), Reserved::Units(50));
}

each_engine! {
    async fn calls_side_by_side_do_not_overshoot_together(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let accounts = [("key:1:2026-11", 100), ("run:a", 100)];
        let names = ["key:1:2026-11", "run:a"];
        let mut calls = JoinSet::new();
        for n in 0..20 {
            let (store, call) = (store.store().clone(), reserve(&ws, &format!("call {n}"), &accounts, bid(10)));
            calls.spawn(async move { (n, store.write(call).await.expect("no fault")) });
        }
        let answers = calls.join_all().await;
        let granted: Vec<i32> =
            answers.into_iter().filter(|(_, fits)| *fits == Reserved::Units(10)).map(|(n, _)| n).collect();
        assert_eq!(granted.len(), 5, "20 tokens each, of 100");
        for n in granted {
            store.store().write(settle(&ws, &format!("call {n}"), &names, 12)).await.expect("settled");
        }
        assert_eq!(spent(&store, &ws, "run:a").await, 60);
        assert_eq!(spent(&store, &ws, "key:1:2026-11").await, 60);
        let next = store.store().write(reserve(&ws, "next", &accounts, bid(50))).await;
        assert_eq!(next.expect("no fault"), Reserved::Units(30));
    }

    async fn settling_twice_counts_once(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(reserve(&ws, "call", &[("run:a", 100)], bid(10))).await.expect("reserved");
        for _ in 0..2 {
            store.store().write(settle(&ws, "call", &["run:a"], 12)).await.expect("settled");
        }
        store.store().write(settle(&ws, "never made", &["run:a"], 50)).await.expect("nothing to settle");
        assert_eq!(spent(&store, &ws, "run:a").await, 12);
    }

    async fn a_call_made_again_takes_its_own_place(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for token in ["1", "2", "3"] {
            let made = reserve(&ws, "run:step", &[("run:a", 25)], bid(10));
            let again = store.store().write(again(token, made)).await;
            assert_eq!(again.expect("no fault"), Reserved::Units(10));
        }
        let other = store.store().write(reserve(&ws, "other", &[("run:a", 25)], bid(10))).await;
        assert!(matches!(other.expect("no fault"), Reserved::Busy(_)));
    }

    async fn each_try_of_a_call_is_settled_by_itself(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let made = || reserve(&ws, "run:step", &[("run:a", 100)], bid(10));
        for token in ["1", "2"] {
            store.store().write(again(token, made())).await.expect("reserved");
        }
        // The first try was refused, and is settled late: the second holds on.
        store.store().write(settle(&ws, "1", &["run:a"], 0)).await.expect("settled");
        let other = store.store().write(reserve(&ws, "other", &[("run:a", 35)], bid(10))).await;
        assert!(matches!(other.expect("no fault"), Reserved::Busy(_)));
        store.store().write(settle(&ws, "2", &["run:a"], 20)).await.expect("settled");
        assert_eq!(spent(&store, &ws, "run:a").await, 20);
    }

    async fn what_a_frozen_node_spent_counts_once_although_the_step_was_made_again(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let made = || reserve(&ws, "run:step", &[("run:a", 100)], bid(10));
        for token in ["frozen", "taken over"] {
            store.store().write(again(token, made())).await.expect("reserved");
        }
        store.store().write(settle(&ws, "taken over", &["run:a"], 20)).await.expect("settled");
        // The answer of a commit may be lost, and the settlement written again.
        for _ in 0..2 {
            store.store().write(settle(&ws, "frozen", &["run:a"], 15)).await.expect("settled");
        }
        assert_eq!(spent(&store, &ws, "run:a").await, 35);
        let rest = store.store().write(reserve(&ws, "next", &[("run:a", 100)], bid(90))).await;
        assert_eq!(rest.expect("no fault"), Reserved::Units(55), "nothing stays reserved");
    }

    async fn what_a_dead_process_reserved_comes_back(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(reserve(&ws, "lost", &[("run:a", 25)], bid(10))).await.expect("reserved");
        let late = |ms| Reserve { now: later(ms), expires_at: later(2 * ms), ..reserve(&ws, "next", &[("run:a", 25)], bid(10)) };
        let before = store.store().write(late(HOUR_MS - 1)).await.expect("no fault");
        assert!(matches!(before, Reserved::Busy(_)));
        assert_eq!(store.store().write(late(HOUR_MS)).await.expect("no fault"), Reserved::Units(10));
        // It was only slow: what it cost counts all the same.
        store.store().write(settle(&ws, "lost", &["run:a"], 9)).await.expect("settled");
        assert_eq!(spent(&store, &ws, "run:a").await, 9);
    }

    async fn a_removed_run_takes_its_account_with_it_and_old_reservations_go_too(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let old = RunRecord { state: RunState::Success, finished_at: Some(later(1)), ready: false, ..run(&ws, 1) };
        store.store().write(insert(old)).await.expect("insert");
        let account = ledger::run_account(run_id(1));
        let accounts = [(account.as_str(), 100), ("key:1:2026-11", 100)];
        for token in ["under way", "lost"] {
            store.store().write(reserve(&ws, token, &accounts, bid(10))).await.expect("reserved");
        }
        let settled = async |token| {
            store.store().write(settle(&ws, token, &["key:1:2026-11", &account], 9)).await.expect("settled");
            (spent(&store, &ws, &account).await, spent(&store, &ws, "key:1:2026-11").await)
        };
        let remove = async |before_ms| {
            let write = RemoveFinished { before: later(before_ms), limit: 10, after: None };
            store.store().write(write).await.expect("removed").count
        };
        assert_eq!(remove(HOUR_MS).await, 1);
        // The key's share of it is still counted.
        assert_eq!(settled("under way").await, (0, 9));
        assert_eq!(remove(26 * HOUR_MS).await, 0);
        assert_eq!(settled("lost").await, (0, 9), "nobody settles a call a day later");
    }

    async fn workspaces_do_not_share_accounts(store: TestStore) {
        let (mine, theirs) = (workspace(store.store(), "mine").await, workspace(store.store(), "theirs").await);
        for ws in [&mine, &theirs] {
            let reserved = store.store().write(reserve(ws, "call", &[("key:1:2026-11", 20)], bid(10))).await;
            assert_eq!(reserved.expect("no fault"), Reserved::Units(10));
        }
        store.store().write(settle(&theirs, "call", &["key:1:2026-11"], 20)).await.expect("settled");
        assert_eq!(spent(&store, &mine, "key:1:2026-11").await, 0);
    }
}
