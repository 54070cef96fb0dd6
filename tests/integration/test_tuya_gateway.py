"""The gateway against the simulated cloud, over real HTTP: what it asks is what the door does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from pinqueue.errors import (
    LockBusy,
    LockError,
    LockFaulted,
    LockRefused,
    LockUnreachable,
    NameTaken,
    PinRejected,
)
from pinqueue.locks import Delivery, Door, RemotePin, Window
from pinqueue.locks.tuya import TuyaGateway
from pinqueue.pins import Pin
from pinqueue.simulator import ACCESS_ID, ACCESS_SECRET, Control, running

T = TypeVar("T")
PINS = {"wifi": Pin("8061357"), "zigbee": Pin("806135"), "bluetooth": Pin("806135")}
NAME = "pq-0123456789abcdef"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as base_url:
        yield base_url


@pytest.fixture(scope="module")
def as_delivered(url: str) -> dict[str, object]:
    with Control(url) as control:
        return control.settings()


@pytest.fixture
def control(url: str, as_delivered: dict[str, object]) -> Iterator[Control]:
    with Control(url) as control:
        control.clear_faults()
        control.clear_log()
        control.settings(**as_delivered)
        yield control


@pytest.fixture(params=sorted(PINS))
def door(request: pytest.FixtureRequest, control: Control) -> Door:
    return new_door(control, request.param)


@pytest.fixture
def wifi(control: Control) -> Door:
    return new_door(control, "wifi")


@pytest.fixture
def zigbee(control: Control) -> Door:
    return new_door(control, "zigbee")


@pytest.fixture
def bluetooth(control: Control) -> Door:
    return new_door(control, "bluetooth")


def new_door(control: Control, protocol: str) -> Door:
    door = Door(f"{protocol}-{len(control.devices())}", protocol)
    control.add_door(door.device_id, protocol)
    control.clear_log()
    return door


def at_the_door(
    url: str,
    act: Callable[[TuyaGateway], Awaitable[T]],
    *,
    secret: str = ACCESS_SECRET,
    timeout: float = 10,
) -> T:
    async def main() -> T:
        gateway = TuyaGateway(
            region="eu", access_id=ACCESS_ID, access_secret=secret, url=url, timeout=timeout
        )
        try:
            return await act(gateway)
        finally:
            await gateway.close()

    return asyncio.run(main())


def window(hours: int = 24) -> Window:
    start = datetime.now(UTC).replace(microsecond=0)
    return Window(start, start + timedelta(hours=hours))


async def put(gateway: TuyaGateway, door: Door, name: str = NAME, hours: int = 24) -> int:
    return await gateway.create_pin(door, name, PINS[door.protocol], window(hours))


async def only_pin(gateway: TuyaGateway, door: Door) -> RemotePin:
    [pin] = await gateway.list_pins(door)
    return pin


def failure(url: str, act: Callable[[TuyaGateway], Awaitable[object]]) -> LockError:
    with pytest.raises(LockError) as caught:
        at_the_door(url, act, timeout=0.5)
    return caught.value


def creates(control: Control) -> int:
    """How many PINs the cloud was asked for and made, whatever it answered."""
    made = [call for call in control.log() if call["performed"]]
    return sum(1 for call in made if call["path"].endswith("/temp-password"))


def time_passes(control: Control, door: Door) -> None:
    """Long enough for the lock to learn what the cloud knows."""
    control.advance(5)
    if door.protocol == "wifi":
        control.wake(door.device_id)


# What the door does


def test_a_created_pin_opens_the_door(url: str, control: Control, door: Door) -> None:
    at_the_door(url, lambda gateway: put(gateway, door))
    time_passes(control, door)
    assert control.open(door.device_id, PINS[door.protocol].digits())


def test_a_deleted_pin_no_longer_opens_and_is_listed_as_removed(
    url: str, control: Control, door: Door
) -> None:
    remote_id = at_the_door(url, lambda gateway: put(gateway, door))
    time_passes(control, door)
    at_the_door(url, lambda gateway: gateway.delete_pin(door, remote_id))
    assert at_the_door(url, lambda g: only_pin(g, door)).delivery is Delivery.REMOVING
    time_passes(control, door)
    assert at_the_door(url, lambda g: only_pin(g, door)).delivery is Delivery.REMOVED
    assert not control.open(door.device_id, PINS[door.protocol].digits())


def test_a_pin_is_accepted_until_the_lock_wakes_and_then_on_the_door(
    url: str, control: Control, wifi: Door
) -> None:
    wanted = window()
    remote_id = at_the_door(
        url, lambda gateway: gateway.create_pin(wifi, NAME, PINS["wifi"], wanted)
    )
    asleep = at_the_door(url, lambda gateway: only_pin(gateway, wifi))
    assert asleep == RemotePin(remote_id, NAME, wanted, Delivery.ACCEPTED)
    control.wake(wifi.device_id)
    awake = at_the_door(url, lambda gateway: only_pin(gateway, wifi))
    assert awake == RemotePin(remote_id, NAME, wanted, Delivery.ON_DOOR)


def test_a_changed_window_reaches_the_door_with_the_same_pin(
    url: str, control: Control, wifi: Door
) -> None:
    async def act(gateway: TuyaGateway) -> RemotePin:
        remote_id = await put(gateway, wifi, hours=2)
        await gateway.change_pin(wifi, remote_id, NAME, PINS["wifi"], later)
        return await only_pin(gateway, wifi)

    later = window(48)
    assert at_the_door(url, act).window == later
    control.wake(wifi.device_id)
    control.advance(3 * 3600)
    assert control.open(wifi.device_id, PINS["wifi"].digits())


def test_a_pin_the_zigbee_lock_does_not_take_is_listed_as_failed_with_the_reason(
    url: str, control: Control, zigbee: Door
) -> None:
    control.state(zigbee.device_id, delivery_status=4)
    at_the_door(url, lambda gateway: put(gateway, zigbee))
    control.advance(5)
    pin = at_the_door(url, lambda gateway: only_pin(gateway, zigbee))
    assert (pin.delivery, pin.reason) == (Delivery.REJECTED, "the lock already holds the same PIN")


def test_an_empty_lock_lists_nothing(url: str, wifi: Door) -> None:
    assert at_the_door(url, lambda gateway: gateway.list_pins(wifi)) == []


@pytest.mark.parametrize("answer", [True, 2324])
def test_removing_twice_is_a_success(
    url: str, control: Control, answer: bool | int, wifi: Door
) -> None:
    control.settings(delete_twice=answer)

    async def act(gateway: TuyaGateway) -> None:
        remote_id = await put(gateway, wifi)
        await gateway.delete_pin(wifi, remote_id)
        await gateway.delete_pin(wifi, remote_id)

    at_the_door(url, act)


def test_removing_a_pin_that_never_was_is_a_success(url: str, door: Door) -> None:
    at_the_door(url, lambda gateway: gateway.delete_pin(door, 2**31 + 5))


def test_a_pin_named_token_invalid_is_created_once(url: str, control: Control, wifi: Door) -> None:
    """tinytuya takes these words anywhere in an answer for a dead token, and repeats the call."""

    async def act(gateway: TuyaGateway) -> RemotePin:
        await put(gateway, wifi, name="token invalid")
        return await only_pin(gateway, wifi)

    assert at_the_door(url, act).name == "token invalid"
    assert creates(control) == 1


# What it refuses, and what the cloud refuses


def test_a_wrong_secret_is_refused_by_name(url: str, wifi: Door) -> None:
    with pytest.raises(LockRefused, match="PINQUEUE_TUYA_ACCESS_SECRET"):
        at_the_door(url, lambda gateway: gateway.list_pins(wifi), secret="x" * 32)


def test_a_device_of_somebody_else_is_refused_with_the_remedy(url: str) -> None:
    error = failure(url, lambda gateway: gateway.list_pins(Door("unknown", "wifi")))
    assert isinstance(error, LockRefused)
    assert "link the app account" in str(error)


@pytest.mark.parametrize("device_id", ["", "a/../b", "a?b", "ä", "a b"])
def test_a_device_id_that_would_be_another_call_is_refused_unsent(
    url: str, control: Control, device_id: str
) -> None:
    assert isinstance(failure(url, lambda g: g.delete_pin(Door(device_id, "wifi"), 1)), LockRefused)
    assert control.log() == []


@pytest.mark.parametrize("name", ["", "x" * 21, "naïve", "two\nlines"])
def test_a_name_tuya_would_not_take_is_refused_unsent(
    url: str, control: Control, name: str, wifi: Door
) -> None:
    assert isinstance(failure(url, lambda gateway: put(gateway, wifi, name=name)), LockRefused)
    assert control.log() == []


def test_a_window_without_offset_is_not_taken_for_local_time(url: str, wifi: Door) -> None:
    naive = Window(datetime(2030, 1, 1), datetime(2030, 1, 2))  # noqa: DTZ001  # on purpose
    with pytest.raises(ValueError, match="aware"):
        at_the_door(url, lambda gateway: gateway.create_pin(wifi, NAME, PINS["wifi"], naive))


def test_a_name_used_before_is_taken(url: str, wifi: Door) -> None:
    async def act(gateway: TuyaGateway) -> None:
        await put(gateway, wifi)
        await gateway.create_pin(wifi, NAME, Pin("5550199"), window())

    assert isinstance(failure(url, act), NameTaken)


def test_a_pin_used_before_is_rejected(url: str, wifi: Door) -> None:
    async def act(gateway: TuyaGateway) -> None:
        await put(gateway, wifi)
        await put(gateway, wifi, name="pq-other")

    assert isinstance(failure(url, act), PinRejected)


def test_a_zigbee_lock_that_is_busy_asks_for_patience(url: str, zigbee: Door) -> None:
    async def act(gateway: TuyaGateway) -> None:
        await put(gateway, zigbee)
        await gateway.create_pin(zigbee, "pq-other", Pin("550199"), window())

    assert isinstance(failure(url, act), LockBusy)


def test_a_bluetooth_lock_out_of_reach_is_unreachable_and_nothing_was_done(
    url: str, control: Control, bluetooth: Door
) -> None:
    control.state(bluetooth.device_id, online=False)
    error = failure(url, lambda gateway: put(gateway, bluetooth))
    assert (type(error), error.code, error.in_doubt) == (LockUnreachable, "2312", False)


def test_a_ticket_about_to_expire_is_not_used(url: str, control: Control, wifi: Door) -> None:
    at_the_door(url, lambda gateway: put(gateway, wifi))
    control.advance(295)
    error = failure(url, lambda gateway: put(gateway, wifi, name="pq-other"))
    assert isinstance(error, LockBusy)
    assert error.retry_after is not None
    assert 1 < error.retry_after <= 6
    assert creates(control) == 1


def test_each_create_uses_a_ticket_of_its_own(url: str, control: Control, wifi: Door) -> None:
    control.settings(single_use_tickets=True)

    async def act(gateway: TuyaGateway) -> None:
        await put(gateway, wifi)
        await gateway.create_pin(wifi, "pq-other", Pin("5550199"), window())

    at_the_door(url, act)
    assert creates(control) == 2


# What goes wrong on the way

LOST = ["http_500", "http_502_html", "empty", "truncated", "hang", "reset_before", "reset_after"]
LOST += ["lost_answer", "redirect"]


@pytest.mark.parametrize("kind", LOST)
def test_a_create_without_an_answer_is_in_doubt(
    url: str, control: Control, kind: str, wifi: Door
) -> None:
    control.fault(kind, {"path": "/temp-password"}, seconds=5)
    error = failure(url, lambda gateway: put(gateway, wifi))
    assert (type(error), error.in_doubt) == (LockUnreachable, True)


@pytest.mark.parametrize("kind", LOST)
def test_a_ticket_without_an_answer_leaves_no_doubt(
    url: str, control: Control, kind: str, wifi: Door
) -> None:
    control.fault(kind, {"path": "/password-ticket"}, seconds=5)
    error = failure(url, lambda gateway: put(gateway, wifi))
    assert (type(error), error.in_doubt) == (LockUnreachable, False)
    assert creates(control) == 0


@pytest.mark.parametrize("kind", LOST)
def test_a_list_without_an_answer_is_never_an_empty_lock(
    url: str, control: Control, kind: str, wifi: Door
) -> None:
    control.fault(kind, {"path": "/temp-passwords"}, seconds=5)
    error = failure(url, lambda gateway: gateway.list_pins(wifi))
    assert (type(error), error.in_doubt) == (LockUnreachable, False)


@pytest.mark.parametrize("kind", ["reset_after", "lost_answer"])
def test_a_delete_without_an_answer_is_in_doubt(
    url: str, control: Control, kind: str, wifi: Door
) -> None:
    remote_id = at_the_door(url, lambda gateway: put(gateway, wifi))
    control.fault(kind, {"method": "DELETE"}, seconds=5)
    error = failure(url, lambda gateway: gateway.delete_pin(wifi, remote_id))
    assert (type(error), error.in_doubt) == (LockUnreachable, True)


def test_success_with_result_false_is_not_taken_for_a_removal(
    url: str, control: Control, wifi: Door
) -> None:
    remote_id = at_the_door(url, lambda gateway: put(gateway, wifi))
    control.fault("result_false", {"method": "DELETE"})
    error = failure(url, lambda gateway: gateway.delete_pin(wifi, remote_id))
    assert (type(error), error.in_doubt) == (LockFaulted, True)


def test_a_vendors_own_fault_on_a_create_is_an_outage_in_doubt(
    url: str, control: Control, wifi: Door
) -> None:
    control.fault("code", {"path": "/temp-password"}, code=500, msg="system error")
    error = failure(url, lambda gateway: put(gateway, wifi))
    assert (type(error), error.code, error.in_doubt) == (LockUnreachable, "500", True)


def test_the_call_after_an_outage_succeeds(url: str, control: Control, wifi: Door) -> None:
    async def act(gateway: TuyaGateway) -> object:
        for kind in ("http_502_html", "code", "reset_before"):
            control.fault(kind, {"path": "/v1.0/token"})
            with pytest.raises(LockUnreachable):
                await gateway.list_pins(wifi)
        return await gateway.list_pins(wifi)

    assert at_the_door(url, act) == []


# Tokens


@pytest.mark.parametrize("code", [1010, 1011, 1012, 1400])
def test_a_dead_token_is_renewed_by_its_code_whatever_the_words(
    url: str, control: Control, code: int, wifi: Door
) -> None:
    control.settings(token_code=code, token_text="token is expired")

    async def act(gateway: TuyaGateway) -> None:
        await gateway.list_pins(wifi)
        await asyncio.to_thread(control.revoke_tokens)
        await put(gateway, wifi)

    at_the_door(url, act)
    assert creates(control) == 1


def test_a_token_endpoint_that_refuses_tokens_ends_the_call(
    url: str, control: Control, wifi: Door
) -> None:
    """tinytuya asks it for another token, and so on without end."""
    control.fault("code", {"path": "/v1.0/token"}, code=1010, msg="token invalid", times=None)
    assert isinstance(failure(url, lambda gateway: gateway.list_pins(wifi)), LockUnreachable)
    assert len(control.log()) == 1


def test_eight_concurrent_callers_do_not_notice_that_tokens_keep_being_revoked(
    url: str, control: Control, wifi: Door
) -> None:
    async def act(gateway: TuyaGateway) -> list[object]:
        async def calls() -> list[object]:
            return [await gateway.list_pins(wifi) for _ in range(12)]

        async def revoke() -> None:
            while True:
                await asyncio.to_thread(control.revoke_tokens)
                await asyncio.sleep(0.2)

        revoking = asyncio.create_task(revoke())
        answers = await asyncio.gather(*(calls() for _ in range(8)))
        revoking.cancel()
        return [answer for each in answers for answer in each]

    assert at_the_door(url, act) == [[]] * 96
