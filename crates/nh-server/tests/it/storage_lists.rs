//! `/v1/storage/list`: by name, in pages, as folders.

use serde_json::json;

use crate::app::TestApp;
use crate::storage::{names, upload};

#[tokio::test]
async fn lists_are_by_name_in_pages_and_folded() {
    let app = TestApp::new().await;
    for name in ["b.txt", "a/1", "a/2", "a/deep/3", "a.txt", "z/9", "ä.txt"] {
        upload(&app, &format!("pathname={name}"), "x").send().await.ok(201);
    }
    assert_eq!(names(&app, "").await, ["a.txt", "a/1", "a/2", "a/deep/3", "b.txt", "z/9", "ä.txt"]);
    assert_eq!(names(&app, "prefix=a/").await, ["a/1", "a/2", "a/deep/3"]);
    assert_eq!(names(&app, "prefix=a").await, ["a.txt", "a/1", "a/2", "a/deep/3"]);
    let full = format!("prefix={}/a/", app.workspace_id);
    assert_eq!(names(&app, &full).await, ["a/1", "a/2", "a/deep/3"]);
    assert_eq!(names(&app, "mode=folded").await, ["a.txt", "b.txt", "ä.txt", "a/", "z/"]);
    assert_eq!(names(&app, "mode=folded&prefix=a/").await, ["a/1", "a/2", "a/deep/"]);
    for mode in ["expanded", "folded"] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/storage/list?limit=1&mode={mode}{cursor}");
            let page = app.get(&path).send().await.ok(200);
            for list in ["blobs", "folders"] {
                all.extend(page[list].as_array().expect("a list").clone());
            }
            assert_eq!(page["hasMore"], json!(page["cursor"].is_string()));
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(all.len(), if mode == "folded" { 5 } else { 7 }, "{mode}: {all:?}");
    }
}

#[tokio::test]
async fn large_folders_are_each_told_once() {
    let app = TestApp::new().await;
    let files =
        (0..9).flat_map(|at| ["ä/b/1%2F", "ä/b0/", "ä/ß/", "ä/ß/ü/"].map(|folder| format!("{folder}{at}")));
    let others = ["a/1", "ä/b", "ä/b!", "ä/b0", "ä/c", "ä/ß0", "ä/ßß", "å/1"].map(str::to_owned);
    for name in files.chain(others) {
        upload(&app, &format!("pathname={name}")[..], "x").send().await.ok(201);
    }
    let wanted = ["ä/b", "ä/b!", "ä/b/", "ä/b0", "ä/b0/", "ä/c", "ä/ß/", "ä/ß0", "ä/ßß"];
    for limit in [1, 2, 3, 4, 7, 9, 20] {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("mode=folded&prefix=ä/&limit={limit}{cursor}");
            let page = names(&app, &query).await;
            assert!(page.len() <= limit);
            all.extend(page);
            let listed = app.get(&format!("/v1/storage/list?{query}")).send().await.ok(200);
            let Some(next) = listed["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        all.sort();
        assert_eq!(all, wanted, "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_folder_is_listed_though_nothing_is_in_it() {
    let app = TestApp::new().await;
    for name in ["empty", "empty/", "deep/er"] {
        app.post("/v1/storage/folders", json!({"pathname": name})).send().await.ok(201);
    }
    assert_eq!(names(&app, "mode=folded").await, ["deep/", "empty/"]);
    let bad = app.post("/v1/storage/folders", json!({"pathname": "a/../b"})).send().await;
    assert_eq!(bad.error(422), ("invalid_value".to_owned(), Some("pathname".to_owned())));
    let mixed = app.post("/v1/storage/rename", json!({"from": "empty/", "to": "file"})).send().await;
    assert_eq!(mixed.error(400), ("invalid_request".to_owned(), Some("to".to_owned())));
}
