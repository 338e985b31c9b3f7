//! Months and days in a time zone.

use std::{fmt, str::FromStr};

use jiff::{
    Timestamp, ToSpan,
    civil::{self, Date},
    tz::TimeZone,
};

use super::Trouble;
use crate::INTERVAL;

/// A time zone by its name.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
    name: String,
}

impl Zone {
    /// The zone of a name of the IANA database; capitals do not matter.
    ///
    /// # Errors
    /// There is none.
    pub fn of(name: &str) -> Result<Zone, Trouble> {
        let zone = TimeZone::get(name).map_err(|_| Trouble::Zone(name.to_string()))?;
        let name = zone.iana_name().unwrap_or(name).to_string();
        Ok(Zone { zone, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds since 1970 as people there write them: `2026-02-03 14:05 CET`.
    pub fn written(&self, seconds: i64) -> String {
        match Timestamp::from_second(seconds) {
            Ok(time) => time
                .to_zoned(self.zone.clone())
                .strftime("%Y-%m-%d %H:%M %Z")
                .to_string(),
            Err(_) => format!("{seconds} s"),
        }
    }

    /// Seconds since 1970 with the offset, as RFC 3339: `2026-02-03T14:05:00+01:00`.
    pub fn stamp(&self, seconds: i64) -> String {
        match Timestamp::from_second(seconds) {
            Ok(time) => time
                .to_zoned(self.zone.clone())
                .strftime("%Y-%m-%dT%H:%M:%S%:z")
                .to_string(),
            Err(_) => seconds.to_string(),
        }
    }

    /// The date there.
    pub fn date(&self, seconds: i64) -> Option<Date> {
        let time = Timestamp::from_second(seconds).ok()?;
        Some(time.to_zoned(self.zone.clone()).date())
    }

    /// Where a date begins there, seconds since 1970.
    fn begin(&self, date: Date) -> Option<i64> {
        let zoned = date.to_zoned(self.zone.clone()).ok()?;
        Some(zoned.timestamp().as_second())
    }

    /// The days of these seconds: their dates, where they begin and end. They have 23, 24 or 25 hours.
    pub fn days(&self, from: i64, to: i64) -> Vec<Day> {
        let mut days = Vec::new();
        let Some(mut date) = self.date(from) else {
            return days;
        };
        while let Some(begin) = self.begin(date).filter(|begin| *begin < to) {
            let Ok(next) = date.tomorrow() else { break };
            let Some(end) = self.begin(next) else { break };
            days.push(Day {
                date: date.to_string(),
                from: begin,
                to: end,
            });
            date = next;
        }
        days
    }
}

/// Seconds since 1970 in UTC: `2026-02-03 13:05 UTC`.
pub fn utc(seconds: i64) -> String {
    let zone = Zone {
        zone: TimeZone::UTC,
        name: "UTC".to_string(),
    };
    zone.written(seconds)
}

/// A day somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// `2026-02-03`
    pub date: String,
    /// Where it begins, seconds since 1970.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
}

/// A calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(Date);

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Month, String> {
        let fault = || format!("`{text}` is not a month: write it as 2026-02");
        let (year, month) = text.split_once('-').ok_or_else(fault)?;
        let digits = |word: &str, length| word.len() == length && word.bytes().all(|c| c.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(fault());
        }
        let (year, month) = (
            year.parse().map_err(|_| fault())?,
            month.parse().map_err(|_| fault())?,
        );
        // Dates at the very ends of the calendar have no neighbours.
        if !(1970..=9_000).contains(&year) {
            return Err(fault());
        }
        Date::new(year, month, 1).map(Month).map_err(|_| fault())
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

impl Month {
    /// The month in a zone at some seconds since 1970.
    pub fn at(zone: &Zone, seconds: i64) -> Month {
        Month(
            zone.date(seconds)
                .unwrap_or(civil::date(1970, 1, 1))
                .first_of_month(),
        )
    }

    /// The month before.
    #[must_use]
    pub fn before(self) -> Month {
        Month(self.0.checked_sub(1.month()).unwrap_or(self.0))
    }

    /// How many months there are from this one to another, both of them with it; less than one where that is before.
    pub fn months_to(self, other: Month) -> i64 {
        let number = |month: Month| i64::from(month.0.year()) * 12 + i64::from(month.0.month());
        number(other) - number(self) + 1
    }

    /// The month behind.
    #[must_use]
    pub fn behind(self) -> Month {
        Month(self.0.checked_add(1.month()).unwrap_or(self.0))
    }

    /// It, in a zone.
    pub fn period(self, zone: &Zone) -> Period {
        let begin = |month: Month| zone.begin(month.0).unwrap_or(0);
        Period {
            name: self.to_string(),
            from: begin(self),
            to: begin(self.behind()),
        }
    }
}

/// A time to report on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// What people call it.
    pub name: String,
    /// Where it begins, seconds since 1970.
    pub from: i64,
    /// Where it ends, excluded.
    pub to: i64,
}

impl Period {
    /// How many samples it should have.
    pub fn expected(&self) -> u64 {
        u64::try_from((self.to - self.from) / INTERVAL).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(month: &str, zone: &str) -> u64 {
        let zone = Zone::of(zone).unwrap();
        month.parse::<Month>().unwrap().period(&zone).expected()
    }

    #[test]
    fn months_have_28_to_31_days_and_an_hour_more_or_less_where_clocks_change() {
        assert_eq!(expected("2026-02", "UTC"), 28 * 288);
        assert_eq!(expected("2028-02", "UTC"), 29 * 288);
        assert_eq!(expected("2026-04", "UTC"), 30 * 288);
        assert_eq!(expected("2026-12", "Europe/Zurich"), 31 * 288);
        assert_eq!(expected("2026-03", "Europe/Zurich"), 31 * 288 - 12);
        assert_eq!(expected("2026-10", "Europe/Zurich"), 31 * 288 + 12);
        // Half an hour.
        assert_eq!(expected("2026-04", "Australia/Lord_Howe"), 30 * 288 + 6);
    }

    #[test]
    fn months_follow_each_other_without_a_hole() {
        for zone in ["UTC", "Europe/Zurich", "America/St_Johns", "Asia/Kathmandu"] {
            let zone = Zone::of(zone).unwrap();
            let mut month: Month = "2025-01".parse().unwrap();
            for _ in 0..36 {
                let (this, next) = (month.period(&zone), month.behind().period(&zone));
                assert_eq!(this.to, next.from);
                assert_eq!(month.behind().before(), month);
                assert_eq!(Month::at(&zone, this.from), month);
                assert_eq!(Month::at(&zone, this.to - 1), month);
                let days = zone.days(this.from, this.to);
                assert_eq!((days[0].from, days[days.len() - 1].to), (this.from, this.to));
                month = month.behind();
            }
        }
    }

    #[test]
    fn what_is_no_month_or_zone_is_said_to_be_none() {
        for word in [
            "2026",
            "2026-13",
            "2026-00",
            "26-02",
            "2026-2",
            "2026-02-01",
            "",
            "99999-01",
            "+026-02",
            "0000-01",
        ] {
            assert!(word.parse::<Month>().is_err(), "{word}");
        }
        for word in ["Europe/Zürich", "Mars/Olympus", "", "../../etc/passwd"] {
            let error = Zone::of(word).unwrap_err().to_string();
            assert!(error.contains("is no time zone"), "{error}");
        }
        assert_eq!(Zone::of("europe/zurich").unwrap().name(), "Europe/Zurich");
    }

    #[test]
    fn the_hour_that_comes_twice_is_told_apart() {
        let zone = Zone::of("Europe/Zurich").unwrap();
        let (first, second) = (1_792_889_100, 1_792_892_700);
        assert_eq!(zone.written(first), "2026-10-25 02:45 CEST");
        assert_eq!(zone.written(second), "2026-10-25 02:45 CET");
        assert_eq!(zone.stamp(second), "2026-10-25T02:45:00+01:00");
    }
}
