-- Each day's operations, by the day they were due (UTC).
CREATE VIEW audit_daily AS
SELECT (due_at AT TIME ZONE 'UTC')::date AS day,
       kind,
       count(*) FILTER (WHERE state = 'completed') AS completed,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE state IN ('waiting', 'active')) AS open,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY late_by) AS late_p50,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY late_by) AS late_p99,
       max(late_by) AS late_max
FROM audit_operations
WHERE due_at <= now()
GROUP BY 1, 2;

COMMENT ON VIEW audit_daily IS 'Each day''s operations by kind, with how late they were taken.';
