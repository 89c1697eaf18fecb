-- Seals of the audit trail: signed hashes over the rows of ranges of transactions, each over the
-- one before.

ALTER TABLE audit_ledgers
    ADD COLUMN timeline     bigint,
    ADD COLUMN reason       text    NOT NULL DEFAULT 'first',
    ADD COLUMN checkpointed boolean NOT NULL DEFAULT false,
    ADD COLUMN accepted_at  timestamptz;
UPDATE audit_ledgers SET timeline = (SELECT timeline_id FROM pg_control_checkpoint()), accepted_at = begun_at;
ALTER TABLE audit_ledgers
    ALTER COLUMN timeline SET NOT NULL,
    ADD CONSTRAINT audit_ledgers_reason_known CHECK
        (reason IN ('first', 'other-server', 'other-timeline', 'behind-checkpoint', 'checkpoint-missing'));
COMMENT ON COLUMN audit_ledgers.timeline IS 'The write-ahead log''s timeline it was begun on.';
COMMENT ON COLUMN audit_ledgers.reason IS 'Why it was begun.';
COMMENT ON COLUMN audit_ledgers.checkpointed IS 'Its seals are kept in a checkpoint file outside, which must be there from then on.';
COMMENT ON COLUMN audit_ledgers.accepted_at IS 'When an operator took note that the history before it may lack records; NULL: nobody has, and no replica is ready.';

CREATE TABLE audit_seals (
    ledger_id     uuid        NOT NULL,
    seq           bigint      NOT NULL,
    from_tx       bigint      NOT NULL,
    to_tx         bigint      NOT NULL,
    part_names    text[]      NOT NULL,
    part_counts   bigint[]    NOT NULL,
    part_hashes   bytea[]     NOT NULL,
    previous_hash bytea       NOT NULL,
    sealed_at     timestamptz NOT NULL,
    key_id        text        NOT NULL,
    seal_hash     bytea       NOT NULL,
    signature     bytea       NOT NULL,
    CONSTRAINT audit_seals_pk PRIMARY KEY (ledger_id, seq),
    CONSTRAINT audit_seals_ledger_known FOREIGN KEY (ledger_id) REFERENCES audit_ledgers,
    CONSTRAINT audit_seals_range_forward CHECK (from_tx <= to_tx)
);
COMMENT ON TABLE audit_seals IS 'Append-only. Each names the rows of transactions from_tx up to, not including, to_tx.';
COMMENT ON COLUMN audit_seals.seq IS 'Dense in its ledger, from 1.';
COMMENT ON COLUMN audit_seals.part_names IS 'Partitions with rows in the range, in the order of their names.';
COMMENT ON COLUMN audit_seals.part_hashes IS 'SHA-256 over tx_id and row_hash of the partition''s rows in the order of tx_id and id.';
COMMENT ON COLUMN audit_seals.seal_hash IS 'SHA-256 over the canonical fields, previous_hash among them.';
COMMENT ON COLUMN audit_seals.signature IS 'Ed25519 over seal_hash by the key named key_id.';

CREATE TABLE audit_purges (
    ledger_id  uuid        NOT NULL,
    part_name  text        NOT NULL,
    row_count  bigint      NOT NULL,
    newest_at  timestamptz NOT NULL,
    purged_at  timestamptz NOT NULL,
    record_id  uuid        NOT NULL,
    CONSTRAINT audit_purges_pk PRIMARY KEY (part_name, ledger_id)
);
COMMENT ON TABLE audit_purges IS 'Partitions of the trail that were dropped because all their rows were past their class.';

CREATE TABLE audit_verifications (
    verification_id uuid        NOT NULL,
    begun_at        timestamptz NOT NULL,
    ended_at        timestamptz,
    row_count       bigint,
    seal_count      bigint,
    checkpoint_count bigint,
    finding_count   bigint,
    findings        jsonb,
    CONSTRAINT audit_verifications_pk PRIMARY KEY (verification_id)
);
COMMENT ON TABLE audit_verifications IS 'Runs of the daily verification. findings: how many of each kind.';

-- Rows of a range of transactions, found without a cost to inserts: one summary a megabyte.
CREATE INDEX ai_cache_audit_logs_by_tx ON ai_cache_audit_logs USING brin (tx_id);

CREATE FUNCTION summarize_audit_rows() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    part regclass;
    done integer := 0;
BEGIN
    FOR part IN
        SELECT i.indexrelid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
        WHERE m.amname = 'brin' AND c.relkind = 'i' AND i.indrelid IN
            (SELECT relid FROM pg_partition_tree('public.ai_cache_audit_logs') WHERE isleaf)
    LOOP
        done := done + brin_summarize_new_values(part);
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION summarize_audit_rows() IS 'Summarizes what was added to the trail since; returns how many ranges.';
REVOKE ALL ON FUNCTION summarize_audit_rows() FROM PUBLIC;

CREATE FUNCTION count_audit_default_rows() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT (SELECT count(*) FROM (SELECT FROM public.audit_logs_y1_default LIMIT 1000) r)
             + (SELECT count(*) FROM (SELECT FROM public.audit_logs_y3_default LIMIT 1000) r)
             + (SELECT count(*) FROM (SELECT FROM public.audit_logs_y7_default LIMIT 1000) r)
             + (SELECT count(*) FROM (SELECT FROM public.audit_logs_y10_default LIMIT 1000) r)
    $$;
COMMENT ON FUNCTION count_audit_default_rows() IS
    'Rows in the default partitions, at most 1,000 of each, which keep their months'' partitions from being made.';
REVOKE ALL ON FUNCTION count_audit_default_rows() FROM PUBLIC;

CREATE OR REPLACE FUNCTION grant_service_role(service_role name) RETURNS void
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
    GRANT UPDATE (checkpointed, accepted_at) ON audit_ledgers TO ai_cache_system;
    GRANT SELECT, INSERT ON audit_seals TO ai_cache_system;
    GRANT SELECT ON audit_purges TO ai_cache_system;
    GRANT SELECT, INSERT, UPDATE (ended_at, row_count, seal_count, checkpoint_count, finding_count, findings)
        ON audit_verifications TO ai_cache_system;
    GRANT EXECUTE ON FUNCTION summarize_audit_rows(), count_audit_default_rows() TO ai_cache_system;
END
$$;
