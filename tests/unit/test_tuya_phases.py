"""How far a PIN has come, by what Tuya says about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.locks import Delivery
from pinqueue.locks.tuya_phases import read_delivery

A, D, V, R, F, J, N, W = (
    Delivery.ACCEPTED,
    Delivery.ON_DOOR,
    Delivery.REMOVING,
    Delivery.REMOVED,
    Delivery.FAILED,
    Delivery.REJECTED,
    Delivery.NO_ROOM,
    Delivery.OVERLAPS,
)
PROTOCOLS = ["wifi", "bluetooth", "zigbee"]


@pytest.mark.parametrize(
    ("protocol", "by_phase"),
    [
        ("wifi", {0: R, 1: A, 2: D, 3: V}),
        ("bluetooth", {0: R, 1: A, 2: D, 3: V, 7: F}),
        ("zigbee", {1: A, 2: D, 3: A, 4: R, 5: F}),
    ],
)
def test_a_documented_phase_means_what_it_means_on_its_protocol(
    protocol: str, by_phase: dict[int, Delivery]
) -> None:
    assert {phase: read_delivery(protocol, phase)[0] for phase in by_phase} == by_phase


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_second_set_of_phases_is_read_on_every_protocol(protocol: str) -> None:
    read = [read_delivery(protocol, phase)[0] for phase in range(11, 20)]
    assert read == [A, D, F, A, D, F, V, R, D]


@pytest.mark.parametrize(
    ("phase", "status", "delivery"),
    [
        (1, 1, A),
        (2, 2, D),
        (2, 1, A),
        (2, 3, F),
        (1, 4, J),
        (2, 5, N),
        (5, 5, N),
        (5, 6, W),
        (4, 2, R),
        (4, 1, V),
        (4, 3, V),
        (4, 4, R),
        (3, 2, A),
        (2, 99, A),
        (4, 99, V),
    ],
)
def test_on_zigbee_the_gateway_has_the_last_word(
    phase: int, status: int, delivery: Delivery
) -> None:
    assert read_delivery("zigbee", phase, status)[0] is delivery


@pytest.mark.parametrize("protocol", ["wifi", "bluetooth"])
def test_a_delivery_status_means_nothing_without_zigbee(protocol: str) -> None:
    assert read_delivery(protocol, 2, 3) == (D, "")


@given(protocol=st.sampled_from(PROTOCOLS), phase=st.none() | st.integers(20) | st.integers(-9, -1))
def test_an_unknown_phase_is_neither_on_the_door_nor_gone(protocol: str, phase: int | None) -> None:
    delivery, reason = read_delivery(protocol, phase)
    assert delivery is A
    assert str(phase) in reason


@pytest.mark.parametrize(
    ("phase", "status", "delivery"), [(5, 3, F), (1, 5, N), (1, 6, W), (5, 4, J)]
)
def test_a_failure_says_why(phase: int, status: int, delivery: Delivery) -> None:
    read, reason = read_delivery("zigbee", phase, status)
    assert read is delivery
    assert reason
