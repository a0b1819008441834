//! Takes secrets out of what a server says: it may say again what it was told.

use aho_corasick::{AhoCorasick, MatchKind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::ESCAPED;

/// Secrets by their names, and what finds them. One pass finds all of them, the longest first;
/// what is put in their place is not looked at again.
pub(crate) struct Redaction {
    finds: Option<AhoCorasick>,
    marks: Vec<String>,
}

impl Redaction {
    /// An error: they are too many or too long to be looked for.
    pub(crate) fn of(secrets: &[(String, SecretString)]) -> Result<Self, String> {
        let (mut forms, mut marks) = (Vec::new(), Vec::new());
        for (name, value) in secrets {
            for form in forms_of(value.expose_secret()) {
                forms.push(form);
                marks.push(format!("[secret {name}]"));
            }
        }
        let finds = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms);
        let finds = (!forms.is_empty()).then_some(finds).transpose().map_err(|error| error.to_string())?;
        Ok(Self { finds, marks })
    }

    pub(crate) fn text(&self, text: &str) -> String {
        self.finds.as_ref().map_or_else(|| text.to_owned(), |finds| finds.replace_all(text, &self.marks))
    }

    /// All texts of a value, and the names of its fields: however JSON escaped them.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, field)| (self.text(&name), self.value(field))).collect()
            }
            other => other,
        }
    }
}

/// As it is, as JSON has it, and as addresses and forms have it.
fn forms_of(secret: &str) -> impl Iterator<Item = String> {
    let json = Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let encoded = utf8_percent_encode(secret, ESCAPED).to_string();
    let all = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let lower = |text: &str| {
        // The digits of `%2F` alone.
        let mut at = 0;
        text.chars()
            .map(|letter| {
                at = if letter == '%' { 2 } else { i32::max(at - 1, -1) };
                if at >= 0 && letter != '%' { letter.to_ascii_lowercase() } else { letter }
            })
            .collect::<String>()
    };
    let form = encoded.replace("%20", "+");
    let mut forms = vec![
        secret.to_owned(),
        json.replace('/', "\\/"),
        json,
        lower(&encoded),
        lower(&all),
        lower(&form),
        form,
        encoded,
        all,
    ];
    forms.sort_unstable();
    forms.dedup();
    forms.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(secrets: &[(&str, &str)]) -> Redaction {
        let secrets: Vec<_> =
            secrets.iter().map(|(name, value)| ((*name).to_owned(), SecretString::from(*value))).collect();
        Redaction::of(&secrets).expect("made")
    }

    #[test]
    fn secrets_are_found_as_they_are_written() {
        let redaction = of(&[("A", "ab/\"c\" +1")]);
        for text in [
            "ab/\"c\" +1",
            r#"ab/\"c\" +1"#,
            r#"ab\/\"c\" +1"#,
            "ab%2F%22c%22%20%2B1",
            "ab%2f%22c%22%20%2b1",
            "ab%2F%22c%22+%2B1",
        ] {
            assert_eq!(redaction.text(&format!("<{text}>")), "<[secret A]>", "{text}");
        }
        let escaped: Value =
            serde_json::from_str(r#"{"ab\u002f\"c\" +1": ["x ab\/\"c\" \u002b1"]}"#).expect("json");
        assert_eq!(redaction.value(escaped).to_string(), r#"{"[secret A]":["x [secret A]"]}"#);
    }

    #[test]
    fn the_longest_wins_and_no_mark_is_looked_at() {
        let redaction = of(&[("short", "12345678"), ("long", "123456789abc"), ("mark", "[secret ")]);
        assert_eq!(redaction.text("123456789abc 12345678"), "[secret long] [secret short]");
        assert_eq!(of(&[]).text("as it is"), "as it is");
    }
}
