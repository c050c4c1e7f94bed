"""Figures. Lines and bars as SVG in the colours of the page (CSS classes), so that they follow light and dark;
pixels as PNG in data URIs. The same numbers give the same bytes.
"""

import base64
import io
import math

import numpy as np
from markupsafe import Markup
from PIL import Image

from ..storage.image_format import to_unit
from ..storage.transfer_set import TransferSet

LARGEST_TILE = 64
MOST_NAMED = 20


def png(array: np.ndarray) -> str:
    """An image (H,W,4) uint8 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def tile(image: np.ndarray) -> np.ndarray:
    """A stored image (C,H,W) as (h,w,4) uint8, made smaller where it is larger than LARGEST_TILE."""
    unit = np.rint(to_unit(image) * 255).astype(np.uint8)
    # Two, or four and more channels have no colours of their own: shown as grey.
    picture = Image.fromarray(np.ascontiguousarray(unit.transpose(1, 2, 0)) if len(unit) == 3 else unit.mean(0).astype(np.uint8))
    picture.thumbnail((LARGEST_TILE, LARGEST_TILE), Image.Resampling.LANCZOS)
    return np.asarray(picture.convert("RGBA"))


def sample_strips(transfer: TransferSet, classes, per_class=5, most_classes=10) -> list[dict]:
    """The first samples of each of the first classes that have any: name, number, data URI, width on the page."""
    labels = transfer.read("labels")
    present = np.unique(labels)[:most_classes]
    chosen = {int(label): np.flatnonzero(labels == label)[:per_class] for label in present}
    strips = []
    for label, rows in chosen.items():
        tiles = [tile(image) for image in transfer.read("images", rows)]
        gap = np.zeros((1, tiles[0].shape[1], 4), np.uint8)
        joined = np.concatenate([part for one in tiles for part in (one, gap)][:-1])
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


def line_chart(name: str, x: list[float], y: list[float]) -> Markup:
    """One curve, 300 x 130; logarithmic where the values span more than a factor 50. Axes are labelled at their ends."""
    step = -(-len(x) // 200)
    last = y[-1]
    x, y = x[::step] + ([x[-1]] if (len(x) - 1) % step else []), y[::step] + ([y[-1]] if (len(y) - 1) % step else [])
    low, high = min(y), max(y)
    log = low > 0 and high / low > 50
    scale = math.log10 if log else float
    left, right, top, bottom = 62, 290, 26, 108

    def across(value):
        return left + (right - left) * ((value - x[0]) / (x[-1] - x[0]) if x[-1] != x[0] else 0.5)

    def down(value):
        share = (scale(value) - scale(low)) / (scale(high) - scale(low)) if high > low else 0.5
        return bottom - (bottom - top) * share

    points = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in zip(x, y))
    mark = Markup('<polyline class="curve" points="{}"/>').format(points) if len(x) > 1 else Markup("")
    ends = Markup('<text x="56" y="{:.0f}" class="end">{}</text>')
    levels = Markup("").join(ends.format(down(value) + 4, number(value)) for value in sorted({low, high}))
    return Markup(
        '<svg viewBox="0 0 300 130" width="300" height="130" role="img" aria-label="{name} by epoch, last {last}">'
        '<text x="4" y="13"><tspan class="strong">{name}</tspan>{log}, last {last}</text>'
        '<path class="axis" d="M62 26V108H290"/>{mark}<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="2.5"/>{levels}'
        '<text x="62" y="124">{first}</text><text x="290" y="124" class="end">epoch {end}</text></svg>'
    ).format(
        name=name,
        log=" (log)" if log else "",
        last=number(last),
        mark=mark,
        cx=across(x[-1]),
        cy=down(y[-1]),
        levels=levels,
        first=number(x[0]) if len(x) > 1 else "",
        end=number(x[-1]),
    )


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
            shown = "–" if value is None else f"{value:.6g}"
            body.append(rect.format(j, left, at, length, bar - 2, left + length + 4, at + bar - 3, shown))
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
