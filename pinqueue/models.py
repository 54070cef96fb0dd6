"""The tables: every law that a constraint can hold, a constraint holds, named for what it says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Interval,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pinqueue.lifecycle import (
    CODE_ENDED,
    OPERATION_OPEN,
    CodeState,
    DeliveryState,
    EventType,
    OperationKind,
    OperationState,
    ReservationStatus,
)
from pinqueue.pins import LENGTHS

Instant = DateTime(timezone=True)
SOURCE_KINDS = (
    "pinqueue",
    "stays",
    "hospitable",
    "hostaway",
    "lodgify",
    "guesty",
    "cloudbeds",
    "smoobu",
)
EVENT_OUTCOMES = (
    "accepted",
    "stale",
    "ignored",
    "unmapped",
    "fetching",
    "fetched",
    "incomplete",
)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy reads it from the class
        str: Text,
        datetime: Instant,
        timedelta: Interval,
        bytes: LargeBinary,
        int: BigInteger,
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(v)) for v in values)})"


def _owns(state: str, column: str) -> CheckConstraint:
    return CheckConstraint(
        f"(state = '{state}') = ({column} IS NOT NULL)", name=f"{state}_has_{column}"
    )


def _id() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(), primary_key=True)


def _created_at() -> Mapped[datetime]:
    return mapped_column(Instant, server_default=func.now())


class Lock(Base):
    """A device on a door."""

    __tablename__ = "locks"
    __table_args__ = (CheckConstraint(_one_of("protocol", LENGTHS), name="protocol_known"),)

    id: Mapped[str] = mapped_column(primary_key=True, comment="The name people give it")
    device_id: Mapped[str] = mapped_column(unique=True, comment="The vendor's id of the device")
    protocol: Mapped[str] = mapped_column(comment="wifi, zigbee or bluetooth")
    created_at: Mapped[datetime] = _created_at()
    patrol_at: Mapped[datetime] = mapped_column(
        server_default=text("now() + interval '5 minutes'"),
        comment="When its list is compared with our rows next",
    )
    patrolled_at: Mapped[datetime | None] = mapped_column(
        comment="When its list was last read whole, and believed"
    )
    patrol_fault: Mapped[str | None] = mapped_column(comment="What was wrong at the last look")


class Listing(Base):
    """A rented unit."""

    __tablename__ = "listings"
    __table_args__ = (
        CheckConstraint("lead >= interval '0'", name="lead_not_negative"),
        CheckConstraint(
            "buffer_before BETWEEN interval '0' AND interval '1 day'"
            " AND buffer_after BETWEEN interval '0' AND interval '1 day'",
            name="buffers_up_to_a_day",
        ),
    )

    id: Mapped[str] = mapped_column(
        primary_key=True, comment="The id its webhooks use, or SOURCE:ID where two use the same"
    )
    time_zone: Mapped[str] = mapped_column(comment="IANA name; reads local times without offset")
    lead: Mapped[timedelta | None] = mapped_column(
        comment="How long before check-in its PINs are programmed; NULL: PINQUEUE_LEAD"
    )
    check_in_time: Mapped[time] = mapped_column(
        server_default=text("'15:00'"), comment="Local; of a stay told by its date alone"
    )
    check_out_time: Mapped[time] = mapped_column(server_default=text("'11:00'"))
    buffer_before: Mapped[timedelta] = mapped_column(
        server_default=text("'00:00:00'"), comment="A PIN opens so long before check-in"
    )
    buffer_after: Mapped[timedelta] = mapped_column(
        server_default=text("'00:00:00'"), comment="and so long after check-out"
    )
    created_at: Mapped[datetime] = _created_at()


class ListingLock(Base):
    """A lock that guests of a listing must be able to open. A street door belongs to several."""

    __tablename__ = "listing_locks"

    listing_id: Mapped[str] = mapped_column(ForeignKey("listings.id"), primary_key=True)
    lock_id: Mapped[str] = mapped_column(ForeignKey("locks.id"), primary_key=True, index=True)


class Source(Base):
    """A configured webhook sender."""

    __tablename__ = "sources"
    __table_args__ = (
        CheckConstraint(_one_of("kind", SOURCE_KINDS), name="kind_known"),
        CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)",
            name="previous_secret_expires",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, comment="Its name in /webhooks/{source}")
    kind: Mapped[str]
    secret: Mapped[bytes] = mapped_column(comment="Sealed signing secret")
    previous_secret: Mapped[bytes | None] = mapped_column(comment="Sealed; valid during rotation")
    previous_secret_until: Mapped[datetime | None]
    api: Mapped[bytes | None] = mapped_column(
        comment="Sealed: how to read bookings from the sender"
    )
    reconciled_at: Mapped[datetime | None] = mapped_column(
        comment="When its bookings were compared"
    )
    bookings_listed: Mapped[int | None] = mapped_column(
        comment="Bookings its API listed then: far fewer the next time is an alarm"
    )
    api_error: Mapped[str | None] = mapped_column(comment="Why its API could not be read last")
    list_fault: Mapped[str | None] = mapped_column(
        comment="Why the list of its bookings was not believed last"
    )
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = _created_at()


class WebhookEvent(Base):
    """What came in, once per source and event id, whatever became of it."""

    __tablename__ = "webhook_events"
    __table_args__ = (
        UniqueConstraint("source_id", "event_id"),
        CheckConstraint(_one_of("outcome", EVENT_OUTCOMES), name="outcome_known"),
        Index(
            "ix_webhook_events_unmapped",
            "listing_id",
            postgresql_where=text("outcome = 'unmapped'"),
        ),
        Index(
            "ix_webhook_events_fetching",
            "received_at",
            postgresql_where=text("outcome = 'fetching'"),
        ),
        Index(
            "ix_webhook_events_told",
            "received_at",
            postgresql_where=text("body <> '{}'::jsonb"),
        ),
    )

    id: Mapped[int] = _id()
    source_id: Mapped[str] = mapped_column(ForeignKey("sources.id"))
    event_id: Mapped[str] = mapped_column(comment="The sender's id of this delivery")
    body_sha256: Mapped[bytes] = mapped_column(comment="Tells a repeat from another body")
    type: Mapped[str]
    body: Mapped[dict[str, Any]]
    outcome: Mapped[str]
    reservation_id: Mapped[str | None] = mapped_column(index=True)
    listing_id: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(comment="The job that fetches the booking it names")
    rescues: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Times the worker that fetched it died; three end it"
    )
    received_at: Mapped[datetime] = _created_at()


class Reservation(Base):
    """A stay, as its source last told it. A cancel that came first is a row without dates."""

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint(_one_of("status", ReservationStatus), name="status_known"),
        CheckConstraint("check_in_at < check_out_at", name="check_in_before_check_out"),
        CheckConstraint(
            "status IN ('cancelled', 'pending') OR (listing_id IS NOT NULL"
            " AND check_in_at IS NOT NULL AND check_out_at IS NOT NULL)",
            name="only_what_is_off_or_pending_lacks_dates",
        ),
        Index("ix_reservations_listing_id_check_in_at", "listing_id", "check_in_at"),
        Index(
            "ix_reservations_with_guest",
            text("coalesce(check_out_at, updated_at)"),
            postgresql_where=text("guest_name IS NOT NULL OR guest_phone IS NOT NULL"),
        ),
        CheckConstraint(
            "(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_has_cancelled_at"
        ),
        CheckConstraint("lead >= interval '0'", name="lead_not_negative"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, comment="The id its source gave it")
    other_id: Mapped[str | None] = mapped_column(
        index=True, comment="The second id its source has for it, made ours as the first is"
    )
    source_id: Mapped[str | None] = mapped_column(ForeignKey("sources.id"))
    listing_id: Mapped[str | None] = mapped_column(ForeignKey("listings.id"))
    status: Mapped[str]
    check_in_at: Mapped[datetime | None]
    check_out_at: Mapped[datetime | None]
    guest_name: Mapped[str | None]
    guest_phone: Mapped[str | None]
    lead: Mapped[timedelta | None] = mapped_column(
        comment="How long before check-in its PINs are programmed; NULL: as its listing says"
    )
    early_check_in_at: Mapped[datetime | None] = mapped_column(
        comment="Granted by hand, in place of check-in; a change of check-in ends it"
    )
    late_check_out_at: Mapped[datetime | None] = mapped_column(
        comment="Granted by hand, in place of check-out; a change of check-out ends it"
    )
    pins_withheld_at: Mapped[datetime | None] = mapped_column(
        comment="Its jobs were cancelled by hand: no PIN until they are scheduled again"
    )
    told: Mapped[list[dict[str, Any]]] = mapped_column(
        server_default=text("'[]'"), comment="The tellings that count, newest first: see tellings"
    )
    created_at: Mapped[datetime] = _created_at()
    updated_at: Mapped[datetime] = _created_at()
    cancelled_at: Mapped[datetime | None]


class AccessCode(Base):
    """One PIN on one door for one stay. See lifecycle.CodeState for its states."""

    __tablename__ = "access_codes"
    __table_args__ = (
        CheckConstraint(_one_of("state", CodeState), name="state_known"),
        CheckConstraint("starts_at < ends_at", name="starts_before_it_ends"),
        CheckConstraint(
            f"({_one_of('state', sorted(CODE_ENDED))}) = (pin_sealed IS NULL)",
            name="digits_wiped_when_off_the_door",
        ),
        CheckConstraint(
            "pin_sealed IS NULL OR pin_fingerprint IS NOT NULL", name="live_pin_has_fingerprint"
        ),
        CheckConstraint(
            "state NOT IN ('sent', 'active') OR (pin_hash IS NOT NULL AND remote_id IS NOT NULL)",
            name="on_the_lock_has_hash_and_remote_id",
        ),
        CheckConstraint("state <> 'sent' OR sent_at IS NOT NULL", name="sent_has_sent_at"),
        CheckConstraint("state <> 'active' OR active_at IS NOT NULL", name="active_has_active_at"),
        _owns("failed", "failed_at"),
        _owns("revoked", "revoked_at"),
        _owns("cancelled", "cancelled_at"),
        Index("uq_access_codes_pin_in_use", "pin_fingerprint", unique=True),
        Index(
            "uq_access_codes_one_per_stay_and_lock",
            "reservation_id",
            "lock_id",
            unique=True,
            postgresql_where=text("state NOT IN ('cancelled', 'revoked')"),
        ),
        Index(
            "ix_access_codes_unhashed",
            "starts_at",
            postgresql_where=text("state = 'scheduled' AND pin_hash IS NULL"),
        ),
        Index(
            "ix_access_codes_live",
            "ends_at",
            postgresql_where=text(
                "state IN ('generating', 'sent', 'active', 'revoking', 'failed')"
            ),
        ),
        Index(
            "ix_access_codes_pin_rests",
            text("coalesce(revoked_at, cancelled_at)"),
            postgresql_where=text("pin_fingerprint IS NOT NULL AND pin_sealed IS NULL"),
        ),
    )

    id: Mapped[int] = _id()
    reservation_id: Mapped[str] = mapped_column(ForeignKey("reservations.id"), index=True)
    lock_id: Mapped[str] = mapped_column(ForeignKey("locks.id"), index=True)
    state: Mapped[str]
    starts_at: Mapped[datetime] = mapped_column(
        comment="The window wanted; the lock is told it too"
    )
    ends_at: Mapped[datetime]
    remote_name: Mapped[str] = mapped_column(
        unique=True, comment="Our name for it on the lock: how a lost answer is found again"
    )
    past_names: Mapped[list[str]] = mapped_column(
        ARRAY(Text), server_default=text("'{}'"), comment="Names it had there before this one"
    )
    remote_id: Mapped[int | None] = mapped_column(comment="The vendor's id for it on the lock")
    missing_since: Mapped[datetime | None] = mapped_column(
        comment="When its lock's list first was without it, though it should be on the door"
    )
    create_in_doubt_since: Mapped[datetime | None] = mapped_column(
        comment="A create may be out since then, and no answer is recorded: it may yet take effect"
    )
    pin_sealed: Mapped[bytes | None] = mapped_column(comment="The digits, sealed for this row")
    pin_hash: Mapped[str | None] = mapped_column(comment="bcrypt over the peppered digits")
    pin_fingerprint: Mapped[bytes | None] = mapped_column(
        comment="Keyed by lock and digits; kept 90 days after removal so that no PIN comes back"
    )
    created_at: Mapped[datetime] = _created_at()
    sent_at: Mapped[datetime | None]
    active_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]


class Operation(Base):
    """One thing to do to an access code. See lifecycle.OperationState for its states."""

    __tablename__ = "operations"
    __table_args__ = (
        CheckConstraint(_one_of("kind", OperationKind), name="kind_known"),
        CheckConstraint(_one_of("state", OperationState), name="state_known"),
        CheckConstraint(
            f"({_one_of('state', sorted(OPERATION_OPEN))}) = (finished_at IS NULL)",
            name="final_has_finished_at",
        ),
        CheckConstraint(
            "(state = 'active') = (claimed_at IS NOT NULL)", name="active_has_claimed_at"
        ),
        Index(
            "uq_operations_one_open_per_code_and_kind",
            "access_code_id",
            "kind",
            unique=True,
            postgresql_where=text("state IN ('waiting', 'active')"),
        ),
        Index(
            "ix_operations_open_next_at",
            "next_at",
            postgresql_where=text("state IN ('waiting', 'active')"),
        ),
        Index(
            "ix_operations_open_due_at",
            "due_at",
            postgresql_where=text("state IN ('waiting', 'active')"),
        ),
        Index("ix_operations_access_code_id", "access_code_id"),
        Index(
            "ix_operations_waits_for_room",
            "access_code_id",
            postgresql_where=text("waits_for_room"),
        ),
    )

    id: Mapped[int] = _id()
    access_code_id: Mapped[int] = mapped_column(ForeignKey("access_codes.id"))
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    due_at: Mapped[datetime] = mapped_column(
        comment="When it should happen; lateness counts from here"
    )
    next_at: Mapped[datetime] = mapped_column(comment="When it rings next")
    epoch: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="Counts claims: a worker with an older one changes nothing",
    )
    claimed_at: Mapped[datetime | None]
    first_claimed_at: Mapped[datetime | None] = mapped_column(comment="Lateness is up to here")
    late_since: Mapped[datetime | None] = mapped_column(
        comment="Since when it threatened its deadline; written when that is told"
    )
    failures: Mapped[int] = mapped_column(
        server_default=text("0"), comment="Of unknown kind, in a row: PINQUEUE_RETRIES bounds them"
    )
    rescues: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="Times its worker died or its job broke; three quarantine it",
    )
    last_error: Mapped[str | None]
    waits_for_room: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="Its lock holds as many PINs as it can"
    )
    job_id: Mapped[int | None] = mapped_column(
        index=True, comment="The Procrastinate job that rings"
    )
    created_at: Mapped[datetime] = _created_at()
    finished_at: Mapped[datetime | None]


class Try(Base):
    """One run of an operation by one worker, with how it ended."""

    __tablename__ = "tries"
    __table_args__ = (
        UniqueConstraint("operation_id", "epoch"),
        CheckConstraint(
            "outcome IN ('completed', 'later', 'failed', 'overtaken', 'rescued')",
            name="outcome_known",
        ),
        CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="finished_has_outcome"),
    )

    id: Mapped[int] = _id()
    operation_id: Mapped[int] = mapped_column(ForeignKey("operations.id"))
    epoch: Mapped[int]
    job_id: Mapped[int | None] = mapped_column(index=True)
    started_at: Mapped[datetime] = _created_at()
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]


class JobRecord(Base):
    """A Procrastinate job we deferred: what it is found by while its own row is there, and what
    remains of it after. Triggers keep `next_at` and `listing_id` true."""

    __tablename__ = "job_records"
    __table_args__ = tuple(
        Index(
            f"ix_job_records_{owner}_next_at",
            f"{owner}_id",
            "next_at",
            "job_id",
            postgresql_where=text("state IS NULL"),
        )
        for owner in ("lock", "listing")
    )

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    operation_id: Mapped[int] = mapped_column(ForeignKey("operations.id"), index=True)
    queue: Mapped[str]
    task: Mapped[str]
    scheduled_at: Mapped[datetime]
    deferred_at: Mapped[datetime] = _created_at()
    state: Mapped[str | None] = mapped_column(comment="Its last state, written when it is pruned")
    next_at: Mapped[datetime] = mapped_column(comment="When it rings next, postponed or not")
    lock_id: Mapped[str] = mapped_column(comment="Of its access code")
    listing_id: Mapped[str | None] = mapped_column(comment="Of its stay")


class JobCount(Base):
    """How the number of jobs in a queue and status changed. Summed up, it counts a million jobs in
    a millisecond; triggers on Procrastinate's table write it, the sweep folds it together."""

    __tablename__ = "job_counts"

    id: Mapped[int] = _id()
    queue: Mapped[str]
    status: Mapped[str] = mapped_column(comment="Procrastinate's word: todo, doing, succeeded, ...")
    change: Mapped[int]


class Endpoint(Base):
    """Where events are posted to, signed."""

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint(
            f"events <@ ARRAY[{', '.join(repr(str(event)) for event in EventType)}]"
            " AND cardinality(events) > 0",
            name="events_known",
        ),
        CheckConstraint("enabled = (disabled_at IS NULL)", name="disabled_has_disabled_at"),
        CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, comment="The name people give it")
    url: Mapped[str]
    secret: Mapped[bytes] = mapped_column(comment="Sealed signing secret")
    events: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="The types it is told of")
    private: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="It may lie in a private network"
    )
    with_pin: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="What is posted there has the PIN in it"
    )
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = _created_at()
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class Delivery(Base):
    """One event on its way to one endpoint. See lifecycle.DeliveryState for its states."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        CheckConstraint(_one_of("type", EventType), name="type_known"),
        CheckConstraint(_one_of("state", DeliveryState), name="state_known"),
        CheckConstraint(
            "(state = 'waiting') = (finished_at IS NULL)", name="final_has_finished_at"
        ),
        Index(
            "ix_deliveries_waiting_next_at", "next_at", postgresql_where=text("state = 'waiting'")
        ),
        Index("ix_deliveries_finished_at", "finished_at"),
        Index("ix_deliveries_endpoint_id_id", "endpoint_id", "id"),
    )

    id: Mapped[int] = _id()
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(comment="Its webhook-id, the same at every try")
    type: Mapped[str]
    body: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    attempts: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="Counts claims: a worker with an older one records nothing",
    )
    last_status: Mapped[int | None] = mapped_column(comment="The endpoint's last HTTP status")
    last_error: Mapped[str | None]
    next_at: Mapped[datetime] = mapped_column(
        Instant, server_default=func.now(), comment="When it is posted next"
    )
    job_id: Mapped[int | None] = mapped_column(comment="The Procrastinate job that rings")
    created_at: Mapped[datetime] = _created_at()
    finished_at: Mapped[datetime | None]


class MetricTotal(Base):
    """What all processes together ever counted. Each adds its growth every few seconds."""

    __tablename__ = "metric_totals"

    name: Mapped[str] = mapped_column(primary_key=True, comment="As Prometheus is told it")
    labels: Mapped[dict[str, Any]] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(
        Double, comment="Of a _bucket: what fell into it alone, not into the smaller ones too"
    )


class Pace(Base):
    """How fast all workers together call a lock cloud."""

    __tablename__ = "paces"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    project: Mapped[str] = mapped_column(primary_key=True, comment="Access ID of the Tuya project")
    next_at: Mapped[datetime] = mapped_column(comment="When the next call may be made")


class AuditEvent(Base):
    """What happened, append only: a trigger refuses every change."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_reservation_id_id", "reservation_id", "id"),
        Index("ix_audit_events_at", "at"),
    )

    id: Mapped[int] = _id()
    at: Mapped[datetime] = mapped_column(Instant, server_default=func.clock_timestamp())
    actor: Mapped[str] = mapped_column(
        comment="source:NAME, worker, sweep, cli:USER, key:NAME or endpoint:NAME"
    )
    event: Mapped[str] = mapped_column(comment="What happened, as thing:what, e.g. code:active")
    reservation_id: Mapped[str | None]
    access_code_id: Mapped[int | None]
    operation_id: Mapped[int | None]
    lock_id: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class SchemaSupport(Base):
    """Which versions of PinQueue can work with the schema as it is now: one row."""

    __tablename__ = "schema_support"
    __table_args__ = (CheckConstraint("id", name="one_row"),)

    id: Mapped[bool] = mapped_column(primary_key=True, server_default=true())
    oldest_revision: Mapped[str] = mapped_column(
        comment="PinQueue from this revision on can work with the schema as it is now"
    )


class ApiKey(Base):
    """A key of the HTTP API. Only its hash is here."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "scopes <@ ARRAY['read', 'operate', 'reveal', 'admin'] AND cardinality(scopes) > 0",
            name="scopes_known",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True, comment="Public part of the key: pq_ID_...")
    name: Mapped[str] = mapped_column(unique=True)
    key_sha256: Mapped[bytes] = mapped_column(comment="256 random bits need no slow hash")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = _created_at()
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
