//! Embeddings in the encoding that was asked for.

use nh_models::ProviderKind;
use nh_models::offline::MODEL_ID;
use nh_testkit::upstream::Reply;
use nh_types::ApiError;
use serde_json::{Value, json};

use crate::harness::{Hub, caller, hub_of, object};

/// 0.5 and -1.0 as little-endian f32.
const AS_BASE64: &str = "AAAAPwAAgL8=";

async fn ask(hub: &Hub, body: Value) -> Result<Value, ApiError> {
    let answer = hub.models.embeddings(&caller(), object(body)).await.map_err(ApiError::from)?;
    Ok(Value::Object(answer.body))
}

#[tokio::test]
async fn the_encoding_is_kept_whatever_the_provider_does() {
    let (mut hub, upstream) = hub_of(ProviderKind::Openai).await;
    let floats = json!([0.5, -1.0]);
    let in_base64 = || {
        Reply::json(
            200,
            &json!({"data": [{"embedding": AS_BASE64, "index": 0}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
        )
    };
    for (format, reply, expected) in [
        (None, None, floats.clone()),
        (Some("float"), None, floats.clone()),
        (Some("base64"), None, json!(AS_BASE64)),
        (Some("base64"), Some(in_base64()), json!(AS_BASE64)),
        (Some("float"), Some(in_base64()), floats.clone()),
    ] {
        let mut body = json!({"model": "mock-embed", "input": "hi", "dimensions": 2});
        if let Some(format) = format {
            body["encoding_format"] = json!(format);
        }
        if let Some(reply) = reply {
            upstream.reply(reply);
        }
        let answer = ask(&hub, body.clone()).await.expect("an answer");
        assert_eq!(answer["data"][0]["embedding"], expected, "{format:?}");
        assert_eq!((&answer["object"], &answer["data"][0]["object"]), (&json!("list"), &json!("embedding")));
        assert_eq!(upstream.calls().last().expect("a call").body, body);
        let row = hub.rows.next_row().await.expect("a row");
        assert_eq!((row.usage.input_tokens, row.usage.output_tokens, row.estimated), (3, 0, false));
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_by_field() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    for (body, status, param) in [
        (json!({"input": "x"}), 400, Some("model")),
        (json!({"model": "mock-embed"}), 400, Some("input")),
        (json!({"model": "mock-embed", "input": []}), 400, Some("input")),
        (
            json!({"model": "mock-embed", "input": "x", "encoding_format": "hex"}),
            400,
            Some("encoding_format"),
        ),
        (json!({"model": MODEL_ID, "input": "x"}), 400, Some("model")),
        (json!({"model": "nope", "input": "x"}), 404, Some("model")),
    ] {
        let error = ask(&hub, body).await.expect_err("an error");
        assert_eq!((error.code.status(), error.param.as_deref()), (status, param), "{error}");
    }
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn answers_without_embeddings_are_the_providers_failure() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    for reply in [
        Reply::json(200, &json!({"data": []})),
        Reply::json(200, &json!({"data": [{"embedding": "%%"}]})),
        Reply::json(200, &json!({"data": [7]})),
        Reply::Whole(200, vec![], String::new()),
    ] {
        upstream.reply(reply);
        let error = ask(&hub, json!({"model": "mock-embed", "input": "x"})).await.expect_err("an error");
        assert_eq!(error.code.status(), 502);
    }
}
