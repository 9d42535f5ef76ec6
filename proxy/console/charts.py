"""Charts as SVG, drawn on the server: they work without a script, print, and say in words what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 720
#: Pixels, as the style sheet has it: across, a chart is as wide as there is room, and only its bars are stretched.
HEIGHT: Final = 160
_BOTTOM: Final = 18


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle; across in units of WIDTH, down in pixels."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Position: percent across, or pixels down."""

    position: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template draws."""

    title: str
    summary: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    kinds: tuple[str, ...]
    width: int = WIDTH
    height: int = HEIGHT
    bottom: int = HEIGHT - _BOTTOM


def stacked(title: str, summary: str, labels: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[int]], every: int = 0) -> Chart:
    """Bars of counts by kind; one row of `rows` for each label, in the order of `kinds`, the first at the bottom."""
    top = _round_up(max((sum(row) for row in rows), default=0))
    room_x, room_y = WIDTH, HEIGHT - _BOTTOM - 8
    step = room_x / max(1, len(rows))
    bars = []
    for index, row in enumerate(rows):
        y = float(HEIGHT - _BOTTOM)
        for kind, count in zip(kinds, row, strict=True):
            if count:
                # Something that happened is seen, however small.
                height = max(1.5, room_y * count / top)
                y -= height
                bars.append(
                    Bar(
                        round(index * step + 0.5, 1),
                        round(y, 1),
                        round(max(1.0, step - 1), 1),
                        round(height, 1),
                        kind,
                        f"{labels[index]}: {count:,} {kind}",
                    )
                )
    every = every or max(1, len(rows) // 6)
    x_ticks = tuple(Tick(round((i + 0.5) * step / WIDTH * 100, 2), labels[i]) for i in range(0, len(rows), every))
    y_ticks = tuple(Tick(round(HEIGHT - _BOTTOM - room_y * part, 1), f"{top * part:,.0f}") for part in ((0, 0.5, 1) if top > 1 else (0, 1)))
    return Chart(title, summary, tuple(bars), x_ticks, y_ticks, tuple(kinds))


def _round_up(value: int) -> int:
    """The next of 1, 2, 4, 10, 20, 40, 100, …"""
    base = 1
    while True:
        for factor in (1, 2, 4):
            if value <= base * factor:
                return base * factor
        base *= 10
