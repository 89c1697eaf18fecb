//! The parts that react to the invalidation stream.

use std::sync::Arc;

use crate::audit::RetentionClasses;
use crate::auth::Remembered;
use crate::coherence::{Event, Subscriber};
use crate::domain::selector::{Change, Group, Selector, Step};
use crate::keyring::Keyring;
use crate::telemetry::Metrics;
use crate::tiers::{Hot, Sweeper};

/// Makes the subscribers of the invalidation stream. The first of them is the sweeper, whose task
/// must be run.
pub(super) fn subscribers(
    hot: &Arc<Hot>,
    metrics: &Arc<Metrics>,
    remembered: &Arc<Remembered>,
    keyring: &Arc<Keyring>,
    classes: Arc<RetentionClasses>,
) -> (Arc<Sweeper>, Vec<Subscriber>) {
    let sweeper = Arc::new(Sweeper::new(Arc::clone(hot), Arc::clone(metrics)));
    let (hearing, remembered) = (Arc::clone(&sweeper), Arc::clone(remembered));
    let keyring = Arc::clone(keyring);
    let subscribers: Vec<Subscriber> = vec![
        Box::new(move |event| hearing.hear(event)),
        Box::new(move |event| match event {
            Event::Step(Step { change: Change::Token(token), .. }) => remembered.revoke(*token),
            Event::Step(_) | Event::Tenant(_) => {}
            Event::Lost => remembered.forget_all(),
        }),
        Box::new(move |event| match event {
            Event::Step(Step {
                tenant,
                change: Change::Entries(Selector::Group(Group::Subject(id))),
                ..
            }) => keyring.forget_subject(*tenant, *id),
            Event::Step(_) | Event::Tenant(_) => {}
            Event::Lost => keyring.forget_subjects(),
        }),
        Box::new(move |event| match event {
            Event::Tenant(row) => classes.set(row.id, row.rules.retention_days),
            Event::Step(_) | Event::Lost => {}
        }),
    ];
    (sweeper, subscribers)
}
