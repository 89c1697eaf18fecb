-- Where each ledger begins among the server's transactions: its seals begin there, and nobody needs to
-- search the history before it.

ALTER TABLE audit_ledgers ADD COLUMN begun_tx bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN audit_ledgers.begun_tx IS 'The transaction that began it: its rows are of later ones. 0: begun before this was kept.';
