"""The benchmarks' arithmetic: turns, medians, ratios, plots; and what they refuse."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pinqueue import bench
from pinqueue.bench import plot
from pinqueue.bench.figures import Bar, Round, Side, alternate, percentile, summary
from pinqueue.bench.peer import beside
from pinqueue.errors import InputInvalid, PinQueueError

pytestmark = pytest.mark.anyio


def rounds(*values: float) -> list[Round]:
    return [{"seconds": value} for value in values]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_is_counted_as_the_peer_counts_it(share: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


async def test_the_sides_take_turns_and_another_begins_each_round() -> None:
    turns: list[str] = []

    def side(name: str) -> Side:
        async def measure() -> Round:
            turns.append(name)
            return {"seconds": len(turns)}

        return measure

    measured = await alternate({"pinqueue": side("ours"), "peer": side("peer")}, 3, lambda _: None)
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [one["seconds"] for one in measured["peer"]] == [2, 3, 6]


def test_a_result_has_median_and_spread_of_each_side_and_every_round() -> None:
    result = summary("", {"pinqueue": rounds(3.0, 1.0, 2.5)}, [])
    assert result["sides"]["pinqueue"]["seconds"] == {
        "median": 2.5,
        "least": 1.0,
        "most": 3.0,
        "rounds": [3.0, 1.0, 2.5],
    }


@pytest.mark.parametrize(
    ("bar", "reached"),
    [
        (Bar("seconds", "peer", at_most=1.0), False),
        (Bar("seconds", "peer", at_most=1.5), True),
        (Bar("seconds", "peer", at_least=1.5), True),
        (Bar("seconds", "peer", at_least=1.6), False),
    ],
)
def test_a_ratio_is_of_the_medians_and_says_whether_it_is_what_is_wanted(
    bar: Bar, reached: bool
) -> None:
    sides = {"pinqueue": rounds(9.0, 3.0, 2.0), "peer": rounds(2.0, 1.0, 4.0)}
    (ratio,) = summary("", sides, [bar])["ratios"]
    assert (ratio["ratio"], ratio["reached"]) == (1.5, reached)


def test_there_is_no_ratio_to_a_side_that_did_not_run() -> None:
    sides = {"pinqueue": rounds(1.0)}
    assert summary("", sides, [Bar("seconds", "peer", at_most=1.0)])["ratios"] == []


def test_a_plot_has_a_line_and_a_name_for_each_side_and_starts_at_zero() -> None:
    drawn = {"p99": [(0.0, 40.0), (1e6, 38.0)], "p50": [(0.0, 9.0), (1e6, 10.0)]}
    tree = ElementTree.fromstring(plot.lines("Lateness <of all>", "jobs", "ms", drawn))
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"p99", "p50", "Lateness <of all>", "0", "40", "1 M"} <= set(texts)
    paths = [element.get("d") or "" for element in tree.iter("{http://www.w3.org/2000/svg}path")]
    assert sum("L" in path for path in paths) == 2


@pytest.mark.parametrize(
    ("name", "scale", "field"), [("fast", 1.0, "name"), ("late", 0.5, "scale")]
)
async def test_what_cannot_be_measured_is_refused_by_its_name(
    name: str, scale: float, field: str, tmp_path: Path
) -> None:
    with pytest.raises(InputInvalid) as refused:
        await bench.run(
            name, peer=tmp_path, rounds=1, scale=scale, plots=tmp_path, tell=lambda _: None
        )
    assert refused.value.field == field


async def test_a_folder_without_the_peers_programs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")
    with pytest.raises(PinQueueError, match=r"does not hold worker\.mjs, ingest\.mjs"):
        async with beside(tmp_path, tmp_path, "postgresql://postgres@/pinqueue?host=/x&port=1"):
            pass
