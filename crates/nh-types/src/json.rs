use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// JSON that is stored and passed on as text, and read only where somebody
/// wants to know what it says.
#[derive(Clone)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// An error: the text is not JSON.
    pub fn new(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Default for JsonText {
    /// `null`.
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        // A value's text is JSON.
        Self::new(value.to_string()).unwrap_or_default()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self)
    }
}

/// How much a JSON text is once it is parsed, counted without parsing it: small values take many
/// times their text in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonSize {
    /// At least as many as there are.
    pub values: usize,
    /// Lists and objects within each other.
    pub depth: usize,
}

impl JsonSize {
    /// Whether a text is within these bounds. Most are so small that it is enough to count bytes,
    /// whether or not they are in strings.
    pub fn holds(self, text: &[u8]) -> bool {
        let (mut commas, mut opened) = (0, 0);
        for byte in text {
            commas += usize::from(*byte == b',');
            opened += usize::from(matches!(byte, b'[' | b'{'));
        }
        let is_within = |size: Self| size.values <= self.values && size.depth <= self.depth;
        is_within(Self { values: 1 + commas + opened, depth: opened }) || is_within(Self::of(text))
    }

    pub fn of(text: &[u8]) -> Self {
        let (mut size, mut depth) = (Self { values: 1, depth: 0 }, 0_usize);
        let (mut in_string, mut escaped) = (false, false);
        for byte in text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b',' => size.values += 1,
                b'[' | b'{' => {
                    depth += 1;
                    size.values += 1;
                    size.depth = size.depth.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        size
    }
}
