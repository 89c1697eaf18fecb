#[test]
fn t() {
    use ai_cache::domain::json::Json;
    for s in [
        "1",
        "{}",
        "{\"a\":1}",
        "[1,2]",
        "{\"a\":\"x\"}",
        "{\"a\":{\"b\":1}}",
        "{\"a\":{\"b\":\"x\"}}",
    ] {
        eprintln!("{s} {:?}", Json::parse(s.as_bytes()));
    }
}
