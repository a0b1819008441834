//! Places and the IANA time zone that people there live by.
//!
//! Source: the tz database's `zone1970.tab` and `backward`, 2026a. Towns that
//! are no zone's name of their own go to the zone that holds them.

use super::words::{self, Word};

#[rustfmt::skip]
const ZONES: &[(&str, &str)] = &[
    ("abidjan", "Africa/Abidjan"), ("abu dhabi", "Asia/Dubai"), ("accra", "Africa/Accra"),
    ("addis ababa", "Africa/Addis_Ababa"), ("adelaide", "Australia/Adelaide"), ("algiers", "Africa/Algiers"),
    ("amsterdam", "Europe/Amsterdam"), ("anchorage", "America/Anchorage"), ("ankara", "Europe/Istanbul"),
    ("athens", "Europe/Athens"), ("atlanta", "America/New_York"), ("auckland", "Pacific/Auckland"),
    ("austin", "America/Chicago"), ("austria", "Europe/Vienna"), ("baghdad", "Asia/Baghdad"),
    ("baku", "Asia/Baku"), ("bangalore", "Asia/Kolkata"), ("bangkok", "Asia/Bangkok"),
    ("barcelona", "Europe/Madrid"), ("beijing", "Asia/Shanghai"), ("beirut", "Asia/Beirut"),
    ("belgium", "Europe/Brussels"), ("belgrade", "Europe/Belgrade"), ("berlin", "Europe/Berlin"),
    ("bern", "Europe/Zurich"), ("bogota", "America/Bogota"), ("boston", "America/New_York"),
    ("brasilia", "America/Sao_Paulo"), ("bratislava", "Europe/Bratislava"), ("brisbane", "Australia/Brisbane"),
    ("brussels", "Europe/Brussels"), ("bucharest", "Europe/Bucharest"), ("budapest", "Europe/Budapest"),
    ("buenos aires", "America/Argentina/Buenos_Aires"), ("cairo", "Africa/Cairo"), ("california", "America/Los_Angeles"),
    ("canberra", "Australia/Sydney"), ("cape town", "Africa/Johannesburg"), ("caracas", "America/Caracas"),
    ("casablanca", "Africa/Casablanca"), ("chennai", "Asia/Kolkata"), ("chicago", "America/Chicago"),
    ("china", "Asia/Shanghai"), ("cologne", "Europe/Berlin"), ("copenhagen", "Europe/Copenhagen"),
    ("dallas", "America/Chicago"), ("dakar", "Africa/Dakar"), ("damascus", "Asia/Damascus"),
    ("delhi", "Asia/Kolkata"), ("denmark", "Europe/Copenhagen"), ("denver", "America/Denver"),
    ("detroit", "America/Detroit"), ("dhaka", "Asia/Dhaka"), ("doha", "Asia/Qatar"), ("dubai", "Asia/Dubai"),
    ("dublin", "Europe/Dublin"), ("edinburgh", "Europe/London"), ("egypt", "Africa/Cairo"),
    ("england", "Europe/London"), ("finland", "Europe/Helsinki"), ("france", "Europe/Paris"),
    ("frankfurt", "Europe/Berlin"), ("geneva", "Europe/Zurich"), ("germany", "Europe/Berlin"),
    ("gmt", "UTC"), ("greece", "Europe/Athens"), ("greenwich", "UTC"), ("hamburg", "Europe/Berlin"),
    ("hanoi", "Asia/Bangkok"), ("harare", "Africa/Harare"), ("havana", "America/Havana"), ("hawaii", "Pacific/Honolulu"),
    ("helsinki", "Europe/Helsinki"), ("ho chi minh city", "Asia/Ho_Chi_Minh"), ("hong kong", "Asia/Hong_Kong"),
    ("honolulu", "Pacific/Honolulu"), ("houston", "America/Chicago"), ("iceland", "Atlantic/Reykjavik"),
    ("india", "Asia/Kolkata"), ("ireland", "Europe/Dublin"), ("islamabad", "Asia/Karachi"),
    ("israel", "Asia/Jerusalem"), ("istanbul", "Europe/Istanbul"), ("italy", "Europe/Rome"),
    ("jakarta", "Asia/Jakarta"), ("japan", "Asia/Tokyo"), ("jerusalem", "Asia/Jerusalem"),
    ("johannesburg", "Africa/Johannesburg"), ("kabul", "Asia/Kabul"), ("karachi", "Asia/Karachi"),
    ("kathmandu", "Asia/Kathmandu"), ("kiev", "Europe/Kyiv"), ("kinshasa", "Africa/Kinshasa"),
    ("kolkata", "Asia/Kolkata"), ("kuala lumpur", "Asia/Kuala_Lumpur"), ("kuwait", "Asia/Kuwait"),
    ("kyiv", "Europe/Kyiv"), ("kyoto", "Asia/Tokyo"), ("lagos", "Africa/Lagos"), ("lahore", "Asia/Karachi"),
    ("las vegas", "America/Los_Angeles"), ("lima", "America/Lima"), ("lisbon", "Europe/Lisbon"),
    ("london", "Europe/London"), ("los angeles", "America/Los_Angeles"), ("luanda", "Africa/Luanda"),
    ("luxembourg", "Europe/Luxembourg"), ("lyon", "Europe/Paris"), ("madrid", "Europe/Madrid"),
    ("malta", "Europe/Malta"), ("manchester", "Europe/London"), ("manila", "Asia/Manila"),
    ("marseille", "Europe/Paris"), ("melbourne", "Australia/Melbourne"), ("mexico city", "America/Mexico_City"),
    ("miami", "America/New_York"), ("milan", "Europe/Rome"), ("minneapolis", "America/Chicago"),
    ("minsk", "Europe/Minsk"), ("montevideo", "America/Montevideo"), ("montreal", "America/Toronto"),
    ("moscow", "Europe/Moscow"), ("mumbai", "Asia/Kolkata"), ("munich", "Europe/Berlin"),
    ("nairobi", "Africa/Nairobi"), ("naples", "Europe/Rome"), ("netherlands", "Europe/Amsterdam"),
    ("new delhi", "Asia/Kolkata"), ("new orleans", "America/Chicago"), ("new york", "America/New_York"),
    ("new york city", "America/New_York"), ("new zealand", "Pacific/Auckland"), ("norway", "Europe/Oslo"),
    ("nyc", "America/New_York"), ("osaka", "Asia/Tokyo"), ("oslo", "Europe/Oslo"), ("ottawa", "America/Toronto"),
    ("panama", "America/Panama"), ("paris", "Europe/Paris"), ("perth", "Australia/Perth"),
    ("philadelphia", "America/New_York"), ("phoenix", "America/Phoenix"), ("poland", "Europe/Warsaw"),
    ("porto", "Europe/Lisbon"), ("portland", "America/Los_Angeles"), ("portugal", "Europe/Lisbon"),
    ("prague", "Europe/Prague"), ("pyongyang", "Asia/Pyongyang"), ("qatar", "Asia/Qatar"), ("quito", "America/Guayaquil"),
    ("reykjavik", "Atlantic/Reykjavik"), ("riga", "Europe/Riga"), ("rio de janeiro", "America/Sao_Paulo"),
    ("riyadh", "Asia/Riyadh"), ("rome", "Europe/Rome"), ("rotterdam", "Europe/Amsterdam"),
    ("san diego", "America/Los_Angeles"), ("san francisco", "America/Los_Angeles"), ("san jose", "America/Los_Angeles"),
    ("santiago", "America/Santiago"), ("sao paulo", "America/Sao_Paulo"), ("são paulo", "America/Sao_Paulo"),
    ("sarajevo", "Europe/Sarajevo"), ("scotland", "Europe/London"), ("seattle", "America/Los_Angeles"),
    ("seoul", "Asia/Seoul"), ("shanghai", "Asia/Shanghai"), ("shenzhen", "Asia/Shanghai"),
    ("singapore", "Asia/Singapore"), ("skopje", "Europe/Skopje"), ("sofia", "Europe/Sofia"),
    ("south africa", "Africa/Johannesburg"), ("south korea", "Asia/Seoul"), ("spain", "Europe/Madrid"),
    ("stockholm", "Europe/Stockholm"), ("stuttgart", "Europe/Berlin"), ("sweden", "Europe/Stockholm"),
    ("switzerland", "Europe/Zurich"), ("sydney", "Australia/Sydney"), ("taipei", "Asia/Taipei"),
    ("taiwan", "Asia/Taipei"), ("tallinn", "Europe/Tallinn"), ("tashkent", "Asia/Tashkent"),
    ("tbilisi", "Asia/Tbilisi"), ("tehran", "Asia/Tehran"), ("tel aviv", "Asia/Jerusalem"),
    ("texas", "America/Chicago"), ("thailand", "Asia/Bangkok"), ("tirana", "Europe/Tirane"),
    ("tokyo", "Asia/Tokyo"), ("toronto", "America/Toronto"), ("tripoli", "Africa/Tripoli"),
    ("tunis", "Africa/Tunis"), ("turkey", "Europe/Istanbul"), ("uk", "Europe/London"), ("ukraine", "Europe/Kyiv"),
    ("united kingdom", "Europe/London"), ("utc", "UTC"), ("vancouver", "America/Vancouver"),
    ("venice", "Europe/Rome"), ("vienna", "Europe/Vienna"), ("vietnam", "Asia/Ho_Chi_Minh"),
    ("vilnius", "Europe/Vilnius"), ("warsaw", "Europe/Warsaw"), ("washington", "America/New_York"),
    ("wellington", "Pacific/Auckland"), ("yerevan", "Asia/Yerevan"), ("zagreb", "Europe/Zagreb"),
    ("zurich", "Europe/Zurich"), ("zürich", "Europe/Zurich"),
];

const LONGEST_NAME_WORDS: usize = 4;

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// As a tool wants it: an IANA zone, or the name as it was written.
    pub(super) zone: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The first place of a text: an IANA zone, a known name, or what stands where
/// a place would.
pub(super) fn find(text: &str) -> Option<Place> {
    let words = words::words(text);
    written_out(text).or_else(|| known(text, &words)).or_else(|| after_preposition(text, &words))
}

/// Whether the whole text is the name of a known place.
pub(super) fn is_place(text: &str) -> bool {
    let text = text.trim_matches(|letter: char| !letter.is_alphanumeric());
    let text = words::strip_phrase(text, "in").unwrap_or(text);
    find(text).is_some_and(|place| place.start == 0 && place.end == text.len())
}

/// `Asia/Tokyo`, `America/Argentina/Buenos_Aires`.
fn written_out(text: &str) -> Option<Place> {
    for token in text.split_whitespace() {
        let name = token.trim_matches(|letter: char| !letter.is_alphanumeric());
        let parts: Vec<&str> = name.split('/').collect();
        let is_zone = (2..=3).contains(&parts.len())
            && parts.iter().all(|part| {
                part.starts_with(|letter: char| letter.is_ascii_uppercase())
                    && part.len() >= 2
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte))
            });
        if is_zone {
            let start = text.find(name)?;
            return Some(Place { zone: name.to_owned(), start, end: start + name.len() });
        }
    }
    None
}

fn known(text: &str, words: &[Word<'_>]) -> Option<Place> {
    for (at, first) in words.iter().enumerate() {
        for length in (1..=LONGEST_NAME_WORDS).rev() {
            let Some(last) = words.get(at + length - 1) else { continue };
            let name = text[first.start..last.end].to_lowercase();
            if let Some((_, zone)) = ZONES.iter().find(|(place, _)| *place == name) {
                return Some(Place { zone: (*zone).to_owned(), start: first.start, end: last.end });
            }
        }
    }
    None
}

/// What follows a preposition and is written like a name.
fn after_preposition(text: &str, words: &[Word<'_>]) -> Option<Place> {
    let at =
        words.iter().rposition(|word| matches!(word.text.to_lowercase().as_str(), "in" | "at" | "for"))?;
    let name: Vec<&Word<'_>> = words[at + 1..]
        .iter()
        .skip_while(|word| word.text.eq_ignore_ascii_case("the"))
        .take_while(|word| word.text.starts_with(char::is_uppercase))
        .take(LONGEST_NAME_WORDS)
        .collect();
    let (first, last) = (name.first()?, name.last()?);
    Some(Place { zone: text[first.start..last.end].to_owned(), start: first.start, end: last.end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Option<String> {
        find(text).map(|place| place.zone)
    }

    #[test]
    fn places_are_found_by_name_by_zone_and_by_position() {
        assert_eq!(zone("what time is it in new york right now?").as_deref(), Some("America/New_York"));
        assert_eq!(zone("the time (Europe/Vienna)").as_deref(), Some("Europe/Vienna"));
        assert_eq!(zone("Tokyo time").as_deref(), Some("Asia/Tokyo"));
        assert_eq!(zone("time in the Port Vila").as_deref(), Some("Port Vila"));
        assert_eq!(zone("what time is it in the morning"), None);
        assert!(is_place("in Paris?"));
        assert!(!is_place("the weather in Paris"));
    }
}
