//! Where a long content is cut for a model whose tokens are not known here.

use std::ops::Range;

/// About 250 tokens of English.
const PART_BYTES: usize = 1000;
/// What two parts that follow each other share.
const OVERLAP_BYTES: usize = 150;

/// Byte ranges that cover the text, each at most [`PART_BYTES`] long and cut at
/// white space where there is some.
pub(crate) fn cut(text: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    loop {
        if text.len() - start <= PART_BYTES {
            parts.push(start..text.len());
            return parts;
        }
        let end = cut_before(text, start + PART_BYTES, start + PART_BYTES / 2);
        parts.push(start..end);
        start = cut_before(text, end - OVERLAP_BYTES, start + 1).max(start + 1);
        while !text.is_char_boundary(start) {
            start += 1;
        }
    }
}

/// After the last white space before `most`, or at the character there if there
/// is none after `least`.
fn cut_before(text: &str, most: usize, least: usize) -> usize {
    let most = text.floor_char_boundary(most);
    let least = text.floor_char_boundary(least);
    let space = text[least.min(most)..most].char_indices().rfind(|(_, letter)| letter.is_whitespace());
    space.map_or(most, |(place, letter)| least + place + letter.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(nh_testkit::cases(256)))]
        #[test]
        fn parts_cover_the_text_in_order(text in "[a-z äß\u{4e2d}\u{1f600}\n]{0,6000}") {
            let parts = cut(&text);
            prop_assert_eq!(parts[0].start, 0);
            prop_assert_eq!(parts[parts.len() - 1].end, text.len());
            for part in &parts {
                prop_assert!(part.len() <= PART_BYTES);
                prop_assert!(text.get(part.clone()).is_some());
            }
            for pair in parts.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[1].start <= pair[0].end);
            }
        }
    }
}
