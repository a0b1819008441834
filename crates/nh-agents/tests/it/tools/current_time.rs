use nh_testkit::FixedClock;
use nh_types::Timestamp;
use serde_json::json;

use super::{call, call_at, plain_tools};

#[tokio::test]
async fn the_runs_clock_in_any_zone() {
    let tools = plain_tools();
    let output = call(&tools, "current_time", json!({})).await.unwrap();
    assert_eq!(
        output.text,
        "It is Friday, 6 February 2026, 12:00:00 in UTC (UTC+00:00; 2026-02-06T12:00:00+00:00)."
    );
    let output = call(&tools, "current_time", json!({"timezone": "Asia/Tokyo"})).await.unwrap();
    assert_eq!(
        output.value,
        json!({
            "timezone": "Asia/Tokyo",
            "iso": "2026-02-06T21:00:00+09:00",
            "date": "2026-02-06",
            "time": "21:00:00",
            "weekday": "Friday",
            "utc_offset": "+09:00",
            "utc": "2026-02-06T12:00:00.000Z",
            "unix_seconds": 1_770_379_200,
        })
    );
}

#[tokio::test]
async fn a_city_is_enough() {
    let tools = plain_tools();
    for (asked, zone) in [
        ("Tokyo", "Asia/Tokyo"),
        ("tokyo", "Asia/Tokyo"),
        ("New York", "America/New_York"),
        ("new_york", "America/New_York"),
        ("America/New York", "America/New_York"),
        ("buenos aires", "America/Buenos_Aires"),
        ("europe/berlin", "Europe/Berlin"),
        ("utc", "UTC"),
        ("Port-au-Prince", "America/Port-au-Prince"),
        (" London ", "Europe/London"),
    ] {
        let output = call(&tools, "current_time", json!({"timezone": asked})).await.unwrap();
        assert_eq!(output.value["timezone"], zone, "{asked}");
    }
}

#[tokio::test]
async fn summer_time_is_known() {
    let tools = plain_tools();
    let summer = FixedClock::at(Timestamp::parse("2026-07-01T23:30:00Z").unwrap());
    let output = call_at(&tools, "current_time", json!({"timezone": "Berlin"}), &summer).await.unwrap();
    assert_eq!(output.value["iso"], "2026-07-02T01:30:00+02:00");
    assert_eq!(output.value["weekday"], "Thursday");
}

#[tokio::test]
async fn an_unknown_zone_is_told_with_what_may_be_meant() {
    let tools = plain_tools();
    let error = call(&tools, "current_time", json!({"timezone": "Bogota/Colombia"})).await.unwrap_err();
    assert_eq!(error.code, "unknown_timezone");
    assert!(error.message.contains("Europe/Berlin"), "{error}");
    let error = call(&tools, "current_time", json!({"timezone": "York"})).await.unwrap_err();
    assert_eq!(error.message, "`York` is not a time zone; did you mean America/New_York?");
    for hostile in ["../../etc/passwd", "/etc/localtime", "\0", "🦀", "----"] {
        let error = call(&tools, "current_time", json!({"timezone": hostile})).await.unwrap_err();
        assert_eq!(error.code, "unknown_timezone", "{hostile}");
    }
}
