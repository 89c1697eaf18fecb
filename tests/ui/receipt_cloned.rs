//! A receipt cannot be copied.

use ai_cache::audit::Receipt;

fn copy(receipt: &Receipt) -> Receipt {
    Receipt::clone(receipt) //~ E0277
}

fn main() {}
