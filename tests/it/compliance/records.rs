//! The contents of a record, and that they are what was hashed (W10, architecture.md §2, §3).

use std::collections::HashMap;

use ai_cache::crypto::{KeyProvider, sha256};
use ai_cache::domain::action::Action;
use ai_cache::domain::audit_record::{Actor, AuditRecord, Outcome, RetentionClass, WriterPlace};
use ai_cache::domain::caller::Role;
use ai_cache::domain::entry::Tier;
use ai_cache::domain::ids::{
    AuditId, EntryId, LedgerId, RequestId, SubjectKeyId, TenantId, TokenId, WriterId,
};
use ai_cache::domain::money::Usd;
use ai_cache::domain::network::Network;
use ai_cache::domain::operation::Operation;
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::app::MASTER_KEYS;
use crate::support::{TestApp, TestDb};

/// A row as Postgres has it, every column as JSON.
struct Row(Value);

impl Row {
    async fn all(db: &TestDb) -> Vec<Self> {
        let query = "SELECT (to_jsonb(a) || jsonb_build_object('at_us',
                         (extract(epoch FROM occurred_at) * 1000000)::bigint))::text
                     FROM ai_cache_audit_logs a ORDER BY id";
        let rows = db.superuser().await.query(query, &[]).await.unwrap();
        rows.iter().map(|row| Self(serde_json::from_str(row.get(0)).unwrap())).collect()
    }

    async fn of(db: &TestDb, id: &str) -> Self {
        let rows = Self::all(db).await;
        rows.into_iter().find(|row| row.0["id"] == id).unwrap()
    }

    fn text(&self, column: &str) -> Option<&str> {
        self.0[column].as_str()
    }

    fn number(&self, column: &str) -> i64 {
        self.0[column].as_i64().unwrap()
    }

    fn id(&self, column: &str) -> Option<Uuid> {
        self.text(column).map(|text| Uuid::parse_str(text).unwrap())
    }

    fn bytes(&self, column: &str) -> Vec<u8> {
        hex::decode(self.text(column).unwrap().strip_prefix("\\x").unwrap()).unwrap()
    }

    fn network(&self) -> Option<Network> {
        self.text("actor_network").map(|text| Network::parse(text).unwrap())
    }

    fn actor(&self) -> Actor {
        match self.text("actor_kind").unwrap() {
            "anonymous" => Actor::Anonymous { network: self.network() },
            "command-line" => Actor::CommandLine,
            "service" => Actor::Service,
            "token" => Actor::Token {
                id: TokenId(self.id("actor_token_id").unwrap()),
                roles: self.text("actor_roles").unwrap().into(),
                network: self.network(),
            },
            other => panic!("no such actor: {other}"),
        }
    }

    /// The record that the columns tell of.
    fn record(&self) -> AuditRecord {
        let named = |column: &str| self.text(column).map(str::to_owned);
        let action = named("action").unwrap();
        let outcome = named("outcome").unwrap();
        let class = match self.number("retention_class") {
            1 => RetentionClass::OneYear,
            3 => RetentionClass::ThreeYears,
            7 => RetentionClass::SevenYears,
            _ => RetentionClass::TenYears,
        };
        AuditRecord {
            id: AuditId(self.id("id").unwrap()),
            tenant: TenantId(self.id("tenant_id").unwrap()),
            class,
            at: DateTime::from_timestamp_micros(self.number("at_us")).unwrap(),
            request: RequestId(self.id("request_id").unwrap()),
            actor: self.actor(),
            action: *Action::ALL.iter().find(|known| known.name() == action).unwrap(),
            outcome: *Outcome::ALL.iter().find(|known| known.name() == outcome).unwrap(),
            operation: named("operation").map(|name| Operation::parse(&name).unwrap()),
            tier: named("tier")
                .map(|name| *Tier::ALL.iter().find(|known| known.name() == name).unwrap()),
            entry: self.id("entry_id").map(EntryId),
            subject_key: self.id("subject_key_id").map(SubjectKeyId),
            object: self.id("object_id"),
            status: u16::try_from(self.number("status")).unwrap(),
            count: self.number("item_count"),
            duration_us: self.number("duration_us"),
            cost: Usd(u64::try_from(self.number("cost_picousd")).unwrap()),
        }
    }

    fn place(&self) -> Option<WriterPlace> {
        let writer = WriterId(self.id("writer_id")?);
        Some(WriterPlace { writer, seq: self.number("writer_seq") })
    }
}

/// Architecture §3: `row_hash` is SHA-256 over the canonical fields, recomputed here from the columns
/// alone; `row_mac` is its HMAC under a key that Postgres never sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_hashes_to_its_row_hash_and_mac() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let mine = json!({ "query": "mine", "subjectId": "couple-4711", "operation": "chat" });
    for _ in 0..2 {
        tenant.app.query(&mine).await.expect(200);
        tenant.app.ask("anybody's").await.expect(200);
    }
    tenant.app.query(&json!({ "query": "q", "cache": { "mode": "bypass" } })).await.expect(200);
    tenant.app.get("/api/ai-cache/entries").await.expect(403);
    app.client.ask("nobody's").await.expect(401);
    tenant.app.query(&json!({ "query": "" })).await.expect(422);
    let listed = tenant.admin.get("/api/ai-cache/entries").await.expect(200);
    let entry = listed.body["entries"][0]["entryId"].as_str().unwrap();
    tenant.admin.get(&format!("/api/ai-cache/entries/{entry}")).await.expect(200);
    tenant.admin.get("/api/ai-cache/statistics").await.expect(200);
    let token = tenant.admin.post("/api/ai-cache/tokens", &json!({ "roles": ["app"] })).await;
    let token = token.expect(201).body["id"].as_str().unwrap().to_owned();
    tenant.admin.send("DELETE", &format!("/api/ai-cache/tokens/{token}")).await.expect(204);
    tenant.admin.send("DELETE", &format!("/api/ai-cache/entries/{entry}")).await.expect(204);
    tenant.admin.post("/api/ai-cache/invalidate", &json!({ "invalidateAll": true })).await;
    let db = app.db.clone();
    app.stop().await;

    let mac = KeyProvider::from_text(MASTER_KEYS).unwrap().audit_mac_key();
    let rows = Row::all(&db).await;
    let (mut actions, mut wrong) = (HashMap::<String, u32>::new(), 0);
    for row in &rows {
        let ledger = LedgerId(row.id("ledger_id").unwrap());
        let hash = sha256(&row.record().canonical(ledger, row.place()));
        let same = row.bytes("row_hash") == hash && row.bytes("row_mac") == mac.mac(&hash);
        wrong += u32::from(!same);
        assert_eq!(row.text("mac_key_id"), Some("k1"));
        *actions.entry(row.text("action").unwrap().to_owned()).or_default() += 1;
    }
    println!("{} rows of {} actions, {wrong} of them not as hashed", rows.len(), actions.len());
    assert_eq!(wrong, 0);
    assert!(rows.len() > 20 && actions.len() >= 13, "{actions:?}");
}

/// W10: who, when, what, for whose key, with which result; a miss and its fill are told apart from a
/// hit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_says_who_asked_what_and_where_the_answer_came_from() {
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    let caller = app.client.with_token(&app.token(tenant.id, &[Role::App, Role::Admin]).await);
    let asking = json!({ "query": "mine", "subjectId": "couple-4711", "operation": "chat" });
    let miss = caller.query(&asking).await.expect(200);
    let hit = caller.query(&asking).await.expect(200);
    let (missed, hit_row) = (
        Row::of(&app.db, miss.header("x-audit-id").unwrap()).await,
        Row::of(&app.db, hit.header("x-audit-id").unwrap()).await,
    );
    for (row, reply) in [(&missed, &miss), (&hit_row, &hit)] {
        assert_eq!(row.id("tenant_id"), Some(tenant.id.0));
        assert_eq!(row.text("request_id"), reply.body["requestId"].as_str());
        assert_eq!(row.text("actor_kind"), Some("token"));
        assert_eq!(row.text("actor_roles"), Some("app+admin"));
        assert_eq!(row.text("actor_network"), Some("127.0.0.0/24"));
        assert_eq!((row.text("action"), row.text("operation")), (Some("query"), Some("chat")));
        assert_eq!(row.text("entry_id"), reply.body["entryId"].as_str());
        assert!(row.id("subject_key_id").is_some());
        assert_eq!((row.number("status"), row.number("item_count")), (200, 1));
        assert!(row.number("duration_us") > 0);
        assert_eq!(row.number("retention_class"), 7);
    }
    assert_eq!((missed.text("outcome"), missed.text("tier")), (Some("stored"), None));
    assert_eq!((hit_row.text("outcome"), hit_row.text("tier")), (Some("hit"), Some("hot")));
    // 31 × 0.15 + 412 × 0.60 dollars a million, in 10^-12 dollars.
    assert_eq!(
        (missed.number("cost_picousd"), hit_row.number("cost_picousd")),
        (251_850_000, 251_850_000)
    );
    assert_eq!(hit.body["costSavedUsd"], "0.00025185");
    let rows = Row::all(&app.db).await;
    let fills = rows.iter().filter(|row| row.text("action") == Some("fill"));
    let fills: Vec<_> = fills.map(|row| (row.text("entry_id"), row.text("request_id"))).collect();
    assert_eq!(fills, [(missed.text("entry_id"), missed.text("request_id"))]);
    app.stop().await;
}
