//! What stands in an event for a value that is kept apart.

/// Which field of an event is kept apart. It is the event's first field,
/// `{"large":{"output":300000},…}`, where only the hub writes: what users and
/// models bring stands within the other fields, so nothing of theirs is ever
/// taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventReference<'d> {
    pub field: &'d str,
    /// Of the value's text.
    pub bytes: u64,
    /// The event's other fields as they follow: `,"step":"a"}`, or `}`.
    pub rest: &'d str,
}

impl<'d> EventReference<'d> {
    /// None where all of the event is here.
    pub fn read(data: &'d str) -> Option<Self> {
        let (field, after) = data.strip_prefix(r#"{"large":{""#)?.split_once(r#"":"#)?;
        let (bytes, rest) = after.split_once('}')?;
        Some(Self { field, bytes: bytes.parse().ok()?, rest })
    }

    pub fn write(&self) -> String {
        let Self { field, bytes, rest } = self;
        format!(r#"{{"large":{{"{field}":{bytes}}}{rest}"#)
    }

    /// The name under which the value is kept. A run's result stands in its row
    /// too, and is kept once.
    pub fn name(&self, kind: &str, seq: i64) -> String {
        if kind == "run.succeeded" { self.field.to_owned() } else { format!("{seq}.{}", self.field) }
    }

    /// The whole event, when `text` is the value's.
    pub fn filled(&self, text: &str) -> String {
        let Self { field, rest, .. } = self;
        format!(r#"{{"{field}":{text}{rest}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let reference = EventReference { field: "output", bytes: 300_000, rest: r#","step":"a"}"# };
        let written = reference.write();
        assert_eq!(written, r#"{"large":{"output":300000},"step":"a"}"#);
        assert_eq!(EventReference::read(&written), Some(reference));
        assert_eq!(reference.filled("[1]"), r#"{"output":[1],"step":"a"}"#);
        assert_eq!((reference.name("step.completed", 7)), "7.output");
        for other in
            [r#"{"step":"a","output":{"large":{"output":1}}}"#, r#"{"large":1}"#, r#"{"result":"@3"}"#, "{}"]
        {
            assert_eq!(EventReference::read(other), None, "{other}");
        }
    }
}
