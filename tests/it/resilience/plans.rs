//! No statement that a request runs reads all of a table (issue 4): the server explains every one of
//! them, as it was planned, and its log is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ai_cache::domain::caller::Role;
use ai_cache::domain::ids::TenantId;
use ai_cache::embedded::APP_ROLE;
use ai_cache::http::routes::AUTHENTICATED;
use serde_json::{Value, json};

use super::hurt::Hurt;
use super::size::{add_rows, many};
use crate::compliance::requests::{file, filing, wait_for};
use crate::support::app::Tenant;
use crate::support::folders::scratch;
use crate::support::{Client, TestApp, wait_until};

/// Tables that grow with use: nothing reads one whole.
const LARGE: [&str; 13] = [
    "gdpr_certificates",
    "gdpr_events",
    "gdpr_export_parts",
    "legal_holds",
    "ai_cache_gdpr_requests",
    "ai_cache_performance_metrics",
    "ai_cache_entries",
    "invalidations",
    "invalidation_state",
    "tenants",
    "api_tokens",
    "subject_keys",
    "tenant_keys",
];

/// The statements that may read one of those tables whole: the operators' list of all tenants, and
/// the job that looks at the entries of each.
const WHOLE: [(&str, &str); 4] = [
    ("tenants", "ORDER BY t.slug"),
    ("invalidation_state", "ORDER BY t.slug"),
    ("tenants", "CROSS JOIN LATERAL"),
    ("invalidation_state", "LEFT JOIN LATERAL"),
];

/// Tables of one row, of one a replica, a day or a rotation.
const TINY: [&str; 5] =
    ["stream_tail", "replicas", "use_writers", "purge_runs", "retired_wrapping_keys"];

/// Rows in the tables besides entries.
async fn fill(db: &tokio_postgres::Client, tenant: TenantId, rows: i64) {
    let id = tenant.0;
    let statements = format!(
        "INSERT INTO tenants (tenant_id, slug, name, created_at)
             SELECT gen_random_uuid(), 't' || i, 't', now() FROM generate_series(1, {rows}) i;
         INSERT INTO invalidation_state (tenant_id, updated_at)
             SELECT tenant_id, created_at FROM tenants ON CONFLICT DO NOTHING;
         INSERT INTO api_tokens (tenant_id, token_id, secret_hash, roles, created_at)
             SELECT '{id}', gen_random_uuid(), 'x', '{{app}}', now()
             FROM generate_series(1, {rows});
         INSERT INTO subject_keys (tenant_id, subject_key_id, blind_id, wrapped, master_key_id, created_at)
             SELECT '{id}', gen_random_uuid(), sha256(i::text::bytea), 'x', 'k1', now()
             FROM generate_series(1, {rows}) i;
         INSERT INTO ai_cache_gdpr_requests (tenant_id, request_id, type, state, subject_blind,
                 details_sealed, received_at, due_at, created_at, updated_at)
             SELECT tenant_id, gen_random_uuid(), 'erase', 'completed', sha256(slug::bytea), '', now(),
                    now(), now(), now()
             FROM tenants WHERE slug LIKE 't%';
         INSERT INTO legal_holds (tenant_id, hold_id, from_at, reason_sealed, set_at, lifted_at)
             SELECT tenant_id, gen_random_uuid(), now(), '', now(), now()
             FROM tenants WHERE slug LIKE 't%';
         INSERT INTO gdpr_events (tenant_id, request_id, event_id, event, state, at)
             SELECT tenant_id, request_id, gen_random_uuid(), 'complete', 'completed', now()
             FROM ai_cache_gdpr_requests;
         INSERT INTO gdpr_certificates (tenant_id, request_id, body, issued_at)
             SELECT tenant_id, request_id, '', now() FROM ai_cache_gdpr_requests;
         INSERT INTO gdpr_export_parts (tenant_id, request_id, part, sealed)
             SELECT tenant_id, request_id, 0, '' FROM ai_cache_gdpr_requests;
         INSERT INTO tenant_keys (tenant_id, purpose, version, wrapped, master_key_id, created_at)
             SELECT tenant_id, 'enc', 1, 'x', 'k1', now() FROM tenants ON CONFLICT DO NOTHING;
         WITH tail AS (UPDATE stream_tail SET position = position + {rows} RETURNING position)
             INSERT INTO invalidations (tenant_id, position, kind, entry_id, at)
             SELECT '{id}', position - {rows} + i, 'entry', gen_random_uuid(), now()
             FROM tail, generate_series(1, {rows}) i;
         ANALYZE"
    );
    for statement in statements.split(';') {
        db.batch_execute(statement).await.unwrap();
    }
}

/// Reads what the server explained: each node that reads a whole table, with the statement.
fn scans(log: &Path) -> (usize, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let (mut plans, mut found, mut statement) = (0, Vec::new(), String::new());
    for line in text.lines() {
        if let Some((_, query)) = line.split_once("Query Text: ") {
            plans += 1;
            query.clone_into(&mut statement);
        } else if let Some((_, table)) = line.split_once("Seq Scan on ") {
            let table = table.split([' ', '(']).next().unwrap().to_owned();
            found.push((table, statement.clone()));
        } else if !line.contains("  (cost=") {
            statement.push(' ');
            statement.push_str(line.trim());
        }
    }
    (plans, found)
}

struct Callers {
    tenant: Tenant,
    operator: Client,
    /// A token of the role compliance, to approve what the tenant's other one filed.
    second: Client,
}

/// Requests that are done, of each kind that leaves something, and from then on none without approval.
async fn done_requests(Callers { tenant, operator, .. }: &Callers) -> [String; 2] {
    let erase = file(&tenant.compliance, "erase", "couple-7").await;
    let export = file(&tenant.compliance, "export", "couple-8").await;
    for id in [&erase, &export] {
        wait_for(&tenant.compliance, id, "completed").await;
    }
    let path = "/api/ai-cache/admin/tenants/acme";
    operator.send_json("PATCH", path, &json!({ "gdprApproval": true })).await.expect(200);
    [erase, export]
}

/// Asks every route of the table once, with what makes it reach its statements; names them.
async fn ask_every_route(callers: &Callers) -> BTreeSet<(&'static str, &'static str)> {
    let Callers { tenant, operator, second } = callers;
    let [erased, exported] = done_requests(callers).await;
    let mut asked = BTreeSet::new();
    let entry = tenant.app.ask("to be read").await.expect(200).body["entryId"].clone();
    let entry = entry.as_str().unwrap().to_owned();
    let make = json!({ "roles": ["admin"] });
    let own = "/api/ai-cache/tokens";
    let theirs = "/api/ai-cache/admin/tenants/acme/tokens";
    let token = tenant.admin.post(own, &make).await.expect(201).body["id"].clone();
    let other = operator.post(theirs, &make).await.expect(201).body["id"].clone();
    for route in AUTHENTICATED.iter() {
        let caller = match route.role.name() {
            "app" => &tenant.app,
            "admin" => &tenant.admin,
            "compliance" if route.path.ends_with("/approve") => second,
            "compliance" => &tenant.compliance,
            _ => operator,
        };
        let id = if route.path.contains("admin") { &other } else { &token };
        let path = route.path.replace("{entryId}", &entry).replace("{slug}", "acme");
        let path = path.replace("{tokenId}", id.as_str().unwrap());
        let request = match route.path.rsplit('/').next() {
            Some("export") => exported.clone(),
            _ if route.method == "GET" => erased.clone(),
            _ => file(&tenant.compliance, "erase", "couple-9").await,
        };
        let path = path.replace("{requestId}", &request);
        for (path, body) in variants(route.method, &path) {
            let reply = match &body {
                Some(body) => caller.send_json(route.method, &path, body).await,
                None => caller.send(route.method, &path).await,
            };
            assert!(reply.status < 300, "{} {path} {body:?}: {}", route.method, reply.text);
        }
        asked.insert((route.method, route.path.as_str()));
    }
    asked
}

/// The ways to ask a route.
fn variants(method: &str, path: &str) -> Vec<(String, Option<Value>)> {
    let plain =
        |bodies: Vec<Value>| bodies.into_iter().map(|body| (path.to_owned(), Some(body))).collect();
    match (method, path) {
        ("POST", "/api/ai-cache/query") => plain(vec![
            json!({ "query": "a new one" }),
            json!({ "query": "a new one" }),
            json!({ "query": "a person's", "subjectId": "couple-1" }),
            json!({ "query": "a new one", "cache": { "mode": "refresh" } }),
            json!({ "query": "a new one", "cache": { "mode": "bypass" } }),
        ]),
        ("POST", "/api/ai-cache/invalidate") => {
            let selectors = [
                json!({ "operation": "chat" }),
                json!({ "tag": "t" }),
                json!({ "location": "l" }),
                json!({ "vendorType": "v" }),
                json!({ "subjectId": "couple-1" }),
                json!({ "entryId": "01890a5d-ac96-774b-bcce-b302099a8057" }),
            ];
            let dry = |selector: &Value| {
                let mut dry = selector.clone();
                dry["dryRun"] = json!(true);
                dry
            };
            plain(selectors.iter().map(dry).chain(selectors.clone()).collect())
        }
        ("GET", "/api/ai-cache/entries") => ["", "?operation=chat", "?location=x", "?tag=x"]
            .map(|query| (format!("{path}{query}&limit=2").replacen("s&", "s?", 1), None))
            .to_vec(),
        ("GET", "/api/ai-cache/audit/export") => {
            vec![(format!("{path}?action=token-create"), None)]
        }
        ("PUT", _) if path.ends_with("legal-holds") => plain(vec![
            json!({ "subjectId": "couple-9", "reason": "r" }),
            json!({ "subjectId": "couple-1", "reason": "r", "until": "2999-01-01T00:00:00Z" }),
        ]),
        ("POST", _) if path.ends_with("purge") => {
            plain(vec![json!({ "dryRun": true }), json!({ "confirm": true })])
        }
        ("POST", _) if path.ends_with("gdpr/requests") => {
            plain(vec![filing("restrict", "couple-6")])
        }
        ("POST", _) if path.contains("gdpr/requests/") => plain(vec![json!({ "reason": "r" })]),
        ("POST", _) if path.ends_with("tokens") => plain(vec![json!({ "roles": ["admin"] })]),
        ("POST", _) => plain(vec![json!({ "slug": "new", "name": "New" })]),
        ("PATCH", _) => plain(vec![json!({ "active": true, "maxEntries": 0 })]),
        _ => vec![(path.to_owned(), None)],
    }
}

/// Counts how often each table was read whole. Panics when one was that must not be.
fn judge(found: &[(String, String)]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (table, _) in found {
        *counts.entry(table).or_default() += 1;
    }
    let is_allowed = |table: &str, statement: &str| {
        WHOLE.iter().any(|(whole, part)| *whole == table && statement.contains(part))
    };
    let large: Vec<_> = found
        .iter()
        .filter(|(table, statement)| {
            LARGE.contains(&table.as_str()) && !is_allowed(table, statement)
        })
        .collect();
    assert!(large.is_empty(), "{large:#?}");
    // The catalogue's, and the trail's, which has tests of its own.
    let others = ["pg_", "refinery_", "audit_"];
    let unknown: Vec<_> = counts
        .keys()
        .filter(|table| !LARGE.contains(table) && !TINY.contains(table))
        .filter(|table| !others.iter().any(|other| table.starts_with(other)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    counts
}

/// Every route, a look-up in each tier, uses written, a revocation followed, entries evicted: 0 scans of a
/// large table, among 20,000 entries here and 1,000,000 in `make scale`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reads_all_of_a_table() {
    let (many, hurt) = (many(), Hurt::in_memory().await);
    let url = hurt.url();
    let start = || {
        let url = url.clone();
        TestApp::builder()
            .settings(|settings| settings.database_url = url)
            .spool(|spool| spool.dir = scratch("spool"))
    };
    let app = start().start().await;
    let tenant = app.tenant("acme").await;
    let second = app.client.with_token(&app.token(tenant.id, &[Role::Compliance]).await);
    let callers = Callers { tenant, operator: app.operator().await, second };
    callers.tenant.app.ask("the first").await.expect(200);
    app.stop().await;
    let db = hurt.superuser().await;
    add_rows(&db, many).await;
    fill(&db, callers.tenant.id, many.min(5_000)).await;
    let explain = format!(
        "ALTER ROLE {APP_ROLE} SET session_preload_libraries = 'auto_explain';
         ALTER ROLE {APP_ROLE} SET auto_explain.log_min_duration = 0;
         ALTER ROLE {APP_ROLE} SET auto_explain.log_nested_statements = on"
    );
    db.batch_execute(&explain).await.unwrap();

    let app = start().start().await;
    let at = |client: &Client| client.at(&app.base());
    let Callers { tenant, operator, second } = callers;
    let tenant = Tenant {
        id: tenant.id,
        app: at(&tenant.app),
        admin: at(&tenant.admin),
        compliance: at(&tenant.compliance),
    };
    let callers = Callers { operator: at(&operator), second: at(&second), tenant };
    assert_eq!(callers.tenant.app.ask("the first").await.body["cacheSource"], "cold");
    let asked = ask_every_route(&callers).await;
    wait_until("a turn of evictions", || async {
        app.rooms().administration.evict().await.unwrap()
    })
    .await;
    app.stop().await;

    let (plans, found) = scans(&hurt.folder().join("postgres.log"));
    println!("{many} entries, {} routes, {plans} statements explained", asked.len());
    assert_eq!(asked.len(), AUTHENTICATED.len());
    assert!(plans > 100, "{plans}");
    println!("tables read whole, none of them a large one: {:?}", judge(&found));
    hurt.stop().await;
}
