-- Everything that happened to a stay, in order.
CREATE VIEW audit_timeline AS
SELECT reservation_id, at, actor, event,
       detail
           || CASE WHEN lock_id IS NULL THEN '{}' ELSE jsonb_build_object('lock_id', lock_id) END
           || CASE WHEN access_code_id IS NULL THEN '{}'
                   ELSE jsonb_build_object('access_code_id', access_code_id) END AS detail
FROM audit_events
WHERE reservation_id IS NOT NULL
ORDER BY reservation_id, id;

COMMENT ON VIEW audit_timeline IS 'Every event of a stay in order: WHERE reservation_id = ...';
