//! What the chunks of an answer have in common. Most differ in nothing but the text of their
//! content: where one was read and could go out as it came, so can the others, unread.

use super::chunk::Chunk;

/// What is around the content of a chunk.
pub(super) struct Form {
    /// Up to the quotation mark before it.
    before: Box<str>,
    /// From the quotation mark after it.
    after: Box<str>,
}

impl Form {
    /// Of a chunk that goes out as it came. None where it tells more than a piece of content.
    pub(super) fn of(data: &str, chunk: &Chunk<'_>) -> Option<Self> {
        let [choice] = chunk.choices.as_deref()? else { return None };
        let delta = choice.delta.as_ref()?;
        let is_more = choice.finish_reason.is_some()
            || delta.reasoning.is_some()
            || delta.reasoning_content.is_some()
            || delta.tool_calls.is_some();
        let content = delta.content?.get().strip_prefix('"')?.strip_suffix('"').filter(|_| !is_more)?;
        // The content is a part of the data.
        let start = content.as_ptr() as usize - data.as_ptr() as usize;
        Some(Self { before: data.get(..start)?.into(), after: data.get(start + content.len()..)?.into() })
    }

    /// The size of the content of another chunk of this form; None where it is, or may be, of
    /// another one.
    pub(super) fn output_bytes(&self, data: &str) -> Option<usize> {
        let content = data.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        is_within_a_string(content.as_bytes()).then_some(content.len())
    }
}

/// Whether this is, for sure, the inside of one JSON string (RFC 8259, section 7).
fn is_within_a_string(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | ..=0x1f => return false,
            b'\\'
                if !matches!(bytes.next(), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) =>
            {
                return false;
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(content: &str) -> String {
        let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":CONTENT},"finish_reason":null}]}"#;
        chunk.replace("CONTENT", content)
    }

    fn form(data: &str) -> Option<Form> {
        Form::of(data, &serde_json::from_str(data).expect("a chunk"))
    }

    #[test]
    fn chunks_that_differ_in_their_content_are_of_one_form() {
        let form = form(&data(r#""Hel""#)).expect("a form");
        assert_eq!(form.output_bytes(&data(r#""lo""#)), Some(2));
        assert_eq!(form.output_bytes(&data(r#""""#)), Some(0));
        assert_eq!(form.output_bytes(&data(r#""\n\"ü\\""#)), Some(8));
    }

    #[test]
    fn what_else_a_chunk_says_is_another_form() {
        let first = data(r#""Hel""#);
        let form_of_first = form(&first).expect("a form");
        for other in [
            first.replace(r#"reason":null"#, r#"reason":"stop""#),
            first.replace(r#""index":0"#, r#""index":1"#),
            first.replace(r#""Hel"}"#, r#""Hel"},"usage":{"total_tokens":1}"#),
            first.replace(r#""Hel""#, r#""Hel","tool_calls":[]"#),
            first.replace(r#""Hel""#, r#""Hel\""#),
            first.replace(r#""Hel""#, "\"H\tel\""),
            first.replace(r#""Hel""#, r#""\u0041""#),
            first.replace(r#""Hel""#, "null"),
            r#"{"error":{"message":"no"}}"#.to_owned(),
        ] {
            assert_eq!(form_of_first.output_bytes(&other), None, "{other}");
        }
        for other in [
            first.replace(r#"reason":null"#, r#"reason":"stop""#),
            first.replace(r#""Hel""#, r#""Hel","reasoning":"so""#),
            first.replace(r#""Hel""#, "null"),
        ] {
            assert!(form(&other).is_none(), "{other}");
        }
    }

    proptest! {
        /// Whatever comes between: what is of the form reads as the same chunk with that content.
        #[test]
        fn what_is_of_the_form_is_read_the_same(content in r#"["\\\\a-f{}:,\x00-\x20ü/]{0,12}"#) {
            let form = form(&data(r#""Hel""#)).expect("a form");
            let other = data(&format!("\"{content}\""));
            if let Some(size) = form.output_bytes(&other) {
                let chunk: Chunk<'_> = serde_json::from_str(&other).expect("a chunk");
                let choices = chunk.choices.expect("choices");
                let delta = choices[0].delta.as_ref().expect("a delta");
                prop_assert_eq!((choices.len(), delta.output_bytes()), (1, size));
                let text: String = serde_json::from_str(delta.content.expect("content").get()).expect("a string");
                prop_assert!(text.len() <= size);
            }
        }
    }
}
