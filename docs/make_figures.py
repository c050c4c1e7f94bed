"""Draws the figures in docs/assets/: diagrams and plots as SVG, and a strip of synthetic images.

python docs/make_figures.py            all of them; the strip trains a teacher and makes small sets, three minutes on one core
python docs/make_figures.py diagrams   diagrams and plots only
"""

import math
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import h5py
import make_results as results
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs/assets"
FONT = "ui-sans-serif, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
INK, MUTED, LINE, PAPER = "#1f2937", "#6b7280", "#94a3b8", "#ffffff"
BLUE, GREEN, GREY = ("#dbeafe", "#3b82f6"), ("#dcfce7", "#22c55e"), ("#f1f5f9", "#94a3b8")

# The strip: one row of images per transfer set, all from one LeNet-5 trained on 4,000 digits.
TEACHER = "mnist-5k/lenet5+epochs=40"
STRIP = (
    ("uniform noise", "noise+n=1000"),
    ("ZSKD", "zskd+batch=250+n=1000+steps=300"),
    ("ZSKD on random views", "zskd-small+n=1000"),
    ("glyphs, drawn", "procedural+kind=glyphs+n=4000"),
    ("soft targets from glyphs", "soft-targeted-glyphs+n=2000+untouched=0"),
)
CELL, GAP, LABEL = 56, 6, 230


def text(x, y, content, size=15, fill=INK, weight="400", anchor="middle") -> str:
    """A line of text in SVG."""
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x}" y="{y}" {style}>{content}</text>'


def box(x, y, width, height, colours, radius=8, dash="") -> str:
    """A rounded rectangle in SVG; colours = (fill, border)."""
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    size = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"'
    return f'<rect {size} fill="{colours[0]}" stroke="{colours[1]}" stroke-width="1.5"{dashed}/>'


def arrow(*points) -> str:
    """A line through points, ending in an arrow head."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>'


def svg(width, height, title, parts) -> str:
    """A complete SVG file with a white background, legible on light and dark pages."""
    head = '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    head += f'<path d="M0,0 L10,5 L0,10 z" fill="{INK}"/></marker>'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{FONT}" role="img">'
    ground = f'<rect width="{width}" height="{height}" rx="12" fill="{PAPER}"/>'
    return "\n".join([opening, f"<title>{title}</title>", f"<defs>{head}</defs>", ground, *parts, "</svg>", ""])


def pipeline() -> str:
    """The steps and what they read. No arrow leads from the data into the shaded part."""
    width = 122
    steps = (
        (20, "dataset", "images, classes", GREY),
        (164, "teacher", "large network", BLUE),
        (322, "synthesize", "transfer set", GREEN),
        (466, "balance", "balanced set", GREEN),
        (610, "distill", "student", GREEN),
        (768, "evaluate", "metrics", GREY),
    )
    middle = {name: x + width // 2 for x, name, _, _ in steps}
    parts = [box(304, 44, 446, 148, ("#f0fdf4", "#86efac"), 12, "6 4")]
    parts += [text(527, 68, "no training data used in these steps", 13, "#15803d", "600")]
    for x, name, output, colours in steps:
        parts += [box(x, 84, width, 56, colours), text(middle[name], 107, name, 16, weight="600")]
        parts += [text(middle[name], 127, output, 12, MUTED)]
    parts += [arrow((x + width, 112), (after, 112)) for (x, *_), (after, *_) in pairwise(steps)]
    # The teacher also goes to balance, distill and evaluate; the test images go to evaluate.
    line = 'fill="none" stroke="#3b82f6" stroke-width="1.4" marker-end="url(#head)"'
    parts += [f'<path d="M{middle["teacher"]},140 V170 H{middle["evaluate"] - 8} V142" {line}/>']
    parts += [f'<path d="M{middle[name]},170 V142" {line}/>' for name in ("balance", "distill")]
    parts += [text(420, 186, "the teacher's outputs", 13, "#2563eb")]
    dashed = f'stroke="{LINE}" stroke-width="1.4" stroke-dasharray="5 4"'
    parts += [f'<path d="M{middle["dataset"]},84 V24 H{middle["evaluate"]} V82" fill="none" {dashed} marker-end="url(#head)"/>']
    parts += [text(455, 18, "test images, read once", 13, MUTED)]
    path = "results / {dataset} / {teacher} / {transfer} / {balance} / {student} / metrics.json"
    parts += [text(455, 226, path, 15, INK, "600")]
    parts += [text(455, 248, "the path names the experiment; experiments with a common path prefix share its files", 13, MUTED)]
    return svg(910, 264, "The pipeline of dfkd", parts)


def layers() -> str:
    """The folders of the package; imports only go downwards."""
    rows = (
        ("commands", "dataset, teacher, synthesize, balance, distill, evaluate, export, report, shard, resolve, new, cli", GREY),
        ("reporting/", "page, figures, runs, tables, inspect, config reference", GREY),
        ("pipeline/", "specs, typed config, graph of steps, keys, fingerprints, audit (no torch)", BLUE),
        ("methods/", "one file per method; engines/: model inversion, alternating training, pixel optimisation", GREEN),
        ("balancing/, training/", "which samples are kept or generated; loop, losses, augmentation, views, sampling", GREEN),
        ("storage/", "artefacts on disk: written atomically, with key and provenance", GREEN),
        ("schemas/", "config fields, one file per group and per method (no torch)", BLUE),
        ("models/, datasets/, procedural/", "architectures and import; readers; drawn images", GREEN),
        ("runtime/", "device, GPU locks, progress, errors", GREY),
    )
    parts = []
    for number, (name, content, colours) in enumerate(rows):
        y = 16 + number * 52
        parts += [box(16, y, 728, 44, colours), text(32, y + 19, name, 15, weight="600", anchor="start")]
        parts += [text(32, y + 36, content, 13, MUTED, anchor="start")]
    parts += [arrow((764, 20), (764, 16 + len(rows) * 52 - 10))]
    turned = f'transform="translate(786 {16 + len(rows) * 26}) rotate(90)"'
    parts += [f'<text {turned} font-size="13" text-anchor="middle" fill="{MUTED}">imports go downwards only</text>']
    return svg(804, 24 + len(rows) * 52, "The layers of the package", parts)


def without_labels(runs: Path) -> str:
    """Accuracy of students against two metrics that need no labels, from a file docs/assets/without-labels-DATASET-runs.csv."""
    rows = results.rows_of(runs)
    panels = (("probe_balanced", "balanced agreement on probe images, %"), ("probe_agreement", "agreement on probe images, %"))
    left, top, side, gap, parts = 70, 30, 300, 90, []
    for place, (name, label) in enumerate(panels):
        x0 = left + place * (side + gap)
        parts.append(f'<rect x="{x0}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{LINE}"/>')
        for tick in range(0, 101, 20):
            parts.append(text(x0 + side * tick / 100, top + side + 18, tick, 12, MUTED))
            parts.append(text(x0 - 8, top + side * (1 - tick / 100) + 4, tick, 12, MUTED, anchor="end"))
        for row in rows:
            x, y = x0 + side * float(row[name]) / 100, top + side * (1 - float(row["top1"]) / 100)
            colour = GREEN[1] if row["origin"] == "real" else BLUE[1]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.75"/>')
        parts.append(text(x0 + side / 2, top + side + 42, label, 14))
    parts.append(text(left, 18, "top-1 on the test images, %; green: trained on real data", 14, anchor="start"))
    return svg(left + 2 * side + gap + 30, top + side + 60, "Accuracy against metrics without labels", parts)


CURVES = ("#2563eb", "#dc2626", "#16a34a", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#65a30d", "#475569", "#b45309")


def curves(path: Path) -> str:
    """Accuracy during training against images seen and against core-hours, from a file docs/assets/curves-NAME.csv written by
    `dfkd table --curves`: one colour per method, one line per run, both x axes logarithmic."""
    rows = results.rows_of(path)
    lines, colours = {}, {}
    for row in rows:
        name = row["label"] if row["origin"] in ("real", "other") else row["transfer"].split("+")[0]
        colours.setdefault(name, CURVES[len(colours) % len(CURVES)])
        lines.setdefault((name, row["key"]), []).append(row)
    left, top, side, gap = 60, 40, 330, 70
    values = [float(row["value"]) for row in rows]
    low, high = 10 * math.floor(min(values) / 10), 10 * math.ceil(max(values) / 10)

    def hours(row):
        return float(row["seconds"]) * float(row["threads"]) / 3600 if row["seconds"] and row["threads"] else None

    parts = [text(left, 20, "top-1 on the test images, %", 14, anchor="start")]
    panels = [("images that the student was trained on", lambda row: float(row["images"]))]
    if any(hours(row) for row in rows):
        panels.append(("core-hours, image synthesis included", hours))
    right = left + len(panels) * (side + gap) - gap
    for place, (label, across) in enumerate(panels):
        x0, all_x = left + place * (side + gap), [math.log10(x) for row in rows if (x := across(row))]
        first, last = min(all_x), max(all_x)
        parts.append(f'<rect x="{x0}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{LINE}"/>')
        for tick in range(low, high + 1, 10):
            y = top + side * (1 - (tick - low) / (high - low))
            parts += [f'<path d="M{x0},{y:.1f} h{side}" stroke="#e2e8f0"/>', text(x0 - 8, y + 4, tick, 12, MUTED, anchor="end")]
        for power in range(math.floor(first), math.ceil(last) + 1):
            for factor in (1, 3):
                share = (power + math.log10(factor) - first) / (last - first)
                if 0 <= share <= 1:
                    parts.append(text(round(x0 + side * share, 1), top + side + 18, f"{factor * 10.0**power:g}", 12, MUTED))
        for (name, _), points in lines.items():
            known = [(math.log10(x), float(row["value"])) for row in points if (x := across(row))]
            if not known:
                continue
            places = [
                (x0 + side * (x - first) / (last - first), top + side * (1 - (value - low) / (high - low))) for x, value in known
            ]
            spelled = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{spelled}" fill="none" stroke="{colours[name]}" stroke-width="1.8"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places[-1:]]
        parts.append(text(x0 + side / 2, top + side + 42, label, 14))
    for place, (name, colour) in enumerate(colours.items()):
        x, y = right + 20, top + 14 + 22 * place
        parts += [f'<path d="M{x},{y - 4} h22" stroke="{colour}" stroke-width="3"/>', text(x + 30, y, name, 13, anchor="start")]
    return svg(right + 230, top + side + 60, "Accuracy against images seen and core-hours", parts)


def leak() -> str:
    """Leakage of students against their accuracy, from docs/assets/leak.csv: one panel per metric, with 95 % intervals."""
    rows = results.rows_of(results.LEAK)
    students, teacher = [row for row in rows if row["model"] == "student"], next(row for row in rows if row["model"] == "teacher")
    panels = (("tpr_0.01", "tpr_low_0.01", "tpr_high_0.01", "canaries found at 1 % FPR, %", 100, (0, 112), range(0, 101, 20), 1),
              ("auc", "auc_low", "auc_high", "AUC of the attack", 1, (0.4, 1.075), (0.4, 0.6, 0.8, 1.0), 0.5))  # fmt: skip
    left, top, side, gap, parts = 70, 58, 320, 90, []
    for place, (name, low, high, label, factor, (least, most), ticks, none) in enumerate(panels):
        x0 = left + place * (side + gap)

        def height(value, least=least, most=most, factor=factor):
            return top + side * (1 - (factor * float(value) - least) / (most - least))

        parts.append(f'<rect x="{x0}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{LINE}"/>')
        parts += [text(x0 + side * tick / 100, top + side + 18, tick, 12, MUTED) for tick in range(0, 101, 20)]
        parts += [text(x0 - 8, f"{height(tick / factor) + 4:.1f}", tick, 12, MUTED, anchor="end") for tick in ticks]
        level = height(teacher[name])
        for y, dash in ((height(none / factor), "2 4"), (level, "6 4")):
            parts.append(f'<path d="M{x0},{y:.1f} h{side}" stroke="{MUTED}" stroke-dasharray="{dash}"/>')
        parts.append(text(x0 + side - 6, f"{height(none / factor) - 6:.1f}", "no leak", 12, MUTED, anchor="end"))
        called = f"teacher (top-1 {float(teacher['top1']):.1f} %)"
        parts.append(text(x0 + 6, f"{level - 6:.1f}", called, 12, MUTED, anchor="start"))
        places = [(x0 + side * float(row["top1"]) / 100, height(row[name]), row) for row in students]
        right = [place for place in places if place[0] > x0 + side / 2]
        column, line = min((x for x, _, _ in right), default=0) - 24, level - 2  # the first name is below the teacher's line
        for x, y, row in sorted(places, key=lambda place: place[1]):
            colour = {"real": GREEN[1], "data-free": BLUE[1]}.get(row["origin"], "#f59e0b")
            parts.append(f'<path d="M{x:.1f},{height(row[low]):.1f} V{height(row[high]):.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            called = row["label"] if row["origin"] == "real" else row["transfer"].split("+")[0].removesuffix("-lenet5-cpu")
            if x <= x0 + side / 2:
                parts.append(text(f"{x + 8:.1f}", f"{y - 6:.1f}", called, 12, INK, anchor="start"))
                continue
            line = max(line + 16, y)  # a column of names next to the points, without overlaps
            parts.append(text(f"{column:.1f}", f"{line + 4:.1f}", called, 12, INK, anchor="end"))
            parts.append(f'<path d="M{column + 4:.1f},{line:.1f} L{x - 5:.1f},{y:.1f}" stroke="{LINE}" stroke-width="0.8"/>')
        parts += [text(x0 + side / 2, top - 8, label, 14), text(x0 + side / 2, top + side + 40, "top-1 of the student, %", 14)]
    parts.append(text(left, 16, "green: real data; amber: prior-based; blue: data-free", 14, anchor="start"))
    return svg(left + 2 * side + gap + 30, top + side + 58, "Leakage of students against their accuracy", parts)


def step(name: str, *paths):
    """Run one step of the pipeline as its rule does."""
    command = [sys.executable, "-m", f"dfkd_steps.{name}", *map(str, paths)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def surest(path) -> np.ndarray:
    """For each class the image that the teacher assigns to it with the highest log-probability. -> (K, H, W) uint8"""
    with h5py.File(path) as file:
        images, logits = file["images"][:, 0], file["logits"][:].astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    score = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    # Among probabilities that round to 1, the one whose logit is furthest above the others.
    score += 1e-6 * (logits - logits.mean(1, keepdims=True))
    return images[score.argmax(0)]


def strip() -> Image.Image:
    """Synthetic digits: one row per set of STRIP, one column per class."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results"
        dataset, teacher = results / "mnist-5k/dataset.h5", results / TEACHER / "teacher.safetensors"
        step("dataset", dataset)
        step("teacher", teacher, dataset)
        rows = []
        for _, spec in STRIP:
            step("synthesize", results / TEACHER / spec / "transfer_set.h5", teacher)
            rows.append(surest(results / TEACHER / spec / "transfer_set.h5"))
    return drawn(rows)


def drawn(rows) -> Image.Image:
    """Rows of images (K,H,W) below the class names, with the names of STRIP to their left."""
    classes, top = len(rows[0]), 30
    sheet = Image.new("RGB", (LABEL + classes * (CELL + GAP) + GAP, top + len(rows) * (CELL + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for column in range(classes):
        pen.text((LABEL + GAP + column * (CELL + GAP) + CELL / 2, top / 2 + 2), str(column), MUTED, font, anchor="mm")
    for number, ((name, _), images) in enumerate(zip(STRIP, rows)):
        y = top + number * (CELL + GAP)
        pen.text((LABEL - 10, y + CELL / 2), name, INK, font, anchor="rm")
        for column, image in enumerate(images):
            tile = Image.fromarray(image).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(tile, (LABEL + GAP + column * (CELL + GAP), y))
    return sheet


def main(which: str):
    """Write the figures."""
    ASSETS.mkdir(exist_ok=True)
    (ASSETS / "pipeline.svg").write_text(pipeline(), "utf-8")
    (ASSETS / "layers.svg").write_text(layers(), "utf-8")
    for runs in ASSETS.glob("without-labels-*-runs.csv"):
        (ASSETS / f"{runs.stem.removesuffix('-runs')}.svg").write_text(without_labels(runs), "utf-8")
    for table in ASSETS.glob("curves-*.csv"):
        (ASSETS / f"{table.stem}.svg").write_text(curves(table), "utf-8")
    if results.LEAK.exists():  # `dfkd leak --csv`, docs/leak.md
        (ASSETS / "leak.svg").write_text(leak(), "utf-8")
    if which != "diagrams":
        strip().save(ASSETS / "samples.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "all")
