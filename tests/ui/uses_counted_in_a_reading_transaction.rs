//! A transaction that reads changes nothing, not even use counts.

use ai_cache::store::TenantTx;
use ai_cache::store::uses::{UseBatch, add};

async fn count(mut tx: TenantTx, batch: UseBatch) {
    let _counted = add(&mut tx, batch, &[]).await; //~ E0308
}

fn main() {}
