//! When a delivery that failed is tried again.

use nh_types::{Ids, Timestamp};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// After the first failure, the second, and so on: what Standard Webhooks
/// recommends, ten tries in three days.
pub const DELAYS_MS: [i64; 9] = [
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
];

/// Nobody is asked to wait longer than this by a `Retry-After`.
const MAX_RETRY_AFTER_MS: i64 = 24 * HOUR_MS;

/// One fifth of the delay, at most, is added, so that what failed together is
/// not tried together.
const JITTER_DIVISOR: i64 = 5;

/// None: it has failed often enough.
pub fn next(
    now: Timestamp,
    earlier_failures: u32,
    retry_after_ms: Option<i64>,
    ids: &dyn Ids,
) -> Option<Timestamp> {
    let delay_ms = *DELAYS_MS.get(usize::try_from(earlier_failures).ok()?)?;
    let asked_ms = retry_after_ms.unwrap_or(0).clamp(0, MAX_RETRY_AFTER_MS);
    let mut byte = [0];
    ids.fill(&mut byte);
    let delay_ms = delay_ms.max(asked_ms);
    Some(now.plus_millis(delay_ms + delay_ms / JITTER_DIVISOR * i64::from(byte[0]) / 256))
}

/// What a `Retry-After` asks for: seconds, or a date (RFC 9110, section 10.2.3).
pub fn retry_after_ms(header: &str, now: Timestamp) -> Option<i64> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return Some(i64::from(seconds) * SECOND_MS);
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(at.as_millisecond().saturating_sub(now.as_millis()).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Always(u8);

    impl Ids for Always {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    fn delay_ms(failures: u32, asked_ms: Option<i64>, byte: u8) -> Option<i64> {
        let now = Timestamp::from_millis(1_770_379_200_000);
        next(now, failures, asked_ms, &Always(byte)).map(|at| at.millis_since(now))
    }

    #[test]
    fn there_are_ten_tries_with_growing_pauses() {
        let pauses: Vec<_> = (0..10).map(|failures| delay_ms(failures, None, 0)).collect();
        assert_eq!(pauses[..9], DELAYS_MS.map(Some));
        assert_eq!(pauses[9], None);
        assert!((0..9).all(
            |failures| delay_ms(failures, None, 255) <= delay_ms(failures, None, 0).map(|ms| ms * 6 / 5)
        ));
        assert_eq!(delay_ms(0, None, 128), Some(5500));
    }

    #[test]
    fn a_receiver_may_ask_for_more_but_not_for_ever() {
        assert_eq!(delay_ms(0, Some(60_000), 0), Some(60_000));
        assert_eq!(delay_ms(1, Some(1000), 0), Some(5 * MINUTE_MS));
        assert_eq!(delay_ms(0, Some(i64::MAX), 0), Some(24 * HOUR_MS));
        let now = Timestamp::parse("2026-02-06T12:00:00Z").expect("a time");
        assert_eq!(retry_after_ms("120", now), Some(120_000));
        assert_eq!(retry_after_ms("Fri, 06 Feb 2026 12:00:30 GMT", now), Some(30_000));
        assert_eq!(retry_after_ms("Fri, 06 Feb 2026 11:00:00 GMT", now), Some(0));
        for bad in ["soon", "", "-1", "99999999999999999999"] {
            assert_eq!(retry_after_ms(bad, now), None, "{bad}");
        }
    }
}
