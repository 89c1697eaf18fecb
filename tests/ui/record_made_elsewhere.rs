//! Only inserting a record gives the proof that it is there.

use ai_cache::domain::ids::AuditId;
use ai_cache::store::{Ending, Recorded};

fn end(id: AuditId) -> Ending<()> {
    Ending::Commit(Recorded(id), ()) //~ E0423
}

fn main() {}
