//! What the documents list is what there is.

use std::collections::BTreeMap;

use ai_cache::http::problem::ProblemKind;

/// The rows of docs/ERRORS.md: status by slug.
fn documented() -> BTreeMap<String, u16> {
    let rows = include_str!("../../docs/ERRORS.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let slug = cells.next()?.strip_suffix('`')?;
        let status = cells.next()?.parse().ok()?;
        Some((slug.to_owned(), status))
    });
    rows.collect()
}

#[test]
fn every_kind_of_problem_is_documented_and_no_other() {
    let kinds: BTreeMap<String, u16> =
        ProblemKind::ALL.iter().map(|kind| (kind.slug().to_owned(), kind.status())).collect();
    assert!(!kinds.is_empty());
    assert_eq!(documented(), kinds);
}
