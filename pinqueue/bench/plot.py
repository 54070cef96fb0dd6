"""Plots as SVG, written by hand: a few lines on two axes need no library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 150, 40, 48
COLOURS = {"pinqueue": "#0b7285", "peer": "#e8590c", "pgbench": "#868e96"}
OTHERS = ("#0b7285", "#e8590c", "#5c940d", "#862e9c", "#868e96")

Points = Sequence[tuple[float, float]]


def lines(title: str, across: str, up: str, drawn: Mapping[str, Points]) -> str:
    """A line for each name, on an axis across with one mark per point and one up from zero."""
    marks = sorted({x for points in drawn.values() for x, _ in points})
    top = _ceiling(max(y for points in drawn.values() for _, y in points))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        # Marks stand evenly, whatever they are: 0 and a million have no common scale.
        place = marks.index(x) / max(len(marks) - 1, 1)
        return LEFT + place * width, TOP + height * (1 - y / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12" fill="#343a40">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 20, title, size=14),
        _text(LEFT + width / 2, HEIGHT - 10, across, anchor="middle"),
        _text(LEFT, TOP - 8, up, anchor="middle"),
    ]
    for step in range(5):
        value = top * step / 4
        _, y = at(marks[0], value)
        parts.append(f'<path d="M{LEFT} {y:.1f}h{width}" stroke="#dee2e6"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:g}", anchor="end"))
    for mark in marks[:: max(len(marks) // 6, 1)]:
        parts.append(_text(at(mark, 0)[0], HEIGHT - BOTTOM + 16, _short(mark), anchor="middle"))
    for number, (name, points) in enumerate(drawn.items()):
        colour = COLOURS.get(name, OTHERS[number % len(OTHERS)])
        places = [at(x, y) for x, y in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(places[-1][0] + 8, places[-1][1] + 4, name, fill=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ceiling(value: float) -> float:
    """The next round figure."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 4, 5, 8, 10) if unit * step >= value)


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g} {letter}"
    return f"{value:g}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, fill: str = "#343a40"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
