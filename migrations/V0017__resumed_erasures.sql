-- An erasure that a legal hold cut short is executed anew when the hold ends, and certified again.

ALTER TABLE gdpr_certificates
    DROP CONSTRAINT gdpr_certificates_pk,
    ADD CONSTRAINT gdpr_certificates_pk PRIMARY KEY (tenant_id, request_id, issued_at);
COMMENT ON COLUMN gdpr_certificates.issued_at IS 'An erasure that a legal hold cut short has one of then, and one of the time after the hold.';

CREATE INDEX ai_cache_gdpr_requests_cut_short ON ai_cache_gdpr_requests (due_at)
    WHERE state = 'partially_completed';

COMMENT ON COLUMN ai_cache_gdpr_requests.subject_sealed IS 'The person''s id under the tenant''s key; NULL 90 days after the request''s end.';
