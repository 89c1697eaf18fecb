-- Tables of features that later releases fill: their shape is fixed now.

CREATE TABLE ai_cache_seasonal_configs (
    tenant_id  uuid        NOT NULL,
    name       text        NOT NULL,
    version    bigint      NOT NULL,
    body       jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ai_cache_seasonal_configs_pk PRIMARY KEY (tenant_id, name),
    CONSTRAINT ai_cache_seasonal_configs_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id)
);
COMMENT ON TABLE ai_cache_seasonal_configs IS 'A tenant''s seasons.';
COMMENT ON COLUMN ai_cache_seasonal_configs.version IS 'Grows by one with each change: the ETag.';

CREATE TABLE ai_cache_location_configs (
    tenant_id  uuid        NOT NULL,
    name       text        NOT NULL,
    version    bigint      NOT NULL,
    body       jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ai_cache_location_configs_pk PRIMARY KEY (tenant_id, name),
    CONSTRAINT ai_cache_location_configs_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id)
);
COMMENT ON TABLE ai_cache_location_configs IS 'Which spellings of a place are one place to a tenant.';
COMMENT ON COLUMN ai_cache_location_configs.version IS 'Grows by one with each change: the ETag.';

CREATE TABLE ai_cache_vendor_configs (
    tenant_id  uuid        NOT NULL,
    name       text        NOT NULL,
    version    bigint      NOT NULL,
    body       jsonb       NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ai_cache_vendor_configs_pk PRIMARY KEY (tenant_id, name),
    CONSTRAINT ai_cache_vendor_configs_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id)
);
COMMENT ON TABLE ai_cache_vendor_configs IS 'A tenant''s vendor types and budget steps.';
COMMENT ON COLUMN ai_cache_vendor_configs.version IS 'Grows by one with each change: the ETag.';

CREATE TABLE ai_cache_performance_metrics (
    tenant_id          uuid        NOT NULL,
    minute_at          timestamptz NOT NULL,
    replica_id         uuid        NOT NULL,
    operation          text        NOT NULL,
    hits_hot           bigint      NOT NULL,
    hits_warm          bigint      NOT NULL,
    hits_cold          bigint      NOT NULL,
    misses             bigint      NOT NULL,
    errors             bigint      NOT NULL,
    upstream_calls     bigint      NOT NULL,
    collapsed          bigint      NOT NULL,
    invalidations      bigint      NOT NULL,
    tokens_saved       bigint      NOT NULL,
    cost_saved_picousd bigint      NOT NULL,
    response_us_sum    bigint      NOT NULL,
    response_histogram bytea       NOT NULL,
    CONSTRAINT ai_cache_performance_metrics_pk PRIMARY KEY (tenant_id, minute_at, replica_id, operation)
);
COMMENT ON TABLE ai_cache_performance_metrics IS 'What each replica did for each tenant, by minute and operation.';
COMMENT ON COLUMN ai_cache_performance_metrics.response_histogram IS 'Counts by response time, so that percentiles can be merged over replicas.';

CREATE TABLE ai_cache_gdpr_requests (
    tenant_id       uuid        NOT NULL,
    request_id      uuid        NOT NULL,
    type            text        NOT NULL,
    state           text        NOT NULL,
    step            text,
    attempts        integer     NOT NULL DEFAULT 0,
    subject_sealed  bytea,
    subject_blind   bytea       NOT NULL,
    details_sealed  bytea       NOT NULL,
    idempotency_key bytea,
    filed_by        uuid,
    decided_by      uuid,
    received_at     timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    extended_at     timestamptz,
    completed_at    timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    CONSTRAINT ai_cache_gdpr_requests_pk PRIMARY KEY (tenant_id, request_id),
    CONSTRAINT ai_cache_gdpr_requests_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT ai_cache_gdpr_requests_idempotent UNIQUE (tenant_id, idempotency_key),
    CONSTRAINT ai_cache_gdpr_requests_type_known
        CHECK (type IN ('export', 'erase', 'restrict', 'lift-restriction')),
    CONSTRAINT ai_cache_gdpr_requests_state_known
        CHECK (state IN ('received', 'awaiting_approval', 'approved', 'executing', 'completed',
                         'partially_completed', 'rejected', 'cancelled', 'failed'))
);
COMMENT ON TABLE ai_cache_gdpr_requests IS 'Requests of data subjects (GDPR Art. 15, 17, 18, 20) and where each stands.';
COMMENT ON COLUMN ai_cache_gdpr_requests.subject_sealed IS 'The person''s id under the tenant''s key; NULL 90 days after completion.';
COMMENT ON COLUMN ai_cache_gdpr_requests.subject_blind IS 'Blind index of the person''s id.';
COMMENT ON COLUMN ai_cache_gdpr_requests.details_sealed IS 'Reason and reference as filed, under the tenant''s key.';

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['ai_cache_seasonal_configs', 'ai_cache_location_configs',
        'ai_cache_vendor_configs', 'ai_cache_performance_metrics', 'ai_cache_gdpr_requests'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I USING (tenant_id = current_tenant())',
                       tenant_table || '_tenant', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I TO ai_cache_system USING (true)',
                       tenant_table || '_system', tenant_table);
    END LOOP;
END
$$;
