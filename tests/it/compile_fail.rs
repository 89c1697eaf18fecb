//! Programs that must not compile (architecture §2): no receipt, no plaintext; no record, no
//! commit.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is the test's failure")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The errors that the compiler tells of a program: lines and codes.
type Errors = BTreeSet<(u64, String)>;

/// The library that this test was built with, or another build of the same source.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let files = std::fs::read_dir(program.parent().unwrap()).unwrap().map(|file| file.unwrap());
    let libraries = files.filter(|file| {
        let name = file.file_name();
        let name = Path::new(&name);
        name.extension().is_some_and(|extension| extension == "rlib")
            && name.to_string_lossy().starts_with("libai_cache-")
    });
    let newest = libraries.max_by_key(|file| file.metadata().unwrap().modified().unwrap());
    newest.unwrap().path()
}

fn compile(file: &Path, library: &Path) -> Errors {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition", "2024", "--emit", "metadata", "--error-format", "json", "-o"])
        .arg(std::env::temp_dir().join(format!("ai-cache-{}.rmeta", std::process::id())))
        .arg("--extern")
        .arg(format!("ai_cache={}", library.display()))
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg(file)
        .output()
        .unwrap();
    assert!(!output.status.success(), "{} compiles", file.display());
    let text = String::from_utf8(output.stderr).unwrap();
    let told = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // An error without a code only counts the errors.
    let errors = told.filter(|told| told["level"] == "error" && told["code"].is_object());
    let found = errors.map(|error| {
        let spans = error["spans"].as_array().unwrap();
        let span = spans.iter().find(|span| span["is_primary"] == true);
        let line = span.map_or(0, |span| span["line_start"].as_u64().unwrap());
        (line, error["code"]["code"].as_str().unwrap().to_owned())
    });
    found.collect()
}

/// Returns the errors that a program expects: `//~` and a code at the end of a line.
fn told(file: &Path) -> Errors {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = (1..).zip(text.lines());
    let told = lines.filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1.to_owned())));
    told.collect()
}

/// Each program under tests/ui is refused by the compiler where it says so, and for that reason.
#[test]
fn plaintext_without_a_receipt_and_a_commit_without_a_record_do_not_compile() {
    let library = library();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let told = told(&file);
        assert!(!told.is_empty(), "{}", file.display());
        assert_eq!(compile(&file, &library), told, "{}", file.display());
        count += 1;
    }
    println!("{count} programs are refused");
    assert!(count > 0);
}
