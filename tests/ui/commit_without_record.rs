//! A change is committed with the record of it.

use ai_cache::domain::ids::TenantId;
use ai_cache::store::{Ending, Store, StoreError};

async fn change(store: &Store, tenant: TenantId) {
    let change = store.change("a test", tenant, async |_tx| Ok::<_, StoreError>(Ending::Commit(()))); //~ E0061
    let _committed = change.await;
}

fn main() {}
