//! Nothing an entry is bound to and nothing a record says can change without its bytes changing.

use std::collections::BTreeSet;

use ai_cache::domain::action::Action;
use ai_cache::domain::audit_record::{Actor, AuditRecord, Outcome, RetentionClass, WriterPlace};
use ai_cache::domain::cache_key::CacheKey;
use ai_cache::domain::entry::{EntryMeta, Place, SealedField, Tier, Windows};
use ai_cache::domain::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId,
};
use ai_cache::domain::money::{Usage, Usd};
use ai_cache::domain::network::Network;
use ai_cache::domain::operation::Operation;
use ai_cache::domain::selector::Generation;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

fn uuid(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn meta() -> EntryMeta {
    EntryMeta {
        id: EntryId(uuid(1)),
        operation: Operation::Chat,
        subject_key: None,
        key_version: 1,
        created_at: at(0),
        expires_at: at(60),
        usage: Usage { prompt_tokens: 1, completion_tokens: 2 },
        cost: Usd(3),
    }
}

fn place() -> Place {
    Place { tenant: TenantId(uuid(2)), key: CacheKey([3; 32]), generation: Generation(4) }
}

#[test]
fn an_entry_is_bound_to_each_part_of_its_place_and_metadata() {
    let edits: [fn(&mut EntryMeta, &mut Place); 13] = [
        |_, _| {},
        |meta, _| meta.id = EntryId(uuid(9)),
        |meta, _| meta.operation = Operation::MealPlan,
        |meta, _| meta.subject_key = Some(SubjectKeyId(uuid(0))),
        |meta, _| meta.subject_key = Some(SubjectKeyId(uuid(1))),
        |meta, _| meta.key_version = 2,
        |meta, _| meta.created_at += TimeDelta::microseconds(1),
        |meta, _| meta.expires_at += TimeDelta::microseconds(1),
        |meta, _| std::mem::swap(&mut meta.usage.prompt_tokens, &mut meta.usage.completion_tokens),
        |meta, _| meta.cost = Usd(4),
        |_, place| place.tenant = TenantId(uuid(9)),
        |_, place| place.key = CacheKey([9; 32]),
        |_, place| place.generation = Generation(5),
    ];
    let mut seen = BTreeSet::new();
    for edit in edits {
        let (mut meta, mut place) = (meta(), place());
        edit(&mut meta, &mut place);
        for field in [SealedField::Answer, SealedField::Question, SealedField::Labels] {
            seen.insert(meta.bound_data(&place, field));
        }
    }
    assert_eq!(seen.len(), edits.len() * 3);
}

#[test]
fn an_entry_is_fresh_until_it_expires() {
    let meta = meta();
    assert!(meta.is_fresh(at(59)));
    assert!(!meta.is_fresh(at(60)));
    assert_eq!(meta.age(at(-5)), TimeDelta::zero());
    assert_eq!(meta.age(at(5)).num_seconds() + meta.seconds_left(at(5)), 60);
    assert_eq!(meta.seconds_left(at(99)), -39);
    let almost = TimeDelta::milliseconds(1);
    let left = [at(59) + almost, at(60) - almost, at(60), at(60) + almost];
    assert_eq!(left.map(|now| meta.seconds_left(now)), [0, 0, 0, -1]);
}

/// RFC 5861: the longer of the two windows says how long an entry may be of use.
#[test]
fn an_entry_is_of_use_until_the_longer_window_ends() {
    let seconds = TimeDelta::seconds;
    let windows =
        |first, second| Windows { while_revalidate: seconds(first), if_error: seconds(second) };
    assert_eq!(windows(5, 30).usable_until(at(60)), at(90));
    assert_eq!(windows(30, 5).usable_until(at(60)), at(90));
    assert_eq!(Windows::default().usable_until(at(60)), at(60));
}

fn token_actor(roles: &str, network: Option<&str>) -> Actor {
    Actor::Token {
        id: TokenId(uuid(5)),
        roles: roles.into(),
        network: network.map(|text| Network::of(text.parse().unwrap())),
    }
}

fn record() -> AuditRecord {
    AuditRecord {
        id: AuditId(uuid(1)),
        tenant: TenantId(uuid(2)),
        class: RetentionClass::OneYear,
        at: at(0),
        request: RequestId(uuid(3)),
        actor: token_actor("app", Some("203.0.113.7")),
        action: Action::Query,
        outcome: Outcome::Hit,
        operation: None,
        tier: None,
        entry: None,
        subject_key: None,
        object: None,
        status: 200,
        count: 1,
        duration_us: 2,
        cost: Usd(3),
    }
}

#[test]
fn a_record_is_hashed_over_each_of_its_fields() {
    let edits: [fn(&mut AuditRecord); 28] = [
        |_| {},
        |record| record.id = AuditId(uuid(9)),
        |record| record.tenant = TenantId(uuid(9)),
        |record| record.class = RetentionClass::TenYears,
        |record| record.at += TimeDelta::microseconds(1),
        |record| record.request = RequestId(uuid(9)),
        |record| record.actor = Actor::CommandLine,
        |record| record.actor = Actor::Service,
        |record| record.actor = Actor::Anonymous { network: None },
        |record| {
            let network = Some(Network::of("203.0.113.7".parse().unwrap()));
            record.actor = Actor::Anonymous { network };
        },
        |record| record.actor = token_actor("app+admin", Some("203.0.113.7")),
        |record| record.actor = token_actor("app", Some("203.0.114.7")),
        |record| record.actor = token_actor("app", None),
        |record| record.action = Action::Fill,
        |record| record.outcome = Outcome::Miss,
        |record| record.operation = Some(Operation::Chat),
        |record| record.operation = Some(Operation::MealPlan),
        |record| record.tier = Some(Tier::Hot),
        |record| record.tier = Some(Tier::Warm),
        |record| record.entry = Some(EntryId(uuid(9))),
        |record| record.subject_key = Some(SubjectKeyId(uuid(9))),
        |record| record.object = Some(uuid(9)),
        |record| record.object = Some(uuid(8)),
        |record| record.status = 201,
        |record| record.count = -1,
        |record| record.count = 2,
        |record| record.duration_us = 3,
        |record| record.cost = Usd(4),
    ];
    let ledger = LedgerId(uuid(7));
    let place = |byte, seq| Some(WriterPlace { writer: WriterId(uuid(byte)), seq });
    let mut seen = BTreeSet::new();
    for edit in edits {
        let mut record = record();
        edit(&mut record);
        seen.insert(record.canonical(ledger, None));
    }
    let plain = record();
    seen.insert(plain.canonical(LedgerId(uuid(8)), None));
    seen.insert(plain.canonical(ledger, place(1, 1)));
    seen.insert(plain.canonical(ledger, place(1, 2)));
    seen.insert(plain.canonical(ledger, place(2, 1)));
    assert_eq!(seen.len(), edits.len() + 4);
}

#[test]
fn names_that_records_store_are_told_apart() {
    let actions: BTreeSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
    let outcomes: BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert_eq!(actions.len(), Action::ALL.len());
    assert_eq!(outcomes.len(), Outcome::ALL.len());
}
