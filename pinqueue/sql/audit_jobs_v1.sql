-- Every job that was ever deferred for an operation, also after its own row was pruned.
CREATE VIEW audit_jobs AS
SELECT record.job_id,
       record.queue,
       record.task,
       record.operation_id,
       code.id AS access_code_id,
       code.reservation_id,
       code.lock_id,
       CASE coalesce(job.status::text, record.state, 'lost')
           WHEN 'todo' THEN CASE WHEN job.scheduled_at > now() THEN 'delayed' ELSE 'waiting' END
           WHEN 'doing' THEN 'active'
           WHEN 'succeeded' THEN 'completed'
           WHEN 'aborted' THEN 'cancelled'
           ELSE coalesce(job.status::text, record.state, 'lost')
       END AS state,
       coalesce(run.attempts, 0) AS attempts,
       record.scheduled_at,
       run.started_at,
       CASE WHEN job.status IN ('todo', 'doing') THEN NULL ELSE run.finished_at END AS finished_at,
       run.started_at - record.scheduled_at AS late_by,
       run.ran_for,
       run.last_error
FROM job_records record
JOIN operations operation ON operation.id = record.operation_id
JOIN access_codes code ON code.id = operation.access_code_id
LEFT JOIN procrastinate_jobs job ON job.id = record.job_id
LEFT JOIN LATERAL (
    SELECT count(*) AS attempts,
           min(started_at) AS started_at,
           max(tries.finished_at) AS finished_at,
           sum(tries.finished_at - started_at) AS ran_for,
           (array_agg(error ORDER BY epoch DESC) FILTER (WHERE error IS NOT NULL))[1] AS last_error
    FROM tries WHERE tries.job_id = record.job_id
) run ON true;

COMMENT ON VIEW audit_jobs IS
    'Each job deferred for an operation. late_by: from its planned time to its first start.';
