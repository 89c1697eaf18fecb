-- Cache entries, and the stream that tells replicas what is no longer true.

CREATE TABLE ai_cache_entries (
    tenant_id           uuid        NOT NULL,
    cache_key           bytea       NOT NULL,
    entry_id            uuid        NOT NULL,
    generation          bigint      NOT NULL,
    operation           text        NOT NULL,
    subject_key_id      uuid,
    key_version         integer     NOT NULL,
    answer_sealed       bytea       NOT NULL,
    question_sealed     bytea       NOT NULL,
    labels_sealed       bytea       NOT NULL,
    location_index      bytea,
    vendor_type_indexes bytea[]     NOT NULL,
    tag_indexes         bytea[]     NOT NULL,
    prompt_tokens       integer     NOT NULL,
    completion_tokens   integer     NOT NULL,
    cost_picousd        bigint      NOT NULL,
    created_at          timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    access_count        bigint      NOT NULL DEFAULT 0,
    last_accessed_at    timestamptz,
    CONSTRAINT ai_cache_entries_pk PRIMARY KEY (tenant_id, cache_key),
    CONSTRAINT ai_cache_entries_entry_unique UNIQUE (tenant_id, entry_id),
    CONSTRAINT ai_cache_entries_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT ai_cache_entries_key_length CHECK (octet_length(cache_key) = 32),
    CONSTRAINT ai_cache_entries_lifetime CHECK (expires_at > created_at)
);
CREATE INDEX ai_cache_entries_by_subject ON ai_cache_entries (tenant_id, subject_key_id)
    WHERE subject_key_id IS NOT NULL;
COMMENT ON TABLE ai_cache_entries IS 'The cold tier: one answer per tenant and question, sealed.';
COMMENT ON COLUMN ai_cache_entries.cache_key IS 'HMAC-SHA-256 of the canonical question under the tenant''s index key.';
COMMENT ON COLUMN ai_cache_entries.entry_id IS 'Changes when the answer is refreshed.';
COMMENT ON COLUMN ai_cache_entries.generation IS 'The tenant''s generation when it was stored; entries of an older one are gone. Immutable.';
COMMENT ON COLUMN ai_cache_entries.subject_key_id IS 'Whose key seals it; NULL: the tenant''s.';
COMMENT ON COLUMN ai_cache_entries.answer_sealed IS 'Answer, model and usage. Immutable.';
COMMENT ON COLUMN ai_cache_entries.question_sealed IS 'Query, context and parameters. Immutable.';
COMMENT ON COLUMN ai_cache_entries.labels_sealed IS 'Location, vendor types and tags. Immutable.';
COMMENT ON COLUMN ai_cache_entries.location_index IS 'Blind index of the location.';
COMMENT ON COLUMN ai_cache_entries.vendor_type_indexes IS 'Blind indexes of the vendor types.';
COMMENT ON COLUMN ai_cache_entries.tag_indexes IS 'Blind indexes of the tags.';
COMMENT ON COLUMN ai_cache_entries.cost_picousd IS 'What the upstream charged, in 10^-12 US dollars.';
COMMENT ON COLUMN ai_cache_entries.expires_at IS 'Absolute; nothing rewrites it, the sealed fields are bound to it.';

CREATE TABLE invalidation_state (
    tenant_id  uuid        NOT NULL,
    generation bigint      NOT NULL DEFAULT 0,
    position   bigint      NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL,
    CONSTRAINT invalidation_state_pk PRIMARY KEY (tenant_id),
    CONSTRAINT invalidation_state_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id)
);
COMMENT ON TABLE invalidation_state IS
    'One row a tenant: a fill locks it FOR SHARE and an invalidation updates it first, so that neither misses the other.';
COMMENT ON COLUMN invalidation_state.generation IS 'Counts invalidations of everything.';
COMMENT ON COLUMN invalidation_state.position IS 'Position of the tenant''s newest invalidation in the stream.';

CREATE TABLE stream_tail (
    singleton boolean NOT NULL DEFAULT true,
    position  bigint  NOT NULL DEFAULT 0,
    CONSTRAINT stream_tail_pk PRIMARY KEY (singleton),
    CONSTRAINT stream_tail_one_row CHECK (singleton)
);
COMMENT ON TABLE stream_tail IS
    'The newest position of the invalidation stream. Updated last in a transaction: its row lock makes positions commit in order, which a sequence would not.';
INSERT INTO stream_tail DEFAULT VALUES;

CREATE TABLE invalidations (
    tenant_id  uuid        NOT NULL,
    position   bigint      NOT NULL,
    kind       text        NOT NULL,
    generation bigint,
    entry_id   uuid,
    cache_key  bytea,
    token_id   uuid,
    at         timestamptz NOT NULL,
    CONSTRAINT invalidations_pk PRIMARY KEY (tenant_id, position),
    CONSTRAINT invalidations_position_unique UNIQUE (position),
    CONSTRAINT invalidations_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT invalidations_kind_whole CHECK (
        (kind = 'all' AND generation IS NOT NULL)
        OR (kind = 'entry' AND entry_id IS NOT NULL AND cache_key IS NOT NULL)
        OR (kind = 'token' AND token_id IS NOT NULL)
        OR kind = 'tenant')
);
COMMENT ON TABLE invalidations IS 'The stream every replica follows by position: entries, tokens and tenants that changed.';
COMMENT ON COLUMN invalidations.kind IS 'all: the tenant''s entries of older generations; entry: one; token: revoked; tenant: its state.';

CREATE TABLE replicas (
    replica_id       uuid        NOT NULL,
    started_at       timestamptz NOT NULL,
    seen_at          timestamptz NOT NULL,
    applied_position bigint      NOT NULL,
    CONSTRAINT replicas_pk PRIMARY KEY (replica_id)
);
COMMENT ON TABLE replicas IS 'Processes that serve, and how far each has followed the invalidation stream.';
COMMENT ON COLUMN replicas.seen_at IS 'By Postgres'' clock.';

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['ai_cache_entries', 'invalidation_state', 'invalidations'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I USING (tenant_id = current_tenant())',
                       tenant_table || '_tenant', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I TO ai_cache_system USING (true)',
                       tenant_table || '_system', tenant_table);
    END LOOP;
END
$$;
