-- The index of transactions is summarized by whole ranges. A summary of the last, still growing one
-- would have to be written anew by nearly every transaction. Replicas of an older release go on with
-- summarize_audit_rows().

CREATE FUNCTION summarize_audit_ranges(every_gap boolean) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- Shorter than deadlock_timeout, after which Postgres cancels a vacuum that is in the way.
    SET lock_timeout = '100ms'
    AS $$
DECLARE
    pages_per_range constant bigint := 128;
    part   record;
    ranges bigint;
    at     bigint;
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
        IF every_gap AND ranges > 0 THEN
            -- From the oldest on, so that a call that is cut off leaves nothing behind it.
            done := done + brin_summarize_new_values(part.indexrelid);
            PERFORM brin_desummarize_range(part.indexrelid, ranges * pages_per_range);
        END IF;
        at := ranges;
        WHILE at > 0 AND NOT every_gap LOOP
            at := at - 1;
            added := brin_summarize_range(part.indexrelid, at * pages_per_range);
            EXIT WHEN added = 0;
            done := done + added;
        END LOOP;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION summarize_audit_ranges(boolean) IS
    'Summarizes whole ranges that were added to the trail since the last call, or every one that is not; returns how many.';
REVOKE ALL ON FUNCTION summarize_audit_ranges(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION summarize_audit_ranges(boolean) TO ai_cache_system;
