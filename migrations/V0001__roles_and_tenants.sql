-- Roles, tenants, tokens and keys.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'ai_cache_system') THEN
        BEGIN
            CREATE ROLE ai_cache_system NOLOGIN NOSUPERUSER NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of the same server made it meanwhile
        END;
    END IF;
    EXECUTE pg_catalog.format('GRANT ai_cache_system TO %I', CURRENT_USER);
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ai_cache_system;

CREATE FUNCTION current_tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(pg_catalog.current_setting('app.tenant_id', true), '')::uuid $$;
COMMENT ON FUNCTION current_tenant() IS
    'The tenant of this transaction; NULL, which matches no row, when none is set.';

CREATE TABLE tenants (
    tenant_id  uuid        NOT NULL,
    slug       text        NOT NULL,
    name       text        NOT NULL,
    state      text        NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL,
    CONSTRAINT tenants_pk PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_slug_unique UNIQUE (slug),
    CONSTRAINT tenants_slug_form CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    CONSTRAINT tenants_state_known CHECK (state IN ('active', 'disabled'))
);
COMMENT ON TABLE tenants IS 'Customers, walled off from one another. The tenant installation is the operator''s own.';
COMMENT ON COLUMN tenants.slug IS 'Name in commands and routes. Immutable.';
COMMENT ON COLUMN tenants.state IS 'disabled: no token of the tenant is accepted.';

CREATE TABLE api_tokens (
    tenant_id   uuid        NOT NULL,
    token_id    uuid        NOT NULL,
    secret_hash text        NOT NULL,
    roles       text[]      NOT NULL,
    created_at  timestamptz NOT NULL,
    created_by  uuid,
    expires_at  timestamptz,
    revoked_at  timestamptz,
    CONSTRAINT api_tokens_pk PRIMARY KEY (tenant_id, token_id),
    CONSTRAINT api_tokens_token_unique UNIQUE (token_id),
    CONSTRAINT api_tokens_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT api_tokens_roles_known
        CHECK (roles <@ ARRAY['app', 'admin', 'compliance', 'operator'] AND cardinality(roles) > 0)
);
COMMENT ON TABLE api_tokens IS 'Bearer tokens. Rows are kept after revocation: audit records name them.';
COMMENT ON COLUMN api_tokens.secret_hash IS 'argon2id in PHC string form; the secret itself is nowhere.';
COMMENT ON COLUMN api_tokens.created_by IS 'The token that made it; NULL: the command line.';

CREATE TABLE tenant_keys (
    tenant_id     uuid        NOT NULL,
    purpose       text        NOT NULL,
    version       integer     NOT NULL,
    wrapped       bytea       NOT NULL,
    master_key_id text        NOT NULL,
    created_at    timestamptz NOT NULL,
    CONSTRAINT tenant_keys_pk PRIMARY KEY (tenant_id, purpose, version),
    CONSTRAINT tenant_keys_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT tenant_keys_purpose_known CHECK (purpose IN ('enc', 'index')),
    CONSTRAINT tenant_keys_version_positive CHECK (version > 0)
);
COMMENT ON TABLE tenant_keys IS 'Keys of tenants: enc seals, index makes blind names. Sealed under a master key.';
COMMENT ON COLUMN tenant_keys.wrapped IS 'The key sealed under the master key, bound to tenant, purpose and version.';
COMMENT ON COLUMN tenant_keys.master_key_id IS 'Which master key of the key provider wraps it.';

CREATE TABLE subject_keys (
    tenant_id      uuid        NOT NULL,
    subject_key_id uuid        NOT NULL,
    blind_id       bytea,
    wrapped        bytea,
    master_key_id  text        NOT NULL,
    state          text        NOT NULL DEFAULT 'active',
    created_at     timestamptz NOT NULL,
    destroyed_at   timestamptz,
    CONSTRAINT subject_keys_pk PRIMARY KEY (tenant_id, subject_key_id),
    CONSTRAINT subject_keys_tenant_known FOREIGN KEY (tenant_id) REFERENCES tenants (tenant_id),
    CONSTRAINT subject_keys_state_whole CHECK (
        (state = 'active' AND blind_id IS NOT NULL AND wrapped IS NOT NULL AND destroyed_at IS NULL)
        OR (state = 'destroyed' AND blind_id IS NULL AND wrapped IS NULL AND destroyed_at IS NOT NULL))
);
CREATE UNIQUE INDEX subject_keys_one_active ON subject_keys (tenant_id, blind_id) WHERE state = 'active';
COMMENT ON TABLE subject_keys IS 'One key per tenant and person. Destroying it makes the person''s entries unreadable.';
COMMENT ON COLUMN subject_keys.subject_key_id IS 'Random name of the person in audit records. Immutable.';
COMMENT ON COLUMN subject_keys.blind_id IS 'HMAC-SHA-256 of the person''s id under the tenant''s index key; NULL once destroyed.';
COMMENT ON COLUMN subject_keys.wrapped IS 'The key sealed under the master key; NULL once destroyed.';

DO $$
DECLARE
    tenant_table text;
BEGIN
    FOREACH tenant_table IN ARRAY ARRAY['tenants', 'api_tokens', 'tenant_keys', 'subject_keys'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I USING (tenant_id = current_tenant())',
                       tenant_table || '_tenant', tenant_table);
        EXECUTE format('CREATE POLICY %I ON %I TO ai_cache_system USING (true)',
                       tenant_table || '_system', tenant_table);
    END LOOP;
END
$$;
