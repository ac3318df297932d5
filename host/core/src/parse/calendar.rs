//! Calendar parts (RFC 5545, RFC 5546): the first event, and its summary for readers.

use std::fmt::Write;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::zones;
use crate::message::{Attendee, Calendar};

/// Bytes of a calendar that are read.
pub(crate) const CALENDAR_BYTES: usize = 1024 * 1024;
/// Bytes of one property's value.
const VALUE_BYTES: usize = 32 * 1024;
/// The attendees that a summary names.
const NAMED_ATTENDEES: usize = 20;

/// The first event, and its description.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub calendar: Calendar,
    description: String,
    comment: String,
}

/// Reads the first event of a calendar; returns `None` if it has none. At most `attendees` are kept.
pub(crate) fn read(text: &str, attendees: usize) -> Option<Event> {
    let text = &text[..text.floor_char_boundary(CALENDAR_BYTES)];
    let mut reader = Reader::new(attendees);
    for line in Lines(text) {
        if let Some(property) = Property::of(&line)
            && reader.take(&property)
        {
            break;
        }
    }
    reader.finish()
}

impl Event {
    /// Returns a summary for a mail that has no other text.
    pub(crate) fn summary(&self) -> String {
        let Calendar {
            method,
            summary,
            start,
            end,
            location,
            organizer,
            attendees,
            ..
        } = &self.calendar;
        let what = match method.as_str() {
            "REQUEST" => "Invitation",
            "REPLY" => "Answer to an invitation",
            "CANCEL" => "Event cancelled",
            "COUNTER" => "Other time proposed",
            "DECLINECOUNTER" => "Proposed time declined",
            "ADD" => "Event added",
            "REFRESH" => "Event requested again",
            _ => "Event",
        };
        let mut out = if summary.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {summary}")
        };
        match (start, end) {
            (Some(start), Some(end)) => {
                let _ = write!(out, "\nWhen: {} to {}", readable(start), readable(end));
            }
            (Some(start), None) => {
                let _ = write!(out, "\nWhen: {}", readable(start));
            }
            _ => {}
        }
        if let Some(location) = location {
            let _ = write!(out, "\nWhere: {}", location.replace('\n', ", "));
        }
        let organizer = organizer.iter().map(|email| format!("{email} (organizer)"));
        let named = attendees.iter().take(NAMED_ATTENDEES);
        let named = named.map(|attendee| match attendee.status.as_str() {
            "needs-action" => attendee.email.clone(),
            status => format!("{} ({status})", attendee.email),
        });
        let who: Vec<String> = organizer.chain(named).collect();
        if !who.is_empty() {
            let _ = write!(out, "\nWho: {}", who.join(", "));
        }
        let more = attendees.len().saturating_sub(NAMED_ATTENDEES);
        if more > 0 {
            let _ = write!(out, " and {more} more");
        }
        for words in [&self.comment, &self.description] {
            if !words.trim().is_empty() {
                let _ = write!(out, "\n\n{}", words.trim());
            }
        }
        out.push('\n');
        out
    }
}

/// Returns a time as people write it.
fn readable(time: &str) -> String {
    let Some((date, clock)) = time.split_once('T') else {
        return time.to_owned();
    };
    let minutes = clock.get(..5).unwrap_or(clock);
    match clock.get(8..) {
        Some("Z") => format!("{date} {minutes} UTC"),
        Some(offset) if !offset.is_empty() => format!("{date} {minutes} (UTC{offset})"),
        _ => format!("{date} {minutes}"),
    }
}

/// Iterates over lines, unfolded (RFC 5545 section 3.1).
struct Lines<'a>(&'a str);

impl Iterator for Lines<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        if self.0.is_empty() {
            return None;
        }
        loop {
            let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
            let line = line.strip_suffix('\r').unwrap_or(line);
            if out.len() < VALUE_BYTES {
                out.push_str(line);
            }
            match rest.strip_prefix([' ', '\t']) {
                Some(more) => self.0 = more,
                None => {
                    self.0 = rest;
                    return Some(out);
                }
            }
        }
    }
}

/// `NAME;PARAM=value:value`.
struct Property<'a> {
    name: &'a str,
    params: &'a str,
    value: &'a str,
}

impl<'a> Property<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let mut quoted = false;
        let colon = line.bytes().position(|b| {
            quoted ^= b == b'"';
            b == b':' && !quoted
        })?;
        let (head, value) = (&line[..colon], &line[colon + 1..]);
        let (name, params) = head.split_once(';').unwrap_or((head, ""));
        // A group may stand before the name, as in vCard.
        let name = name.rsplit('.').next().unwrap_or(name).trim();
        Some(Self {
            name,
            params,
            value: value.trim(),
        })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn param(&self, name: &str) -> Option<&'a str> {
        let mut quoted = false;
        self.params
            .split(move |c| {
                quoted ^= c == '"';
                c == ';' && !quoted
            })
            .filter_map(|param| param.split_once('='))
            .find(|(known, _)| known.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().trim_matches('"'))
    }

    /// Returns the value of a TEXT property (RFC 5545 section 3.3.11).
    fn text(&self) -> String {
        let mut out = String::with_capacity(self.value.len());
        let mut escaped = false;
        for c in self.value.chars() {
            match (escaped, c) {
                (false, '\\') => {
                    escaped = true;
                    continue;
                }
                (true, 'n' | 'N') => out.push('\n'),
                (true, c) if !"\\;,:\"".contains(c) => {
                    out.push('\\');
                    out.push(c);
                }
                (_, c) if c.is_control() && c != '\t' => {}
                (_, c) => out.push(c),
            }
            escaped = false;
        }
        out
    }

    /// Returns the address of a calendar user.
    fn email(&self) -> Option<String> {
        let value = match self.value.get(..7) {
            Some(scheme) if scheme.eq_ignore_ascii_case("mailto:") => &self.value[7..],
            _ => self.value,
        };
        let email = if value.contains('@') {
            value
        } else {
            let email = self.param("EMAIL")?;
            email.contains('@').then_some(email)?
        };
        let email = email.trim_matches(|c: char| c.is_whitespace() || "<>'\"".contains(c));
        let (local, domain) = email.rsplit_once('@')?;
        let clean = !email.contains(|c: char| c.is_whitespace() || c.is_control());
        clean.then(|| format!("{local}@{}", domain.to_lowercase()))
    }

    fn time(&self) -> Option<Time> {
        let value = self.value;
        let (digits, utc) = match value.strip_suffix(['Z', 'z']) {
            Some(digits) => (digits, true),
            None => (value, false),
        };
        let (date, clock) = match digits.split_once(['T', 't']) {
            Some((date, clock)) => (date, Some(clock)),
            None => (digits, None),
        };
        let number = |text: &str, range: std::ops::Range<usize>| -> Option<i16> {
            let digits = text.get(range)?;
            let all = digits.bytes().all(|b| b.is_ascii_digit());
            all.then(|| digits.parse().ok()).flatten()
        };
        let month = i8::try_from(number(date, 4..6)?).ok()?;
        let day = i8::try_from(number(date, 6..8)?).ok()?;
        let date = civil::Date::new(number(date, 0..4)?, month, day).ok()?;
        let Some(clock) = clock else {
            return Some(Time::Date(date));
        };
        let part = |range| number(clock, range).and_then(|number| i8::try_from(number).ok());
        let seconds = part(4..6).unwrap_or(0).min(59);
        let time = civil::Time::new(part(0..2)?, part(2..4)?, seconds, 0).ok()?;
        let time = date.to_datetime(time);
        let zone = if utc {
            Some(TimeZone::UTC)
        } else {
            self.param("TZID").and_then(zones::zone)
        };
        match zone.map(|zone| time.to_zoned(zone)) {
            Some(Ok(time)) => Some(Time::Zoned(time)),
            _ => Some(Time::Floating(time)),
        }
    }
}

#[derive(Clone)]
enum Time {
    Date(civil::Date),
    /// In a zone that is not known.
    Floating(civil::DateTime),
    Zoned(jiff::Zoned),
}

impl Time {
    fn after(&self, span: Span) -> Option<Self> {
        Some(match self {
            Self::Date(date) => Self::Date(date.checked_add(span).ok()?),
            Self::Floating(time) => Self::Floating(time.checked_add(span).ok()?),
            Self::Zoned(time) => Self::Zoned(time.checked_add(span).ok()?),
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Date(date) => date.to_string(),
            Self::Floating(time) => time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            Self::Zoned(time) if *time.time_zone() == TimeZone::UTC => {
                Timestamp::strftime(&time.timestamp(), "%Y-%m-%dT%H:%M:%SZ").to_string()
            }
            Self::Zoned(time) => time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }
    }
}

struct Reader {
    most_attendees: usize,
    method: String,
    event: Calendar,
    found: bool,
    /// The open components below the event, such as an alarm.
    below: usize,
    inside: bool,
    start: Option<Time>,
    end: Option<Time>,
    duration: Option<Span>,
    description: String,
    comment: String,
}

impl Reader {
    fn new(most_attendees: usize) -> Self {
        Self {
            most_attendees,
            method: String::new(),
            event: Calendar::default(),
            found: false,
            below: 0,
            inside: false,
            start: None,
            end: None,
            duration: None,
            description: String::new(),
            comment: String::new(),
        }
    }

    /// Takes a property; returns true at the end of the event.
    fn take(&mut self, property: &Property<'_>) -> bool {
        let value = property.value;
        if !self.inside {
            if property.is("METHOD") && self.method.is_empty() {
                let word = value.chars().take_while(char::is_ascii_alphanumeric);
                self.method = word.take(32).collect::<String>().to_ascii_uppercase();
            } else if property.is("BEGIN")
                && ["VEVENT", "VTODO", "VJOURNAL"]
                    .iter()
                    .any(|kind| value.eq_ignore_ascii_case(kind))
            {
                self.inside = true;
                self.found = true;
            }
            return false;
        }
        if property.is("BEGIN") {
            self.below += 1;
        } else if property.is("END") {
            if self.below == 0 {
                return true;
            }
            self.below -= 1;
        } else if self.below == 0 {
            self.of_event(property);
        }
        false
    }

    fn of_event(&mut self, property: &Property<'_>) {
        let event = &mut self.event;
        match property.name.to_ascii_uppercase().as_str() {
            "UID" if event.uid.is_empty() => event.uid = property.text(),
            "SUMMARY" if event.summary.is_empty() => {
                event.summary = property.text().replace('\n', " ");
            }
            "LOCATION" if event.location.is_none() => {
                event.location = Some(property.text()).filter(|text| !text.trim().is_empty());
            }
            "DESCRIPTION" if self.description.is_empty() => self.description = property.text(),
            "COMMENT" if self.comment.is_empty() => self.comment = property.text(),
            "ORGANIZER" if event.organizer.is_none() => event.organizer = property.email(),
            "ATTENDEE" if event.attendees.len() < self.most_attendees => {
                if let Some(email) = property.email() {
                    let status = property.param("PARTSTAT").unwrap_or("NEEDS-ACTION");
                    let status = status.to_ascii_lowercase();
                    event.attendees.push(Attendee { email, status });
                }
            }
            "DTSTART" if self.start.is_none() => self.start = property.time(),
            "DTEND" | "DUE" if self.end.is_none() => self.end = property.time(),
            "DURATION" if self.duration.is_none() => self.duration = property.value.parse().ok(),
            _ => {}
        }
    }

    fn finish(self) -> Option<Event> {
        if !self.found {
            return None;
        }
        let end = self.end.or_else(|| {
            let start = self.start.as_ref()?;
            start.after(self.duration?)
        });
        let mut calendar = self.event;
        calendar.method = self.method;
        if calendar.method.is_empty() {
            calendar.method.push_str("PUBLISH");
        }
        calendar.start = self.start.map(|time| time.text());
        calendar.end = end.map(|time| time.text());
        Some(Event {
            calendar,
            description: self.description,
            comment: self.comment,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(lines: &str) -> Calendar {
        let text = format!(
            "BEGIN:VCALENDAR\nMETHOD:request\nBEGIN:VEVENT\n{lines}\nEND:VEVENT\nEND:VCALENDAR\n"
        );
        read(&text, 3).expect("an event").calendar
    }

    #[test]
    fn times_are_placed_where_their_zone_is_known() {
        for (line, expected) in [
            ("DTSTART:20240318T090000Z", "2024-03-18T09:00:00Z"),
            ("DTSTART:20240318T0900", "2024-03-18T09:00:00"),
            ("DTSTART;VALUE=DATE:20240318", "2024-03-18"),
            (
                "DTSTART;TZID=Europe/Berlin:20240318T090000",
                "2024-03-18T09:00:00+01:00",
            ),
            (
                "DTSTART;TZID=\"Europe/Berlin\":20240718T090000",
                "2024-07-18T09:00:00+02:00",
            ),
            (
                "DTSTART;TZID=W. Europe Standard Time:20240718T090000",
                "2024-07-18T09:00:00+02:00",
            ),
            (
                "DTSTART;TZID=Eastern Standard Time:20240118T090000",
                "2024-01-18T09:00:00-05:00",
            ),
            (
                "DTSTART;TZID=/mozilla.org/20050126_1/Europe/Rome:20240118T090000",
                "2024-01-18T09:00:00+01:00",
            ),
            (
                "DTSTART;TZID=/softwarestudio.org/Olson_1/America/Argentina/Salta:20240118T090000",
                "2024-01-18T09:00:00-03:00",
            ),
            (
                "DTSTART;TZID=Customized Time Zone:20240118T090000",
                "2024-01-18T09:00:00",
            ),
        ] {
            assert_eq!(event(line).start.as_deref(), Some(expected), "{line}");
        }
        for line in [
            "DTSTART:soon",
            "DTSTART:20241399T990000",
            "DTSTART:",
            "DTSTART:2024é318",
        ] {
            assert_eq!(event(line).start, None, "{line}");
        }
    }

    #[test]
    fn a_duration_stands_for_the_end() {
        let found = event("DTSTART;TZID=Europe/Berlin:20240331T010000\nDURATION:PT2H");
        assert_eq!(found.end.as_deref(), Some("2024-03-31T04:00:00+02:00"));
        let found = event("DTSTART;VALUE=DATE:20240331\nDURATION:P2D");
        assert_eq!(found.end.as_deref(), Some("2024-04-02"));
    }

    #[test]
    fn people_texts_and_alarms() {
        let found = event(
            "UID:1\nSUMMARY;LANGUAGE=de:Wartung\\, Server\n raum\nLOCATION:Halle 2\\nKeller\n\
             BEGIN:VALARM\nSUMMARY:Alarm\nATTENDEE:mailto:alarm@a.example\nEND:VALARM\n\
             ORGANIZER;CN=\"Weiss: Nora\":MAILTO:nora@Quill.example\n\
             ATTENDEE;PARTSTAT=ACCEPTED:mailto:a@b.example\nATTENDEE;EMAIL=c@d.example:urn:uuid:1\n\
             ATTENDEE:invalid:nomail\nATTENDEE:e@f.example\nATTENDEE:one.too.many@f.example",
        );
        assert_eq!(found.method, "REQUEST");
        assert_eq!(found.summary, "Wartung, Serverraum");
        assert_eq!(found.location.as_deref(), Some("Halle 2\nKeller"));
        assert_eq!(found.organizer.as_deref(), Some("nora@quill.example"));
        let attendees: Vec<(&str, &str)> = found
            .attendees
            .iter()
            .map(|attendee| (attendee.email.as_str(), attendee.status.as_str()))
            .collect();
        assert_eq!(
            attendees,
            [
                ("a@b.example", "accepted"),
                ("c@d.example", "needs-action"),
                ("e@f.example", "needs-action")
            ]
        );
    }

    #[test]
    fn what_is_no_event_is_none() {
        assert_eq!(read("", 3), None);
        assert_eq!(
            read("BEGIN:VCALENDAR\nBEGIN:VFREEBUSY\nEND:VFREEBUSY\n", 3),
            None
        );
        assert_eq!(read(":::\n;;;\n\"\nBEGIN\n", 3), None);
    }
}
