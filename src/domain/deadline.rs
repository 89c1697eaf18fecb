//! Until when a data subject's request must be answered: one calendar month after its receipt, two
//! more when extended (GDPR Art. 12(3)), counted as Regulation (EEC, Euratom) 1182/71 Art. 3 does: to
//! the end of the day with the same date, or of the month's last day where it has none.

use chrono::{DateTime, LocalResult, Months, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// How long a request may take, and how much longer when extended.
const PERIOD: Months = Months::new(1);
const EXTENSION: Months = Months::new(2);

/// A zone in which days are counted, by its IANA name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// Reads an IANA name, such as `Europe/Berlin`.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// When a request received then is due.
    pub fn due(self, received: DateTime<Utc>) -> DateTime<Utc> {
        self.end_of(self.day_after(received, PERIOD))
    }

    /// When a request received then is due once it was extended.
    pub fn extended_due(self, received: DateTime<Utc>) -> DateTime<Utc> {
        let months = Months::new(PERIOD.as_u32() + EXTENSION.as_u32());
        self.end_of(self.day_after(received, months))
    }

    fn day_after(self, at: DateTime<Utc>, months: Months) -> NaiveDate {
        let day = at.with_timezone(&self.0).date_naive();
        day.checked_add_months(months).unwrap_or(NaiveDate::MAX)
    }

    /// The last second of a day. Where the clocks are set back it is the later of two such times; a
    /// day that a zone left out, crossing the date line, ends when it would have begun.
    fn end_of(self, day: NaiveDate) -> DateTime<Utc> {
        let Some(last) = day.and_hms_opt(23, 59, 59) else { return DateTime::<Utc>::MAX_UTC };
        let mut back = TimeDelta::zero();
        loop {
            match self.0.from_local_datetime(&(last - back)) {
                LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => return at.to_utc(),
                // No zone leaves out more than a day.
                LocalResult::None if back < TimeDelta::hours(48) => back += TimeDelta::minutes(1),
                LocalResult::None => return last.and_utc(),
            }
        }
    }
}
