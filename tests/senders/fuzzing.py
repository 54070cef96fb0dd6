"""Fuzz every sender's verify, parse and read, guided by what of their code is reached.

`python -m tests.senders.fuzzing FOLDER -max_total_time=60`: libFuzzer's options, and a folder for
what it learns. It ends when the time is up, or with the first input that breaks a promise.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import atheris

with atheris.instrument_imports(include=["pinqueue.webhooks", "pinqueue.fetchers"]):
    from pinqueue import webhooks
    from pinqueue.webhooks.body import Refusal, parse
    from pinqueue.webhooks.sender import Received, Told

from starlette.datastructures import Headers

from pinqueue.errors import BookingInvalid
from pinqueue.schedule import to_instant
from tests.senders.each import SENDERS, as_bytes
from tests.senders.junk import places
from tests.senders.stay import Stay

KINDS = list(SENDERS)
NOW, ZONE = datetime(2026, 11, 1, tzinfo=UTC), ZoneInfo("Europe/Berlin")
SECRETS = [sender.secret for sender in SENDERS.values()]
NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature", "signature", "ms-signature"]
NAMES += ["svix-id", "svix-timestamp", "svix-signature", "authorization"]
WORDS: list[Any] = ["confirmed", "Booked", "cancelled", "2027-06-01", "9999-12-31T00:00:00Z"]
WORDS += ["\x00", "", "16:00", "ü" * 300, [], {}, None, True, -1, 1611758157431, 10**20, 1e300]


def try_one(data: bytes) -> None:
    """The first byte chooses the sender, and whether the rest is a body or a proof."""
    first, raw = data[:1] or b"\0", data[1:]
    kind, proof = KINDS[first[0] % len(KINDS)], first[0] & 128
    try:
        prove(kind, raw) if proof else read(kind, raw)
    except BaseException:
        sys.stderr.write(f"{kind} is broken by the {'proof' if proof else 'body'} {raw!r}\n")
        raise


def prove(kind: str, raw: bytes) -> None:
    """Whatever is claimed without a secret, it is not believed, and nothing breaks."""
    texts = raw.split(b"\n")
    pairs = [(NAMES[n % len(NAMES)].encode(), text) for n, text in enumerate(texts)]
    received = Received(raw, Headers(raw=pairs), texts[-1].decode("utf-8", "replace"))
    assert webhooks.SENDERS[kind].verify(SECRETS, received) is False
    assert webhooks.SENDERS[kind].clock_is_off(received.headers, NOW) in (True, False)


def read(kind: str, raw: bytes) -> None:
    """What proved itself is read, or refused; what is read can be stored."""
    sender, headers = webhooks.SENDERS[kind], SENDERS[kind].headers(raw)
    with suppress(Refusal):
        body = parse(raw)
        event_id = sender.event_id(Received(raw, Headers(headers)), body)
        insist_on_text(event_id, 128)
        told = sender.read(event_id, body, NOW)
        insist_on_what_is_told(told)


def insist_on_what_is_told(told: Told) -> None:
    insist_on_text(told.type or "unnamed", 128)
    insist_on_text(told.fetch or "nothing", 128)
    if (booking := told.booking) is None:
        return
    insist_on_text(booking.reservation_id, 128)
    for text in (booking.listing_id, booking.other_id, booking.guest_name, booking.guest_phone):
        if text is not None:
            insist_on_text(text, 201)
    assert booking.updated_at.tzinfo is not None
    assert None not in booking.telling.fields.values()
    for field, text in (("check_in", booking.check_in), ("check_out", booking.check_out)):
        with suppress(BookingInvalid):
            to_instant(field, text or "", ZONE, gap="start")


def insist_on_text(text: str, longest: int) -> None:
    """PostgreSQL can hold it, and it is no longer than that."""
    assert 0 < len(text) <= longest
    assert b"\0" not in text.encode()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the time a place in the JSON is changed, else some bytes."""
    dice = random.Random(seed)
    try:
        event = json.loads(data[1:])
        found = list(places(event))
        if not found or dice.random() < 0.5:
            raise ValueError
        holder, key = dice.choice(found)
        if dice.random() < 0.2:
            del holder[key]
        else:
            holder[key] = dice.choice([*WORDS, dice.choice(found)[0]])
        return (data[:1] + json.dumps(event).encode())[:max_size]
    except (ValueError, RecursionError):
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated


def write_seeds(folder: Path) -> None:
    for number, sender in enumerate(SENDERS.values()):
        events = [*sender.published, sender.tells(Stay()), sender.tells(Stay(cancelled=True))]
        for n, event in enumerate(events):
            (folder / f"{sender.kind}-{n}").write_bytes(bytes([number]) + as_bytes(event))
        proof = "\n".join(sender.headers(b"{}").values()).encode()
        (folder / f"{sender.kind}-proof").write_bytes(bytes([128 + number]) + proof)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
    atheris.Setup(sys.argv, try_one, custom_mutator=mutate)
    atheris.Fuzz()
