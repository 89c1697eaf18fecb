-- Entries can be invalidated by what they have in common: their operation, a label, their person.

ALTER TABLE invalidations
    ADD COLUMN operation text,
    ADD COLUMN label_index bytea,
    ADD COLUMN subject_key_id uuid,
    DROP CONSTRAINT invalidations_kind_whole,
    ADD CONSTRAINT invalidations_kind_whole CHECK (
        (kind = 'all' AND generation IS NOT NULL)
        OR (kind = 'entry' AND entry_id IS NOT NULL)
        OR (kind = 'operation' AND operation IS NOT NULL)
        OR (kind = 'label' AND octet_length(label_index) = 32)
        OR (kind = 'subject' AND subject_key_id IS NOT NULL)
        OR (kind = 'token' AND token_id IS NOT NULL)
        OR kind = 'tenant');
COMMENT ON COLUMN invalidations.kind IS
    'all: the tenant''s entries of older generations; entry: one; operation, label, subject: those that have it in common; token: revoked; tenant: its state.';
COMMENT ON COLUMN invalidations.operation IS 'Entries of this kind are gone.';
COMMENT ON COLUMN invalidations.label_index IS
    'Entries with this label are gone: blind index of a location, a vendor type or a tag, which never coincide.';
COMMENT ON COLUMN invalidations.subject_key_id IS 'Entries sealed under this person''s key are gone.';

CREATE INDEX ai_cache_entries_by_operation ON ai_cache_entries (tenant_id, operation);
CREATE INDEX ai_cache_entries_by_location ON ai_cache_entries (tenant_id, location_index)
    WHERE location_index IS NOT NULL;
CREATE INDEX ai_cache_entries_by_vendor_type ON ai_cache_entries USING gin (vendor_type_indexes);
CREATE INDEX ai_cache_entries_by_tag ON ai_cache_entries USING gin (tag_indexes);
