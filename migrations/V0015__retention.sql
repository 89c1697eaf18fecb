-- Retention: what is past its time goes, save what a legal hold or a restriction keeps; partitions of
-- the trail are dropped whole, and the trail stays provable.

CREATE INDEX tenants_own_retention ON tenants (tenant_id) INCLUDE (retention_days) WHERE retention_days > 0;
CREATE INDEX subject_keys_restricted ON subject_keys (tenant_id) WHERE restricted_at IS NOT NULL;

CREATE TABLE purge_runs (
    run_id      uuid        NOT NULL,
    begun_at    timestamptz NOT NULL,
    server_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    state       text        NOT NULL,
    lease_until timestamptz,
    ended_at    timestamptz,
    reason      text,
    report      jsonb,
    CONSTRAINT purge_runs_pk PRIMARY KEY (run_id),
    CONSTRAINT purge_runs_state_known CHECK (state IN ('running', 'waiting', 'done', 'dry-run'))
);
CREATE INDEX purge_runs_by_time ON purge_runs (begun_at);
COMMENT ON TABLE purge_runs IS 'Runs of the retention purge and what each came to.';
COMMENT ON COLUMN purge_runs.begun_at IS 'By the service''s clock.';
COMMENT ON COLUMN purge_runs.server_at IS 'The same moment by Postgres'' clock: where the two part, one of them jumped.';
COMMENT ON COLUMN purge_runs.state IS 'waiting: it removed nothing, a person must confirm it.';
COMMENT ON COLUMN purge_runs.lease_until IS 'By Postgres'' clock; a run under way bars others until then.';
COMMENT ON COLUMN purge_runs.reason IS 'Why it waits.';
GRANT SELECT, INSERT, UPDATE (state, lease_until, ended_at, reason, report) ON purge_runs TO ai_cache_system;

CREATE TABLE purge_reports (
    tenant_id uuid  NOT NULL,
    run_id    uuid  NOT NULL,
    report    jsonb NOT NULL,
    CONSTRAINT purge_reports_pk PRIMARY KEY (tenant_id, run_id),
    CONSTRAINT purge_reports_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT purge_reports_run_known FOREIGN KEY (run_id) REFERENCES purge_runs (run_id)
);
COMMENT ON TABLE purge_reports IS 'What a run of the purge removed of a tenant''s, and what it left for a hold.';
ALTER TABLE purge_reports ENABLE ROW LEVEL SECURITY;
ALTER TABLE purge_reports FORCE ROW LEVEL SECURITY;
CREATE POLICY purge_reports_tenant ON purge_reports USING (tenant_id = current_tenant());
CREATE POLICY purge_reports_system ON purge_reports TO ai_cache_system USING (true);
GRANT DELETE ON ai_cache_performance_metrics TO ai_cache_system;

CREATE TABLE audit_purged_writers (
    part_name text   NOT NULL,
    ledger_id uuid   NOT NULL,
    writer_id uuid   NOT NULL,
    row_count bigint NOT NULL,
    last_seq  bigint NOT NULL,
    CONSTRAINT audit_purged_writers_pk PRIMARY KEY (part_name, ledger_id, writer_id)
);
COMMENT ON TABLE audit_purged_writers IS
    'How many of each writer''s records a dropped partition held: so many of its numbers may be missing.';
GRANT SELECT ON audit_purged_writers TO ai_cache_system;

CREATE FUNCTION audit_part_month(part text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT pg_catalog.make_timestamptz(m[1]::integer, m[2]::integer, 1, 0, 0, 0, 'UTC')
        FROM pg_catalog.regexp_match(part, '^audit_logs_y(?:1|3|7|10)_([0-9]{4})_(0[1-9]|1[0-2])$') m
    $$;
COMMENT ON FUNCTION audit_part_month(text) IS 'When a partition''s month begins; NULL: it is no month''s.';

CREATE FUNCTION audit_part_class(part text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT (pg_catalog.regexp_match(part, '^audit_logs_y([0-9]+)_'))[1]::integer $$;
COMMENT ON FUNCTION audit_part_class(text) IS 'Years the rows of a partition are kept.';

CREATE FUNCTION audit_part_due(part text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT (public.audit_part_month(part) AT TIME ZONE 'UTC'
                + pg_catalog.make_interval(years => public.audit_part_class(part), months => 1))
               AT TIME ZONE 'UTC'
    $$;
COMMENT ON FUNCTION audit_part_due(text) IS 'From when on every row a partition can hold is past its class.';

CREATE FUNCTION audit_part_object(part text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT (pg_catalog.left(public.first_uuidv7_of(public.audit_part_month(part))::text, 24)
                || pg_catalog.lpad(public.audit_part_class(part)::text, 12, '0'))::uuid
    $$;
COMMENT ON FUNCTION audit_part_object(text) IS
    'What a record of its purge names it by: the least id of its month, and its class at the end.';

CREATE FUNCTION is_audit_part_held(part text, at timestamptz) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    held boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (
             SELECT FROM public.legal_holds h
             WHERE h.lifted_at IS NULL AND (h.from_at <= $1 OR h.from_at <= h.set_at) AND (h.until_at IS NULL OR h.until_at > $1)
               AND (h.subject_blind IS NULL
                    AND EXISTS (SELECT FROM public.%1$I a WHERE a.tenant_id = h.tenant_id)
                    OR EXISTS (SELECT FROM public.subject_keys k
                               JOIN public.%1$I a ON a.tenant_id = k.tenant_id
                                                 AND a.subject_key_id = k.subject_key_id
                               WHERE k.tenant_id = h.tenant_id AND k.blind_id = h.subject_blind)))',
        part) INTO held USING at;
    RETURN held;
END
$$;
COMMENT ON FUNCTION is_audit_part_held(text, timestamptz) IS
    'Whether a legal hold keeps a row of a partition at that time.';
REVOKE ALL ON FUNCTION is_audit_part_held(text, timestamptz) FROM PUBLIC;

CREATE FUNCTION list_audit_parts(at timestamptz)
    RETURNS TABLE (part text, row_count bigint, due boolean, held boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    exact_below constant bigint := 64 * 1024 * 1024;
    found record;
BEGIN
    FOR found IN
        SELECT c.oid, c.relname::text AS name, c.reltuples, pg_relation_size(c.oid) AS size
        FROM pg_partition_tree('public.ai_cache_audit_logs') t JOIN pg_class c ON c.oid = t.relid
        WHERE t.isleaf
        ORDER BY c.relname
    LOOP
        part := found.name;
        due := coalesce(public.audit_part_due(part) <= at, false);
        held := due AND public.is_audit_part_held(part, at);
        IF due OR found.size < exact_below OR found.reltuples < 0 THEN
            EXECUTE format('SELECT count(*) FROM public.%I', part) INTO row_count;
        ELSE
            row_count := found.reltuples::bigint;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION list_audit_parts(timestamptz) IS
    'The trail''s partitions: rows (of a large one that is not due about as many), whether all its rows were past their class at that time, and whether a legal hold keeps one of them.';
REVOKE ALL ON FUNCTION list_audit_parts(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION list_audit_parts(timestamptz) TO ai_cache_system;

CREATE FUNCTION purge_audit_part(part text, at timestamptz, purge_record uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- Inserts queue behind a lock that waits: no longer than this.
    SET lock_timeout = '200ms'
    AS $$
DECLARE
    leaf   regclass := to_regclass('public.' || quote_ident(part));
    parent regclass;
    newest uuid;
    rows   bigint;
BEGIN
    SELECT t.parentrelid INTO parent
    FROM pg_partition_tree('public.ai_cache_audit_logs') t WHERE t.isleaf AND t.relid = leaf;
    IF parent IS NULL OR public.audit_part_due(part) IS NULL OR public.audit_part_due(part) > at THEN
        RAISE EXCEPTION 'not a partition whose rows are past their class';
    END IF;
    IF EXISTS (SELECT FROM pg_locks l
               WHERE l.relation = leaf AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND l.pid <> pg_backend_pid()) THEN
        RAISE EXCEPTION 'somebody reads the partition' USING ERRCODE = 'lock_not_available';
    END IF;
    -- Before this transaction has an id: seals wait for those that have one.
    EXECUTE format('SELECT (SELECT id FROM public.%1$I ORDER BY id DESC LIMIT 1),
                           (SELECT count(*) FROM public.%1$I)', part) INTO newest, rows;
    IF newest >= public.first_uuidv7_of(at - make_interval(years => public.audit_part_class(part))) THEN
        RAISE EXCEPTION 'its newest row is not past its class';
    END IF;
    -- Nobody sets a hold until this is committed.
    LOCK TABLE public.legal_holds IN SHARE MODE;
    IF public.is_audit_part_held(part, at) THEN
        RETURN -1;
    END IF;
    EXECUTE format(
        'INSERT INTO public.audit_purges (ledger_id, part_name, row_count, newest_at, purged_at, record_id)
         SELECT r.ledger_id, $1, count(*), max(r.occurred_at), $2, $3 FROM public.%I r GROUP BY 1',
        part) USING part, at, purge_record;
    EXECUTE format(
        'INSERT INTO public.audit_purged_writers (part_name, ledger_id, writer_id, row_count, last_seq)
         SELECT $1, r.ledger_id, r.writer_id, count(*), max(r.writer_seq) FROM public.%I r
         WHERE r.writer_id IS NOT NULL GROUP BY 2, 3', part) USING part;
    -- Nobody inserts into the partition: who holds it reads. Asked without waiting, and given back,
    -- before the parent is locked, for which inserts would have to queue.
    BEGIN
        EXECUTE format('LOCK TABLE public.%I IN ACCESS EXCLUSIVE MODE NOWAIT', part);
        RAISE EXCEPTION USING ERRCODE = 'AC001';
    EXCEPTION WHEN SQLSTATE 'AC001' THEN
        NULL;
    END;
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('DROP TABLE public.%I', part);
    RETURN rows;
END
$$;
COMMENT ON FUNCTION purge_audit_part(text, timestamptz, uuid) IS
    'Drops a partition of the trail whose rows are all past their class; returns how many they were, or -1 when a legal hold keeps one. The record of it must be in the same transaction.';
REVOKE ALL ON FUNCTION purge_audit_part(text, timestamptz, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION purge_audit_part(text, timestamptz, uuid) TO ai_cache_system;

CREATE FUNCTION is_audit_purge_recorded(part text, purge_record uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT EXISTS (SELECT FROM public.ai_cache_audit_logs a
                       WHERE a.retention_class = 10
                         AND a.tenant_id = (SELECT t.tenant_id FROM public.tenants t WHERE t.slug = 'installation')
                         AND a.id = purge_record AND a.action = 'audit-purge'
                         AND a.object_id = public.audit_part_object(part))
    $$;
COMMENT ON FUNCTION is_audit_purge_recorded(text, uuid) IS
    'Whether the trail has a record of the purge of a partition under this id.';

CREATE FUNCTION check_audit_purge() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    IF NOT public.is_audit_purge_recorded(NEW.part_name, NEW.record_id) THEN
        RAISE EXCEPTION 'a partition of the trail is not dropped without its record';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION check_audit_purge() FROM PUBLIC;
COMMENT ON FUNCTION check_audit_purge() IS 'Refuses the commit of a purge without its record.';
CREATE CONSTRAINT TRIGGER audit_purges_recorded AFTER INSERT ON audit_purges
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_audit_purge();

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
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (blind_id, wrapped, master_key_id, state, destroyed_at,
                        restricted_at) ON subject_keys TO %I', grantee);
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
        EXECUTE format('GRANT SELECT, INSERT ON gdpr_events, gdpr_certificates, erasures TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, DELETE ON gdpr_export_parts TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE (lifted_at, lifted_by, lift_sealed) ON legal_holds
                        TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT ON purge_reports TO %I', grantee);
    END LOOP;
    GRANT DELETE ON ai_cache_gdpr_requests TO ai_cache_system;
    GRANT SELECT, INSERT, UPDATE, DELETE ON replicas TO ai_cache_system;
    GRANT UPDATE (checkpointed, accepted_at) ON audit_ledgers TO ai_cache_system;
    GRANT SELECT, INSERT ON audit_seals TO ai_cache_system;
    GRANT SELECT ON audit_purges TO ai_cache_system;
    GRANT SELECT, INSERT, UPDATE (ended_at, row_count, seal_count, checkpoint_count, finding_count, findings)
        ON audit_verifications TO ai_cache_system;
    GRANT EXECUTE ON FUNCTION summarize_audit_rows(), count_audit_default_rows() TO ai_cache_system;
END
$$;

-- Entries that are only kept. Last, so that the table is locked for as short as can be: building an
-- index takes a while, in which fills wait, but no look-up.
CREATE INDEX ai_cache_entries_withdrawn ON ai_cache_entries (tenant_id, withdrawn_at)
    WHERE withdrawn_at IS NOT NULL;
CREATE INDEX ai_cache_entries_by_time ON ai_cache_entries (tenant_id, expires_at)
    INCLUDE (generation, sealed_bytes, withdrawn_at);
DROP INDEX ai_cache_entries_by_expiry;
