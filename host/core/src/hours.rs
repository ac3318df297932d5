//! Times in a time zone and business hours, as rules ask for them: functions of their arguments alone.

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// The most bytes of a text with business hours.
const LONGEST_HOURS: usize = 500;
const MINUTES_OF_DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const HOURS_HELP: &str = "write hours such as \"Mon-Fri 08:00-17:30, Sat 09:00-12:00\"";

/// A time in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    pub hour: i8,
    pub minute: i8,
    pub second: i8,
    /// From 1, Monday, to 7, Sunday.
    pub weekday: i8,
    /// Seconds east of UTC.
    pub offset_secs: i32,
    /// RFC 3339 with that offset.
    pub iso: String,
}

/// Business hours of a week, such as `Mon-Fri 08:00-17:30, Sat 09:00-12:00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeeklyHours {
    /// Ranges of minutes of the week, from Monday 00:00; the end is not part of it and may lie in the next week.
    ranges: Vec<(u16, u16)>,
}

/// Returns a time (RFC 3339) in a zone of the IANA database.
///
/// # Errors
/// Fails with one sentence if the time or the zone is unknown.
pub fn local_time(time: &str, zone: &str) -> Result<LocalTime, String> {
    let zoned = timestamp(time)?.to_zoned(time_zone(zone)?);
    Ok(LocalTime {
        year: zoned.year(),
        month: zoned.month(),
        day: zoned.day(),
        hour: zoned.hour(),
        minute: zoned.minute(),
        second: zoned.second(),
        weekday: zoned.weekday().to_monday_one_offset(),
        offset_secs: zoned.offset().seconds(),
        iso: zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    })
}

/// Returns a zone of the IANA database that Postroom brings; names are compared case-insensitively.
///
/// # Errors
/// Fails with one sentence if there is no such zone.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    // Bundled, so that a replay on another machine finds the same.
    crate::parse::iana_zone(name).ok_or_else(|| {
        format!("there is no time zone {name:?}; write one such as \"Europe/Berlin\"")
    })
}

impl WeeklyHours {
    /// Parses days and ranges of hours. A range that ends before it begins ends on the next day.
    ///
    /// # Errors
    /// Fails with one sentence that names the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_HOURS {
            return Err(format!("hours are longer than {LONGEST_HOURS} bytes"));
        }
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let unreadable = || format!("{part:?} cannot be read as hours; {HOURS_HELP}");
            let mut words = part.split_whitespace();
            let days = words.next().and_then(days).ok_or_else(unreadable)?;
            let mut hours = words.map(range).peekable();
            if hours.peek().is_none() {
                return Err(unreadable());
            }
            for range in hours {
                let (from, to) = range.ok_or_else(unreadable)?;
                let to = if to <= from { to + MINUTES_OF_DAY } else { to };
                let at = |day: &u16| (day * MINUTES_OF_DAY + from, day * MINUTES_OF_DAY + to);
                ranges.extend(days.iter().map(at));
            }
        }
        Ok(Self { ranges })
    }

    /// Returns whether a weekday and time of day lie within the hours.
    pub fn contain(&self, weekday: Weekday, time: Time) -> bool {
        let day = weekday.to_monday_zero_offset().unsigned_abs();
        let minute = time.hour().unsigned_abs() as u16 * 60 + time.minute().unsigned_abs() as u16;
        let at = u16::from(day) * MINUTES_OF_DAY + minute;
        let week = 7 * MINUTES_OF_DAY;
        let lies = |at: u16| {
            self.ranges
                .iter()
                .any(|(from, to)| (*from..*to).contains(&at))
        };
        lies(at) || lies(at + week)
    }
}

/// Returns whether a time (RFC 3339) lies within business hours in a zone.
///
/// # Errors
/// Fails with one sentence if one of them cannot be read.
pub fn is_open(time: &str, zone: &str, hours: &str) -> Result<bool, String> {
    let zoned = timestamp(time)?.to_zoned(time_zone(zone)?);
    Ok(WeeklyHours::parse(hours)?.contain(zoned.weekday(), zoned.time()))
}

fn timestamp(time: &str) -> Result<Timestamp, String> {
    time.parse()
        .map_err(|_| format!("{time:?} is no time such as \"2026-11-30T09:00:00Z\""))
}

/// Parses `Mon`, `Mon-Fri`, `Mon/Wed/Fri` or `daily` as days from 0, Monday.
fn days(text: &str) -> Option<Vec<u16>> {
    let text = text.to_ascii_lowercase();
    if text == "daily" {
        return Some((0..7).collect());
    }
    let day = |name: &str| {
        let short = name.get(..3)?;
        let full = [
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ];
        let at = DAYS.iter().position(|known| *known == short)?;
        (name.len() == 3 || name == full[at]).then_some(at as u16)
    };
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        return Some((0..=count).map(|n| (first + n) % 7).collect());
    }
    text.split('/').map(day).collect()
}

/// Parses `08:00-17:30` as minutes of the day, of which the end may be `24:00`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let minutes = |time: &str| {
        let (hour, minute) = time.split_once(':')?;
        let digits =
            |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(hour) || !digits(minute) || minute.len() != 2 {
            return None;
        }
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        let at = hour * 60 + minute;
        (minute < 60 && at <= MINUTES_OF_DAY).then_some(at)
    };
    let (from, to) = (minutes(from)?, minutes(to)?);
    (from < MINUTES_OF_DAY && from != to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daylight_saving_is_followed() {
        let at = |time| local_time(time, "Europe/Berlin").map(|local| local.iso);
        assert_eq!(
            at("2026-03-29T00:59:59Z").as_deref(),
            Ok("2026-03-29T01:59:59+01:00")
        );
        assert_eq!(
            at("2026-03-29T01:00:00Z").as_deref(),
            Ok("2026-03-29T03:00:00+02:00")
        );
        let sunday = local_time("2026-11-29T23:30:00-05:00", "Asia/Kathmandu");
        let sunday = sunday.map(|it| (it.weekday, it.hour, it.minute, it.offset_secs));
        assert_eq!(sunday, Ok((1, 10, 15, 20_700)));
    }

    #[test]
    fn what_is_unknown_is_named() {
        let wrong = local_time("yesterday", "UTC").unwrap_err();
        assert!(wrong.contains("\"yesterday\""), "{wrong}");
        let wrong = local_time("2026-11-30T09:00:00Z", "Mars/Olympus").unwrap_err();
        assert!(
            wrong.contains("Mars/Olympus") && wrong.contains("Europe/Berlin"),
            "{wrong}"
        );
        for hours in [
            "",
            "Mon",
            "08:00-17:00",
            "Mon 8-17",
            "Mon 08:00-08:00",
            "Mon 25:00-26:00",
            "Mon 08:00-17:60",
            "Mon 24:00-25:00",
            "Foo 08:00-17:00",
            "Mon-Fri 08:00-17:00,",
            "Mön 08:00-17:00",
        ] {
            assert!(WeeklyHours::parse(hours).is_err(), "{hours}");
        }
        assert!(WeeklyHours::parse(&"Mon 08:00-17:00,".repeat(40)).is_err());
    }

    #[test]
    fn hours_hold_in_their_zone() {
        const WEEK: &str = "Mon-Fri 08:00-12:00 13:00-17:30, Sat 9:00-12:00";
        for (time, hours, open) in [
            ("2026-11-30T07:00:00Z", WEEK, true),
            ("2026-11-30T06:59:59Z", WEEK, false),
            ("2026-11-30T11:30:00Z", WEEK, false),
            ("2026-11-30T16:29:00Z", WEEK, true),
            ("2026-11-30T16:30:00Z", WEEK, false),
            ("2026-12-05T08:00:00Z", WEEK, true),
            ("2026-12-06T10:00:00Z", WEEK, false),
            ("2026-12-06T22:30:00Z", "Sun 22:00-06:00", true),
            ("2026-12-07T04:00:00Z", "Sun 22:00-06:00", true),
            ("2026-12-07T05:00:00Z", "Sun 22:00-06:00", false),
            ("2026-12-07T05:00:00Z", "daily 00:00-24:00", true),
            ("2026-12-01T09:00:00Z", "mon/wed/FRIDAY 08:00-17:00", false),
            ("2026-12-02T09:00:00Z", "mon/wed/FRIDAY 08:00-17:00", true),
            ("2026-11-29T09:00:00Z", "Fri-Mon 08:00-17:00", true),
            ("2026-12-01T09:00:00Z", "Fri-Mon 08:00-17:00", false),
        ] {
            assert_eq!(
                is_open(time, "Europe/Berlin", hours),
                Ok(open),
                "{time} {hours}"
            );
        }
    }
}
