//! Sealed bytes in the wrong place, or changed, do not open (W9): in Postgres. 0 answers from the
//! wrong entry, a record of each failure, and the right answer all the same.

use ai_cache::domain::caller::Role;
use rstest::rstest;

use crate::support::{TestApp, TestDb};

pub const FIRST: &str = "the first question";
pub const SECOND: &str = "the second question";

/// Answers in the store, by tenant and question, and no process that remembers them.
pub struct Kept {
    pub db: TestDb,
    redis_url: Option<String>,
    answers: Vec<(String, &'static str, String)>,
}

/// The reply of a fresh process.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Answers that belong to another question or tenant, or to nothing.
    pub wrong: usize,
    /// Answers that the upstream gave anew.
    pub fresh: usize,
    /// Records of values that did not open.
    pub failures: i64,
}

/// Asks each question as each tenant, so that memory, Postgres and Redis hold the answers.
pub async fn keep(
    redis_url: Option<&str>,
    tenants: &[&str],
    questions: &[&'static str],
) -> (TestApp, Kept) {
    let app = match redis_url {
        Some(url) => TestApp::builder().redis_url(url).start().await,
        None => TestApp::start().await,
    };
    let mut answers = Vec::new();
    for slug in tenants {
        let tenant = app.tenant(slug).await;
        let token = app.token(tenant.id, &[Role::App]).await;
        for question in questions {
            // The upstream numbers its answers: no two are alike.
            let reply = tenant.app.ask(question).await.expect(200);
            let answer = reply.body["data"]["response"].as_str().unwrap().to_owned();
            answers.push((token.clone(), *question, answer));
        }
    }
    let kept = Kept { db: app.db.clone(), redis_url: redis_url.map(str::to_owned), answers };
    (app, kept)
}

impl Kept {
    /// Runs a statement as the superuser, which must change this many rows.
    pub async fn tamper(&self, change: &str, rows: u64) {
        assert_eq!(self.db.superuser().await.execute(change, &[]).await.unwrap(), rows, "{change}");
    }

    /// Asks everything again of a process that remembers nothing.
    pub async fn ask_afresh(&self) -> Outcome {
        let mut builder = TestApp::builder().db(&self.db);
        if let Some(url) = &self.redis_url {
            builder = builder.redis_url(url);
        }
        let app = builder.start().await;
        app.upstream.answer_with(|asked| format!("anew: {asked}"));
        let (mut wrong, mut fresh) = (0, 0);
        for (token, question, answer) in &self.answers {
            let reply = app.client.with_token(token).ask(question).await.expect(200);
            let told = reply.body["data"]["response"].as_str().unwrap();
            let anew = told == format!("anew: {question}");
            assert_eq!(reply.body["cached"], !anew, "{told}");
            fresh += usize::from(anew);
            wrong += usize::from(!anew && told != answer);
        }
        let query = "SELECT count(*) FROM ai_cache_audit_logs WHERE outcome = 'integrity-failure'";
        let failures = self.db.count(query).await;
        assert_eq!(app.upstream.calls(), fresh);
        app.stop().await;
        println!("{} asked: {wrong} wrong, {fresh} anew, {failures} failures", self.answers.len());
        Outcome { wrong, fresh, failures }
    }
}

/// An untouched value is served, so the tests below do not pass for want of a cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_as_it_was_is_served_by_another_process() {
    let (app, kept) = keep(None, &["acme", "other"], &[FIRST, SECOND]).await;
    app.stop().await;
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 0, failures: 0 });
}

/// Two entries' sealed answers change places, alone and with all the metadata they are bound to.
#[rstest]
#[case::bytes("answer_sealed = o.answer_sealed")]
#[case::with_lifetime(
    "answer_sealed = o.answer_sealed, created_at = o.created_at, expires_at = o.expires_at"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_changed_places_are_not_served(
    #[case] columns: &str,
    #[values(true, false)] one_tenant: bool,
) {
    let (tenants, questions): (&[_], &[_]) =
        if one_tenant { (&["acme"], &[FIRST, SECOND]) } else { (&["acme", "other"], &[FIRST]) };
    let (app, kept) = keep(None, tenants, questions).await;
    app.stop().await;
    let swap = format!(
        "UPDATE ai_cache_entries e SET {columns} FROM ai_cache_entries o
         WHERE o.entry_id <> e.entry_id"
    );
    kept.tamper(&swap, 2).await;
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 2, failures: 2 });
}

/// Two whole rows change places: each is where the other's question looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_under_each_others_cache_key_are_not_served() {
    let (app, kept) = keep(None, &["acme"], &[FIRST, SECOND]).await;
    app.stop().await;
    let swap = "ALTER TABLE ai_cache_entries DROP CONSTRAINT ai_cache_entries_pk;
        UPDATE ai_cache_entries e SET cache_key = o.cache_key FROM ai_cache_entries o
        WHERE o.entry_id <> e.entry_id;
        ALTER TABLE ai_cache_entries
            ADD CONSTRAINT ai_cache_entries_pk PRIMARY KEY (tenant_id, cache_key)";
    kept.db.superuser().await.batch_execute(swap).await.unwrap();
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 2, failures: 2 });
}

/// Two whole rows change places across tenants, with everything but the tenant and the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_given_to_another_tenant_is_not_served() {
    let (app, kept) = keep(None, &["acme", "other"], &[FIRST]).await;
    app.stop().await;
    let give = "ALTER TABLE ai_cache_entries DROP CONSTRAINT ai_cache_entries_pk,
            DROP CONSTRAINT ai_cache_entries_entry_unique;
        UPDATE ai_cache_entries e SET tenant_id = o.tenant_id, cache_key = o.cache_key
        FROM ai_cache_entries o WHERE o.entry_id <> e.entry_id;
        ALTER TABLE ai_cache_entries
            ADD CONSTRAINT ai_cache_entries_pk PRIMARY KEY (tenant_id, cache_key)";
    kept.db.superuser().await.batch_execute(give).await.unwrap();
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 2, failures: 2 });
}

/// Any change of the bytes or of what they are bound to.
#[rstest]
#[case::first_byte("answer_sealed = set_byte(answer_sealed, 0, get_byte(answer_sealed, 0) # 1)")]
#[case::salt("answer_sealed = set_byte(answer_sealed, 9, get_byte(answer_sealed, 9) # 128)")]
#[case::middle("answer_sealed = set_byte(answer_sealed, 100, get_byte(answer_sealed, 100) # 1)")]
#[case::last_byte(
    "answer_sealed = set_byte(answer_sealed, length(answer_sealed) - 1,
                              get_byte(answer_sealed, length(answer_sealed) - 1) # 1)"
)]
#[case::cut_short("answer_sealed = substr(answer_sealed, 1, length(answer_sealed) - 1)")]
#[case::lengthened("answer_sealed = answer_sealed || '\\x00'")]
#[case::empty("answer_sealed = ''")]
#[case::question_for_answer("answer_sealed = question_sealed")]
#[case::labels_for_answer("answer_sealed = labels_sealed")]
#[case::prolonged("expires_at = expires_at + interval '1 year'")]
#[case::rejuvenated("created_at = created_at + interval '1 second'")]
#[case::renamed("entry_id = gen_random_uuid()")]
#[case::other_operation("operation = 'chat'")]
#[case::other_key_version("key_version = key_version + 1")]
#[case::given_a_person("subject_key_id = gen_random_uuid()")]
#[case::cheaper("cost_picousd = cost_picousd - 1")]
#[case::fewer_tokens("completion_tokens = completion_tokens - 1")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_row_does_not_open(#[case] change: &str) {
    let (app, kept) = keep(None, &["acme"], &[FIRST]).await;
    app.stop().await;
    kept.tamper(&format!("UPDATE ai_cache_entries SET {change}"), 1).await;
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 1, failures: 1 });
}

/// An entry of a generation that an invalidation ended, set to the present one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_brought_back_from_before_an_invalidation_does_not_open() {
    let (app, kept) = keep(None, &["acme"], &[FIRST]).await;
    let before = "CREATE SCHEMA aside; CREATE TABLE aside.old AS TABLE ai_cache_entries";
    kept.db.superuser().await.batch_execute(before).await.unwrap();
    let tenant = app.rooms().administration.list_tenants().await.unwrap();
    let tenant = tenant.iter().find(|tenant| tenant.slug == "acme").unwrap().id;
    let admin = app.client.with_token(&app.token(tenant, &[Role::Admin]).await);
    let all = serde_json::json!({ "invalidateAll": true });
    admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    app.stop().await;
    let restore = "DELETE FROM ai_cache_entries;
        ALTER TABLE aside.old DROP COLUMN sealed_bytes, DROP COLUMN withdrawn_at;
        UPDATE aside.old SET generation = (SELECT generation FROM invalidation_state s
                                     WHERE s.tenant_id = old.tenant_id);
        INSERT INTO ai_cache_entries TABLE aside.old";
    kept.db.superuser().await.batch_execute(restore).await.unwrap();
    assert_eq!(kept.ask_afresh().await, Outcome { wrong: 0, fresh: 1, failures: 1 });
}
