use proptest::prelude::*;
use serde_json::json;

use super::{call, plain_tools};

#[tokio::test]
async fn arithmetic_percentages_and_units() {
    let tools = plain_tools();
    for (expression, text) in [
        ("17 * 23", "17 * 23 = 391"),
        ("17 × 23 =", "17 × 23 = 391"),
        ("17 x 23?", "17 * 23 = 391"),
        ("0.1 + 0.2", "0.1 + 0.2 = 0.3"),
        ("1/3", "1/3 ≈ 0.3333333333"),
        ("15% of 240", "15% of 240 = 36"),
        ("(1 + 2) * 3^2 - 4 / 8", "(1 + 2) * 3^2 - 4 / 8 = 26.5"),
        ("sqrt(16) + 2^10", "sqrt(16) + 2^10 = 1028"),
        ("1,000,000 / 8", "1,000,000 / 8 = 125000"),
        ("123456789012345678 * 987654321", "123456789012345678 * 987654321 = 121932631124828531222374638"),
        ("3 ft in cm", "3 ft in cm = 91.44 cm"),
        ("20!", "20! = 2432902008176640000"),
        ("5 − 3 ÷ 3", "5 − 3 ÷ 3 = 4"),
        ("20 °C to °F", "20 °C to °F = 68 °F"),
        ("5' 3\" to cm", "5' 3\" to cm = 160.02 cm"),
    ] {
        let output = call(&tools, "calculate", json!({"expression": expression})).await.unwrap();
        assert_eq!(output.text, text);
    }
    let output = call(&tools, "calculate", json!({"expression": "17 * 23"})).await.unwrap();
    assert_eq!(output.value, json!({"expression": "17 * 23", "result": "391", "exact": true}));
    let output = call(&tools, "calculate", json!({"expression": "1/3"})).await.unwrap();
    assert_eq!(output.value["exact"], false);
}

#[tokio::test]
async fn what_is_no_arithmetic_is_told_in_words_that_help() {
    let tools = plain_tools();
    for (expression, code, part) in [
        ("what is 2+2", "invalid_expression", "unknown identifier 'what'"),
        ("1/0", "invalid_expression", "division by zero"),
        ("2 +", "invalid_expression", "cannot be calculated"),
        ("?", "invalid_expression", "it is empty"),
        ("a = 5; a", "invalid_expression", "`=` cannot be used here"),
        ("x: x", "invalid_expression", "`:` cannot be used here"),
        ("1 << 3", "invalid_expression", "`<` cannot be used here"),
        ("100d100", "invalid_expression", "dice cannot be rolled here"),
        ("2^100000", "result_too_long", "has 30103 characters"),
        ("1 USD to EUR", "invalid_expression", "exchange rates are not available"),
    ] {
        let error = call(&tools, "calculate", json!({"expression": expression})).await.unwrap_err();
        assert_eq!(error.code, code, "{expression}: {error}");
        assert!(error.message.contains(part), "{expression}: {error}");
    }
}

/// Each of these hung the evaluator, or overflowed a stack of 2 MB, when it
/// was given to fend as it is.
#[tokio::test]
async fn nothing_takes_the_hub_down() {
    let tools = plain_tools();
    let deep = |before: &str, middle: &str, after: &str| {
        let count = (400 - middle.len()) / (before.chars().count() + after.chars().count());
        before.repeat(count) + middle + &after.repeat(count)
    };
    let hostile = [
        "(\\x. x x) (\\x. x x)".to_owned(),
        "(λx. x x) (λx. x x)".to_owned(),
        "f = n: f n; f 1".to_owned(),
        "f = (n => f n)".to_owned(),
        "1 << 1000000000".to_owned(),
        "1000000000d6".to_owned(),
        "3D6 d100*d100".to_owned(),
        "10^10^10".to_owned(),
        "100000000!".to_owned(),
        "1e1000000000".to_owned(),
        deep("(", "1", ")"),
        deep("-", "1", ""),
        deep("(-", "1", ")"),
        deep("m(", "1", ")"),
        deep("1^", "1", ""),
        deep("2^", "1", ""),
        deep("1+", "1", ""),
        deep("", "5", "!"),
        deep("", "5", "%"),
        deep("π", "1", ""),
        deep("sqrt ", "4", ""),
        deep("not ", "1", ""),
        deep("\"", "1", ""),
        deep("'", "1", ""),
        deep("$", "1", ""),
        deep("1 to ", "1", ""),
        deep("1'", "1", ""),
    ];
    for expression in hostile {
        // Either a value or an error that the model can read.
        if let Err(error) = call(&tools, "calculate", json!({"expression": expression})).await {
            assert!(error.message.chars().count() < 1_000, "{error}");
        }
    }
}

fn expression() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "1", "0", "2.5", "7e3", "10", "(", ")", "+", "-", "*", "/", "^", "!", "%", " ", " of ", " mod ",
        " to ", "sqrt", "ln", "sin ", "m", "km", "kg", "pi", "e", "i", "approx", "'", "\"", "°C", "€", ",",
        ".", "d", "x", " per ", " in ", "fraction", "hex", "binary", "roman", "words", "λ", "²",
    ]);
    prop::collection::vec(word, 1..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(nh_testkit::cases(64)))]

    #[test]
    fn whatever_looks_like_arithmetic_ends(expression in expression()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = runtime.block_on(call(&plain_tools(), "calculate", json!({"expression": expression})));
        if let Err(error) = outcome {
            prop_assert_ne!(error.code, "calculation_failed");
        }
    }
}
