//! Who answers: aliases, one model after another, tries, and providers that are left alone.

use nh_models::{ModelAlias, ModelError, ProviderKind};
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use nh_types::provider::ProviderStatus;
use serde_json::json;

use crate::harness::{Hub, caller, hello, hello_streamed, hub_with, object, provider};

/// Two providers, `one` and `two`, and the alias `both` for their models.
async fn two() -> (Hub, Upstream, Upstream) {
    let (one, two) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let alias = ModelAlias {
        name: "both".to_owned(),
        models: vec!["one/priced".to_owned(), "two/priced".to_owned()],
        weights: None,
    };
    let providers =
        [("one", &one), ("two", &two)].map(|(name, at)| provider(name, ProviderKind::Openai, &at.base_url()));
    (hub_with(providers.to_vec(), vec![alias]), one, two)
}

fn failure() -> Reply {
    Reply::error(503, "down", "we are down")
}

#[tokio::test]
async fn where_the_first_cannot_answer_the_next_is_asked() {
    let (mut hub, one, two) = two().await;
    hub.chat(hello("both")).await.expect("an answer");
    assert_eq!((one.calls().len(), two.calls().len()), (1, 0));
    let not_able = [
        failure(),
        Reply::error(401, "bad", "who are you?"),
        Reply::error(429, "slow", "slow down").with_header("retry-after", "60"),
        Reply::error(404, "none", "no such model"),
        Reply::json(200, &json!({"error": {"code": 502, "message": "inner"}})),
    ];
    for (count, reply) in not_able.into_iter().enumerate() {
        one.reply(reply);
        hub.chat(hello("both")).await.expect("an answer");
        assert_eq!((one.calls().len(), two.calls().len()), (count + 2, count + 1), "asked once each");
    }
    // What is the client's mistake is it everywhere.
    one.reply(Reply::error(400, "bad", "no such field"));
    let error = hub.chat(hello("both")).await.expect_err("a mistake");
    assert!(matches!(error, ModelError::Rejected { status: 400, .. }), "{error:?}");
    assert_eq!(two.calls().len(), 5);
    // Each answer is paid for once, and what gave none is not.
    for expected in ["one", "two", "two", "two", "two", "two"] {
        assert_eq!(hub.rows.next_row().await.expect("a row").provider, expected);
    }
}

#[tokio::test]
async fn a_stream_goes_to_the_next_before_its_first_byte_alone() {
    let (hub, one, two) = two().await;
    one.reply(failure());
    let whole = hub.stream(hello_streamed("both")).await.expect("a stream");
    assert!(whole.ends_with("data: [DONE]\n\n"), "{whole}");
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Good"}, "finish_reason": null}]});
    one.reply(Reply::Stream(vec![Part::Data(chunk.to_string()), Part::Cut]));
    let cut = hub.stream(hello_streamed("both")).await.expect("a stream");
    assert!(cut.contains("Good") && cut.contains("\"error\"") && !cut.contains("[DONE]"), "{cut}");
    assert_eq!(two.calls().len(), 1, "nobody else is asked once something was said");
    one.reply(Reply::Stream(vec![Part::Cut]));
    hub.stream(hello_streamed("both")).await.expect("a stream");
    assert_eq!(two.calls().len(), 2);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_where_nobody_else_is_asked() {
    let (hub, one, _) = two().await;
    one.reply(failure());
    one.reply(Reply::error(429, "slow", "slow down"));
    hub.chat(hello("one/priced")).await.expect("an answer");
    assert_eq!(one.calls().len(), 3);
    for (reply, calls) in [
        (Reply::error(429, "slow", "slow down").with_header("retry-after", "30"), 1),
        (Reply::error(400, "bad", "no"), 1),
        (Reply::error(401, "bad", "no"), 1),
    ] {
        let before = one.calls().len();
        one.reply(reply);
        hub.chat(hello("one/priced")).await.expect_err("no answer");
        assert_eq!(one.calls().len() - before, calls);
    }
    for _ in 0..3 {
        one.reply(failure());
    }
    let before = one.calls().len();
    assert!(matches!(hub.chat(hello("one/priced")).await, Err(ModelError::Failed { .. })));
    assert_eq!(one.calls().len() - before, 3);
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone_for_a_while() {
    let (hub, one, two) = two().await;
    for _ in 0..5 {
        one.reply(failure());
        hub.chat(hello("both")).await.expect("the other's answer");
    }
    let shown = hub.providers().await;
    assert_eq!((shown[0].name.as_str(), shown[0].health.status), ("one", ProviderStatus::Resting));
    assert!(shown[0].health.last_failure.as_deref().is_some_and(|why| why.contains("we are down")));
    assert_eq!(shown[1].health.status, ProviderStatus::Healthy);
    hub.chat(hello("both")).await.expect("the other's answer");
    assert_eq!((one.calls().len(), two.calls().len()), (5, 6), "it is not asked");
    let error = hub.chat(hello("one/priced")).await.expect_err("left alone").to_string();
    assert!(error.contains("5 times in a row") && error.contains("we are down"), "{error}");
    hub.clock.advance_ms(5_000);
    hub.chat(hello("both")).await.expect("an answer");
    assert_eq!((one.calls().len(), two.calls().len()), (6, 6), "one tries, and it is well");
    assert_eq!(hub.providers().await[0].health.status, ProviderStatus::Healthy);
}

#[tokio::test]
async fn what_becomes_of_an_answer_says_how_its_provider_does() {
    let (hub, one, _two) = two().await;
    let begun = || Reply::chunks(&[chunk(json!({"role": "assistant", "content": "x"}), None)]);
    for _ in 0..3 {
        one.reply(begun().then(Part::Cut));
        hub.stream(hello_streamed("one/priced")).await.expect("a stream that is cut");
    }
    one.reply(Reply::json(200, &json!({"no": "answer"})));
    hub.chat(hello("one/priced")).await.expect_err("no answer");
    assert_eq!(hub.providers().await[0].health.failures_in_a_row, 4);
    hub.stream(hello_streamed("one/priced")).await.expect("a whole stream");
    assert_eq!(hub.providers().await[0].health.failures_in_a_row, 0);
    for _ in 0..5 {
        one.reply(begun().then(Part::Cut));
        hub.stream(hello_streamed("one/priced")).await.expect("a stream that is cut");
    }
    assert_eq!(hub.providers().await[0].health.status, ProviderStatus::Resting);
    // Who goes away says nothing of the provider; and while a stream goes on, others are asked too.
    hub.clock.advance_ms(5_000);
    one.reply(begun().then(Part::Hang));
    let stream =
        hub.models.chat_stream(&caller(), object(hello_streamed("one/priced"))).await.expect("a stream");
    assert_eq!(hub.providers().await[0].health.status, ProviderStatus::Healthy);
    hub.chat(hello("one/priced")).await.expect("an answer");
    drop(stream);
    assert_eq!(hub.providers().await[0].health.failures_in_a_row, 0);
}

#[tokio::test]
async fn a_request_may_name_several_models_itself() {
    let (hub, one, two) = two().await;
    let body = |more: serde_json::Value| {
        let mut body = hello("one/priced");
        body["models"] = more;
        body
    };
    one.reply(failure());
    hub.chat(body(json!(["one/priced", "two/priced"]))).await.expect("an answer");
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
    assert!(two.calls()[0].body.get("models").is_none(), "it is the hub's own");
    one.reply(failure());
    hub.chat(body(json!(["nobody/knows", "neuralhub/offline"]))).await.expect("the offline model's");
    for wrong in [json!("two/priced"), json!([7]), json!([""])] {
        let error = hub.chat(body(wrong)).await.expect_err("a mistake");
        assert!(matches!(&error, ModelError::Invalid { param, .. } if param == "models"), "{error:?}");
    }
    let many: Vec<_> = (0..17).map(|count| format!("m{count}")).collect();
    assert!(matches!(hub.chat(body(json!(many))).await, Err(ModelError::Invalid { .. })));
}

#[tokio::test]
async fn an_alias_is_listed_and_found() {
    let (hub, ..) = two().await;
    let listed = hub.list().await;
    let alias = listed.iter().find(|model| model.id == "both").expect("listed");
    assert_eq!((alias.owned_by.as_str(), alias.input_cost), ("neuralhub", Some(2.0)));
    assert_eq!(hub.find("both").await.expect("found").id, "both");
    let embed = json!({"model": "both", "input": "x"});
    let error = hub.embed(embed).await.expect_err("two models");
    assert!(matches!(error, ModelError::Invalid { .. }), "{error:?}");
    let nothing = ModelAlias { name: "gone".to_owned(), models: vec!["no/such".to_owned()], weights: None };
    let hub = hub_with(Vec::new(), vec![nothing]);
    assert!(matches!(hub.chat(hello("gone")).await, Err(ModelError::NotFound { .. })));
    assert!(hub.find("gone").await.is_none());
}

/// Whoever listens tries again himself: three times three tries are a flood.
#[tokio::test]
async fn nobody_is_asked_twice_for_one_who_listens() {
    let (hub, one, _) = two().await;
    one.reply(failure());
    let listener = nh_models::Listener { is_heard: true, tell: &|_| {} };
    let body = object(hello_streamed("one/priced"));
    let error = hub.models.chat_live(&caller(), &body, &listener).await.expect_err("an error");
    assert!(error.is_retryable(), "{error}");
    assert_eq!(one.calls().len(), 1);
    hub.models.chat_live(&caller(), &body, &listener).await.expect("an answer");
}
