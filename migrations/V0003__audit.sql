-- The audit trail: append-only, partitioned by retention class and month.

CREATE TABLE audit_ledgers (
    ledger_id         uuid        NOT NULL,
    system_identifier text        NOT NULL,
    begun_at          timestamptz NOT NULL,
    CONSTRAINT audit_ledgers_pk PRIMARY KEY (ledger_id)
);
COMMENT ON TABLE audit_ledgers IS 'Unbroken histories of this database. A restored or copied database begins a new one.';
COMMENT ON COLUMN audit_ledgers.system_identifier IS 'pg_control_system().system_identifier of the server it was begun on.';

CREATE TABLE ai_cache_audit_logs (
    retention_class smallint    NOT NULL,
    tenant_id       uuid        NOT NULL,
    id              uuid        NOT NULL,
    occurred_at     timestamptz NOT NULL,
    request_id      uuid        NOT NULL,
    actor_kind      text        NOT NULL,
    actor_token_id  uuid,
    actor_roles     text,
    actor_network   text,
    action          text        NOT NULL,
    outcome         text        NOT NULL,
    operation       text,
    tier            text,
    entry_id        uuid,
    subject_key_id  uuid,
    object_id       uuid,
    status          smallint    NOT NULL,
    item_count      bigint      NOT NULL,
    duration_us     bigint      NOT NULL,
    cost_picousd    bigint      NOT NULL,
    ledger_id       uuid        NOT NULL,
    writer_id       uuid,
    writer_seq      bigint,
    tx_id           bigint      NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    row_hash        bytea       NOT NULL,
    row_mac         bytea       NOT NULL,
    mac_key_id      text        NOT NULL,
    CONSTRAINT ai_cache_audit_logs_pk PRIMARY KEY (retention_class, tenant_id, id)
) PARTITION BY LIST (retention_class);
CREATE INDEX ai_cache_audit_logs_by_subject ON ai_cache_audit_logs (tenant_id, subject_key_id)
    WHERE subject_key_id IS NOT NULL;
COMMENT ON TABLE ai_cache_audit_logs IS
    'One row for every read and write. Ids, enums and numbers only: no question, answer, person or free text.';
COMMENT ON COLUMN ai_cache_audit_logs.retention_class IS 'Years the row is kept: 1, 3, 7 or 10. Stamped at writing.';
COMMENT ON COLUMN ai_cache_audit_logs.id IS 'UUIDv7 of occurred_at: filters by time are ranges of ids.';
COMMENT ON COLUMN ai_cache_audit_logs.actor_network IS 'IPv4 /24 or IPv6 /48.';
COMMENT ON COLUMN ai_cache_audit_logs.subject_key_id IS 'The random name of the person''s key.';
COMMENT ON COLUMN ai_cache_audit_logs.object_id IS 'What else was acted on: a token, a tenant.';
COMMENT ON COLUMN ai_cache_audit_logs.status IS 'HTTP status of the reply; 0 where there is none.';
COMMENT ON COLUMN ai_cache_audit_logs.writer_seq IS 'Dense per writer_id; NULL on records written inside the transaction of a change.';
COMMENT ON COLUMN ai_cache_audit_logs.tx_id IS 'The transaction that wrote it, by Postgres; the service cannot set it.';
COMMENT ON COLUMN ai_cache_audit_logs.row_hash IS 'SHA-256 over the canonical fields.';
COMMENT ON COLUMN ai_cache_audit_logs.row_mac IS 'HMAC-SHA-256 of row_hash under a key Postgres never sees.';
COMMENT ON COLUMN ai_cache_audit_logs.mac_key_id IS 'Which key of the key provider made row_mac.';

CREATE TYPE audit_batch_row AS (
    retention_class smallint,
    tenant_id       uuid,
    id              uuid,
    occurred_at     timestamptz,
    request_id      uuid,
    actor_kind      text,
    actor_token_id  uuid,
    actor_roles     text,
    actor_network   text,
    action          text,
    outcome         text,
    operation       text,
    tier            text,
    entry_id        uuid,
    subject_key_id  uuid,
    object_id       uuid,
    status          smallint,
    item_count      bigint,
    duration_us     bigint,
    cost_picousd    bigint,
    writer_seq      bigint,
    row_hash        bytea,
    row_mac         bytea
);
COMMENT ON TYPE audit_batch_row IS
    'A row as the audit writer sends it: one array of these is unnested at half the cost of an array a column.';

CREATE TABLE audit_logs_y1 PARTITION OF ai_cache_audit_logs FOR VALUES IN (1) PARTITION BY RANGE (id);
CREATE TABLE audit_logs_y3 PARTITION OF ai_cache_audit_logs FOR VALUES IN (3) PARTITION BY RANGE (id);
CREATE TABLE audit_logs_y7 PARTITION OF ai_cache_audit_logs FOR VALUES IN (7) PARTITION BY RANGE (id);
CREATE TABLE audit_logs_y10 PARTITION OF ai_cache_audit_logs FOR VALUES IN (10) PARTITION BY RANGE (id);
CREATE TABLE audit_logs_y1_default PARTITION OF audit_logs_y1 DEFAULT;
CREATE TABLE audit_logs_y3_default PARTITION OF audit_logs_y3 DEFAULT;
CREATE TABLE audit_logs_y7_default PARTITION OF audit_logs_y7 DEFAULT;
CREATE TABLE audit_logs_y10_default PARTITION OF audit_logs_y10 DEFAULT;

CREATE FUNCTION first_uuidv7_of(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
        SELECT pg_catalog.rpad(
            pg_catalog.lpad(
                pg_catalog.to_hex(pg_catalog.floor(EXTRACT(epoch FROM moment) * 1000)::bigint), 12, '0'),
            32, '0')::uuid
    $$;
COMMENT ON FUNCTION first_uuidv7_of(timestamptz) IS 'No UUIDv7 of this or a later millisecond is smaller (RFC 9562 section 5.7).';

CREATE FUNCTION ensure_audit_partitions(first_month date, months integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    made      integer := 0;
    parent    text;
    month     timestamptz;
    part_name text;
BEGIN
    IF months NOT BETWEEN 1 AND 24 THEN
        RAISE EXCEPTION 'months must be 1 to 24';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ai-cache audit partitions'));
    FOREACH parent IN ARRAY ARRAY['audit_logs_y1', 'audit_logs_y3', 'audit_logs_y7', 'audit_logs_y10'] LOOP
        FOR step IN 0 .. months - 1 LOOP
            month := (date_trunc('month', first_month::timestamp) + make_interval(months => step))
                     AT TIME ZONE 'UTC';
            part_name := parent || to_char(month AT TIME ZONE 'UTC', '"_"YYYY"_"MM');
            CONTINUE WHEN to_regclass('public.' || quote_ident(part_name)) IS NOT NULL;
            -- Made beside its parent and then attached: attaching does not stop inserts elsewhere.
            EXECUTE format('CREATE TABLE public.%I (LIKE public.ai_cache_audit_logs INCLUDING DEFAULTS)',
                           part_name);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, part_name, public.first_uuidv7_of(month),
                           public.first_uuidv7_of((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_audit_partitions(date, integer) IS
    'Makes the month partitions of every retention class that are missing; returns how many it made.';
REVOKE ALL ON FUNCTION ensure_audit_partitions(date, integer) FROM PUBLIC;

ALTER TABLE ai_cache_audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE ai_cache_audit_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY ai_cache_audit_logs_tenant ON ai_cache_audit_logs USING (tenant_id = current_tenant());
CREATE POLICY ai_cache_audit_logs_system ON ai_cache_audit_logs TO ai_cache_system USING (true);
