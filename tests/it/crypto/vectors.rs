//! Known answers: the tables in `tests/it/vectors`.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use ai_cache::crypto::{Key, MacKey, SealContext, Sealed, sha256};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::opened;

fn tests(table: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(table).unwrap();
    table["tests"].as_array().unwrap().clone()
}

fn bytes(test: &Value, field: &str) -> Vec<u8> {
    hex::decode(test[field].as_str().unwrap()).unwrap()
}

/// Valid ones seal to the given bytes and open; those with a changed tag, text, nonce, key or bound
/// data do not open.
#[test]
fn aes_256_gcm_agrees_with_the_vectors() {
    let (mut valid, mut invalid) = (0, 0);
    for test in tests(include_str!("../vectors/aes_256_gcm.json")) {
        let cipher = Aes256Gcm::new_from_slice(&bytes(&test, "key")).unwrap();
        let nonce: [u8; 12] = bytes(&test, "iv").try_into().unwrap();
        let (aad, text) = (bytes(&test, "aad"), bytes(&test, "msg"));
        let sealed = [bytes(&test, "ct"), bytes(&test, "tag")].concat();
        let payload = |msg| Payload { msg, aad: &aad };
        let result = cipher.decrypt(&Nonce::from(nonce), payload(&sealed));
        if test["result"] == "valid" {
            assert_eq!(result.unwrap(), text, "{}", test["comment"]);
            let again = cipher.encrypt(&Nonce::from(nonce), payload(&text));
            assert_eq!(again.unwrap(), sealed, "{}", test["comment"]);
            valid += 1;
        } else {
            assert_eq!(test["result"], "invalid");
            assert!(result.is_err(), "{}", test["comment"]);
            invalid += 1;
        }
    }
    assert_eq!((valid, invalid), (30, 50));
}

#[test]
fn hmac_sha_256_agrees_with_rfc_4231() {
    let mut compared = 0;
    for test in tests(include_str!("../vectors/hmac_sha256.json")) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&bytes(&test, "key")).unwrap();
        mac.update(&bytes(&test, "msg"));
        let tag = bytes(&test, "tag");
        assert_eq!(mac.finalize().into_bytes()[..tag.len()], tag, "{}", test["id"]);
        compared += 1;
    }
    assert_eq!(compared, 7);
}

/// RFC 4231's first key, filled up with zeros as HMAC does itself, makes its first tag the derived
/// key.
#[test]
fn a_derived_mac_key_is_the_mac_of_its_purpose() {
    let mut key = [0; 32];
    key[..20].fill(0x0b);
    let derived = MacKey::derive(&Key::from_slice(&key).unwrap(), "Hi There");
    let expected = "9c5ae0b74fe91523c7526690b3d7a759d279c52be22b0f9e55731f12d76780e2";
    assert_eq!(hex::encode(derived.mac(b"message")), expected);
    assert_eq!(derived.mac(b"message"), derived.clone().mac(b"message"));
    assert_ne!(derived.mac(b"message"), derived.mac(b"message\0"));
    assert_eq!(format!("{derived:?}"), "[redacted]");
}

#[test]
fn mac_keys_of_two_purposes_or_keys_differ() {
    let macs: std::collections::BTreeSet<[u8; 32]> = [(1, "a"), (1, "b"), (1, ""), (2, "a")]
        .map(|(byte, purpose)| MacKey::derive(&super::key(byte), purpose).mac(b"message"))
        .into();
    assert_eq!(macs.len(), 4);
}

/// FIPS 180-4's example.
#[test]
fn sha_256_agrees_with_its_standard() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex::encode(sha256(b"abc")), expected);
}

/// Pins both formats, HKDF and AES-256-GCM as sealing puts them together: values made by
/// another implementation open.
#[test]
fn values_sealed_by_another_implementation_open() {
    let mut opened_values = 0;
    for test in tests(include_str!("../vectors/sealed.json")) {
        let key = Key::from_slice(&bytes(&test, "key")).unwrap();
        let bound = bytes(&test, "bound");
        let version = test["keyVersion"].as_i64().unwrap();
        let context = SealContext {
            field: test["field"].as_str().unwrap(),
            key_version: i32::try_from(version).unwrap(),
            bound: &bound,
        };
        let sealed = Sealed::from_bytes(bytes(&test, "sealed"));
        let text = opened(&sealed, &key, &context);
        assert_eq!(text, Some(bytes(&test, "msg")), "{}", test["id"]);
        opened_values += 1;
    }
    assert_eq!(opened_values, 8);
}
