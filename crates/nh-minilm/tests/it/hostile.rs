//! Texts that nobody means well with.

use nh_minilm::{DIMENSIONS, MAX_TOKENS};
use proptest::prelude::*;

use crate::MODEL;

fn check(text: &str) {
    let found = MODEL.embed(&[text]).unwrap().remove(0);
    assert_eq!(found.vector.len(), DIMENSIONS);
    assert!(found.vector.iter().all(|value| value.is_finite()));
    let length: f32 = found.vector.iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert_eq!(found.tokens, MODEL.count_tokens(text).unwrap().min(MAX_TOKENS));
}

#[test]
fn texts_without_a_token_have_a_vector() {
    let nothing = MODEL.embed(&[""]).unwrap().remove(0);
    assert_eq!(nothing.tokens, 2);
    for text in [" ", "\n\t \r\n", "\0\0", "\u{301}", "\u{200d}\u{feff}", "\u{3000}", "\u{85}", "\u{e000}"] {
        assert_eq!(MODEL.embed(&[text]).unwrap()[0], nothing, "{text:?}");
        check(text);
    }
}

#[test]
fn special_tokens_in_a_text_do_no_harm() {
    check("[CLS] [SEP] [PAD] [UNK] [MASK]");
    check(&"[PAD]".repeat(5000));
    check(&"[SEP".repeat(5000));
}

#[test]
fn a_megabyte_is_embedded_in_little_time() {
    let kinds =
        [" ", "a", "a ", "x.", "\0", "\u{301}", "机", "か", "안", "🚀", "[SEP]", "ﷺ", "e\u{301}\u{20dd}"];
    for kind in kinds {
        let text = kind.repeat(1_000_000 / kind.len());
        let embedded = MODEL.embed(&[&text]).unwrap();
        assert!(embedded[0].tokens <= nh_minilm::MAX_TOKENS, "{kind:?}");
    }
}

/// All of Unicode, what BERT treats in its own way more often.
fn anything() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        any::<char>().prop_map(String::from),
        "[a-z]{1,12}",
        "[ \t\r\n]{1,4}",
        "[\\u{300}-\\u{36f}\\u{1100}-\\u{11ff}\\u{ac00}-\\u{d7a3}]",
        "[\\u{3000}-\\u{9fff}]",
        Just("[SEP]".to_owned()),
        Just("Σίσυφος İǅ".to_owned()),
    ];
    proptest::collection::vec(one, 0..200).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(16), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_a_vector(text in anything()) {
        check(&text);
    }

    #[test]
    fn tokens_are_counted_alike_whether_a_text_is_long_or_not(text in anything()) {
        // Behind a space nothing belongs to what was before it.
        let count = MODEL.count_tokens(&text).unwrap() - 2;
        let long = format!("{text} ").repeat(30);
        prop_assert_eq!(MODEL.count_tokens(&long).unwrap() - 2, 30 * count);
    }
}
