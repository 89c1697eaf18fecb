//! Owns the due time of a data subject's request: one calendar month after its receipt, and two
//! more if extended (GDPR Art. 12(3)). By Regulation (EEC, Euratom) 1182/71 Art. 3 it is the end of
//! the day with the same date, or of the month's last day if there is no such date.

use chrono::{DateTime, LocalResult, Months, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The time in which a request is to be answered.
const PERIOD: Months = Months::new(1);
/// The time that an extension adds to [`PERIOD`].
const EXTENSION: Months = Months::new(2);

/// A time zone in which days are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// Reads an IANA name, such as `Europe/Berlin`. Returns `None` if no zone has the name.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// Returns the IANA name of the zone.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Returns the time at which a request is due that was received at `received`.
    pub fn due(self, received: DateTime<Utc>) -> DateTime<Utc> {
        self.end_of(self.day_after(received, PERIOD))
    }

    /// Returns the time at which a request is due that was received at `received` and was extended.
    pub fn extended_due(self, received: DateTime<Utc>) -> DateTime<Utc> {
        let months = Months::new(PERIOD.as_u32() + EXTENSION.as_u32());
        self.end_of(self.day_after(received, months))
    }

    fn day_after(self, at: DateTime<Utc>, months: Months) -> NaiveDate {
        let day = at.with_timezone(&self.0).date_naive();
        day.checked_add_months(months).unwrap_or(NaiveDate::MAX)
    }

    /// Returns the last second of a day. If the clocks are set back, two times have this name, and
    /// the function returns the later one. If a zone crossed the date line and left the day out,
    /// the day ends at the time at which it would have begun.
    fn end_of(self, day: NaiveDate) -> DateTime<Utc> {
        let Some(last) = day.and_hms_opt(23, 59, 59) else { return DateTime::<Utc>::MAX_UTC };
        let mut back = TimeDelta::zero();
        loop {
            match self.0.from_local_datetime(&(last - back)) {
                LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => return at.to_utc(),
                // No zone leaves out more than one day.
                LocalResult::None if back < TimeDelta::hours(48) => back += TimeDelta::minutes(1),
                LocalResult::None => return last.and_utc(),
            }
        }
    }
}
