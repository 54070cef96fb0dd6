"""The laws that the database itself holds: each refuses a row that breaks it, whoever writes it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Server

WORLD = """
INSERT INTO locks (id, device_id, protocol) VALUES ('l1', 'd1', 'zigbee'), ('l2', 'd2', 'wifi');
INSERT INTO listings (id, time_zone) VALUES ('apt-7', 'UTC');
INSERT INTO listing_locks (listing_id, lock_id) VALUES ('apt-7', 'l1');
INSERT INTO sources (id, kind, secret) VALUES ('main', 'pinqueue', '\\x00');
INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome)
VALUES ('main', 'msg_1', '\\x00', 'reservation.created', '{}', 'accepted');
INSERT INTO reservations (id, listing_id, status, check_in_at, check_out_at)
VALUES ('r1', 'apt-7', 'confirmed', now(), now() + interval '1 day'),
       ('r2', 'apt-7', 'confirmed', now(), now() + interval '1 day');
INSERT INTO access_codes (reservation_id, lock_id, state, starts_at, ends_at, remote_name,
                          pin_sealed, pin_fingerprint)
VALUES ('r1', 'l1', 'scheduled', now(), now() + interval '1 day', 'pq-1', '\\x01', '\\x01'),
       ('r2', 'l1', 'scheduled', now(), now() + interval '1 day', 'pq-2', '\\x02', '\\x02');
INSERT INTO operations (access_code_id, kind, due_at, next_at)
SELECT id, 'generate', now(), now() FROM access_codes WHERE remote_name = 'pq-1';
INSERT INTO tries (operation_id, epoch) SELECT id, 1 FROM operations;
INSERT INTO api_keys (id, name, key_sha256, scopes) VALUES ('k1', 'ops', '\\x00', '{read}');
INSERT INTO endpoints (id, url, secret, events)
VALUES ('desk', 'https://example.com/', '\\x00', '{code.active}');
INSERT INTO deliveries (endpoint_id, event_id, type, body)
VALUES ('desk', 'evt_1', 'code.active', '{}');
INSERT INTO audit_events (actor, event) VALUES ('test', 'world:made');
"""

CODE_1 = "UPDATE access_codes SET {} WHERE remote_name = 'pq-1'"
WIPED = "pin_sealed = NULL, pin_hash = NULL"
ON_LOCK = "pin_hash = 'h', remote_id = 7"

BROKEN = {
    # one schema, which says once whom it serves
    "ck_schema_support_one_row": (
        "INSERT INTO schema_support (id, oldest_revision) VALUES (false, '0001')"
    ),
    # one PIN opens one door for one guest
    "uq_access_codes_pin_in_use": CODE_1.format("pin_fingerprint = '\\x02'"),
    "uq_access_codes_one_per_stay_and_lock": CODE_1.format("reservation_id = 'r2'"),
    "uq_access_codes_remote_name": CODE_1.format("remote_name = 'pq-2'"),
    "ck_access_codes_live_pin_has_fingerprint": CODE_1.format("pin_fingerprint = NULL"),
    "uq_locks_device_id": "UPDATE locks SET device_id = 'd1' WHERE id = 'l2'",
    # a window has a beginning and then an end
    "ck_access_codes_starts_before_it_ends": CODE_1.format("ends_at = starts_at"),
    "ck_reservations_check_in_before_check_out": (
        "UPDATE reservations SET check_out_at = check_in_at"
    ),
    "ck_listings_lead_not_negative": "UPDATE listings SET lead = interval '-1 s'",
    "ck_listings_buffers_up_to_a_day": "UPDATE listings SET buffer_after = interval '25 h'",
    "ck_reservations_lead_not_negative": "UPDATE reservations SET lead = interval '-1 s'",
    # a state is one of those we know, and owns its timestamp
    "ck_access_codes_state_known": CODE_1.format("state = 'lost'"),
    "ck_access_codes_sent_has_sent_at": CODE_1.format(f"state = 'sent', {ON_LOCK}"),
    "ck_access_codes_active_has_active_at": CODE_1.format(f"state = 'active', {ON_LOCK}"),
    "ck_access_codes_on_the_lock_has_hash_and_remote_id": CODE_1.format(
        "state = 'active', active_at = now(), pin_hash = 'h'"
    ),
    "ck_access_codes_failed_has_failed_at": CODE_1.format("state = 'failed'"),
    "ck_access_codes_revoked_has_revoked_at": CODE_1.format(f"state = 'revoked', {WIPED}"),
    "ck_access_codes_cancelled_has_cancelled_at": CODE_1.format(f"state = 'cancelled', {WIPED}"),
    "ck_access_codes_digits_wiped_when_off_the_door": CODE_1.format(
        "state = 'revoked', revoked_at = now()"
    ),
    "ck_reservations_status_known": "UPDATE reservations SET status = 'maybe'",
    "ck_reservations_cancelled_has_cancelled_at": "UPDATE reservations SET status = 'cancelled'",
    "ck_reservations_only_what_is_off_or_pending_lacks_dates": (
        "UPDATE reservations SET check_in_at = NULL"
    ),
    # an operation is open once, and claimed or finished as its state says
    "uq_operations_one_open_per_code_and_kind": (
        "INSERT INTO operations (access_code_id, kind, due_at, next_at)"
        " SELECT access_code_id, kind, due_at, next_at FROM operations"
    ),
    "ck_operations_kind_known": "UPDATE operations SET kind = 'open'",
    "ck_operations_state_known": "UPDATE operations SET state = 'lost', finished_at = now()",
    "ck_operations_active_has_claimed_at": "UPDATE operations SET state = 'active'",
    "ck_operations_final_has_finished_at": "UPDATE operations SET state = 'completed'",
    "uq_tries_operation_id_epoch": (
        "INSERT INTO tries (operation_id, epoch) SELECT operation_id, epoch FROM tries"
    ),
    "ck_tries_outcome_known": "UPDATE tries SET outcome = 'lost', finished_at = now()",
    "ck_tries_finished_has_outcome": "UPDATE tries SET finished_at = now()",
    # what comes in, and who may ask
    "uq_webhook_events_source_id_event_id": (
        "INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome)"
        " SELECT source_id, event_id, body_sha256, type, body, outcome FROM webhook_events"
    ),
    "ck_webhook_events_outcome_known": "UPDATE webhook_events SET outcome = 'lost'",
    "ck_sources_kind_known": "UPDATE sources SET kind = 'unknown'",
    "ck_sources_previous_secret_expires": "UPDATE sources SET previous_secret = secret",
    "ck_locks_protocol_known": "UPDATE locks SET protocol = 'magic'",
    "uq_api_keys_name": (
        "INSERT INTO api_keys (id, name, key_sha256, scopes)"
        " SELECT 'k2', name, key_sha256, scopes FROM api_keys"
    ),
    # an endpoint is told what we know to tell, once, and a delivery that has ended stays so
    "ck_endpoints_events_known": "UPDATE endpoints SET events = '{}'",
    "ck_endpoints_disabled_has_disabled_at": "UPDATE endpoints SET enabled = false",
    "ck_endpoints_disabled_has_reason": (
        "UPDATE endpoints SET enabled = false, disabled_at = now()"
    ),
    "uq_deliveries_endpoint_id_event_id": (
        "INSERT INTO deliveries (endpoint_id, event_id, type, body)"
        " VALUES ('desk', 'evt_1', 'code.revoked', '{}')"
    ),
    "ck_deliveries_type_known": "UPDATE deliveries SET type = 'code.guessed'",
    "ck_deliveries_state_known": "UPDATE deliveries SET state = 'lost', finished_at = now()",
    "ck_deliveries_final_has_finished_at": "UPDATE deliveries SET state = 'delivered'",
    "ck_api_keys_scopes_known": "UPDATE api_keys SET scopes = '{read,everything}'",
}

LAWS = """
    SELECT conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.contype IN ('c', 'u') AND c.relnamespace = 'public'::regnamespace
      AND c.relname NOT LIKE 'procrastinate%'
    UNION
    SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    WHERE i.indisunique AND NOT i.indisprimary AND c.relnamespace = 'public'::regnamespace
      AND t.relname NOT LIKE 'procrastinate%'
"""


@pytest.fixture(scope="module")
def world_url(server: Server, template: str) -> Iterator[str]:
    """A migrated database with one small world in it. No test here commits."""
    with server.database(template) as url:
        with psycopg.connect(url) as connection:
            connection.execute(WORLD.encode())
        yield url


@pytest.fixture
def world(world_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(world_url) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("law", BROKEN)
def test_the_database_refuses_a_row_that_breaks(law: str, world: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.IntegrityError) as refused:
        world.execute(BROKEN[law].encode())
    assert refused.value.diag.constraint_name == law


def test_every_check_and_unique_law_of_the_schema_is_tested_here(world: psycopg.Connection) -> None:
    assert {name for (name,) in world.execute(LAWS)} == set(BROKEN)


def test_a_stay_may_have_another_code_on_a_lock_once_the_first_is_off_it(
    world: psycopg.Connection,
) -> None:
    ended = CODE_1.format(f"state = 'revoked', revoked_at = now(), {WIPED}")
    world.execute(ended.encode())
    world.execute(b"UPDATE access_codes SET reservation_id = 'r1' WHERE remote_name = 'pq-2'")


def test_a_code_may_have_another_operation_of_a_kind_once_the_first_is_finished(
    world: psycopg.Connection,
) -> None:
    world.execute("UPDATE operations SET state = 'completed', finished_at = now()")
    world.execute(BROKEN["uq_operations_one_open_per_code_and_kind"].encode())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "TRUNCATE audit_events CASCADE",
    ],
)
def test_audit_events_refuses(change: str, world: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append only"):
        world.execute(change.encode())
