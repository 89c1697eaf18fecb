//! The reach of the service's own role in Postgres when it goes around the service (G5, W10, W1).

use ai_cache::store::{Ending, StoreError, TenantTx, tokens};
use serde_json::json;
use tokio_postgres::Client;

use crate::support::{Tenant, TestApp};

/// SQLSTATE insufficient_privilege.
const DENIED: &str = "42501";

const TENANT_TABLES: &str = "SELECT c.relname::text FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT c.relispartition ORDER BY 1";

const PARTITIONS: &str = "SELECT relname::text FROM pg_class
    WHERE relispartition AND relkind IN ('r', 'p') ORDER BY 1";

async fn names(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// SQLSTATE and words of a refusal, empty when there is none. Nothing of it stays.
async fn refusal(client: &Client, statement: &str) -> (String, String) {
    client.batch_execute("BEGIN").await.unwrap();
    let refused = client.batch_execute(statement).await.err();
    client.batch_execute("ROLLBACK").await.unwrap();
    let refused = refused.as_ref().map(|error| error.as_db_error().unwrap());
    let told = refused.map(|error| (error.code().code().to_owned(), error.message().to_owned()));
    told.unwrap_or_default()
}

async fn act_as(client: &Client, tenant: &str) {
    client.query_one("SELECT set_config('app.tenant_id', $1, false)", &[&tenant]).await.unwrap();
}

/// A row of the tenant in every table that the service fills by now.
async fn fill(tenant: &Tenant) {
    let question = json!({ "query": "a private question", "subjectId": "couple-1" });
    tenant.app.query(&question).await.expect(200);
    let all = json!({ "invalidateAll": true });
    tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
    tenant.app.ask("a question").await.expect(200);
}

/// G5: the app role sees nothing without a tenant, and with one nothing of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_sees_no_row_without_a_tenant_and_none_of_another_tenant() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    for tenant in [&ours, &theirs] {
        fill(tenant).await;
    }
    let (client, all) = (app.db.app().await, app.db.superuser().await);
    let tables = names(&client, TENANT_TABLES).await;
    assert!(tables.len() >= 12, "{tables:?}");
    let (mut there, mut seen) = (0, 0);
    for table in &tables {
        act_as(&client, "").await;
        seen += count(&client, &format!("SELECT count(*) FROM {table}")).await;
        act_as(&client, &ours.id.to_string()).await;
        let foreign = format!("SELECT count(*) FROM {table} WHERE tenant_id <> '{}'", ours.id);
        seen += count(&client, &foreign).await;
        let ours = format!("SELECT count(*) FROM {table} WHERE tenant_id = '{}'", ours.id);
        assert_eq!(count(&client, &ours).await, count(&all, &ours).await, "{table}: our own");
        there += count(&all, &foreign).await;
        // Asking Postgres to leave the policies out is refused, not obeyed.
        let off = format!("SET LOCAL row_security = off; SELECT count(*) FROM {table}");
        assert_eq!(refusal(&client, &off).await.0, DENIED, "{table}");
    }
    println!("{} tables, {there} foreign rows, {seen} of them seen", tables.len());
    assert!(there > 20);
    assert_eq!(seen, 0);
    app.stop().await;
}

/// G5: nor can it write a row for another tenant or change one, in any tenant table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_writes_no_row_of_another_tenant() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    for tenant in [&ours, &theirs] {
        fill(tenant).await;
    }
    let client = app.db.app().await;
    act_as(&client, &ours.id.to_string()).await;
    for kind in ["seasonal", "location", "vendor"] {
        let config = format!(
            "INSERT INTO ai_cache_{kind}_configs VALUES ('{}', 'one', 1, '{{}}', now(), now())",
            ours.id
        );
        client.batch_execute(&config).await.unwrap();
    }
    let mut given = 0;
    for table in names(&client, TENANT_TABLES).await {
        // A partitioned table must find the row's partition before it looks at policies.
        let (columns, values) = match table.as_str() {
            "ai_cache_audit_logs" => (", retention_class, id", ", 7, gen_random_uuid()"),
            _ => ("", ""),
        };
        let insert = |tenant| {
            format!("INSERT INTO {table} (tenant_id{columns}) VALUES ('{tenant}'{values})")
        };
        let (code, words) = refusal(&client, &insert(theirs.id)).await;
        assert_eq!(code, DENIED, "{table}: {words}");
        assert!(words.contains("row-level security"), "{table}: {words}");
        // Our own is refused for what it lacks, not by the policy.
        let (code, words) = refusal(&client, &insert(ours.id)).await;
        assert_ne!(code, DENIED, "{table}: {words}");
        let give = format!("UPDATE {table} SET tenant_id = '{}'", theirs.id);
        let own = count(&client, &format!("SELECT count(*) FROM {table}")).await;
        let (code, words) = refusal(&client, &give).await;
        assert!(code == DENIED || own == 0 && words.is_empty(), "{table}: {words}");
        given += i64::from(code == DENIED);
    }
    assert!(given >= 10, "{given}");
    let delete = format!("DELETE FROM ai_cache_entries WHERE tenant_id = '{}'", theirs.id);
    assert_eq!(client.execute(&delete, &[]).await.unwrap(), 0);
    app.stop().await;
}

/// Neither the app role nor the role it takes across tenants can weaken a wall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_cannot_take_down_a_policy() {
    let app = TestApp::start().await;
    let client = app.db.app().await;
    let tables = names(&client, TENANT_TABLES).await;
    for role in ["ai_cache_app", "ai_cache_system"] {
        client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        for table in &tables {
            for change in [
                format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
                format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"),
                format!("DROP POLICY {table}_tenant ON {table}"),
                format!("ALTER POLICY {table}_tenant ON {table} USING (true)"),
                format!("CREATE POLICY more ON {table} USING (true)"),
                format!("ALTER TABLE {table} OWNER TO {role}"),
                format!("DROP TABLE {table}"),
                format!("TRUNCATE {table} CASCADE"),
            ] {
                assert_eq!(refusal(&client, &change).await.0, DENIED, "{role}: {change}");
            }
        }
        for change in [
            "CREATE OR REPLACE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
            "DROP FUNCTION current_tenant() CASCADE",
            "SELECT grant_service_role('ai_cache_app')",
            "CREATE TABLE public.mine (tenant_id uuid)",
            "SET ROLE ai_cache_owner",
            "ALTER ROLE ai_cache_app BYPASSRLS",
        ] {
            assert_eq!(refusal(&client, change).await.0, DENIED, "{role}: {change}");
        }
        client.batch_execute("RESET ROLE").await.unwrap();
    }
    app.stop().await;
}

/// W10: a record, once written, is neither changed nor removed, and nobody chooses its transaction;
/// partitions cannot be asked around the table's policy, neither those there are nor new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_cannot_change_the_trail_or_pass_by_its_policy() {
    let app = TestApp::start().await;
    let ours = app.tenant("ours").await;
    ours.app.ask("a question").await.expect(200);
    let client = app.db.app().await;
    act_as(&client, &ours.id.to_string()).await;
    let rows = "SELECT count(*) FROM ai_cache_audit_logs";
    let before = count(&client, rows).await;
    client.batch_execute("SET ROLE ai_cache_system").await.unwrap();
    let later = "SELECT ensure_audit_partitions((now() + interval '12 months')::date, 1)::bigint";
    assert_eq!(count(&client, later).await, 4, "one a retention class");
    client.batch_execute("RESET ROLE").await.unwrap();
    let partitions = names(&client, PARTITIONS).await;
    assert!(partitions.len() >= 12, "{partitions:?}");
    for role in ["ai_cache_app", "ai_cache_system"] {
        client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        for change in [
            "UPDATE ai_cache_audit_logs SET outcome = 'done'",
            "UPDATE ai_cache_audit_logs SET tx_id = 1",
            "DELETE FROM ai_cache_audit_logs",
            "TRUNCATE ai_cache_audit_logs",
            "INSERT INTO ai_cache_audit_logs (retention_class, id, tx_id) VALUES (7, gen_random_uuid(), 1)",
            "DELETE FROM invalidations",
            "UPDATE tenant_keys SET wrapped = ''",
            "DELETE FROM tenant_keys",
            "DELETE FROM api_tokens",
            "UPDATE api_tokens SET roles = ARRAY['operator']",
            "UPDATE api_tokens SET secret_hash = ''",
        ] {
            assert_eq!(refusal(&client, change).await.0, DENIED, "{role}: {change}");
        }
        for partition in &partitions {
            for attempt in [
                format!("SELECT * FROM {partition}"),
                format!("INSERT INTO {partition} (tenant_id) VALUES (gen_random_uuid())"),
                format!("UPDATE {partition} SET outcome = 'done'"),
                format!("DELETE FROM {partition}"),
                format!("TRUNCATE {partition}"),
                format!("DROP TABLE {partition}"),
            ] {
                assert_eq!(refusal(&client, &attempt).await.0, DENIED, "{role}: {attempt}");
            }
        }
        client.batch_execute("RESET ROLE").await.unwrap();
    }
    println!("{} partitions, {before} records before", partitions.len());
    assert_eq!(count(&client, rows).await, before);
    assert!(before >= 2);
    app.stop().await;
}

/// W1: exactly the seven tables, also after a later month's partitions were made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_seven_tables_carry_the_products_name() {
    let app = TestApp::start().await;
    let (client, service) = (app.db.superuser().await, app.db.app().await);
    service.batch_execute("SET ROLE ai_cache_system").await.unwrap();
    let later = "SELECT ensure_audit_partitions((now() + interval '12 months')::date, 1)::bigint";
    let query = "SELECT table_name::text FROM information_schema.tables
                 WHERE table_name LIKE 'ai_cache_%' ORDER BY 1";
    let seven = [
        "ai_cache_audit_logs",
        "ai_cache_entries",
        "ai_cache_gdpr_requests",
        "ai_cache_location_configs",
        "ai_cache_performance_metrics",
        "ai_cache_seasonal_configs",
        "ai_cache_vendor_configs",
    ];
    assert_eq!(names(&client, query).await, seven);
    assert_eq!(count(&service, later).await, 4, "one a retention class");
    assert_eq!(names(&client, query).await, seven);
    app.stop().await;
}

/// A transaction that reads cannot change a row even if a statement in it would: it ends without a
/// record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reads_changes_nothing() {
    const READ_ONLY: &str = "25006";
    let app = TestApp::start().await;
    let tenant = app.tenant("acme").await;
    // A look at a token leaves a trace.
    let trap = "CREATE TABLE traces (at timestamptz);
                CREATE FUNCTION leave_trace() RETURNS boolean LANGUAGE sql VOLATILE SECURITY DEFINER
                    AS 'INSERT INTO public.traces VALUES (now()) RETURNING true';
                CREATE POLICY traced ON api_tokens AS RESTRICTIVE USING (leave_trace())";
    app.db.superuser().await.batch_execute(trap).await.unwrap();
    let store = app.rooms().store();
    let list = async |mut tx: TenantTx| tokens::list(&mut tx).await;
    let refused = store.read("list tokens in a test", tenant.id, list).await.unwrap_err();
    let listed = store.change("list tokens in a test", tenant.id, async |mut tx| {
        Ok::<_, StoreError>(Ending::RollBack(tokens::list(&mut tx).await?.len()))
    });
    let listed = listed.await.unwrap();
    println!("reading: {refused}; writing: {listed} tokens listed");
    assert!(matches!(refused, StoreError::Statement { code, .. } if code == READ_ONLY));
    app.stop().await;
}
