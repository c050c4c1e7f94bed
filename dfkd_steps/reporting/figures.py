"""Figures. Lines and bars as SVG in the colours of the page (CSS classes), so that they follow light and dark;
pixels as PNG in data URIs. The same numbers give the same bytes.
"""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from ..balancing import segmentation
from ..storage.image_format import to_unit
from ..storage.transfer_set import TransferSet

LARGEST_TILE = 64
MOST_NAMED = 20


def png(array: np.ndarray) -> str:
    """An image (H,W,4) uint8 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return data_uri(buffer.getvalue())


def data_uri(content: bytes) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def tile(image: np.ndarray) -> np.ndarray:
    """A stored image (C,H,W) as (h,w,4) uint8, made smaller where it is larger than LARGEST_TILE."""
    unit = np.rint(to_unit(image) * 255).astype(np.uint8)
    # Two, or four and more channels have no colours of their own: shown as grey.
    picture = Image.fromarray(np.ascontiguousarray(unit.transpose(1, 2, 0)) if len(unit) == 3 else unit.mean(0).astype(np.uint8))
    picture.thumbnail((LARGEST_TILE, LARGEST_TILE), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGBA"))


def fullest(counts, most: int) -> list[int]:
    """The classes with most samples, at most ``most`` of them and none without any, in their order."""
    order = np.argsort(-np.asarray(counts), kind="stable")[:most]
    return sorted(int(label) for label in order if counts[label])


def sample_strips(transfer: TransferSet, classes, per_class=5, most_classes=10) -> list[dict]:
    """The first samples of each of the classes that have most: name, number, data URI, width on the page."""
    if transfer.layout.dense:  # an image belongs to the class that stands out in it
        labels = segmentation.dominant(segmentation.shares_of(transfer))
    else:
        labels = transfer.read("labels")
    present = fullest(np.bincount(labels, minlength=len(classes)), most_classes)
    chosen = {int(label): np.flatnonzero(labels == label)[:per_class] for label in present}
    strips = []
    for label, rows in chosen.items():
        tiles = [tile(image) for image in transfer.read("images", rows)]
        gap = np.zeros((1, tiles[0].shape[1], 4), np.uint8)
        joined = np.concatenate([part for image in tiles for part in (image, gap)][:-1])
        zoom = max(1, round(56 / joined.shape[1]))
        strips.append({"name": str(classes[label]), "n": len(tiles), "uri": png(joined), "width": zoom * joined.shape[1],
                       "height": zoom * joined.shape[0]})  # fmt: skip
    return strips


def confusion_png(matrix) -> str:
    """A confusion matrix as a picture, a pixel each; the darker, the larger the share of the true class."""
    matrix = np.asarray(matrix, float)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = np.full((*share.shape, 4), (74, 134, 232, 0), np.uint8)
    # The square root makes the few errors visible beside the diagonal.
    picture[..., 3] = np.rint(255 * np.sqrt(share))
    return png(picture)


def number(value: float) -> str:
    """A number of a figure's axis."""
    return f"{value:.3g}"


@dataclass(frozen=True)
class Scale:
    """What an axis covers. ``log``: logarithmic, where positive values span more than a factor 50."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values) -> "Scale":
        """The scale of values that are drawn together or side by side."""
        low, high = min(values), max(values)
        return cls(low, high, low > 0 and high / low > 50)

    @property
    def middle(self) -> float:
        """The value half-way between the ends."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; in the middle where the ends are one."""
        scale = math.log10 if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low)) if self.high > self.low else 0.5


def thinned(values: list) -> list:
    """At most some 200 of the values, evenly, and the last one."""
    step = -(-len(values) // 200)
    return values[::step] + ([values[-1]] if (len(values) - 1) % step else [])


def line_chart(title: str, curves: list[tuple[list, list]], scale: Scale | None = None, unit: str = "epoch", log=False) -> Markup:
    """Curves (x, y) in one chart, 300 x 130, each in its colour (CSS class c0, c1, ...); axes are labelled at their ends,
    that of y in its middle too.

    scale: of y; without one that of these curves, so that a chart may be compared with others. log: of x, which is above 0.
    """
    curves = [(thinned(x), thinned(y)) for x, y in curves]
    scale = scale or Scale.over([value for _, y in curves for value in y])
    across = Scale(min(x[0] for x, _ in curves), max(x[-1] for x, _ in curves), log)
    left, right, top, bottom = 62, 290, 26, 108
    marks = []
    for place, (x, y) in enumerate(curves):
        points = [(left + (right - left) * across.share(a), bottom - (bottom - top) * scale.share(b)) for a, b in zip(x, y)]
        line = Markup('<polyline class="curve c{}" points="{}"/>').format(place, " ".join(f"{a:.1f},{b:.1f}" for a, b in points))
        dot = Markup('<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(place, *points[-1])
        marks += [line, dot] if len(points) > 1 else [dot]
    ends = Markup('<text x="56" y="{:.0f}" class="end">{}</text>')
    levels = Markup("").join(
        ends.format(bottom - (bottom - top) * scale.share(value) + 4, number(value))
        for value in sorted({scale.low, scale.middle, scale.high})
    )
    last = f", last {number(curves[0][1][-1])}" if len(curves) == 1 else ""
    return Markup(
        '<svg viewBox="0 0 300 130" width="300" height="130" role="img" aria-label="{title} by {unit}{last}">'
        '<text x="4" y="13"><tspan class="strong">{title}</tspan>{log}{last}</text>'
        '<path class="grid" d="M62 67H290"/><path class="axis" d="M62 26V108H290"/>{marks}{levels}'
        '<text x="62" y="124">{first}</text><text x="290" y="124" class="end">{unit} {end}</text></svg>'
    ).format(
        title=title,
        log=" (log)" if scale.log else "",
        last=last,
        marks=Markup("").join(marks),
        levels=levels,
        first=number(across.low) if across.high > across.low else "",
        unit=unit,
        end=number(across.high),
    )


def dot_axis(values: list[float]) -> tuple[float, float, list[float]]:
    """Ends and ticks of an axis that shows these percentages large: a round step, 3 to 7 ticks, nothing below 0 or above 100."""
    low, high = min(values), max(values)
    width = max(high - low, 0.5)
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if width / step <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    first, last = max(0, first - (first * step > low - 0.1 * width)), min(math.floor(100 / step), last + (last * step < high))
    ticks = [round(place * step, 6) for place in range(first, last + 1)]
    return ticks[0], max(ticks[-1], high), ticks


def class_bars(title: str, names, series: dict[str, list], most: float | None = None) -> Markup:
    """Bars per class for each series (None = no value). Up to MOST_NAMED classes lie with their names and values."""
    most = most or max((value for values in series.values() for value in values if value is not None), default=0) or 1
    draw = _named_bars if len(names) <= MOST_NAMED else _narrow_bars
    return draw(title, list(map(str, names)), series, most)


def _named_bars(title, names, series, most):
    bar, width, left = 13, 270, 96
    row = bar * len(series) + 5
    body, y = [], 3
    label = Markup('<text x="{}" y="{:.1f}" class="end">{}<title>{}</title></text>')
    rect = Markup('<rect class="bar{}" x="{}" y="{}" width="{:.1f}" height="{}"/><text x="{:.1f}" y="{}">{}</text>')
    for i, name in enumerate(names):
        short = name if len(name) <= 14 else name[:13] + "…"
        body.append(label.format(left - 6, y + row / 2 + 1, short, name))
        for j, values in enumerate(series.values()):
            value = values[i]
            length = 0 if value is None else value / most * (width - left - 46)
            at = y + j * bar
            text = "–" if value is None else f"{value:.6g}"
            body.append(rect.format(j, left, at, length, bar - 2, left + length + 4, at + bar - 3, text))
        y += row
    return Markup('<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{t}">{b}</svg>').format(
        w=width, h=y, t=title, b=Markup("").join(body)
    )


def _narrow_bars(title, names, series, most):
    """One path per series: a thousand classes stay small."""
    width, left, bottom, height = 400, 44, 104, 96
    each = (width - left) / len(names)
    paths = []
    for j, values in enumerate(series.values()):
        share = each / len(series)
        places = ((left + i * each + j * share, (value or 0) / most * height) for i, value in enumerate(values))
        outline = "".join(f"M{x:.1f} {bottom}v{-tall:.1f}h{share * 0.9:.2f}v{tall:.1f}" for x, tall in places)
        paths.append(Markup('<path class="bar{}" d="{}"/>').format(j, outline))
    return Markup(
        '<svg viewBox="0 0 {w} 122" width="{w}" height="122" role="img" aria-label="{t}">{paths}'
        '<path class="axis" d="M44 8V104H400"/>'
        '<text x="38" y="14" class="end">{most}</text><text x="38" y="106" class="end">0</text>'
        '<text x="44" y="119">{first}</text><text x="400" y="119" class="end">{last} ({n} classes)</text></svg>'
    ).format(w=width, t=title, paths=Markup("").join(paths), most=f"{most:.6g}", first=names[0], last=names[-1], n=len(names))
