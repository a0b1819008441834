//! When a schedule's ticks are: a cron pattern, read in a time zone.
//!
//! Where clocks go forward, a time of day that does not exist comes at the
//! instant of the change; where they go back, one that comes twice counts the
//! first time. A pattern with `*` in its minutes or hours goes by what the
//! clocks show: it leaves out what does not exist, and counts twice what comes
//! twice. (The rules are croner's, after OCPS 1.4.)

use std::cmp::Ordering;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, ZonedDateTime};
use nh_types::Timestamp;

const MAX_CHARS: usize = 128;

/// A pattern and the time zone in which it is read.
#[derive(Debug)]
pub struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

/// Which of the two cannot be read, and why.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    Cron(String),
    TimeZone(String),
}

impl Ticks {
    pub fn read(cron: &str, time_zone: &str) -> Result<Self, Unreadable> {
        let zone = match time_zone {
            "UTC" => TimeZone::UTC,
            name if name.len() <= MAX_CHARS => TimeZone::get(name).map_err(|_| {
                Unreadable::TimeZone(format!(
                    "there is no time zone `{name}`; use one such as `Europe/Berlin`"
                ))
            })?,
            _ => return Err(Unreadable::TimeZone(format!("a time zone has at most {MAX_CHARS} characters"))),
        };
        if cron.len() > MAX_CHARS {
            return Err(Unreadable::Cron(format!("a pattern has at most {MAX_CHARS} characters")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|error| {
            Unreadable::Cron(format!(
                "it cannot be read: {}; five fields are minute, hour, day of the month, month, day of the week",
                error.to_string().trim_end_matches('.')
            ))
        })?;
        Ok(Self { cron, zone })
    }

    /// The first tick after `at`; None when there is none before the year 10000.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.local(at)?, false).ok()?;
        Some(Timestamp::from_millis(next.0.timestamp().as_millisecond()))
    }

    /// The last tick at `at` or before it.
    pub fn at_or_before(&self, at: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&self.local(at)?, true).ok()?;
        Some(Timestamp::from_millis(last.0.timestamp().as_millisecond()))
    }

    fn local(&self, at: Timestamp) -> Option<Local> {
        let instant = jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)).ok()?;
        Some(Local(instant.to_zoned_datetime(self.zone.clone())))
    }
}

/// A time in a zone, as the pattern matcher sees it.
#[derive(Clone)]
struct Local(ZonedDateTime);

fn civil(at: DateTime) -> CivilDateTime {
    let part = |number: i8| u32::from(number.unsigned_abs());
    CivilDateTime::new(
        CivilDate::from_parts_unchecked(i32::from(at.year()), part(at.month()), part(at.day())),
        CivilTime::from_parts_unchecked(part(at.hour()), part(at.minute()), part(at.second())),
    )
}

fn date_time(at: CivilDateTime) -> Option<DateTime> {
    let part = |number: u32| i8::try_from(number).ok();
    let (year, month, day) = (i16::try_from(at.year()).ok()?, part(at.month())?, part(at.day())?);
    DateTime::new(year, month, day, part(at.hour())?, part(at.minute())?, part(at.second())?, 0).ok()
}

impl CronDateTime for Local {
    fn to_civil(&self) -> CivilDateTime {
        civil(self.0.datetime())
    }

    fn civil_weekday(&self) -> Weekday {
        let days = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(days.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let at = date_time(civil).ok_or(CronError::InvalidDate)?;
        let invalid = |_| CronError::InvalidTime;
        let local = self.0.time_zone().to_ambiguous_zoned_datetime(at);
        Ok(match local.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(Local(local.unambiguous().map_err(invalid)?))
            }
            AmbiguousOffset::Fold { .. } => Resolution::Ambiguous(
                Local(local.clone().earlier().map_err(invalid)?),
                Local(local.later().map_err(invalid)?),
            ),
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Local)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let ticks = Ticks::read(cron, zone).expect("readable");
        let mut at = Timestamp::parse(after).expect("a time");
        let mut found = Vec::new();
        while let Some(tick) = ticks.after(at).filter(|_| found.len() < count) {
            assert_eq!(ticks.at_or_before(tick), Some(tick));
            found.push(tick.to_string().replace(":00.000Z", "Z"));
            at = tick;
        }
        found
    }

    #[test]
    fn ticks_are_in_the_zones_own_time() {
        let berlin = next("0 7 * * 1-5", "Europe/Berlin", "2026-02-06T12:00:00Z", 2);
        assert_eq!(berlin, ["2026-02-09T06:00Z", "2026-02-10T06:00Z"]);
        assert_eq!(next("@daily", "UTC", "2026-02-06T12:00:00Z", 1), ["2026-02-07T00:00Z"]);
        assert_eq!(next("30 5 29 2 *", "UTC", "2026-02-06T12:00:00Z", 1), ["2028-02-29T05:30Z"]);
    }

    /// In Berlin, 2026-03-29 has no 02:00 to 03:00, and 2026-10-25 has it twice.
    #[test]
    fn clocks_that_change_leave_no_day_without_its_tick_and_none_with_two() {
        let spring = next("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
        let autumn = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
        let hourly = next("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3);
        assert_eq!(hourly, ["2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for bad in ["", "* * * *", "60 * * * *", "0 0 0 * * *", "often", "@reboot", &"*".repeat(200)] {
            assert!(matches!(Ticks::read(bad, "UTC"), Err(Unreadable::Cron(_))), "{bad}");
        }
        assert!(matches!(Ticks::read("* * * * *", "Mars/Base"), Err(Unreadable::TimeZone(_))));
        let never = Ticks::read("0 0 30 2 *", "UTC").expect("readable");
        assert_eq!(never.after(Timestamp::parse("2026-02-06T12:00:00Z").expect("a time")), None);
    }
}
