//! What calls used, summed up; who answers, and how that went.

use nh_testkit::upstream::Reply;
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, run, says};
use crate::app::TestApp;
use crate::upstream::MODEL;

async fn chat(app: &TestApp) -> u16 {
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]});
    app.post("/v1/chat/completions", body).send().await.status.as_u16()
}

#[tokio::test]
async fn calls_are_summed_by_what_is_asked() {
    let (app, _upstream) = app_and_model([says("Yes."), says("No."), says("Well.")]).await;
    assert_eq!(chat(&app).await, 200);
    let at_once = app.get("/v1/usage").send().await.ok(200);
    assert_eq!(at_once["total"]["calls"], 1, "a report waits for what has just ended");
    assert_eq!(run(&app).await["state"], "SUCCESS");
    let path = "/v1/usage?by=agent,model,kind";
    let all = app.until(path, |report| report["usage"].as_array().is_some_and(|sums| sums.len() == 2)).await;
    let usage = all["usage"].as_array().expect("sums");
    let of_agent: Vec<_> = usage.iter().filter(|sum| sum["agent"] == "a").collect();
    assert_eq!((usage.len(), of_agent.len()), (2, 1), "{all}");
    assert_eq!((&of_agent[0]["model"], &of_agent[0]["kind"]), (&json!("m"), &json!("chat")));
    assert_eq!((&of_agent[0]["input_tokens"], &of_agent[0]["output_tokens"]), (&json!(10), &json!(5)));
    assert_eq!((&all["total"]["unpriced_calls"], &all["is_truncated"]), (&json!(2), &json!(false)));
    let days = app.get("/v1/usage").send().await.ok(200);
    assert_eq!((&days["usage"][0]["day"], &days["by"]), (&json!("2026-02-06"), &json!(["day"])), "{days}");
    let keys = app.get("/v1/usage?by=key").send().await.ok(200);
    assert!(keys["usage"][0]["key_id"].is_u64(), "{keys}");
    let before = app.get("/v1/usage?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z").send().await.ok(200);
    assert_eq!((&before["usage"], &before["total"]["calls"]), (&json!([]), &json!(0)));

    let (_, other) = app.other_workspace().await;
    let theirs = app.get("/v1/usage").key(&other).send().await.ok(200);
    assert_eq!(theirs["total"]["calls"], 0);
    assert_eq!(app.get("/v1/usage?by=hour").send().await.error(422).1.as_deref(), Some("by"));
    assert_eq!(
        app.get("/v1/usage?from=2027-01-01T00:00:00Z").send().await.error(422).1.as_deref(),
        Some("from")
    );
    assert_eq!(app.get("/v1/usage?from=yesterday").send().await.error(400).1.as_deref(), Some("from"));
    assert_eq!(app.get("/v1/usage?per=day").send().await.error(400).1.as_deref(), Some("per"));
    let few = app.key_with("chat:write").await;
    assert_eq!(app.get("/v1/usage").key(&few).send().await.code(403), "missing_scope");
}

#[tokio::test]
async fn how_providers_do_is_shown() {
    let down = || Reply::error(503, "down", "we are down");
    let (app, _upstream) = app_and_model((0..6).map(|_| down())).await;
    let first = |list: &Value| list["providers"][0].clone();
    let well = first(&app.get("/v1/providers").send().await.ok(200));
    assert_eq!(
        (&well["name"], &well["kind"], &well["status"]),
        (&json!("local"), &json!("openai"), &json!("healthy"))
    );
    assert_eq!((chat(&app).await, chat(&app).await), (502, 502));
    let badly = first(&app.get("/v1/providers").send().await.ok(200));
    assert_eq!((&badly["status"], &badly["failures_in_a_row"]), (&json!("resting"), &json!(5)), "{badly}");
    assert!(badly["last_failure"].as_str().is_some_and(|why| why.contains("we are down")), "{badly}");
    assert!(badly["rests_until"].is_string() && !badly.to_string().contains("upstream-secret"), "{badly}");
}
