"""What goes in and out of the API. Instants are told in UTC."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field

from pinqueue import models
from pinqueue.api.fields import (
    Body,
    Cursor,
    Duration,
    Given,
    Id,
    Instant,
    Lead,
    Moment,
    Name,
    Number,
    Row,
    Secret,
    TimeZone,
    Told,
    Whole,
)
from pinqueue.lifecycle import (
    CodeState,
    DeliveryState,
    EventType,
    OperationKind,
    ReservationStatus,
)
from pinqueue.webhooks import SENDERS

Queue = Literal["generate_pin", "revoke_pin"]
JobState = Literal["waiting", "delayed", "active", "completed", "failed", "cancelled"]
Protocol = Literal["wifi", "zigbee", "bluetooth"]


class Fault(Told):
    field: str
    message: str


class Problem(Told):
    code: str = Field(description="For programs", examples=["not_found"])
    message: str = Field(description="For people", examples=["there is no reservation res-123"])
    details: list[Fault] = Field(description="Which fields are wrong, and how")


class Error(Told):
    error: Problem


class Nothing(Given):
    """No parameters."""


class OfReservation(Given):
    id: Id = Field(description="The id its source gave the stay", examples=["res-123"])


class OfCode(Given):
    id: Number = Field(description="As the reservation's codes tell it", examples=[7])


class OfListing(Given):
    id: Id = Field(examples=["apt-7"])


class OfLink(OfListing):
    lock: Name = Field(examples=["street-door"])


class OfSource(Given):
    id: Id = Field(examples=["my-site"])


class Paged(Given):
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before")
    limit: Whole = Field(default=100, ge=1, le=1000, description="How many at most")


# Reservations and their access codes


class Guest(Body):
    name: Annotated[str, Field(max_length=200)] | None = None
    phone: Annotated[str, Field(max_length=50)] | None = None


class ReservationBody(Body):
    listing_id: Id = Field(examples=["apt-7"])
    check_in: Moment = Field(
        description="ISO 8601; without offset it is read in the listing's time zone",
        examples=["2026-12-24T15:00:00"],
    )
    check_out: Moment = Field(description="The same", examples=["2026-12-26T10:00:00"])
    status: Literal["confirmed", "pending"] = Field(
        default="confirmed", description="`pending` keeps the stay without a PIN"
    )
    lead: Lead | None = Field(
        default=None,
        description="How long before check-in its PINs are programmed; left out, it stays as it is",
        examples=["2h"],
    )
    guest: Guest | None = Field(
        default=None, examples=[{"name": "Ana", "phone": "+55 11 5550 0100"}]
    )


class GrantBody(Body):
    early_check_in: Moment | Literal[""] | None = Field(
        default=None,
        description="In place of check-in; empty takes it back, left out it stays as it is",
        examples=["2026-12-24T12:00:00"],
    )
    late_check_out: Moment | Literal[""] | None = Field(
        default=None, description="In place of check-out", examples=["2026-12-26T14:00:00"]
    )


class ReservationsAsked(Paged):
    listing: Id | None = Field(default=None, description="Of this listing only")
    status: ReservationStatus | None = None


class GuestTold(Told):
    name: str | None
    phone: str | None


class Reservation(Told):
    id: str
    source_id: str | None = Field(description="The sender it belongs to; null: the API's own")
    listing_id: str | None
    status: ReservationStatus
    check_in: Instant | None = Field(description="null: cancelled before its dates were told")
    check_out: Instant | None
    early_check_in_at: Instant | None = Field(description="Granted by hand")
    late_check_out_at: Instant | None = Field(description="Granted by hand")
    lead: Duration | None = Field(description="null: as its listing or the settings say")
    guest: GuestTold | None
    same_day_turnover: str | None = Field(
        description="The stay that checks in on the day on which this one checks out"
    )
    pins_withheld_at: Instant | None = Field(
        description="Since when its jobs are cancelled by hand, until it is confirmed again"
    )
    created_at: Instant
    updated_at: Instant
    cancelled_at: Instant | None

    @classmethod
    def of(cls, stay: models.Reservation, **more: Any) -> Self:
        told = {name: getattr(stay, name) for name in cls.model_fields if hasattr(stay, name)}
        told |= {"check_in": stay.check_in_at, "check_out": stay.check_out_at, "guest": None}
        if stay.guest_name is not None or stay.guest_phone is not None:
            told["guest"] = GuestTold(name=stay.guest_name, phone=stay.guest_phone)
        return cls(**told, **more)


class Reservations(Told):
    reservations: list[Reservation]
    next_cursor: str | None = Field(description="null: these are the last")


class Exported(Told):
    """Rows as they are stored. Durations are in seconds."""

    model_config = ConfigDict(ser_json_timedelta="float")

    reservation: list[Row]
    webhooks: list[Row] = Field(description="Those that told of it, with their bodies")
    access_codes: list[Row]
    operations: list[Row]
    audit_events: list[Row]


class Erased(Told):
    reservation: str
    erased: bool = True


class Code(Told):
    id: int
    reservation_id: str
    lock_id: str
    state: CodeState
    starts_at: Instant
    ends_at: Instant
    sent_at: Instant | None = Field(description="When the lock's cloud accepted it")
    active_at: Instant | None = Field(description="When it was seen on the door")
    failed_at: Instant | None
    revoked_at: Instant | None = Field(description="When it was seen to be off the door")
    cancelled_at: Instant | None


class Codes(Told):
    codes: list[Code]


class ReissueBody(Body):
    dry_run: bool = Field(default=False, description="Say what would be done, and do nothing")


class Reissued(Code):
    comes_off_first: bool = Field(
        description="Its PIN is on the door, or may be: it comes off, then another code is made."
        " Else its digits are replaced at once"
    )
    dry_run: bool

    @classmethod
    def of(cls, code: models.AccessCode, *, comes_off_first: bool, dry_run: bool) -> Self:
        told = Code.model_validate(code).model_dump()
        return cls(**told, comes_off_first=comes_off_first, dry_run=dry_run)


class ReissuedStay(Told):
    codes: list[Reissued] = Field(description="One for each door")


class Revealed(Told):
    pin: str = Field(examples=["480917"])


class CancelledJobs(Told):
    generate_pin_cancelled: bool = Field(description="A planned generate was cancelled")
    revoke_pin_cancelled: bool = Field(description="A planned revoke was cancelled, or is done now")


class Cancelled(CancelledJobs):
    status: ReservationStatus


# Jobs


class JobsOf(Given):
    queue: Queue | None = None
    lock: Id | None = None
    listing: Id | None = None
    reservation: Id | None = None


class JobsAsked(JobsOf, Paged):
    state: JobState | None = None
    due_from: Instant | None = Field(default=None, description="Due then or later")
    due_before: Instant | None = Field(default=None, description="Due before then")
    order: Literal["next", "newest"] = Field(
        default="next", description="By due time, or the reverse"
    )


class OfQueue(Given):
    queue: Queue


class OfJob(Given):
    id: Number = Field(description="As the list of jobs tells it", examples=[42])


class JobsOfReservation(Given):
    reservation_id: Id = Field(examples=["res-123"])


class GenerateBody(Body):
    check_in: Moment | None = Field(
        default=None,
        description="Moves the check-in there; without offset it is read in the listing's time"
        " zone",
    )
    lead: Lead | None = Field(
        default=None,
        description="How long before check-in, from now on for this reservation",
        examples=["2h"],
    )


class RevokeBody(Body):
    check_out: Moment | None = Field(
        default=None,
        description="Moves the check-out there; without offset it is read in the listing's time"
        " zone",
    )


class ScheduledJob(Told):
    job_id: int | None = Field(description="null: lost, and replaced within a minute")
    lock_id: str
    scheduled_at: Instant


class ScheduledJobs(Told):
    jobs: list[ScheduledJob] = Field(description="One for each lock; none for a stay that is over")


class Job(Told):
    job_id: int
    queue: Queue
    state: JobState
    operation_id: int
    access_code_id: int
    reservation_id: str
    listing_id: str | None
    lock_id: str
    scheduled_at: Instant
    attempts: int
    last_error: str | None


class Jobs(Told):
    jobs: list[Job]
    next_cursor: str | None = Field(description="null: these are the last")


class ScheduledReservation(Reservation):
    jobs: list[Job] = Field(description="What waits or runs for it now")


class LockStatus(Told):
    lock_id: str
    job_id: int | None
    state: JobState
    scheduled_at: Instant
    attempts: int
    last_error: str | None


class JobData(Told):
    kind: OperationKind
    reservation_id: str
    operation_id: int
    access_code_id: int
    lock_id: str
    scheduled_at: Instant
    last_error: str | None
    locks: list[LockStatus] = Field(description="How each lock of the stay fares")


class JobStatus(Told):
    job_id: int | None
    state: JobState = Field(description="Of several locks, that which most needs a look")
    data: JobData
    attempts: int
    delay: int = Field(description="Milliseconds until it rings; 0: it is due, or has rung")


class Retried(Told):
    retried: int
    left: int = Field(description="That match still: beyond the thousand, or nothing is left to do")


class Cleared(Told):
    cleared: int


# Looking in


class Worker(Told):
    worker: int
    heartbeat_age_seconds: float
    active_jobs: int


class HeldLock(Told):
    access_code_id: int
    reservation_id: str | None
    lock_id: str | None
    operation_id: int | None
    kind: OperationKind | None
    holder: str = Field(description="The process that holds it")
    pid: int
    client: str | None
    held_seconds: float | None


class Revisions(Told):
    current: str | None = Field(description="null: never migrated")
    expected: str


class Health(Told):
    healthy: bool
    problems: list[str] = Field(description="Why it is not healthy, as sentences")
    warnings: list[str] = Field(description="What wants a look and does not make it unhealthy")
    database: Literal["ok", "unreachable"]
    schema_: Revisions | None = Field(
        validation_alias="schema",
        serialization_alias="schema",
        description="null: nobody could look",
    )
    lock_cloud: Literal["reachable", "unreachable", "not set"] | None = Field(
        description="null: nobody has looked"
    )
    queues: dict[Queue, dict[JobState, int]] | None = Field(
        default=None, description="Jobs by state"
    )
    workers: list[Worker] | None = None
    oldest_overdue_seconds: float | None = Field(
        default=None, description="How long the oldest due operation has waited"
    )
    late_operations: int | None = Field(
        default=None, description="Not confirmed, and their deadline is near or past"
    )
    failed_pins: int | None = Field(
        default=None, description="Of stays that last: a person is needed"
    )
    doubted_locks: int | None = Field(
        default=None, description="Locks that do not list what they should, or list nothing"
    )
    doubted_sources: int | None = Field(
        default=None, description="Sources whose API does not answer, or lists too few bookings"
    )
    overdue_pins: int | None = Field(
        default=None, description="On a door past their end: must be 0"
    )
    locks_held: list[HeldLock] | None = Field(
        default=None, description="Who works on which access code"
    )


class Ok(Told):
    status: Literal["ok"]


class Unready(Told):
    status: Literal["unavailable"]
    reason: Literal["database"]


# Endpoints and their deliveries


class OfEndpoint(Given):
    id: Name = Field(examples=["desk"])


class OfDelivery(Given):
    id: Number = Field(description="As the endpoint's deliveries tell it", examples=[17])


class DeliveriesAsked(OfEndpoint, Paged):
    state: DeliveryState | None = None


class Endpoint(Told):
    id: str = Field(validation_alias="endpoint")
    url: str
    events: list[EventType] = Field(description="The types it is told of")
    private: bool = Field(description="It may lie in a private network")
    with_pin: bool = Field(description="It is told PINs")
    enabled: bool
    disabled_reason: str | None
    waiting: int = Field(description="Deliveries on their way")
    last_status: int | None = Field(description="HTTP status of its last answer")
    last_error: str | None


class Endpoints(Told):
    endpoints: list[Endpoint]


class Delivery(Told):
    id: int = Field(validation_alias="delivery")
    endpoint: str
    event_id: str = Field(description="Its `webhook-id`, the same at every try")
    type: EventType
    reservation_id: str
    state: DeliveryState
    attempts: int
    last_status: int | None = Field(description="The endpoint's last HTTP status")
    last_error: str | None
    created_at: Instant
    next_at: Instant | None = Field(description="When it is posted next")
    finished_at: Instant | None


class Deliveries(Told):
    deliveries: list[Delivery]
    next_cursor: str | None = Field(description="null: these are the last")


# Webhooks


class OfSender(Given):
    source: Name = Field(examples=["my-site"])


class Taken(Told):
    status: Literal[
        "accepted", "duplicate", "stale", "ignored", "unmapped", "fetching", "incomplete"
    ]


class Unauthorized(Told):
    error: Literal["unauthorized"]


# Set-up


class LockBody(Body):
    id: Name = Field(description="A name of your own for it", examples=["front-door"])
    device_id: Id = Field(description="Tuya's id of the device", examples=["bf2c1e00ab0f12face"])
    protocol: Protocol


class Lock(Told):
    id: str
    device_id: str
    protocol: Protocol
    listings: list[str]
    created_at: Instant
    patrolled_at: Instant | None = Field(
        description="When what it lists was last compared with what should be on it"
    )
    fault: str | None = Field(description="What was wrong when that was last tried")


class Locks(Told):
    locks: list[Lock]


class ListingBody(Body):
    id: Id = Field(description="The id its webhooks use", examples=["apt-7"])
    time_zone: TimeZone = Field(description="IANA name", examples=["America/Sao_Paulo"])
    locks: Annotated[list[Name], Field(max_length=50)] = Field(
        default_factory=list, examples=[["front-door"]]
    )
    lead: Lead | None = Field(default=None, description="null: as the settings say")


class Listing(Told):
    id: str
    time_zone: str
    lead: Duration | None = Field(description="null: as the settings say")
    locks: list[str]
    created_at: Instant


class Listings(Told):
    listings: list[Listing]


class AddedListing(Listing):
    events_taken_up: int = Field(description="Bookings that had come in for it before")


class LinkBody(Body):
    lock: Name = Field(examples=["street-door"])


class LinkedListing(Listing):
    stays_planned: int = Field(description="Stays ahead that get a PIN on this lock, or lose it")


class SourceBody(Body):
    id: Name = Field(description="Its name in /webhooks/{source}", examples=["my-site"])
    kind: str = Field(default="pinqueue", json_schema_extra={"enum": [*sorted(SENDERS)]})
    secret: Secret | None = None


class RotateBody(Body):
    secret: Secret | None = None
    keep_old: Duration = Field(
        default=timedelta(hours=24),
        description="How long the old one verifies too",
        examples=["24h"],
    )


class Source(Told):
    id: str
    kind: str
    enabled: bool
    previous_secret_until: Instant | None = Field(description="Until then two secrets verify")
    created_at: Instant


class Sources(Told):
    sources: list[Source]


class SecretSource(Source):
    secret: str = Field(description="Signs its webhooks. Not shown again")
