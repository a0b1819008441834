/// Characters of a tool's output that a model is shown: about 12,000 tokens.
/// Tools that know better what to leave out stay below this.
const MAX_SHOWN_CHARS: usize = 50_000;

/// The beginning of a long text, with a word on what is left out.
pub(super) fn cut(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(MAX_SHOWN_CHARS) else { return text.to_owned() };
    let (shown, rest) = text.split_at(end);
    format!("{shown}\n\n[cut here: {} more characters are left out]", rest.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let fits = "é".repeat(MAX_SHOWN_CHARS);
        assert_eq!(cut(&fits), fits);
        let told = cut(&format!("{fits}🧮語"));
        assert_eq!(told, format!("{fits}\n\n[cut here: 2 more characters are left out]"));
    }
}
