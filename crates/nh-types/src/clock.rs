//! Time, ids and randomness as parameters. Production passes [`SystemClock`]
//! and [`SystemIds`]; tests pass fixed ones. `clippy.toml` bans the global
//! sources everywhere else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// An instant, as milliseconds since 1970-01-01T00:00:00Z.
///
/// On the wire it is RFC 3339 in UTC with milliseconds
/// (`2026-02-06T12:00:00.000Z`), in the store an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The largest value that RFC 3339 can print: 9999-12-30T22:00:00Z.
const MAX_MS: i64 = 253_402_207_200_000;

impl Timestamp {
    pub const fn from_millis(ms: i64) -> Self {
        Self(if ms > MAX_MS {
            MAX_MS
        } else if ms < 0 {
            0
        } else {
            ms
        })
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Saturates at the ends of what can be printed.
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// Reads RFC 3339; an offset is converted to UTC and what is finer than a
    /// millisecond is cut off.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .map(|instant| instant.as_millisecond())
            .filter(|ms| (0..=MAX_MS).contains(ms))
            .map(Self)
            .ok_or_else(|| InvalidTimestamp(text.chars().take(64).collect()))
    }
}

/// The text is not an RFC 3339 time between 1970 and 9999.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a time; write it as RFC 3339, for example 2026-02-06T12:00:00Z")]
pub struct InvalidTimestamp(pub String);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{instant:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339 in UTC with milliseconds"))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// Where ids and secrets come from.
pub trait Ids: Send + Sync + 'static {
    /// Fills `bytes` with what ids and secrets are made of. In production this
    /// is the operating system's generator.
    fn fill(&self, bytes: &mut [u8]);

    /// A UUIDv7 (RFC 9562, section 5.7) of the instant `now`: sorts by time.
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let ms = u64::try_from(now.as_millis()).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }

    /// `length` characters drawn evenly from `alphabet` (1 to 256 ASCII
    /// characters; rejection sampling, so no character is likelier).
    fn text(&self, alphabet: &[u8], length: usize) -> String {
        let limit = 256 - 256 % alphabet.len().max(1);
        let mut text = String::with_capacity(length);
        let mut buffer = [0; 64];
        while text.len() < length {
            self.fill(&mut buffer);
            let drawn = buffer.iter().filter(|byte| usize::from(**byte) < limit);
            for byte in drawn.take(length - text.len()) {
                text.push(char::from(alphabet[usize::from(*byte) % alphabet.len()]));
            }
        }
        text
    }
}

pub type SharedClock = Arc<dyn Clock>;
pub type SharedIds = Arc<dyn Ids>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place that reads the machine's clock
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }
}

/// The operating system's random generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[allow(clippy::disallowed_methods)] // the one place that draws from it
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Ids for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        let time = Timestamp::parse("2026-02-06T13:00:00.5+01:00").expect("valid");
        assert_eq!(time.to_string(), "2026-02-06T12:00:00.500Z");
        assert!(Timestamp::parse("yesterday").is_err());
        assert!(Timestamp::parse("1969-12-31T23:59:59Z").is_err());
    }

    #[test]
    fn the_ends_of_time_can_be_printed() {
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        assert!(Timestamp::from_millis(i64::MAX).to_string().starts_with("9999-12-30"));
    }

    #[test]
    fn every_character_of_the_alphabet_is_drawn() {
        let ids = Counting(Default::default());
        let text = ids.text(b"abc", 256);
        assert_eq!(text.len(), 256);
        assert!("abc".chars().all(|letter| text.contains(letter)));
    }

    #[test]
    fn a_uuid_v7_carries_its_time() {
        let ids = Counting(Default::default());
        let id = ids.uuid_v7(Timestamp::from_millis(0x0123_4567_89AB));
        assert_eq!(id.get_version_num(), 7);
        assert!(id.to_string().starts_with("01234567-89ab-7"));
    }
}
