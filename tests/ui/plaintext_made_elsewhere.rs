//! Only the keyring makes plaintext.

use ai_cache::keyring::Plaintext;

fn forge(bytes: Vec<u8>) -> Plaintext {
    Plaintext(bytes) //~ E0423
}

fn main() {}
