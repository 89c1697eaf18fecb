//! Finds markers in dumps whatever they are dressed as: plain, upper case, hex, base64 at each of its
//! three alignments, lists of byte values, and SHA-2 hashes of whole values.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512, Sha512_256};

/// Needles are found by their first bytes, then compared whole.
const BEGINNING: usize = 8;

/// The needles that are searched for.
#[derive(Default)]
pub struct Search {
    needles: HashMap<[u8; BEGINNING], Vec<(Vec<u8>, String)>>,
}

/// Returns bytes in the forms that show them wherever they stand in something longer.
pub fn disguises(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("plain", bytes.to_vec()),
        ("upper case", bytes.to_ascii_uppercase()),
        ("hex", hex::encode(bytes).into()),
        ("upper hex", hex::encode_upper(bytes).into()),
    ];
    for separator in [", ", ","] {
        let mut list = String::new();
        for byte in bytes {
            write!(list, "{byte}{separator}").unwrap();
        }
        forms.push(("byte list", list.trim_end_matches(separator).into()));
    }
    for (shift, cut) in [(0, 0), (1, 2), (2, 3)] {
        // The characters at the ends depend on the neighbours and are cut off.
        let padded = [&vec![0; shift][..], bytes].concat();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            let end = padded.len() * 8 / 6;
            forms.push(("base64", text[cut..end].into()));
        }
    }
    forms
}

/// The unkeyed hashes of a whole value that the service's crates could make.
fn hashes(value: &[u8]) -> [Vec<u8>; 5] {
    [
        Sha224::digest(value).to_vec(),
        Sha256::digest(value).to_vec(),
        Sha384::digest(value).to_vec(),
        Sha512::digest(value).to_vec(),
        Sha512_256::digest(value).to_vec(),
    ]
}

impl Search {
    fn add(&mut self, needle: Vec<u8>, name: String) {
        let beginning = *needle.first_chunk().unwrap();
        self.needles.entry(beginning).or_default().push((needle, name));
    }

    /// Looks for these bytes in every disguise.
    pub fn marker(&mut self, bytes: &[u8]) {
        for (form, needle) in disguises(bytes) {
            self.add(needle, format!("{} as {form}", String::from_utf8_lossy(bytes)));
        }
    }

    /// Looks for a hash given in bytes, as it is, in hex and in base64.
    pub fn hash(&mut self, hash: &[u8], of: &str) {
        let name = format!("a hash of {of}");
        self.add(hash.to_vec(), name.clone());
        self.add(hex::encode(hash).into(), name.clone());
        self.add(hex::encode_upper(hash).into(), name.clone());
        self.add(STANDARD_NO_PAD.encode(hash).into(), name.clone());
        self.add(URL_SAFE_NO_PAD.encode(hash).into(), name);
    }

    /// Looks for the unkeyed hashes of a whole value, bare and as a JSON string.
    pub fn hashes_of(&mut self, value: &str) {
        for written in [value.to_owned(), format!("\"{value}\"")] {
            for hash in hashes(written.as_bytes()) {
                self.hash(&hash, &written);
            }
        }
    }

    /// Returns the number of needles.
    pub fn len(&self) -> usize {
        self.needles.values().map(Vec::len).sum()
    }

    /// Returns the needles that are found, once a place.
    pub fn hits(&self, dump: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for at in 0..dump.len() {
            let rest = &dump[at..];
            let here = rest.first_chunk::<BEGINNING>().and_then(|first| self.needles.get(first));
            let here = here.into_iter().flatten().filter(|(needle, _)| rest.starts_with(needle));
            found.extend(here.map(|(_, name)| name.as_str()));
        }
        found
    }
}

/// A text dump of Postgres, and after it the bytes of every `bytea` in it.
pub fn with_bytea_decoded(dump: &[u8]) -> Vec<u8> {
    let mut out = dump.to_vec();
    for (at, _) in dump.windows(2).enumerate().filter(|(_, pair)| pair == b"\\x") {
        let digits = dump[at + 2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digits = &dump[at + 2..at + 2 + digits / 2 * 2];
        out.push(b'\n');
        out.extend_from_slice(&hex::decode(digits).unwrap());
    }
    out
}

/// Every disguise is seen through wherever it stands, and nothing else is taken for one.
#[test]
fn the_search_finds_a_marker_in_every_disguise() {
    let mut search = Search::default();
    search.marker(b"quokka-quartz-");
    search.hashes_of("a question");
    for text in ["quokka-quartz-7", "a quokka-quartz-7!", "the quokka-quartz-7", "QUOKKA-QUARTZ-7"]
    {
        let dressed = [
            text.to_owned(),
            hex::encode(text),
            hex::encode_upper(text),
            STANDARD_NO_PAD.encode(text),
            URL_SAFE_NO_PAD.encode(text),
            format!("{:?}", text.as_bytes()),
        ];
        for (number, dress) in dressed.iter().enumerate() {
            let upper = text.starts_with('Q') && number > 0;
            let dump =
                with_bytea_decoded(format!("COPY\n1\t\\\\x{}\n", hex::encode(dress)).as_bytes());
            assert_eq!(search.hits(dress.as_bytes()).is_empty(), upper, "{dress}");
            assert_eq!(search.hits(&dump).is_empty(), upper, "{dress} as bytea");
        }
    }
    for hash in hashes(b"a question") {
        let dump = [b"xx".as_slice(), &hash, b"yy"].concat();
        assert_eq!(search.hits(&dump).len(), 1);
        assert_eq!(search.hits(hex::encode(&hash).as_bytes()).len(), 1);
        assert!(!search.hits(STANDARD_NO_PAD.encode(&hash).as_bytes()).is_empty());
    }
    assert_eq!(search.hits(b"nothing of the kind, quokka quartz").len(), 0);
}
