-- The index of transactions is summarized by whole ranges only. A summary of the last, still growing
-- one would have to be written anew by nearly every transaction.

CREATE OR REPLACE FUNCTION summarize_audit_rows() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    pages_per_range constant bigint := 128;
    part   record;
    ranges bigint;
    added  integer;
    done   integer := 0;
BEGIN
    FOR part IN
        SELECT i.indexrelid, i.indrelid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
        WHERE m.amname = 'brin' AND c.relkind = 'i' AND i.indrelid IN
            (SELECT relid FROM pg_partition_tree('public.ai_cache_audit_logs') WHERE isleaf)
    LOOP
        ranges := pg_relation_size(part.indrelid) / current_setting('block_size')::bigint / pages_per_range;
        -- From the newest down to one that is summarized; what a vacuum left before that, a vacuum does.
        WHILE ranges > 0 LOOP
            ranges := ranges - 1;
            added := brin_summarize_range(part.indexrelid, ranges * pages_per_range);
            EXIT WHEN added = 0;
            done := done + added;
        END LOOP;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION summarize_audit_rows() IS 'Summarizes whole ranges that were added to the trail since; returns how many.';
