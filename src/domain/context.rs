//! Owns the context of a question: its place, vendor types, budget and day. Known members have
//! rules, and unknown members are kept as they are. All members are part of the cache key.

use chrono::NaiveDate;

use super::canonical::Encoder;
use super::decimal::Decimal;
use super::fields::Fields;
use super::json::{Json, Object, encode_object};
use super::normalize;

/// The context of a question. An absent context and an empty one are the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// The location, as the client gave it. Two spellings are two locations.
    pub location: Option<String>,
    /// The vendor types in lower case, sorted, each once.
    pub vendor_types: Vec<String>,
    /// The budget, at least 0.
    pub budget: Option<Decimal>,
    /// The day of the wedding.
    pub wedding_date: Option<NaiveDate>,
    /// The number of guests.
    pub guest_count: Option<u64>,
    /// Every other member, as the client gave it.
    pub others: Object,
}

impl Context {
    /// Takes the known members out of `fields` and keeps the rest.
    pub fn read(fields: &mut Fields) -> Self {
        let vendor_types = fields.texts("vendorTypes", 32, 1..=64).unwrap_or_default();
        Self {
            location: fields.text("location", 1..=256),
            vendor_types: normalize::name_set(vendor_types.iter().map(String::as_str)),
            budget: read_budget(fields),
            wedding_date: fields.parsed("weddingDate", "a date such as 2027-06-12", |text| {
                NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
            }),
            guest_count: fields.number("guestCount", 0..=1_000_000),
            others: fields.rest(),
        }
    }

    /// Appends every member to a canonical encoding.
    pub fn encode(&self, out: &mut Encoder) {
        let Self { location, vendor_types, budget, wedding_date, guest_count, others } = self;
        out.option(location.as_deref(), |out, text| {
            out.text(text);
        });
        out.u64(vendor_types.len() as u64);
        for name in vendor_types {
            out.text(name);
        }
        out.option(budget.as_ref(), |out, budget| {
            out.text(&budget.to_string());
        });
        out.option(*wedding_date, |out, date| {
            out.text(&date.to_string());
        });
        out.option(*guest_count, |out, count| {
            out.u64(count);
        });
        encode_object(others, out);
    }

    /// Returns the name and the value of every member that is present, in the order of the prompt.
    pub fn lines(&self) -> Vec<(&str, String)> {
        let Self { location, vendor_types, budget, wedding_date, guest_count, others } = self;
        let vendor_types = (!vendor_types.is_empty()).then(|| vendor_types.join(", "));
        let known = [
            ("location", location.clone()),
            ("vendorTypes", vendor_types),
            ("budget", budget.as_ref().map(ToString::to_string)),
            ("weddingDate", wedding_date.map(|date| date.to_string())),
            ("guestCount", guest_count.map(|count| count.to_string())),
        ];
        let others = others.iter().map(|(key, value)| {
            let text = match value {
                Json::Text(text) => text.clone(),
                other => serde_json::to_string(other).unwrap_or_default(),
            };
            (key.as_str(), text)
        });
        let known = known.into_iter().filter_map(|(label, value)| Some((label, value?)));
        known.chain(others).collect()
    }
}

fn read_budget(fields: &mut Fields) -> Option<Decimal> {
    match fields.take("budget")? {
        Json::Number(budget) if !budget.is_negative() => Some(budget),
        other => {
            let detail = format!("must be a number of at least 0, not {}", describe(&other));
            fields.refuse("budget", detail);
            None
        }
    }
}

const fn describe(value: &Json) -> &'static str {
    match value {
        Json::Number(_) => "a negative one",
        other => other.kind(),
    }
}
