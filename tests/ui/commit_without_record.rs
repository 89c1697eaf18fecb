//! A change is committed with the record of it.

use ai_cache::store::WriteTx;

async fn change(tx: WriteTx) {
    let _committed = tx.commit().await; //~ E0061
}

fn main() {}
