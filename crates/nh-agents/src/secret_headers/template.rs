//! Texts with places in braces: `{argument}` and `{secret:NAME}`.

/// A piece of such a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    Argument(&'t str),
    Secret(&'t str),
}

/// An error says what is wrong with the text.
pub(crate) fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(open);
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let place = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let Some((place, after)) = place else { return Err("a brace is open, or closed, alone".to_owned()) };
        let (name, part): (_, fn(_) -> _) = match place.strip_prefix("secret:") {
            Some(name) => (name, Part::Secret),
            None => (place, Part::Argument),
        };
        if !is_name(name) {
            let shown: String = place.chars().take(80).collect();
            return Err(format!(
                "`{{{shown}}}` names nothing; a name is 1 to 64 of letters, digits, `_` and `-`"
            ));
        }
        parts.push(part(name));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_text() {
        let all = [Part::Text("a "), Part::Argument("b"), Part::Secret("C-1"), Part::Text(" d")];
        assert_eq!(parts("a {b}{secret:C-1} d").expect("parts"), all);
        assert!(parts("").expect("parts").is_empty());
        for wrong in ["{", "}", "a{b", "{}", "{a b}", "{{a}}", "{secret:}", "{a}}"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
