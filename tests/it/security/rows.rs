//! What the service's own role can reach in Postgres when it goes around the service.

use ai_cache::embedded::SUPERUSER;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::TestApp;

const TENANT_TABLES: &str = "SELECT c.relname::text FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT c.relispartition ORDER BY 1";

async fn tenant_tables(client: &Client) -> Vec<String> {
    let rows = client.query(TENANT_TABLES, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn refusal(client: &Client, statement: &str) -> String {
    let error = client.batch_execute(statement).await.unwrap_err();
    error.as_db_error().unwrap().code().code().to_owned()
}

/// G5: the app role without a tenant sees nothing, with one tenant nothing of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_sees_no_row_without_a_tenant_and_none_of_another_tenant() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    for tenant in [&ours, &theirs] {
        let question = json!({ "query": "a private question", "subjectId": "couple-1" });
        tenant.app.query(&question).await.expect(200);
        let all = json!({ "invalidateAll": true });
        tenant.admin.post("/api/ai-cache/invalidate", &all).await.expect(200);
        tenant.app.ask("a question").await.expect(200);
    }
    let client = app.db.app().await;
    let tables = tenant_tables(&client).await;
    assert!(tables.len() >= 12, "{tables:?}");
    for table in &tables {
        let count = format!("SELECT count(*) FROM {table}");
        let unset: i64 = client.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(unset, 0, "{table} without a tenant");
        let set = format!("SELECT set_config('app.tenant_id', '{}', false)", ours.id);
        client.query_one(&set, &[]).await.unwrap();
        let foreign = format!("{count} WHERE tenant_id <> '{}'", ours.id);
        let foreign: i64 = client.query_one(&foreign, &[]).await.unwrap().get(0);
        assert_eq!(foreign, 0, "{table} of another tenant");
        client.query_one("SELECT set_config('app.tenant_id', '', false)", &[]).await.unwrap();
    }
    let visible = "SELECT count(*) FROM ai_cache_entries";
    assert!(app.db.count(visible).await >= 2, "there were rows to see");
    app.stop().await;
}

/// W10: nobody but the writer adds to the trail, and nobody changes or removes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_role_cannot_change_the_trail_or_pass_its_walls() {
    let app = TestApp::start().await;
    let (ours, theirs) = (app.tenant("ours").await, app.tenant("theirs").await);
    ours.app.ask("a question").await.expect(200);
    let client = app.db.app().await;
    let set = format!("SELECT set_config('app.tenant_id', '{}', false)", ours.id);
    client.query_one(&set, &[]).await.unwrap();
    let foreign_token = format!(
        "INSERT INTO api_tokens (tenant_id, token_id, secret_hash, roles, created_at)
         VALUES ('{}', gen_random_uuid(), 'x', ARRAY['app'], now())",
        theirs.id
    );
    let refused = [
        "UPDATE ai_cache_audit_logs SET outcome = 'done'",
        "DELETE FROM ai_cache_audit_logs",
        "TRUNCATE ai_cache_audit_logs",
        "SELECT * FROM audit_logs_y7",
        "SELECT * FROM audit_logs_y7_default",
        "INSERT INTO ai_cache_audit_logs (tx_id) VALUES (1)",
        "ALTER TABLE ai_cache_entries DISABLE ROW LEVEL SECURITY",
        "DROP POLICY ai_cache_entries_tenant ON ai_cache_entries",
        "CREATE TABLE public.mine (tenant_id uuid)",
        "SET ROLE ai_cache_owner",
        foreign_token.as_str(),
    ];
    for statement in refused {
        assert_eq!(refusal(&client, statement).await, "42501", "{statement}");
    }
    let partition = "SELECT min(relname)::text FROM pg_class WHERE relname LIKE 'audit_logs_y7_2%'";
    let month: String = client.query_one(partition, &[]).await.unwrap().get(0);
    assert_eq!(refusal(&client, &format!("SELECT * FROM {month}")).await, "42501", "{month}");
    app.stop().await;
}

/// W1: exactly the seven tables, also after a later month's partitions were made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_seven_tables_carry_the_products_name() {
    let app = TestApp::start().await;
    let client = app.db.superuser().await;
    let later = "SELECT ensure_audit_partitions((now() + interval '6 months')::date, 1)";
    let made: i32 = client.query_one(later, &[]).await.unwrap().get(0);
    let query = "SELECT table_name::text FROM information_schema.tables
                 WHERE table_name LIKE 'ai_cache_%' ORDER BY 1";
    let rows = client.query(query, &[]).await.unwrap();
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(made, 4, "one partition a retention class");
    let seven = [
        "ai_cache_audit_logs",
        "ai_cache_entries",
        "ai_cache_gdpr_requests",
        "ai_cache_location_configs",
        "ai_cache_performance_metrics",
        "ai_cache_seasonal_configs",
        "ai_cache_vendor_configs",
    ];
    assert_eq!(tables, seven);
    app.stop().await;
}

/// The service does not start where its walls would not hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_refuses_roles_and_tables_whose_walls_do_not_hold() {
    let app = TestApp::start().await;
    let db = app.db.clone();
    app.stop().await;
    let admin = db.superuser().await;
    let start = |url: String| {
        let db = db.clone();
        async move {
            let builder =
                TestApp::builder().db(&db).settings(|settings| settings.database_url = url);
            builder.try_start().await.err().map(|error| error.to_string()).unwrap_or_default()
        }
    };
    let superuser = start(db.url(SUPERUSER).await).await;
    let owner = start(db.owner_url().await).await;
    admin.batch_execute("ALTER TABLE ai_cache_entries DISABLE ROW LEVEL SECURITY").await.unwrap();
    let open = start(db.app_url().await).await;
    admin.batch_execute("ALTER TABLE ai_cache_entries ENABLE ROW LEVEL SECURITY").await.unwrap();
    admin.batch_execute("DROP POLICY tenant_keys_tenant ON tenant_keys").await.unwrap();
    let lacking = start(db.app_url().await).await;
    assert!(superuser.contains("is a superuser"), "{superuser}");
    assert!(owner.contains("owns tables"), "{owner}");
    assert!(open.contains("ai_cache_entries has row-level security off"), "{open}");
    assert!(lacking.contains("tenant_keys lacks its tenant policy"), "{lacking}");
}
