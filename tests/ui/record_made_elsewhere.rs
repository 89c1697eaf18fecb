//! Only inserting a record gives the proof that it is there.

use ai_cache::domain::ids::AuditId;
use ai_cache::store::{Recorded, WriteTx};

async fn change(tx: WriteTx, id: AuditId) {
    let _committed = tx.commit(Recorded(id)).await; //~ E0423
}

fn main() {}
