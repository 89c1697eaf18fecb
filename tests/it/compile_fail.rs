//! What must not compile (architecture §2): no receipt, no plaintext; no record, no commit.

/// Each file under tests/ui is refused by the compiler, for the reason that stands beside it.
#[test]
fn plaintext_without_a_receipt_and_a_commit_without_a_record_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
