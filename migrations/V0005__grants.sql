-- What the service's role may do, in one place.

CREATE FUNCTION grant_service_role(service_role name) RETURNS void
    LANGUAGE plpgsql
    SET search_path = public, pg_temp
    AS $$
DECLARE
    grantee     text;
    audit_write text := '(retention_class, tenant_id, id, occurred_at, request_id, actor_kind, '
        'actor_token_id, actor_roles, actor_network, action, outcome, operation, tier, entry_id, '
        'subject_key_id, object_id, status, item_count, duration_us, cost_picousd, ledger_id, '
        'writer_id, writer_seq, row_hash, row_mac, mac_key_id)';
BEGIN
    EXECUTE format('GRANT ai_cache_system TO %I', service_role);
    EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', service_role);
    FOREACH grantee IN ARRAY ARRAY[service_role::text, 'ai_cache_system'] LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (name, state) ON tenants TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_tokens TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT ON tenant_keys TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (blind_id, wrapped, master_key_id, state, destroyed_at)
                        ON subject_keys TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ai_cache_entries TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (generation, position, updated_at)
                        ON invalidation_state TO %I', grantee);
        EXECUTE format('GRANT SELECT, UPDATE (position) ON stream_tail TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT ON invalidations TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT %s ON ai_cache_audit_logs TO %I', audit_write, grantee);
        EXECUTE format('GRANT SELECT, INSERT ON audit_ledgers TO %I', grantee);
        EXECUTE format('GRANT SELECT ON refinery_schema_history TO %I', grantee);
        EXECUTE format('GRANT EXECUTE ON FUNCTION ensure_audit_partitions(date, integer) TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ai_cache_seasonal_configs,
                        ai_cache_location_configs, ai_cache_vendor_configs TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON ai_cache_performance_metrics,
                        ai_cache_gdpr_requests TO %I', grantee);
    END LOOP;
    GRANT SELECT, INSERT, UPDATE, DELETE ON replicas TO ai_cache_system;
END
$$;
COMMENT ON FUNCTION grant_service_role(name) IS
    'Gives the service''s login role what it needs and no more. Called by migrate after the last file.';
REVOKE ALL ON FUNCTION grant_service_role(name) FROM PUBLIC;
