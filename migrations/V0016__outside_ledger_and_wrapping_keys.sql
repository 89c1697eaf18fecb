-- What a restored backup must learn of erasures before it is served from, and which keys wrap no
-- person's key any more.

ALTER TABLE audit_ledgers
    ADD COLUMN erasures_outside    boolean NOT NULL DEFAULT false,
    ADD COLUMN erasures_applied_at timestamptz;
UPDATE audit_ledgers SET erasures_applied_at = begun_at;
COMMENT ON COLUMN audit_ledgers.erasures_outside IS 'Erasures are kept in a file outside, which must be there from then on.';
COMMENT ON COLUMN audit_ledgers.erasures_applied_at IS
    'When what was erased elsewhere was erased here too, after the database was restored or copied; NULL: not since it was begun, which matters where the reason says that something may be back.';
GRANT UPDATE (erasures_outside, erasures_applied_at) ON audit_ledgers TO ai_cache_system;

CREATE TABLE retired_wrapping_keys (
    key_id     text        NOT NULL,
    retired_at timestamptz NOT NULL,
    CONSTRAINT retired_wrapping_keys_pk PRIMARY KEY (key_id)
);
COMMENT ON TABLE retired_wrapping_keys IS 'Keys of the key provider under which no person''s key may be wrapped any more. No names are used twice.';
GRANT SELECT, INSERT ON retired_wrapping_keys TO ai_cache_system;

-- Who retires a key holds the lock alone and commits; who stores a key shares it and then looks, in a
-- statement of its own, which sees that commit. So after the retirement no row under the key appears,
-- and those there are can be counted.
CREATE FUNCTION refuse_retired_wrapping_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('ai-cache wrapping keys'));
    IF EXISTS (SELECT FROM retired_wrapping_keys r WHERE r.key_id = NEW.master_key_id) THEN
        RAISE EXCEPTION 'the key % wraps nothing any more', NEW.master_key_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'subject_keys_wrapping_key_not_retired';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION refuse_retired_wrapping_key() IS 'Keeps persons'' keys from being wrapped under a key that is to be destroyed.';
REVOKE ALL ON FUNCTION refuse_retired_wrapping_key() FROM PUBLIC;

CREATE TRIGGER subject_keys_wrapping_key_not_retired
    BEFORE INSERT OR UPDATE OF master_key_id, wrapped ON subject_keys
    FOR EACH ROW WHEN (NEW.wrapped IS NOT NULL)
    EXECUTE FUNCTION refuse_retired_wrapping_key();
