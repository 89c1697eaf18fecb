-- Counting and removing what expires must not read every entry, and an entry whose row is gone
-- already, replaced by a fresh answer, can still be invalidated where memory or Redis holds it.

ALTER TABLE ai_cache_entries ADD COLUMN sealed_bytes bigint NOT NULL GENERATED ALWAYS AS
    (octet_length(answer_sealed) + octet_length(question_sealed) + octet_length(labels_sealed)) STORED;
COMMENT ON COLUMN ai_cache_entries.sealed_bytes IS 'Bytes of the three sealed fields.';

CREATE INDEX ai_cache_entries_by_expiry ON ai_cache_entries (tenant_id, expires_at)
    INCLUDE (generation, sealed_bytes);

ALTER TABLE invalidations
    DROP CONSTRAINT invalidations_kind_whole,
    ADD CONSTRAINT invalidations_kind_whole CHECK (
        (kind = 'all' AND generation IS NOT NULL)
        OR (kind = 'entry' AND entry_id IS NOT NULL)
        OR (kind = 'token' AND token_id IS NOT NULL)
        OR kind = 'tenant');
COMMENT ON COLUMN invalidations.cache_key IS
    'Of an entry: where it was, and what is there now is invalidated too; NULL when its row was gone.';
