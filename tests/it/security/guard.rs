//! The service does not start where its walls would not hold (issue 2, 2).

use ai_cache::embedded::{APP_ROLE, SUPERUSER};

use crate::support::{TestApp, TestDb};

/// Returns why the service does not start on this database as this role. The text is empty if it
/// starts.
async fn refusal(db: &TestDb, role: &str) -> String {
    let url = db.url(role).await;
    let builder = TestApp::builder().db(db).settings(|settings| settings.database_url = url);
    match builder.try_start().await {
        Ok(app) => {
            app.stop().await;
            String::new()
        }
        Err(error) => error.to_string(),
    }
}

/// A role of this test's own, with everything that the service's role has, and these attributes.
async fn role_with(db: &TestDb, attributes: &str) -> String {
    let role = format!("service_of_{}", db.name());
    let admin = db.superuser().await;
    let make = format!(
        "CREATE ROLE {role} LOGIN NOINHERIT;
         SELECT grant_service_role('{role}');
         ALTER ROLE {role} {attributes}"
    );
    admin.batch_execute(&make).await.unwrap();
    role
}

/// Roles that pass row-level security, or could.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_refuses_a_role_that_could_pass_its_walls() {
    let db = TestDb::new().await;
    assert_eq!(refusal(&db, APP_ROLE).await, "");
    let superuser = refusal(&db, SUPERUSER).await;
    assert!(superuser.contains("is a superuser"), "{superuser}");
    let owner = refusal(&db, ai_cache::embedded::OWNER_ROLE).await;
    assert!(owner.contains("owns tables"), "{owner}");

    let role = role_with(&db, "NOSUPERUSER").await;
    let admin = db.superuser().await;
    assert_eq!(refusal(&db, &role).await, "", "it is like the service's role");
    let cases = [
        ("ALTER ROLE r BYPASSRLS", "ALTER ROLE r NOBYPASSRLS", "has BYPASSRLS"),
        ("ALTER ROLE r INHERIT", "ALTER ROLE r NOINHERIT", "inherits the rights"),
        ("REVOKE ai_cache_system FROM r", "GRANT ai_cache_system TO r", "is not a member"),
        ("GRANT ai_cache_owner TO r", "REVOKE ai_cache_owner FROM r", "owns tables"),
    ];
    for (weaken, mend, fault) in cases {
        let as_role = |statement: &str| statement.replace(" r", &format!(" {role}"));
        admin.batch_execute(&as_role(weaken)).await.unwrap();
        let told = refusal(&db, &role).await;
        assert!(told.contains(fault) && told.contains(&role), "{weaken}: {told}");
        assert_eq!(told.lines().count(), 1);
        admin.batch_execute(&as_role(mend)).await.unwrap();
        assert_eq!(refusal(&db, &role).await, "", "{mend}");
    }
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// Tenant tables without their policies, in each way that opens them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_refuses_an_open_tenant_table() {
    let db = TestDb::new().await;
    let admin = db.superuser().await;
    let cases = [
        (
            "ALTER TABLE ai_cache_entries DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE ai_cache_entries ENABLE ROW LEVEL SECURITY",
            "ai_cache_entries has row-level security off",
        ),
        (
            "ALTER TABLE ai_cache_audit_logs NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE ai_cache_audit_logs FORCE ROW LEVEL SECURITY",
            "ai_cache_audit_logs does not force row-level security",
        ),
        (
            "DROP POLICY tenant_keys_tenant ON tenant_keys",
            "CREATE POLICY tenant_keys_tenant ON tenant_keys USING (tenant_id = current_tenant())",
            "tenant_keys lacks its tenant policy",
        ),
        (
            "ALTER POLICY subject_keys_tenant ON subject_keys USING (true)",
            "ALTER POLICY subject_keys_tenant ON subject_keys USING (tenant_id = current_tenant())",
            "subject_keys lacks its tenant policy",
        ),
        (
            "ALTER POLICY api_tokens_tenant ON api_tokens WITH CHECK (true)",
            "DROP POLICY api_tokens_tenant ON api_tokens;
             CREATE POLICY api_tokens_tenant ON api_tokens USING (tenant_id = current_tenant())",
            "api_tokens lacks its tenant policy",
        ),
        (
            "ALTER POLICY invalidations_system ON invalidations TO PUBLIC",
            "ALTER POLICY invalidations_system ON invalidations TO ai_cache_system",
            "invalidations has other policies than its two",
        ),
        (
            "CREATE POLICY more ON ai_cache_gdpr_requests USING (true)",
            "DROP POLICY more ON ai_cache_gdpr_requests",
            "ai_cache_gdpr_requests has other policies than its two",
        ),
        (
            "CREATE TABLE forgotten (tenant_id uuid)",
            "DROP TABLE forgotten",
            "forgotten has row-level security off",
        ),
    ];
    for (open, close, fault) in cases {
        admin.batch_execute(open).await.unwrap();
        let told = refusal(&db, APP_ROLE).await;
        assert!(told.contains(fault), "{open}: {told}");
        admin.batch_execute(close).await.unwrap();
    }
    assert_eq!(refusal(&db, APP_ROLE).await, "", "all is as it was");
}

/// No schema, and one that lacks the newest file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_refuses_an_older_schema() {
    let told = refusal(&TestDb::empty().await, APP_ROLE).await;
    assert!(told.contains("is at version 0") && told.ends_with("run ai-cache migrate"), "{told}");
    let db = TestDb::new().await;
    let older = "DELETE FROM refinery_schema_history
                 WHERE version = (SELECT max(version) FROM refinery_schema_history)";
    assert_eq!(db.superuser().await.execute(older, &[]).await.unwrap(), 1);
    let told = refusal(&db, APP_ROLE).await;
    assert!(told.ends_with("run ai-cache migrate"), "{told}");
}
