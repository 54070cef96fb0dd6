"""Events are named for what becomes of an access code: `code.active`, no longer `pin.generated`.

Endpoints keep what they were told of under its new name; one that was told of everything is told of
the new types too. A worker of the version before tells nothing: no endpoint asks for its names.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OLD = "'pin.generated', 'pin.revoked', 'pin.generate_failed', 'pin.revoke_failed'"
NEW = "'code.scheduled', 'code.active', 'code.changed', 'code.failed', 'code.revoked'"
RENAMED = """
    CREATE TEMPORARY TABLE renamed (old, new, kind) AS VALUES
        ('pin.generated', 'code.active', 'generate'),
        ('pin.revoked', 'code.revoked', 'revoke'),
        ('pin.generate_failed', 'code.failed', 'generate'),
        ('pin.revoke_failed', 'code.failed', 'revoke')
"""
UP = (
    RENAMED,
    """
    UPDATE endpoints SET events = CASE
        WHEN events @> (SELECT array_agg(old) FROM renamed) THEN ARRAY[
            'code.scheduled', 'code.active', 'code.changed', 'code.failed', 'code.revoked']
        ELSE ARRAY(SELECT DISTINCT new FROM renamed WHERE old = ANY (events) ORDER BY new)
    END
    """,
    """
    UPDATE deliveries SET type = new, body = jsonb_set(
        jsonb_set(body, '{type}', to_jsonb(new)), '{data,kind}', to_jsonb(kind))
    FROM renamed WHERE type = old
    """,
    "DROP TABLE renamed",
)
DOWN = (
    RENAMED,
    """
    WITH unknown AS (
        DELETE FROM deliveries
        WHERE type IN ('code.scheduled', 'code.changed') OR body #>> '{data,kind}' IS NULL
        RETURNING job_id
    )
    DELETE FROM procrastinate_jobs USING unknown WHERE id = unknown.job_id
    """,
    """
    UPDATE deliveries
    SET type = old, body = jsonb_set(body, '{type}', to_jsonb(old)) #- '{data,kind}'
    FROM renamed WHERE type = new AND body #>> '{data,kind}' = kind
    """,
    """
    UPDATE endpoints
    SET events = ARRAY(SELECT old FROM renamed WHERE new = ANY (events) ORDER BY old)
    """,
    "DELETE FROM endpoints WHERE events = '{}'",
    "DROP TABLE renamed",
)


def upgrade() -> None:
    _drop_checks()
    for statement in UP:
        op.execute(statement)
    _create_checks(NEW)


def downgrade() -> None:
    _drop_checks()
    for statement in DOWN:
        op.execute(statement)
    _create_checks(OLD)


def _drop_checks() -> None:
    op.drop_constraint(op.f("ck_endpoints_events_known"), "endpoints", type_="check")
    op.drop_constraint(op.f("ck_deliveries_type_known"), "deliveries", type_="check")


def _create_checks(known: str) -> None:
    op.create_check_constraint(
        op.f("ck_endpoints_events_known"),
        "endpoints",
        f"events <@ ARRAY[{known}] AND cardinality(events) > 0",
    )
    op.create_check_constraint(op.f("ck_deliveries_type_known"), "deliveries", f"type IN ({known})")
