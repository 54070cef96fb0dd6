-- Operations that need a person.
CREATE VIEW audit_failed AS
SELECT * FROM audit_operations WHERE state = 'failed';

COMMENT ON VIEW audit_failed IS 'Operations that were refused, spent or quarantined.';
