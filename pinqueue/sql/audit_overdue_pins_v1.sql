-- PINs that are, or may be, on a door past their end. Must be empty.
CREATE VIEW audit_overdue_pins AS
SELECT *, now() - ends_at AS overdue_by FROM audit_live_pins WHERE ends_at <= now();

COMMENT ON VIEW audit_overdue_pins IS
    'PINs not confirmed off their door past their end: must be empty. The lock itself ends them too.';
