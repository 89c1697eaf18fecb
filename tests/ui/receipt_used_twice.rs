//! A receipt is for one reading.

use ai_cache::audit::Receipt;
use ai_cache::crypto::Secret;
use ai_cache::domain::ids::{EntryId, TenantId};
use ai_cache::keyring::release;

fn read_twice(receipt: Receipt, tenant: TenantId, entry: EntryId, answer: &Secret) {
    let _first = release(receipt, tenant, entry, answer);
    let _second = release(receipt, tenant, entry, answer); //~ E0382
}

fn main() {}
