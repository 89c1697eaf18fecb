-- The stream of invalidations is kept for a while only, and replicas are told of each step.

ALTER TABLE stream_tail ADD COLUMN trimmed_to bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN stream_tail.trimmed_to IS
    'Steps up to this position are no longer kept: who has followed less must begin anew.';

CREATE FUNCTION trim_invalidations(before timestamptz, most bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    newest  bigint;
    removed bigint;
BEGIN
    SELECT max(oldest.position) INTO newest
    FROM (SELECT i.position, i.at FROM public.invalidations i ORDER BY i.position LIMIT most) oldest
    WHERE oldest.at < before;
    UPDATE public.stream_tail SET trimmed_to = greatest(trimmed_to, newest);
    DELETE FROM public.invalidations i WHERE i.position <= newest;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION trim_invalidations(timestamptz, bigint) IS
    'Removes some of the oldest steps that came before then, and says in stream_tail that they are gone; returns how many.';
REVOKE ALL ON FUNCTION trim_invalidations(timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION trim_invalidations(timestamptz, bigint) TO ai_cache_system;
COMMENT ON COLUMN replicas.seen_at IS
    'By Postgres'' clock. It serves from memory and Redis for less than three seconds longer, unless Redis proves that nothing was invalidated since.';
ALTER TABLE replicas ADD COLUMN has_floor boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN replicas.has_floor IS 'Whether Redis may prove something to it.';
COMMENT ON COLUMN replicas.applied_position IS 'It serves nothing that steps up to here removed.';
