"""Secrets at rest: sealed to their row, hashed and fingerprinted under the pepper."""

from __future__ import annotations

import asyncio
import time

import bcrypt
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.config import read_settings
from pinqueue.errors import ConfigInvalid
from pinqueue.pins import Pin
from pinqueue.sealing import BCRYPT_ROUNDS, Sealer, sealer

KEY, NEXT_KEY, STRANGE_KEY = (Fernet.generate_key().decode() for _ in range(3))
PEPPER = "a pepper for tests, long enough to pass"
PIN = Pin("4809173")
SEALER = Sealer([KEY], PEPPER)


# Seals


@given(st.text(), st.text().filter(lambda owner: "\n" not in owner))
def test_what_was_sealed_for_a_row_opens_for_that_row(text: str, owner: str) -> None:
    assert SEALER.open(owner, SEALER.seal(owner, text)) == text


def test_a_pin_comes_back_as_it_was_sealed() -> None:
    sealed = SEALER.seal_pin(7, PIN)
    assert SEALER.open_pin(7, sealed) == PIN
    assert PIN.digits().encode() not in sealed


def test_a_seal_opens_as_the_memory_view_that_a_driver_may_return() -> None:
    assert SEALER.open("source:a", memoryview(SEALER.seal("source:a", "text"))) == "text"


def test_the_same_pin_is_never_sealed_to_the_same_bytes() -> None:
    assert SEALER.seal_pin(7, PIN) != SEALER.seal_pin(7, PIN)


@pytest.mark.parametrize("owner", ["access_code:8", "access_code:77", "source:7", ""])
def test_a_seal_that_was_moved_to_another_row_is_refused(owner: str) -> None:
    with pytest.raises(ConfigInvalid, match="sealed for another row") as refused:
        SEALER.open(owner, SEALER.seal_pin(7, PIN))
    assert PIN.digits() not in str(refused.value)


@pytest.mark.parametrize("at", [0, 9, 30, 60, -1])
def test_a_seal_that_was_altered_is_refused(at: int) -> None:
    sealed = bytearray(SEALER.seal_pin(7, PIN))
    sealed[at] = ord("A") if sealed[at] != ord("A") else ord("B")
    with pytest.raises(ConfigInvalid, match="no key in PINQUEUE_SECRET_KEYS opens access_code:7"):
        SEALER.open_pin(7, bytes(sealed))


# Keys


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals() -> None:
    old = SEALER.seal_pin(7, PIN)
    rotated = Sealer([NEXT_KEY, KEY], PEPPER)
    assert rotated.open_pin(7, old) == PIN
    new = rotated.seal_pin(7, PIN)
    assert Sealer([NEXT_KEY], PEPPER).open_pin(7, new) == PIN
    with pytest.raises(ConfigInvalid):
        SEALER.open_pin(7, new)


def test_without_its_key_a_seal_stays_shut_and_the_error_tells_no_secret() -> None:
    stranger = Sealer([STRANGE_KEY], PEPPER)
    sealed = SEALER.seal_pin(7, PIN)
    with pytest.raises(ConfigInvalid, match="add the key it was sealed with") as refused:
        stranger.open_pin(7, sealed)
    said = f"{refused.value} {refused.value.__cause__}"
    assert refused.value.__suppress_context__
    for secret in (KEY, STRANGE_KEY, PEPPER, PIN.digits(), sealed.decode()):
        assert secret not in said


def test_a_sealer_shows_neither_keys_nor_pepper() -> None:
    assert KEY not in repr(SEALER)
    assert PEPPER not in repr(SEALER)


def test_without_keys_or_pepper_there_is_no_sealer() -> None:
    with pytest.raises(ConfigInvalid, match=r"(?s)PINQUEUE_SECRET_KEYS.*PINQUEUE_PIN_PEPPER"):
        sealer(read_settings(_env_file=None))


def test_the_sealer_of_a_deployment_has_its_keys_in_their_order_and_its_pepper() -> None:
    ours = sealer(read_settings(_env_file=None, secret_keys=f"{NEXT_KEY},{KEY}", pin_pepper=PEPPER))
    assert ours.open_pin(7, SEALER.seal_pin(7, PIN)) == PIN
    assert Sealer([NEXT_KEY], "").open_pin(7, ours.seal_pin(7, PIN)) == PIN
    assert ours.fingerprint("lock", PIN) == SEALER.fingerprint("lock", PIN)


# Fingerprints


def test_a_pin_on_a_lock_has_one_fingerprint_whatever_the_keys() -> None:
    print_ = SEALER.fingerprint("front", PIN)
    assert len(print_) == 32
    assert print_ == Sealer([NEXT_KEY], PEPPER).fingerprint("front", Pin(PIN.digits()))


@pytest.mark.parametrize(
    "other",
    [
        SEALER.fingerprint("back", PIN),
        SEALER.fingerprint("front", Pin("4809174")),
        SEALER.fingerprint("front4", Pin("809173")),
        Sealer([KEY], PEPPER + "!").fingerprint("front", PIN),
    ],
    ids=["lock", "pin", "border", "pepper"],
)
def test_another_lock_pin_or_pepper_gives_another_fingerprint(other: bytes) -> None:
    assert other != SEALER.fingerprint("front", PIN)


# Hashes


@pytest.mark.anyio
async def test_a_hash_matches_its_pin_on_its_code_under_its_pepper_alone() -> None:
    pin_hash = await SEALER.hash_pin(7, PIN)
    assert await SEALER.matches(7, PIN, pin_hash)
    assert not await SEALER.matches(7, Pin("4809174"), pin_hash)
    assert not await SEALER.matches(8, PIN, pin_hash)
    assert not await Sealer([KEY], PEPPER + "!").matches(7, PIN, pin_hash)


@pytest.mark.anyio
async def test_a_hash_is_bcrypt_salted_and_not_of_the_bare_digits() -> None:
    one, two = await asyncio.gather(SEALER.hash_pin(7, PIN), SEALER.hash_pin(7, PIN))
    assert one.startswith(f"$2b${BCRYPT_ROUNDS}$")
    assert one != two
    assert not bcrypt.checkpw(PIN.digits().encode(), one.encode())


@pytest.mark.anyio
async def test_a_very_long_pepper_counts_to_its_last_character() -> None:
    pin_hash = await Sealer([KEY], "x" * 200 + "a").hash_pin(7, PIN)
    assert not await Sealer([KEY], "x" * 200 + "b").matches(7, PIN, pin_hash)


@pytest.mark.anyio
async def test_the_event_loop_keeps_turning_while_a_pin_is_hashed() -> None:
    turns, started = 0, time.monotonic()
    hashing = asyncio.ensure_future(SEALER.hash_pin(7, PIN))
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert time.monotonic() - started > 0.01  # long enough that turning means something
    assert turns > 20
