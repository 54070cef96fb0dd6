"""PinQueue's tables.

A trigger keeps audit_events append only: an application that may insert a row may otherwise also
rewrite it, and the trail of who opened which door must outlive a mistake in our own code.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE FUNCTION audit_events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events is append only: % refused', lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END;
$$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION audit_events_refuse_change();
CREATE TRIGGER audit_events_not_truncated BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse_change();
"""


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False, comment="Public part of the key: pq_ID_..."),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "key_sha256",
            sa.LargeBinary(),
            nullable=False,
            comment="256 random bits need no slow hash",
        ),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scopes <@ ARRAY['read', 'operate', 'reveal', 'admin'] AND cardinality(scopes) > 0",
            name=op.f("ck_api_keys_scopes_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_api_keys_name")),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "actor",
            sa.Text(),
            nullable=False,
            comment="source:NAME, worker, sweep, cli:USER or key:NAME",
        ),
        sa.Column(
            "event",
            sa.Text(),
            nullable=False,
            comment="What happened, as thing:what, e.g. code:active",
        ),
        sa.Column("reservation_id", sa.Text(), nullable=True),
        sa.Column("access_code_id", sa.BigInteger(), nullable=True),
        sa.Column("operation_id", sa.BigInteger(), nullable=True),
        sa.Column("lock_id", sa.Text(), nullable=True),
        sa.Column(
            "detail",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index("ix_audit_events_at", "audit_events", ["at"], unique=False)
    op.create_index(
        "ix_audit_events_reservation_id_id", "audit_events", ["reservation_id", "id"], unique=False
    )
    op.create_table(
        "listings",
        sa.Column("id", sa.Text(), nullable=False, comment="The id its webhooks use"),
        sa.Column(
            "time_zone",
            sa.Text(),
            nullable=False,
            comment="IANA name; reads local times without offset",
        ),
        sa.Column(
            "lead",
            sa.Interval(),
            nullable=True,
            comment="How long before check-in its PINs are programmed; NULL: PINQUEUE_LEAD",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("lead >= interval '0'", name=op.f("ck_listings_lead_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_listings")),
    )
    op.create_table(
        "locks",
        sa.Column("id", sa.Text(), nullable=False, comment="The name people give it"),
        sa.Column("device_id", sa.Text(), nullable=False, comment="The vendor's id of the device"),
        sa.Column("protocol", sa.Text(), nullable=False, comment="wifi, zigbee or bluetooth"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "protocol IN ('wifi', 'zigbee', 'bluetooth')", name=op.f("ck_locks_protocol_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
        sa.UniqueConstraint("device_id", name=op.f("uq_locks_device_id")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Text(), nullable=False, comment="Its name in /webhooks/{source}"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="Sealed signing secret"),
        sa.Column(
            "previous_secret",
            sa.LargeBinary(),
            nullable=True,
            comment="Sealed; valid during rotation",
        ),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("kind IN ('pinqueue')", name=op.f("ck_sources_kind_known")),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)",
            name=op.f("ck_sources_previous_secret_expires"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
    )
    op.create_table(
        "listing_locks",
        sa.Column("listing_id", sa.Text(), nullable=False),
        sa.Column("lock_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["listing_id"], ["listings.id"], name=op.f("fk_listing_locks_listing_id_listings")
        ),
        sa.ForeignKeyConstraint(
            ["lock_id"], ["locks.id"], name=op.f("fk_listing_locks_lock_id_locks")
        ),
        sa.PrimaryKeyConstraint("listing_id", "lock_id", name=op.f("pk_listing_locks")),
    )
    op.create_index(op.f("ix_listing_locks_lock_id"), "listing_locks", ["lock_id"], unique=False)
    op.create_table(
        "reservations",
        sa.Column("id", sa.Text(), nullable=False, comment="The id its source gave it"),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("listing_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("check_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("check_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("guest_name", sa.Text(), nullable=True),
        sa.Column("guest_phone", sa.Text(), nullable=True),
        sa.Column(
            "source_updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Version: the source's last change",
        ),
        sa.Column(
            "source_event_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Version, second: the event's own time",
        ),
        sa.Column(
            "source_event_id",
            sa.Text(),
            nullable=False,
            comment="Version, last: makes any two comparable",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'cancelled') = (cancelled_at IS NOT NULL)",
            name=op.f("ck_reservations_cancelled_has_cancelled_at"),
        ),
        sa.CheckConstraint(
            "status = 'cancelled' OR (listing_id IS NOT NULL AND check_in_at IS NOT NULL AND check_out_at IS NOT NULL)",
            name=op.f("ck_reservations_only_a_tombstone_lacks_dates"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'confirmed', 'cancelled')",
            name=op.f("ck_reservations_status_known"),
        ),
        sa.CheckConstraint(
            "check_in_at < check_out_at", name=op.f("ck_reservations_check_in_before_check_out")
        ),
        sa.ForeignKeyConstraint(
            ["listing_id"], ["listings.id"], name=op.f("fk_reservations_listing_id_listings")
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_reservations_source_id_sources")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index(
        op.f("ix_reservations_listing_id"), "reservations", ["listing_id"], unique=False
    )
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column(
            "event_id", sa.Text(), nullable=False, comment="The sender's id of this delivery"
        ),
        sa.Column(
            "body_sha256",
            sa.LargeBinary(),
            nullable=False,
            comment="Tells a repeat from another body",
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reservation_id", sa.Text(), nullable=True),
        sa.Column("listing_id", sa.Text(), nullable=True),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'stale', 'ignored', 'unmapped')",
            name=op.f("ck_webhook_events_outcome_known"),
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_webhook_events_source_id_sources")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint(
            "source_id", "event_id", name=op.f("uq_webhook_events_source_id_event_id")
        ),
    )
    op.create_index(
        op.f("ix_webhook_events_reservation_id"), "webhook_events", ["reservation_id"], unique=False
    )
    op.create_index(
        "ix_webhook_events_unmapped",
        "webhook_events",
        ["listing_id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'unmapped'"),
    )
    op.create_table(
        "access_codes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("reservation_id", sa.Text(), nullable=False),
        sa.Column("lock_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "starts_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The window wanted; the lock is told it too",
        ),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "remote_name",
            sa.Text(),
            nullable=False,
            comment="Our name for it on the lock: how a lost answer is found again",
        ),
        sa.Column(
            "remote_id",
            sa.BigInteger(),
            nullable=True,
            comment="The vendor's id for it on the lock",
        ),
        sa.Column(
            "create_in_doubt_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="A create was sent then and no answer is recorded: it may yet take effect",
        ),
        sa.Column(
            "pin_sealed", sa.LargeBinary(), nullable=True, comment="The digits, sealed for this row"
        ),
        sa.Column("pin_hash", sa.Text(), nullable=True, comment="bcrypt over the peppered digits"),
        sa.Column(
            "pin_fingerprint",
            sa.LargeBinary(),
            nullable=True,
            comment="Keyed by lock and digits; kept 90 days after removal so that no PIN comes back",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'cancelled') = (cancelled_at IS NOT NULL)",
            name=op.f("ck_access_codes_cancelled_has_cancelled_at"),
        ),
        sa.CheckConstraint(
            "(state = 'failed') = (failed_at IS NOT NULL)",
            name=op.f("ck_access_codes_failed_has_failed_at"),
        ),
        sa.CheckConstraint(
            "(state = 'revoked') = (revoked_at IS NOT NULL)",
            name=op.f("ck_access_codes_revoked_has_revoked_at"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'revoked')) = (pin_sealed IS NULL)",
            name=op.f("ck_access_codes_digits_wiped_when_off_the_door"),
        ),
        sa.CheckConstraint(
            "pin_sealed IS NULL OR pin_fingerprint IS NOT NULL",
            name=op.f("ck_access_codes_live_pin_has_fingerprint"),
        ),
        sa.CheckConstraint(
            "state <> 'active' OR active_at IS NOT NULL",
            name=op.f("ck_access_codes_active_has_active_at"),
        ),
        sa.CheckConstraint(
            "state <> 'sent' OR sent_at IS NOT NULL", name=op.f("ck_access_codes_sent_has_sent_at")
        ),
        sa.CheckConstraint(
            "state IN ('scheduled', 'generating', 'sent', 'active', 'revoking', 'revoked', 'cancelled', 'failed')",
            name=op.f("ck_access_codes_state_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('sent', 'active') OR (pin_hash IS NOT NULL AND remote_id IS NOT NULL)",
            name=op.f("ck_access_codes_on_the_lock_has_hash_and_remote_id"),
        ),
        sa.CheckConstraint(
            "starts_at < ends_at", name=op.f("ck_access_codes_starts_before_it_ends")
        ),
        sa.ForeignKeyConstraint(
            ["lock_id"], ["locks.id"], name=op.f("fk_access_codes_lock_id_locks")
        ),
        sa.ForeignKeyConstraint(
            ["reservation_id"],
            ["reservations.id"],
            name=op.f("fk_access_codes_reservation_id_reservations"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_codes")),
        sa.UniqueConstraint("remote_name", name=op.f("uq_access_codes_remote_name")),
    )
    op.create_index(
        "ix_access_codes_live",
        "access_codes",
        ["ends_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('generating', 'sent', 'active', 'revoking', 'failed')"),
    )
    op.create_index(op.f("ix_access_codes_lock_id"), "access_codes", ["lock_id"], unique=False)
    op.create_index(
        op.f("ix_access_codes_reservation_id"), "access_codes", ["reservation_id"], unique=False
    )
    op.create_index(
        "uq_access_codes_one_per_stay_and_lock",
        "access_codes",
        ["reservation_id", "lock_id"],
        unique=True,
        postgresql_where=sa.text("state NOT IN ('cancelled', 'revoked')"),
    )
    op.create_index("uq_access_codes_pin_in_use", "access_codes", ["pin_fingerprint"], unique=True)
    op.create_table(
        "operations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("access_code_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it should happen; lateness counts from here",
        ),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), nullable=False, comment="When it rings next"
        ),
        sa.Column(
            "epoch",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Counts claims: a worker with an older one changes nothing",
        ),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "first_claimed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Lateness is up to here",
        ),
        sa.Column(
            "failures",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Of unknown kind, in a row: PINQUEUE_RETRIES bounds them",
        ),
        sa.Column(
            "rescues",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Times its worker died or its job broke; three quarantine it",
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "job_id", sa.BigInteger(), nullable=True, comment="The Procrastinate job that rings"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'active') = (claimed_at IS NOT NULL)",
            name=op.f("ck_operations_active_has_claimed_at"),
        ),
        sa.CheckConstraint(
            "(state IN ('active', 'waiting')) = (finished_at IS NULL)",
            name=op.f("ck_operations_final_has_finished_at"),
        ),
        sa.CheckConstraint("kind IN ('generate', 'revoke')", name=op.f("ck_operations_kind_known")),
        sa.CheckConstraint(
            "state IN ('waiting', 'active', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_operations_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["access_code_id"],
            ["access_codes.id"],
            name=op.f("fk_operations_access_code_id_access_codes"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    op.create_index("ix_operations_access_code_id", "operations", ["access_code_id"], unique=False)
    op.create_index(op.f("ix_operations_job_id"), "operations", ["job_id"], unique=False)
    op.create_index(
        "ix_operations_open_next_at",
        "operations",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'active')"),
    )
    op.create_index(
        "uq_operations_one_open_per_code_and_kind",
        "operations",
        ["access_code_id", "kind"],
        unique=True,
        postgresql_where=sa.text("state IN ('waiting', 'active')"),
    )
    op.create_table(
        "job_records",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("operation_id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deferred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "state", sa.Text(), nullable=True, comment="Its last state, written when it is pruned"
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_job_records_operation_id_operations")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_records")),
    )
    op.create_index(
        op.f("ix_job_records_operation_id"), "job_records", ["operation_id"], unique=False
    )
    op.create_table(
        "tries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("operation_id", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('completed', 'later', 'failed', 'overtaken', 'rescued')",
            name=op.f("ck_tries_outcome_known"),
        ),
        sa.CheckConstraint(
            "(outcome IS NULL) = (finished_at IS NULL)", name=op.f("ck_tries_finished_has_outcome")
        ),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_tries_operation_id_operations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tries")),
        sa.UniqueConstraint("operation_id", "epoch", name=op.f("uq_tries_operation_id_epoch")),
    )
    op.create_index(op.f("ix_tries_job_id"), "tries", ["job_id"], unique=False)
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.execute("DROP FUNCTION audit_events_refuse_change() CASCADE")
    op.drop_index(op.f("ix_tries_job_id"), table_name="tries")
    op.drop_table("tries")
    op.drop_index(op.f("ix_job_records_operation_id"), table_name="job_records")
    op.drop_table("job_records")
    op.drop_index(
        "uq_operations_one_open_per_code_and_kind",
        table_name="operations",
        postgresql_where=sa.text("state IN ('waiting', 'active')"),
    )
    op.drop_index(
        "ix_operations_open_next_at",
        table_name="operations",
        postgresql_where=sa.text("state IN ('waiting', 'active')"),
    )
    op.drop_index(op.f("ix_operations_job_id"), table_name="operations")
    op.drop_index("ix_operations_access_code_id", table_name="operations")
    op.drop_table("operations")
    op.drop_index("uq_access_codes_pin_in_use", table_name="access_codes")
    op.drop_index(
        "uq_access_codes_one_per_stay_and_lock",
        table_name="access_codes",
        postgresql_where=sa.text("state NOT IN ('cancelled', 'revoked')"),
    )
    op.drop_index(op.f("ix_access_codes_reservation_id"), table_name="access_codes")
    op.drop_index(op.f("ix_access_codes_lock_id"), table_name="access_codes")
    op.drop_index(
        "ix_access_codes_live",
        table_name="access_codes",
        postgresql_where=sa.text("state IN ('generating', 'sent', 'active', 'revoking', 'failed')"),
    )
    op.drop_table("access_codes")
    op.drop_index(
        "ix_webhook_events_unmapped",
        table_name="webhook_events",
        postgresql_where=sa.text("outcome = 'unmapped'"),
    )
    op.drop_index(op.f("ix_webhook_events_reservation_id"), table_name="webhook_events")
    op.drop_table("webhook_events")
    op.drop_index(op.f("ix_reservations_listing_id"), table_name="reservations")
    op.drop_table("reservations")
    op.drop_index(op.f("ix_listing_locks_lock_id"), table_name="listing_locks")
    op.drop_table("listing_locks")
    op.drop_table("sources")
    op.drop_table("locks")
    op.drop_table("listings")
    op.drop_index("ix_audit_events_reservation_id_id", table_name="audit_events")
    op.drop_index("ix_audit_events_at", table_name="audit_events")
    op.drop_table("audit_events")
    op.drop_table("api_keys")
