//! Answers that are given again to the same request.

use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::upstream::{app_serving, chat};

const CHAT: &str = "/v1/chat/completions";
const HEADER: &str = "x-neuralhub-cache";

async fn priced() -> (TestApp, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    let model = json!({"id": "m", "input_cost": 1.0, "output_cost": 10.0});
    let app = app_serving(upstream.base_url(), serde_json::from_value(model).expect("settings")).await;
    (app, upstream)
}

fn asks(text: &str) -> Value {
    let mut body = chat(false);
    body["messages"][0]["content"] = json!(text);
    body
}

fn streamed(text: &str) -> Value {
    let mut body = asks(text);
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn an_answer_is_given_again_to_who_asks_the_same() {
    let (app, upstream) = priced().await;
    let ask = async |body: Value, keep: &str| app.post(CHAT, body).header(HEADER, keep).send().await;
    let first = ask(asks("one"), "60").await;
    assert_eq!((first.status.as_u16(), first.header(HEADER), upstream.calls().len()), (200, "miss", 1));
    app.clock.advance_ms(9_000);
    let again = ask(asks("one"), "60").await;
    assert_eq!((again.header(HEADER), again.header("age"), upstream.calls().len()), ("hit", "9", 1));
    let (first, again) = (first.ok(200), again.ok(200));
    assert_eq!(again["choices"], first["choices"]);
    assert_eq!(
        (&again["usage"]["cost"], &again["usage"]["cost_saved"]),
        (&json!(0.0), &first["usage"]["cost"])
    );
    // Also as a stream, and to Anthropic's clients; not where nothing was said of it, or another was asked.
    let stream = app.post(CHAT, streamed("one")).header(HEADER, "60").send().await;
    assert_eq!((stream.header(HEADER), upstream.calls().len()), ("hit", 1));
    let text = String::from_utf8_lossy(&stream.body);
    assert!(text.contains("Hello!") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!ask(asks("one"), "no").await.headers.contains_key(HEADER));
    assert_eq!(ask(asks("two"), "60").await.header(HEADER), "miss");
    app.post(CHAT, asks("one")).send().await.ok(200);
    assert_eq!(upstream.calls().len(), 4);
    let (_, other) = app.other_workspace().await;
    let theirs = app.post(CHAT, asks("one")).header(HEADER, "60").key(&other).send().await;
    assert_eq!((theirs.header(HEADER), upstream.calls().len()), ("miss", 5));
    let report = app.until("/v1/usage?by=provider", |report| report["total"]["calls"] == 6).await;
    let kept = &report["usage"][0];
    assert_eq!(
        (&kept["provider"], &kept["calls"], &kept["cost_usd"]),
        (&json!("cache"), &json!(2), &json!(0.0))
    );
    let saved = kept["saved_usd"].as_f64().expect("dollars");
    assert!((saved - 2.0 * first["usage"]["cost"].as_f64().expect("dollars")).abs() < 1e-12, "{report}");
    // It expires.
    app.clock.advance_ms(60_000);
    assert_eq!(ask(asks("one"), "60").await.header(HEADER), "miss");
}

#[tokio::test]
async fn what_was_streamed_is_kept_when_it_is_whole() {
    let (app, upstream) = priced().await;
    let ask = async |body: Value| app.post(CHAT, body).header(HEADER, "60").send().await;
    upstream
        .reply(Reply::chunks(&[chunk(json!({"role": "assistant", "content": "x"}), None)]).then(Part::Cut));
    upstream.reply(
        Reply::chunks(&[
            chunk(json!({"role": "assistant", "content": "x"}), None),
            chunk(json!({}), Some("length")),
        ])
        .done(),
    );
    for calls in [1, 2, 3] {
        assert_eq!((ask(streamed("one")).await.header(HEADER), upstream.calls().len()), ("miss", calls));
    }
    let again = ask(streamed("one")).await;
    assert_eq!((again.header(HEADER), upstream.calls().len()), ("hit", 3));
    let whole = ask(asks("one")).await;
    assert_eq!((whole.header(HEADER), upstream.calls().len()), ("hit", 3));
    let whole = whole.ok(200);
    assert_eq!(whole["choices"][0]["message"]["content"], "Hello!");
    assert_eq!((&whole["object"], &whole["usage"]["prompt_tokens"]), (&json!("chat.completion"), &json!(9)));
    assert!(whole["usage"]["cost_saved"].as_f64().is_some_and(|usd| usd > 0.0), "{whole}");
}

#[tokio::test]
async fn so_many_are_kept_of_a_workspace() {
    let (app, upstream) = priced().await;
    let ask = async |text: &str| {
        app.post(CHAT, asks(text)).header(HEADER, "600").send().await.header(HEADER).to_owned()
    };
    for text in ["1", "2", "3", "4"] {
        assert_eq!(ask(text).await, "miss");
        app.clock.advance_ms(1_000);
    }
    for text in ["2", "3", "4"] {
        assert_eq!(ask(text).await, "hit");
    }
    assert_eq!((ask("1").await.as_str(), upstream.calls().len()), ("miss", 5));
}

#[tokio::test]
async fn a_key_that_may_not_ask_the_model_gets_no_kept_answer() {
    let (app, _upstream) = priced().await;
    app.post(CHAT, asks("one")).header(HEADER, "60").send().await.ok(200);
    let body = json!({"name": "k", "scopes": ["chat:write"], "model_limits": {"models": ["other"]}});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("a key").to_owned();
    let refused = app.post(CHAT, asks("one")).header(HEADER, "60").key(&key).send().await;
    assert_eq!(refused.code(403), "model_not_allowed");
}

#[tokio::test]
async fn a_header_that_makes_no_sense_is_refused() {
    let app = TestApp::new().await;
    for given in ["0", "-1", "yes", "2592001", "1.5"] {
        let refused = app.post(CHAT, asks("one")).header(HEADER, given).send().await;
        assert_eq!(refused.error(400).1.as_deref(), Some(HEADER), "{given}");
    }
}

#[tokio::test]
async fn a_key_whose_prompt_is_too_long_gets_no_kept_answer() {
    let (app, upstream) = priced().await;
    let long = "word ".repeat(200);
    app.post(CHAT, asks(&long)).header(HEADER, "60").send().await.ok(200);
    let body = json!({"name": "k", "scopes": ["chat:write"], "model_limits": {"max_prompt_tokens": 100}});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("a key").to_owned();
    for body in [asks(&long), streamed(&long)] {
        let refused = app.post(CHAT, body).header(HEADER, "60").key(&key).send().await;
        assert_eq!(refused.code(413), "payload_too_large");
    }
    assert_eq!(upstream.calls().len(), 1);
}
