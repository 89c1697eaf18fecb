-- Requests of data subjects: their history, legal holds, restrictions, and what erasures leave behind.

ALTER TABLE tenants
    ADD COLUMN gdpr_approval  boolean NOT NULL DEFAULT false,
    ADD COLUMN time_zone      text    NOT NULL DEFAULT 'UTC',
    ADD COLUMN retention_days integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT tenants_retention_days_range CHECK (retention_days BETWEEN 0 AND 36500);
COMMENT ON COLUMN tenants.gdpr_approval IS 'Whether another person must approve a data subject''s request before it is executed.';
COMMENT ON COLUMN tenants.time_zone IS 'IANA name of the zone in which days and months of deadlines are counted.';
COMMENT ON COLUMN tenants.retention_days IS 'How long its entries, requests and records are kept. 0: as the installation says.';
GRANT UPDATE (gdpr_approval, time_zone, retention_days) ON tenants TO ai_cache_system;

ALTER TABLE ai_cache_gdpr_requests
    ADD COLUMN body_digest     bytea,
    ADD COLUMN subject_key_id  uuid,
    ADD COLUMN restarts_at     timestamptz,
    ADD COLUMN lease_holder    uuid,
    ADD COLUMN lease_until     timestamptz,
    ADD COLUMN stream_position bigint,
    ADD COLUMN cache_keys      bytea[],
    ADD COLUMN counts          jsonb,
    ADD COLUMN expires_at      timestamptz,
    ADD COLUMN warned_days     smallint;
CREATE INDEX ai_cache_gdpr_requests_by_subject ON ai_cache_gdpr_requests (tenant_id, subject_blind);
CREATE INDEX ai_cache_gdpr_requests_open ON ai_cache_gdpr_requests (due_at)
    WHERE state IN ('received', 'awaiting_approval', 'approved', 'executing');
COMMENT ON COLUMN ai_cache_gdpr_requests.idempotency_key IS 'HMAC-SHA-256 of the client''s Idempotency-Key under the tenant''s key.';
COMMENT ON COLUMN ai_cache_gdpr_requests.body_digest IS 'HMAC-SHA-256 of what was filed: the same key with another body is refused.';
COMMENT ON COLUMN ai_cache_gdpr_requests.step IS 'How far an execution has come: the last step that is done.';
COMMENT ON COLUMN ai_cache_gdpr_requests.attempts IS 'Executions that failed since it was approved.';
COMMENT ON COLUMN ai_cache_gdpr_requests.subject_key_id IS 'The random name of the person''s key, once the execution has found it.';
COMMENT ON COLUMN ai_cache_gdpr_requests.restarts_at IS 'A failed execution is not tried again before.';
COMMENT ON COLUMN ai_cache_gdpr_requests.lease_holder IS 'The execution that has it.';
COMMENT ON COLUMN ai_cache_gdpr_requests.lease_until IS 'By Postgres'' clock; later another may take it.';
COMMENT ON COLUMN ai_cache_gdpr_requests.stream_position IS 'The step of the invalidation stream that every replica must have followed.';
COMMENT ON COLUMN ai_cache_gdpr_requests.cache_keys IS 'Entries whose values in Redis are to be removed. NULL once that is confirmed.';
COMMENT ON COLUMN ai_cache_gdpr_requests.counts IS 'What the execution touched, by tier.';
COMMENT ON COLUMN ai_cache_gdpr_requests.expires_at IS 'Until when the package of an export can be had.';
COMMENT ON COLUMN ai_cache_gdpr_requests.warned_days IS 'How many days before it is due was last warned of it: 7, 2 or 0.';

CREATE TABLE gdpr_events (
    tenant_id   uuid        NOT NULL,
    request_id  uuid        NOT NULL,
    event_id    uuid        NOT NULL,
    event       text        NOT NULL,
    state       text        NOT NULL,
    at          timestamptz NOT NULL,
    by_token_id uuid,
    note_sealed bytea,
    CONSTRAINT gdpr_events_pk PRIMARY KEY (tenant_id, request_id, event_id),
    CONSTRAINT gdpr_events_request_known FOREIGN KEY (tenant_id, request_id)
        REFERENCES ai_cache_gdpr_requests (tenant_id, request_id) ON DELETE CASCADE
);
COMMENT ON TABLE gdpr_events IS 'What became of each request: who did what, when and why.';
COMMENT ON COLUMN gdpr_events.event_id IS 'The audit record of it.';
COMMENT ON COLUMN gdpr_events.state IS 'The request''s state after it.';
COMMENT ON COLUMN gdpr_events.by_token_id IS 'NULL: the service itself or the command line.';
COMMENT ON COLUMN gdpr_events.note_sealed IS 'The reason given, under the tenant''s key.';

CREATE TABLE gdpr_certificates (
    tenant_id  uuid        NOT NULL,
    request_id uuid        NOT NULL,
    body       text        NOT NULL,
    issued_at  timestamptz NOT NULL,
    CONSTRAINT gdpr_certificates_pk PRIMARY KEY (tenant_id, request_id),
    CONSTRAINT gdpr_certificates_request_known FOREIGN KEY (tenant_id, request_id)
        REFERENCES ai_cache_gdpr_requests (tenant_id, request_id) ON DELETE CASCADE
);
COMMENT ON TABLE gdpr_certificates IS 'Signed certificates of erasures: ids, numbers and times only.';

CREATE TABLE gdpr_export_parts (
    tenant_id      uuid    NOT NULL,
    request_id     uuid    NOT NULL,
    part           integer NOT NULL,
    subject_key_id uuid,
    sealed         bytea   NOT NULL,
    CONSTRAINT gdpr_export_parts_pk PRIMARY KEY (tenant_id, request_id, part),
    CONSTRAINT gdpr_export_parts_request_known FOREIGN KEY (tenant_id, request_id)
        REFERENCES ai_cache_gdpr_requests (tenant_id, request_id) ON DELETE CASCADE
);
CREATE INDEX gdpr_export_parts_by_subject ON gdpr_export_parts (tenant_id, subject_key_id)
    WHERE subject_key_id IS NOT NULL;
COMMENT ON TABLE gdpr_export_parts IS 'Packages of exports in parts of at most a megabyte.';
COMMENT ON COLUMN gdpr_export_parts.subject_key_id IS 'Whose key seals it; NULL: the tenant''s, of a person of whom nothing is held.';

CREATE TABLE legal_holds (
    tenant_id     uuid        NOT NULL,
    hold_id       uuid        NOT NULL,
    subject_blind bytea,
    from_at       timestamptz NOT NULL,
    until_at      timestamptz,
    reason_sealed bytea       NOT NULL,
    set_at        timestamptz NOT NULL,
    set_by        uuid,
    lifted_at     timestamptz,
    lifted_by     uuid,
    lift_sealed   bytea,
    CONSTRAINT legal_holds_pk PRIMARY KEY (tenant_id, hold_id),
    CONSTRAINT legal_holds_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT legal_holds_period_forward CHECK (until_at IS NULL OR until_at > from_at)
);
CREATE INDEX legal_holds_standing ON legal_holds (tenant_id, subject_blind) WHERE lifted_at IS NULL;
COMMENT ON TABLE legal_holds IS 'What must be kept for now, whatever its time or anybody''s wish (GDPR Art. 17(3)(e)).';
COMMENT ON COLUMN legal_holds.subject_blind IS 'Blind index of the person; NULL: everything of the tenant.';
COMMENT ON COLUMN legal_holds.from_at IS 'The hold is in force from here to until_at, or until it is lifted. One that began when it was set holds for whoever sees it, whatever the clock there says.';
COMMENT ON COLUMN legal_holds.reason_sealed IS 'Why, as given, and whose: under the tenant''s key.';

ALTER TABLE subject_keys
    ADD COLUMN restricted_at timestamptz;
COMMENT ON COLUMN subject_keys.restricted_at IS
    'Since when the person''s data are only kept, neither served nor changed (GDPR Art. 18); NULL: they are not restricted.';

ALTER TABLE ai_cache_entries
    ADD COLUMN withdrawn_at timestamptz;
COMMENT ON COLUMN ai_cache_entries.withdrawn_at IS
    'Since when it is only kept, for a legal hold or a restriction, though it was to be removed. Nobody is served it.';

-- Plain SQL, so that it is inlined. Sees what its caller sees.
CREATE FUNCTION is_held(tenant uuid, blind bytea, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT EXISTS (SELECT FROM public.legal_holds h
                       WHERE h.tenant_id = tenant AND h.lifted_at IS NULL
                         AND (h.from_at <= at OR h.from_at <= h.set_at) AND (h.until_at IS NULL OR h.until_at > at)
                         AND (h.subject_blind IS NULL OR h.subject_blind = blind))
    $$;
COMMENT ON FUNCTION is_held(uuid, bytea, timestamptz) IS
    'Whether a legal hold keeps what is of this person, or of nobody (blind NULL), at that time.';

CREATE FUNCTION is_kept(tenant uuid, subject_key uuid, at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT public.is_held(tenant, (SELECT k.blind_id FROM public.subject_keys k
                                       WHERE k.tenant_id = tenant AND k.subject_key_id = subject_key), at)
            OR EXISTS (SELECT FROM public.subject_keys k
                       WHERE k.tenant_id = tenant AND k.subject_key_id = subject_key
                         AND k.restricted_at IS NOT NULL)
    $$;
COMMENT ON FUNCTION is_kept(uuid, uuid, timestamptz) IS
    'Whether entries under this person''s key, or under the tenant''s (NULL), must not be removed or replaced at that time.';

CREATE TABLE erasures (
    tenant_id      uuid        NOT NULL,
    subject_key_id uuid        NOT NULL,
    request_id     uuid        NOT NULL,
    erased_at      timestamptz NOT NULL,
    CONSTRAINT erasures_pk PRIMARY KEY (tenant_id, subject_key_id)
);
COMMENT ON TABLE erasures IS
    'The erasure ledger: keys that were destroyed. What a restored backup brings back is destroyed again by it before anything is served.';

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['gdpr_events', 'gdpr_certificates', 'gdpr_export_parts',
        'legal_holds', 'erasures'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I USING (tenant_id = current_tenant())',
                       tenant_table || '_tenant', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I TO ai_cache_system USING (true)',
                       tenant_table || '_system', tenant_table);
    END LOOP;
END
$$;
