-- What a tenant may use; entries found by age of their generation; use counts written once each.

ALTER TABLE tenants
    ADD COLUMN requests_per_minute integer NOT NULL DEFAULT 0,
    ADD COLUMN max_entries         bigint  NOT NULL DEFAULT 0,
    ADD CONSTRAINT tenants_requests_per_minute_range CHECK (requests_per_minute >= 0),
    ADD CONSTRAINT tenants_max_entries_range CHECK (max_entries >= 0);
COMMENT ON COLUMN tenants.requests_per_minute IS 'Requests of its app tokens, over all replicas. 0: no limit.';
COMMENT ON COLUMN tenants.max_entries IS 'Rows of ai_cache_entries; beyond them the least recently used go. 0: no limit.';
-- Operators only: a transaction in a tenant's name cannot raise its own limits.
GRANT UPDATE (requests_per_minute, max_entries) ON tenants TO ai_cache_system;

-- Room on each page for the use counts that are written behind: they change no index.
ALTER TABLE ai_cache_entries SET (fillfactor = 90);

CREATE TABLE use_writers (
    writer_id  uuid        NOT NULL,
    batch      bigint      NOT NULL,
    written_at timestamptz NOT NULL,
    CONSTRAINT use_writers_pk PRIMARY KEY (writer_id)
);
COMMENT ON TABLE use_writers IS
    'Processes that write use counts. Updated in the batch''s own transaction: one whose commit is in doubt is repeated and counts once.';
COMMENT ON COLUMN use_writers.batch IS 'The newest batch that is written.';
GRANT SELECT, INSERT, UPDATE, DELETE ON use_writers TO ai_cache_system;
