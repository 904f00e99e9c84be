# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The dynvhost authors
"""Pictures, plain SVG: bars with their limits for the scorecard, coloured tables for the matrix."""

import pathlib
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

LEFT, ROW, WIDTH, TOP = 300, 22, 460, 40
COLOURS = {"stretch": "#2a9d4a", "bar": "#8ab82f", "below": "#d1495b"}

# name, ratio (None: not measured), bar, stretch, verdict
Row = tuple[str, float | None, float, float, str]


def _mark(x: float, y: int, colour: str) -> str:
    return (f'<line x1="{x:.1f}" y1="{y + 2}" x2="{x:.1f}" y2="{y + ROW - 4}" '
            f'stroke="{colour}" stroke-width="2"/>')


def _text(x: float, y: int, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y + 15}" text-anchor="{anchor}">{escape(text)}</text>'


def _row(row: Row, y: int, scale: float) -> list[str]:
    name, ratio, bar, stretch, verdict = row
    parts = [_text(LEFT - 8, y, name, "end")]
    if ratio is None:
        return [*parts, _text(LEFT + 4, y, "not measured")]
    parts.append(f'<rect x="{LEFT}" y="{y + 3}" width="{ratio * scale:.1f}" height="{ROW - 7}" '
                 f'fill="{COLOURS.get(verdict, "#888888")}"/>')
    parts += [_mark(LEFT + bar * scale, y, "#333333"), _mark(LEFT + stretch * scale, y, "#999999")]
    return [*parts, _text(LEFT + WIDTH + 8, y, f"{ratio:.2f}")]


def write_bars(path: pathlib.Path, title: str, rows: Sequence[Row]) -> None:
    """Write the picture of some rows, which share a scale."""
    top = max([1.0] + [max(ratio or 0, bar, stretch) for _, ratio, bar, stretch, _ in rows])
    scale = WIDTH / top
    height = TOP + ROW * len(rows) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" '
             f'height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="10" y="22" font-size="15">{escape(title)}</text>']
    for i, row in enumerate(rows):
        parts += _row(row, TOP + i * ROW, scale)
    one = LEFT + scale
    parts.append(f'<line x1="{one:.1f}" y1="{TOP}" x2="{one:.1f}" y2="{height - 8}" '
                 'stroke="#333333" stroke-dasharray="3,3"/>')
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def _colour(speed: float, limit: float) -> str:
    """Red below the limit; else from white to green, at three times as fast."""
    if speed < limit:
        return "#e07a84"
    share = min(1.0, max(0.0, (speed - 1) / 2))
    red, green, blue = (round(255 - share * (255 - full)) for full in (42, 157, 74))
    return f"#{red:02x}{green:02x}{blue:02x}"


def write_heat(path: pathlib.Path, title: str, rows: Sequence[str], columns: Sequence[str],
               speeds: Mapping[tuple[str, str], float], limit: float) -> None:
    """Write the picture of a table: how many times as fast, by row and column."""
    left, cell, top = 170, 84, TOP + ROW
    width, height = left + cell * len(columns) + 10, top + ROW * len(rows) + 10
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 30 + 8 * len(title))}" '
             f'height="{height}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>',
             f'<text x="10" y="22" font-size="15">{escape(title)}</text>']
    for i, column in enumerate(columns):
        parts.append(_text(left + cell * (i + 0.5), TOP, column, "middle"))
    for k, row in enumerate(rows):
        y = top + k * ROW
        parts.append(_text(left - 8, y, row, "end"))
        for i, column in enumerate(columns):
            speed = speeds.get((row, column))
            colour = "#dddddd" if speed is None else _colour(speed, limit)
            parts.append(f'<rect x="{left + i * cell}" y="{y}" width="{cell - 2}" '
                         f'height="{ROW - 2}" fill="{colour}"/>')
            text = "–" if speed is None else f"{speed:.2f}"
            parts.append(_text(left + cell * (i + 0.5) - 1, y, text, "middle"))
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")
