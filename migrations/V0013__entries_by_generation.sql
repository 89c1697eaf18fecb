-- In a file of its own: building it takes a while, in which fills wait, but no look-up of a tenant.
-- What an invalidation of everything left behind is found without reading what is good.
CREATE INDEX ai_cache_entries_by_generation ON ai_cache_entries (tenant_id, generation);
