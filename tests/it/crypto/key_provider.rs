//! Master keys from text and from files. That a file the service may not read stops it is shown
//! where the service runs as an unprivileged user.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ai_cache::crypto::{CryptoError, Key, KeyProvider, KeyProviderError, MasterKeyId, Sealed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;

/// A folder of one test's own, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let unique = format!("key-provider-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, text: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join("master.key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One key as it is written.
fn item(id: &str, byte: u8) -> String {
    format!("{id}:{}", STANDARD.encode([byte; 32]))
}

fn provider(items: &[String]) -> KeyProvider {
    KeyProvider::from_text(&items.join(",")).unwrap()
}

fn unwrapped(provider: &KeyProvider, id: &str, wrapped: &Sealed, bound: &[u8]) -> Option<[u8; 32]> {
    match provider.unwrap(id, wrapped, bound) {
        Ok(key) => Some(*key.as_bytes()),
        Err(error) => {
            assert_eq!(error, CryptoError::DoesNotOpen);
            None
        }
    }
}

#[test]
fn a_missing_file_is_made_once_and_only_its_owner_may_read_it() {
    let folder = Folder::new("made");
    let path = folder.0.join("master.key");
    let first = KeyProvider::from_file_or_new(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let wrapped = first.wrap(&super::key(9), b"bound").unwrap();
    for again in [
        KeyProvider::from_file_or_new(&path).unwrap(),
        KeyProvider::from_file(&path).unwrap(),
        KeyProvider::from_text(&text).unwrap(),
    ] {
        let id = again.active_id().as_str();
        assert_eq!(unwrapped(&again, id, &wrapped, b"bound"), Some([9; 32]));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let other = Folder::new("made-too");
    let other = KeyProvider::from_file_or_new(&other.0.join("master.key")).unwrap();
    let id = other.active_id().as_str();
    assert_eq!(unwrapped(&other, id, &wrapped, b"bound"), None, "two files, two keys");
}

#[rstest]
#[case(0o644)]
#[case(0o640)]
#[case(0o604)]
#[case(0o660)]
#[case(0o610)]
#[case(0o601)]
#[case(0o777)]
fn a_file_that_others_may_touch_is_refused(#[case] mode: u32) {
    let folder = Folder::new(&format!("mode-{mode:o}"));
    let path = folder.file(item("k1", 1).as_bytes(), mode);
    for result in [KeyProvider::from_file(&path), KeyProvider::from_file_or_new(&path)] {
        let error = result.unwrap_err();
        let is_mode =
            matches!(error, KeyProviderError::FileMode { mode: found, .. } if found == mode);
        assert!(is_mode, "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[rstest]
#[case(0o600)]
#[case(0o400)]
fn a_file_of_its_owner_alone_is_read(#[case] mode: u32) {
    let folder = Folder::new(&format!("own-{mode:o}"));
    let path = folder.file(format!("{}\n", item("k1", 1)).as_bytes(), mode);
    assert_eq!(KeyProvider::from_file(&path).unwrap().active_id().as_str(), "k1");
    let link = folder.0.join("link");
    symlink(&path, &link).unwrap();
    assert!(KeyProvider::from_file(&link).is_ok());
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_refused_in_one_line() {
    let folder = Folder::new("unreadable");
    let missing = KeyProvider::from_file(&folder.0.join("none")).unwrap_err();
    let beyond = KeyProvider::from_file_or_new(&folder.0.join("none/master.key")).unwrap_err();
    let binary = KeyProvider::from_file(&folder.file(b"k1:\xff\xfe", 0o600)).unwrap_err();
    for error in [missing, beyond, binary] {
        assert!(matches!(error, KeyProviderError::File { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    let empty = KeyProvider::from_file(&folder.file(b"", 0o600)).unwrap_err();
    assert!(matches!(empty, KeyProviderError::Malformed));
}

#[rstest]
#[case::empty("")]
#[case::only_separators(" ,\n, ")]
#[case::no_id("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::empty_id(":MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::capital_id("K1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::long_id("abcdefghijklmnopq:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::empty_key("k1:")]
#[case::short_key("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MA==")]
#[case::long_key("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEy")]
#[case::no_padding("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE")]
#[case::not_base64("k1:!!!!MzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::space_inside("k1: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")]
#[case::id_twice(
    "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,\
     k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDI="
)]
#[case::second_bad("k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,k2")]
fn a_malformed_list_is_refused_without_being_repeated(#[case] text: &str) {
    let error = KeyProvider::from_text(text).unwrap_err();
    assert!(matches!(error, KeyProviderError::Malformed));
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("MDEy") && shown.lines().count() == 1);
}

#[test]
fn commas_lines_and_white_space_separate_keys_and_the_first_is_active() {
    let text = format!("  {},\r\n\n{} \n", item("new", 1), item("old-2", 2));
    let keys = KeyProvider::from_text(&text).unwrap();
    assert_eq!(keys.active_id().as_str(), "new");
    let wrapped = provider(&[item("old-2", 2)]).wrap(&super::key(9), b"").unwrap();
    assert_eq!(unwrapped(&keys, "old-2", &wrapped, b""), Some([9; 32]));
}

#[test]
fn a_key_wrapped_under_an_older_master_key_is_unwrapped_by_its_id_only() {
    let old = provider(&[item("k1", 1)]);
    let wrapped = old.wrap(&super::key(9), b"tenant 7").unwrap();
    let rotated = provider(&[item("k2", 2), item("k1", 1)]);
    assert_eq!(unwrapped(&rotated, "k1", &wrapped, b"tenant 7"), Some([9; 32]));
    assert_eq!(unwrapped(&rotated, "k2", &wrapped, b"tenant 7"), None);
    assert_eq!(unwrapped(&rotated, "k3", &wrapped, b"tenant 7"), None);
    assert_eq!(unwrapped(&rotated, "k1", &wrapped, b"tenant 8"), None);
    let dropped = provider(&[item("k2", 2)]);
    assert_eq!(unwrapped(&dropped, "k1", &wrapped, b"tenant 7"), None);
    // Under its old name, but other bytes.
    let wrong = provider(&[item("k1", 3)]);
    assert_eq!(unwrapped(&wrong, "k1", &wrapped, b"tenant 7"), None);
}

#[test]
fn a_sealed_value_that_holds_no_key_is_not_unwrapped() {
    let keys = provider(&[item("k1", 1)]);
    let context =
        ai_cache::crypto::SealContext { field: "wrapped key", key_version: 1, bound: b"" };
    for text in [&b""[..], &[9; 31], &[9; 33]] {
        let sealed = Sealed::seal(&super::key(1), &context, text).unwrap();
        assert_eq!(unwrapped(&keys, "k1", &sealed, b""), None);
    }
    let sealed = Sealed::seal(&super::key(1), &context, &[9; 32]).unwrap();
    assert_eq!(unwrapped(&keys, "k1", &sealed, b""), Some([9; 32]));
}

#[test]
fn the_audit_key_hangs_on_the_active_master_key_alone() {
    let mac = |items: &[String]| provider(items).audit_mac_key().mac(b"record");
    let alone = mac(&[item("k1", 1)]);
    assert_eq!(mac(&[item("k1", 1), item("k2", 2)]), alone);
    assert_ne!(mac(&[item("k2", 2), item("k1", 1)]), alone);
    let fresh = Key::random().unwrap();
    assert_ne!(ai_cache::crypto::MacKey::derive(&fresh, "x").mac(b"record"), alone);
}

#[test]
fn wrapping_keys_wrap_persons_keys_alone() {
    let keys = provider(&[item("wrap-7", 7), item("k1", 1), item("wrap-6", 6), item("k0", 2)]);
    assert_eq!(keys.active_id().as_str(), "k1");
    let (id, wrapped) = keys.wrap_persons(&super::key(9), b"person").unwrap();
    assert_eq!(id.as_str(), "wrap-7");
    assert_eq!(unwrapped(&keys, "wrap-7", &wrapped, b"person"), Some([9; 32]));
    let tenants = keys.wrap(&super::key(8), b"tenant").unwrap();
    assert_eq!(unwrapped(&keys, "k1", &tenants, b"tenant"), Some([8; 32]));
    let mac = |keys: &KeyProvider| keys.audit_mac_key().mac(b"record");
    assert_eq!(mac(&keys), mac(&provider(&[item("k1", 1)])));
    // The provider is as before there were wrapping keys.
    let (id, _) = provider(&[item("k1", 1)]).wrap_persons(&super::key(9), b"").unwrap();
    assert_eq!(id.as_str(), "k1");
    let alone = KeyProvider::from_text(&item("wrap-1", 1)).unwrap_err();
    assert!(matches!(alone, KeyProviderError::Malformed));
}

#[test]
fn a_file_is_read_anew_and_changed_by_one_at_a_time() {
    let folder = Folder::new("changed");
    let path = folder.file(format!("{},{}", item("k1", 1), item("wrap-1", 2)).as_bytes(), 0o600);
    let keys = KeyProvider::from_file(&path).unwrap();
    let follower = KeyProvider::from_file(&path).unwrap();
    let file = keys.lock().unwrap().unwrap();
    assert!(matches!(follower.lock(), Err(KeyProviderError::Busy(_))));
    assert_eq!(file.add_wrapping_key(2).unwrap().as_str(), "wrap-2");
    let (id, wrapped) = keys.wrap_persons(&super::key(9), b"").unwrap();
    assert_eq!(id.as_str(), "wrap-2");
    let (id, before) = follower.wrap_persons(&super::key(9), b"").unwrap();
    assert_eq!(id.as_str(), "wrap-1");
    // A name it does not know makes it look.
    assert_eq!(unwrapped(&follower, "wrap-2", &wrapped, b""), Some([9; 32]));
    assert_eq!(follower.wrap_persons(&super::key(9), b"").unwrap().0.as_str(), "wrap-2");
    file.remove_wrapping_keys(&[MasterKeyId::parse("wrap-1").unwrap()]).unwrap();
    assert_eq!(unwrapped(&keys, "wrap-1", &before, b""), None);
    assert!(follower.refresh().unwrap() && !follower.refresh().unwrap());
    assert_eq!(unwrapped(&follower, "wrap-1", &before, b""), None);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    drop(file);
    assert!(follower.lock().unwrap().is_some());
    assert!(provider(&[item("k1", 1)]).lock().unwrap().is_none());
}

#[test]
fn debug_output_names_the_active_key_and_shows_none() {
    let shown = format!("{:?}", provider(&[item("k1", 77), item("k2", 78)]));
    assert!(shown.contains("k1"));
    for secret in ["77", "78", &STANDARD.encode([77; 32])] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(MasterKeyId::parse("k1").unwrap().as_str(), "k1");
}
