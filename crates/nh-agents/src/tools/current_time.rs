use futures_util::future::BoxFuture;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use nh_types::Scope;
use nh_types::tool::Effects;
use serde_json::json;

use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

const MAX_SUGGESTIONS: usize = 5;

/// The run's clock in any zone of the bundled time zone database.
pub(super) struct CurrentTime {
    spec: ToolSpec,
    zones: TimeZoneDatabase,
}

impl CurrentTime {
    pub(super) fn new() -> Self {
        Self { spec: spec(), zones: TimeZoneDatabase::bundled() }
    }

    fn tell(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let asked = call.arguments.get("timezone").and_then(|zone| zone.as_str()).unwrap_or("UTC");
        let zone = self.find(asked)?;
        let instant = jiff::Timestamp::from_millisecond(call.clock.now().as_millis())
            .map_err(|error| ToolError::new("clock_failed", format!("the clock cannot be read: {error}")))?;
        let now = instant.to_zoned_datetime(zone);
        let name = now.time_zone().iana_name().unwrap_or("UTC").to_owned();
        let words = now.strftime("%A, %-d %B %Y, %H:%M:%S");
        let offset = now.strftime("%:z");
        let iso = now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        Ok(ToolOutput::free(
            format!("It is {words} in {name} (UTC{offset}; {iso})."),
            json!({
                "timezone": name,
                "iso": iso,
                "date": now.strftime("%Y-%m-%d").to_string(),
                "time": now.strftime("%H:%M:%S").to_string(),
                "weekday": now.strftime("%A").to_string(),
                "utc_offset": offset.to_string(),
                "utc": call.clock.now(),
                "unix_seconds": now.timestamp().as_second(),
            }),
        ))
    }

    /// By its IANA name, else by the name's last part: `Tokyo`, `New York`.
    fn find(&self, asked: &str) -> Result<TimeZone, ToolError> {
        let wanted = normal(asked);
        if let Ok(zone) = self.zones.get(&asked.trim().replace(' ', "_")) {
            return Ok(zone);
        }
        let names: Vec<_> = self.zones.available().map(|name| name.to_string()).collect();
        let city = |name: &&String| name.rsplit('/').next().is_some_and(|city| normal(city) == wanted);
        // A city may be listed twice (America/Louisville is an alias): the
        // shorter name is the older and means the same.
        let found = names.iter().filter(city).min_by_key(|name| (name.len(), name.as_str().to_owned()));
        if let Some(zone) = found.and_then(|name| self.zones.get(name).ok()) {
            return Ok(zone);
        }
        Err(unknown_zone(asked, &wanted, &names))
    }
}

impl Tool for CurrentTime {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(std::future::ready(self.tell(call)))
    }
}

/// Lower-case letters and digits only.
fn normal(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn unknown_zone(asked: &str, wanted: &str, names: &[String]) -> ToolError {
    let near: Vec<_> = names
        .iter()
        .filter(|name| !wanted.is_empty() && normal(name).contains(wanted))
        .take(MAX_SUGGESTIONS)
        .map(String::as_str)
        .collect();
    let hint = if near.is_empty() {
        "write it as Area/City, for example Europe/Berlin or Asia/Tokyo, or UTC; \
         for a smaller town use the nearest large city"
            .to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    ToolError::new("unknown_timezone", format!("`{asked}` is not a time zone; {hint}"))
}

fn spec() -> ToolSpec {
    ToolSpec {
        name: "current_time".to_owned(),
        description:
            "Tells the current date, time of day and weekday, now, in a time zone or city. Use it for \
                      every question about what time or day it is: you have no clock of your own."
                .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "timezone": {
                    "type": "string",
                    "description": "The IANA time zone, such as Europe/Berlin, or a city that has one, such as \
                                    Tokyo or New York.",
                    "default": "UTC",
                    "minLength": 1,
                    "maxLength": 64,
                    "examples": ["Asia/Tokyo", "Europe/Berlin", "New York", "UTC"],
                },
            },
            "required": [],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "timezone": {"type": "string", "description": "The IANA name."},
                "iso": {"type": "string", "format": "date-time"},
                "date": {"type": "string", "format": "date"},
                "time": {"type": "string", "description": "HH:MM:SS."},
                "weekday": {"type": "string"},
                "utc_offset": {"type": "string", "examples": ["+09:00"]},
                "utc": {"type": "string", "format": "date-time"},
                "unix_seconds": {"type": "integer"},
            },
            "required": ["timezone", "iso", "date", "time", "weekday", "utc_offset", "utc", "unix_seconds"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::RunWrite],
        effects: Effects::READS,
        timeout_ms: 1_000,
        repeatable: true,
        unavailable: None,
    }
}
