"""Generates the tables of results, in README.md and the pages of ``pages``, from CSV files, most of them in docs/results/data/.

python docs/make_results.py            regenerate every table, each between `<!-- table: NAME -->` and `<!-- end of table -->`
"""

import csv
import re
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs/results/data"
LEAK = ROOT / "docs/assets/leak.csv"  # also the source of a figure in docs/make_figures.py
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
SPECS = ("dataset", "teacher", "transfer", "balance", "student")
# No-break spaces and hyphens keep an entry on one line.
ORIGIN = {"real": "real\u00a0data", "other": "other\u00a0data", "data-free": "data\u2011free", "prior-based": "prior\u2011based"}
# CSV files whose rows of earlier code or settings have a table of their own, "NAME-earlier".
SPLIT = ("cifar10-resnet8", "mnist-5k", "mnist-inside", "mnist-prior", "mnist-zskd")
# Column of the CSV files that says how good a run is -> its heading, and the column of its agreement with the teacher.
MEASURES = {"top1": ("top-1", "agreement"), "miou": ("mIoU", "agreement_miou")}
# Rows of the table "at a glance": name of the pair, data set, CSV files, teacher.
PAIRS = (
    ("LeNet-5 → LeNet-5-Half", "MNIST", "mnist-[!5]*", "lenet5"),
    ("LeNet-5 → LeNet-5-Half", "Fashion-MNIST", "fashion-*", "lenet5+crop=1+epochs=30+flip=true"),
    ("ResNet-20 → ResNet-8", "CIFAR-10", "cifar10-resnet8", "resnet20-cifar10"),
    ("AlexNet → AlexNet-Half", "CIFAR-10", "cifar10-alexnet", "alexnet+epochs=20+precision=bf16"),
    ("ResNet-18 → timm's test_resnet", "Brain MRI at 128 pixels", "brain-mri", "brain-mri"),
)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(name: str) -> list[dict[str, str]]:
    """The rows of docs/results/data/NAME.csv."""
    return rows_of(DATA / f"{name}.csv")


def without_seed(spec: str) -> str:
    """``zskd+seed=1+tau=4`` -> ``zskd+tau=4``: the spec without seeds and without snapshots of the student, which change no
    result."""
    return re.sub(r"\+(?:seed|snapshots)=\d+", "", spec)


@dataclass
class Group:
    """Runs that differ only in their seeds."""

    specs: dict[str, str]
    runs: list[dict[str, str]]

    @property
    def note(self) -> str:
        return self.runs[0].get("note", "")

    @property
    def earlier(self) -> bool:
        """Whether today's code and params would give another result under these specs."""
        return self.note.startswith("earlier code") or self.note.startswith("earlier settings")

    @property
    def origin(self) -> str:
        return self.runs[0]["origin"]

    @property
    def measure(self) -> str:
        """The column that says how good the runs are: one of ``MEASURES``."""
        return "miou" if self.runs[0].get("miou") else "top1"

    def values(self, column: str) -> list[float]:
        """The numbers of a column, without the runs for which it was not recorded."""
        return [float(run[column]) for run in self.runs if run[column]]

    def mean(self) -> float:
        """Mean of the measure in percent."""
        return statistics.mean(self.values(self.measure))

    def spread(self) -> str:
        """Mean ± sample standard deviation of the measure; for a single run, its value."""
        values = self.values(self.measure)
        return f"{self.mean():.2f}\u00a0±\u00a0{statistics.stdev(values):.2f}" if len(values) > 1 else f"{self.mean():.2f}"


def grouped(rows) -> list[Group]:
    """The rows as groups, in the order of the file. Rows with different notes are in different groups, since a note says what
    else differs."""
    groups = {}
    for row in rows:
        specs = {name: without_seed(row[name]) for name in SPECS}
        key = (*specs.values(), row["teacher_top1"], row.get("note", ""))
        groups.setdefault(key, Group(specs, [])).runs.append(row)
    return list(groups.values())


def seconds(group: Group) -> str:
    """Mean seconds of synthesis + distillation, over the runs for which they were recorded."""
    taken = [statistics.mean(values) for name in ("synthesize", "distill") if (values := group.values(f"seconds_{name}"))]
    return "\u00a0+\u00a0".join(f"{value:,.0f}" for value in taken)


def markdown(head, rows) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def runs_table(name: str, earlier: bool = False) -> str:
    """The runs of one CSV file, one row per group of seeds; common specs are listed above the table, notes below it. Of a file
    in SPLIT, either the rows of earlier code and settings or the others."""
    groups = [group for group in grouped(read(name)) if name not in SPLIT or group.earlier == earlier]
    common = [key for key in SPECS if key != "transfer" and len({group.specs[key] for group in groups}) == 1]
    differ = [key for key in SPECS if key not in common]
    shared = ", ".join(f"{key} `{groups[0].specs[key]}`" for key in common)
    measure = groups[0].measure
    title, agreeing = MEASURES[measure]
    teachers = list(dict.fromkeys(f"{float(group.runs[0][f'teacher_{measure}']):.2f}" for group in groups))
    text = (
        f"All rows: {shared}; teacher's {title} {' or '.join(teachers)} %; {int(groups[0].runs[0]['n_test']):,} test images.\n\n"
    )
    notes = list(dict.fromkeys(group.note for group in groups if group.note))
    rows = []
    for group in groups:
        marker = f"\u00a0<sup>{notes.index(group.note) + 1}</sup>" if group.note else ""
        specs = [f"`{group.specs[key]}`" for key in differ]
        specs[differ.index("transfer")] += marker
        agreement = "\u00a0".join(f"{value:.1f}" for value in group.values(agreeing))
        each = "\u00a0".join(f"{value:.2f}" for value in group.values(measure))
        accuracy = f"{group.spread()} ({each})" if len(group.runs) > 1 else group.spread()  # a line break may come before the (
        rows.append([*specs, ORIGIN[group.origin], accuracy, agreement, seconds(group)])
    names = ["transfer set" if key == "transfer" else key for key in differ]
    accuracy = f"{title}, % (each seed)" if any(len(group.runs) > 1 for group in groups) else f"{title}, %"
    head = [*names, "origin", accuracy, f"{agreeing.replace('_miou', ' mIoU')}, %", "seconds"]
    used = [place for place in range(len(head)) if any(row[place] for row in rows)]  # empty columns are left out
    text += markdown([head[place] for place in used], [[row[place] for place in used] for row in rows])
    if notes:
        text += "\n" + "".join(f"{number}. {note[0].upper()}{note[1:]}.\n" for number, note in enumerate(notes, 1))
    return text


def teachers_table() -> str:
    """The teachers, with the published accuracy of the same network."""
    head = ("data set", "teacher", "top-1, %", "published, %", "note")
    return markdown(
        head,
        [[f"`{row['dataset']}`", f"`{row['teacher']}`", row["top1"], row["published"], row["note"]] for row in read("teachers")],
    )


def published_table() -> str:
    """The figures that the papers report for the same pairs."""
    head = ("teacher → student", "data set", "method", "top-1, %", "source")
    return markdown(head, [list(row.values()) for row in read("published")])


def imagenette_table() -> str:
    """Students for ten classes of ImageNet: top-1 with its 95 % interval, as `dfkd evaluate --images` prints it."""
    plain = {
        "top1_int8": "top-1 in int8",
        "agreement": "agreement",
        "agreement_held_out": "agreement on held-out samples",
        "probe_balanced": "`probe_balanced`",
        "minutes": "minutes",
    }
    lines = []
    for row in read("imagenette"):
        interval = f"{row['top1']} ({row['top1_low']} to {row['top1_high']})"
        lines.append([row["run"], ORIGIN[row["origin"]], interval, *(row[name] for name in plain)])
    return markdown(("run", "origin", "top-1", *plain.values()), lines)


def best(groups: list[Group], origin: str) -> str:
    """The highest mean over three seeds or more with current code and settings; a dash if there is none."""
    current = [group for group in groups if group.origin == origin and len(group.runs) >= 3 and not group.earlier]
    if not current:
        return "–"
    leader = max(current, key=Group.mean)
    method = "" if origin in ("real", "other") else f" (`{leader.specs['transfer'].split('+')[0]}`)"
    return f"{leader.spread()}{method}"


def glance_table() -> str:
    """The best student of each origin for each pair of networks."""
    rows = []
    for pair, dataset, pattern, teacher in PAIRS:
        groups = [group for path in sorted(DATA.glob(f"{pattern}.csv")) for group in grouped(read(path.stem))]
        top1 = next(row["top1"] for row in read("teachers") if row["teacher"] == teacher)
        published = [
            row for row in read("published") if (row["pair"], row["dataset"]) == (pair, dataset) and row["method"] != "real data"
        ]
        record = max(published, key=lambda row: float(row["top1"]), default=None)
        quoted = f"{record['top1']} ({record['method']})" if record else "–"
        rows.append([f"{dataset}: {pair}", top1, *(best(groups, kind) for kind in ("real", "prior-based", "data-free")), quoted])
    head = ("data set and networks", "teacher", "student: real data", "prior-based", "data-free", "published, no data")
    return markdown(head, rows)


def leak_table() -> str:
    """The membership-inference attack on teachers and students: rates with their 95 % intervals, by falling AUC."""
    rows = rows_of(LEAK)
    rows.sort(key=lambda row: (row["model"] == "student", -float(row["auc"])))

    def interval(row, name, after="", factor=100.0, digits=1):
        value, low, high = (f"{factor * float(row[f'{name}{part}{after}']):.{digits}f}" for part in ("", "_low", "_high"))
        return f"{value} ({low}\u2011{high})"

    def pair(row, name, digits):
        return "\u00a0/\u00a0".join(f"{float(row[f'{name}_{part}']):.{digits}f}" for part in ("in", "out"))

    lines = []
    for row in rows:
        name, origin = (row["label"], ORIGIN[row["origin"]]) if row["model"] == "student" else ("the teacher", "")
        distance = (pair(row, "distance", 2), f"{float(row['distance_auc']):.2f}") if row["distance_in"] else ("", "")
        lines.append([
            name, origin, f"{float(row['top1']):.1f}", pair(row, "told", 1),
            *(interval(row, "tpr", after) for after in ("_0.001", "_0.01")), interval(row, "auc", "", 1.0, 3), *distance,
        ])  # fmt: skip
    head = ("student of", "origin", "top\u20111", "wrong label predicted, in / out", "TPR at 0.1 % FPR", "TPR at 1 % FPR", "AUC",
            "distance, in / out", "distance AUC")  # fmt: skip
    common = f"{rows[0]['shadows']} shadows, {rows[0]['canaries']} canaries; data set `{rows[0]['dataset']}`, teacher "
    student = next(row["student"] for row in rows if row["student"])
    return f"{common}`{rows[0]['teacher']}`, student `{student}`.\n\n{markdown(head, lines)}"


SPECIAL = {
    "glance": glance_table,
    "imagenette": imagenette_table,
    "leak": leak_table,
    "published": published_table,
    "teachers": teachers_table,
    **{f"{name}-earlier": partial(runs_table, name, earlier=True) for name in SPLIT},
}


def table(name: str) -> str:
    """A table by its name: one of SPECIAL, or the name of a CSV file."""
    return SPECIAL[name]() if name in SPECIAL else runs_table(name)


def filled(text: str) -> str:
    """The text of a page with all of its tables regenerated."""
    return MARKED.sub(lambda match: f"{match[1]}\n{table(match[2])}\n{match[3]}", text)


def pages() -> list[Path]:
    """The pages that contain tables."""
    return [
        ROOT / "README.md",
        ROOT / "docs/leak.md",
        ROOT / "docs/segmentation.md",
        ROOT / "docs/your-own-teacher.md",
        *sorted((ROOT / "docs/results").glob("*.md")),
    ]


def pages_of_tables() -> dict[str, Path]:
    """Table name -> the page that contains it, or the last of several."""
    return {name: path for path in pages() for _, name, _ in MARKED.findall(path.read_text("utf-8"))}


def main():
    """Regenerate the tables of all pages."""
    for path in pages():
        path.write_text(filled(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
