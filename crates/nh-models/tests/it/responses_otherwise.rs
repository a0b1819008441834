//! Where a chat is not as a response has it.

use nh_models::ProviderKind;
use nh_testkit::upstream::Reply;
use serde_json::json;

use crate::harness::hub_of;
use crate::responses_check::ask;

#[tokio::test]
async fn output_counts_what_was_thought() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    // As xAI counts: thoughts are in the total alone.
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 44,
        "completion_tokens_details": {"reasoning_tokens": 30}});
    let choice = json!({"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"});
    upstream.reply(Reply::json(200, &json!({"choices": [choice], "usage": usage})));
    let told = hub.respond(ask(json!("Hello"))).await.expect("an answer")["usage"].take();
    assert_eq!((&told["output_tokens"], &told["total_tokens"]), (&json!(34), &json!(44)));
    assert_eq!(told["output_tokens_details"], json!({"reasoning_tokens": 30}));
}
