//! A text's pieces cover it, and each can be read whole.

use std::ops::Range;

use nh_minilm::MAX_TOKENS;
use proptest::prelude::*;

use crate::MODEL;

/// Cuts the text and checks what always holds.
fn cut(text: &str, max_tokens: usize, overlap_tokens: usize) -> Vec<Range<usize>> {
    let pieces = MODEL.pieces(text, max_tokens, overlap_tokens).unwrap();
    let most = max_tokens.clamp(16, MAX_TOKENS);
    assert_eq!(pieces.first().map(|piece| piece.start), Some(0));
    assert_eq!(pieces.last().map(|piece| piece.end), Some(text.len()));
    for pair in pieces.windows(2) {
        assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end, "no progress: {pair:?}");
        assert!(pair[1].start <= pair[0].end, "a gap: {pair:?}");
    }
    for piece in &pieces {
        let piece = text.get(piece.clone()).expect("between characters");
        let count = MODEL.count_tokens(piece).unwrap();
        assert!(count <= most, "{count} tokens in {piece:?}");
        assert!(piece.len() <= most * 16, "{} bytes", piece.len());
    }
    pieces
}

#[test]
fn a_short_text_is_one_piece() {
    for text in ["", " ", "\0", "\u{301}", "hello", "Two sentences. In one piece."] {
        assert_eq!(cut(text, 256, 32).len(), 1, "{text:?}");
    }
}

#[test]
fn pieces_end_with_sentences() {
    let sentences: Vec<String> = (0..60)
        .map(|at| format!("Service number {at} failed on Tuesday because its disk was full. "))
        .collect();
    let text = sentences.concat();
    let pieces = cut(&text, 100, 0);
    assert!(pieces.len() > 5);
    for piece in &pieces {
        assert!(text[piece.clone()].starts_with("Service") && text[piece.clone()].ends_with("full. "));
    }
    for pair in pieces.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
    }
}

#[test]
fn pieces_without_sentences_end_at_white_space_or_between_words() {
    let text = "alpha beta gamma delta ".repeat(100);
    let pieces = cut(&text, 64, 0);
    assert!(pieces.iter().all(|piece| text[piece.clone()].ends_with(' ')));
    let text = "alpha/beta/gamma/delta/".repeat(100);
    for piece in cut(&text, 64, 0).windows(2) {
        let end = piece[0].end;
        assert!(text[..end].ends_with('/') || text[end..].starts_with('/'), "{}", &text[end - 5..]);
    }
}

#[test]
fn pieces_overlap_as_far_as_they_may() {
    let text = "The cat sat on the mat and looked at the rain. ".repeat(100);
    for overlap in [1, 8, 32] {
        let pieces = cut(&text, 128, overlap);
        for pair in pieces.windows(2) {
            let count = MODEL.count_tokens(&text[pair[1].start..pair[0].end]).unwrap() - 2;
            assert!((1..=overlap).contains(&count), "{count} tokens, not {overlap}");
        }
    }
    // More than half of a piece is taken for half of it.
    assert!(cut(&text, 128, usize::MAX).len() < 2 * cut(&text, 128, 64).len());
}

#[test]
fn texts_that_are_hard_to_cut_are_cut() {
    let kinds = [
        "a",
        " ",
        "\n",
        "\0",
        "机器学习",
        "ひらがな",
        "안녕하세요",
        "👩‍👩‍👧‍👦",
        "\u{301}",
        "e\u{301}",
        ".",
        "[SEP]",
        "[",
        "antidisestablishmentarianism",
        "qx",
        "a b",
        "🚀 ",
        "ﷺ",
        "İ",
    ];
    for kind in kinds {
        let text = kind.repeat(100_000 / kind.len());
        assert!(cut(&text, 256, 32).len() > 10);
        cut(&text[..kind.len() * (3000 / kind.len())], 0, 5);
    }
    // Words that are one token as long as they are whole: [UNK].
    cut(&format!("{} ", "ab".repeat(60)).repeat(300), 64, 8);
    cut(&format!("x{}", " ".repeat(100_000)), 256, 32);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(16), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_cut(
        parts in proptest::collection::vec(prop_oneof!["\\PC{0,40}", "[a-z]{1,150}", "[ .\n]{1,3}", ".{0,20}"], 0..80),
        max_tokens in 0_usize..300,
        overlap_tokens in 0_usize..100,
    ) {
        cut(&parts.concat(), max_tokens, overlap_tokens);
    }
}
