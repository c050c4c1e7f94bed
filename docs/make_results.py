"""The tables of docs/results/ and of README.md, from the CSV files in docs/results/data/.

python docs/make_results.py            write all tables anew, each between `<!-- table: NAME -->` and `<!-- end of table -->`
"""

import csv
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs/results/data"
LEAK = ROOT / "docs/assets/leak.csv"  # a table here, a figure in docs/make_figures.py
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
SPECS = ("dataset", "teacher", "transfer", "balance", "student")
# A no-break space or hyphen keeps a figure on one line.
ORIGIN = {"real": "real\u00a0data", "other": "other\u00a0data", "data-free": "data\u2011free", "prior-based": "prior\u2011based"}
# A row of the table on the first page: name of the pair, data set, CSV files, teacher.
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
    """``zskd+seed=1+tau=4`` -> ``zskd+tau=4``: what runs have in common that differ in nothing but seeds, or in copies of the
    student on its way, which change no result."""
    return re.sub(r"\+(?:seed|snapshots)=\d+", "", spec)


@dataclass
class Group:
    """Runs that differ in nothing but seeds."""

    specs: dict[str, str]
    runs: list[dict[str, str]]

    @property
    def note(self) -> str:
        return self.runs[0].get("note", "")

    @property
    def origin(self) -> str:
        return self.runs[0]["origin"]

    def values(self, column: str) -> list[float]:
        """A column of numbers; runs for which it was not recorded are left out."""
        return [float(run[column]) for run in self.runs if run[column]]

    def mean(self) -> float:
        """Mean top-1 in percent."""
        return statistics.mean(self.values("top1"))

    def spread(self) -> str:
        """Mean ± sample standard deviation of top-1; the one value of one run."""
        values = self.values("top1")
        return f"{self.mean():.2f}\u00a0±\u00a0{statistics.stdev(values):.2f}" if len(values) > 1 else f"{self.mean():.2f}"


def grouped(rows) -> list[Group]:
    """Rows as groups, in the order of the file. Another note is another group: it says what else differs."""
    groups = {}
    for row in rows:
        specs = {name: without_seed(row[name]) for name in SPECS}
        key = (*specs.values(), row["teacher_top1"], row.get("note", ""))
        groups.setdefault(key, Group(specs, [])).runs.append(row)
    return list(groups.values())


def seconds(group: Group) -> str:
    """Mean seconds of synthesis + distillation over the runs for which they were recorded."""
    taken = [statistics.mean(values) for name in ("synthesize", "distill") if (values := group.values(f"seconds_{name}"))]
    return "\u00a0+\u00a0".join(f"{value:,.0f}" for value in taken)


def markdown(head, rows) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def runs_table(name: str) -> str:
    """All runs of one CSV file, a row for each group of seeds; what they have in common stands above, notes below."""
    groups = grouped(read(name))
    common = [key for key in SPECS if key != "transfer" and len({group.specs[key] for group in groups}) == 1]
    differ = [key for key in SPECS if key not in common]
    shared = ", ".join(f"{key} `{groups[0].specs[key]}`" for key in common)
    teachers = list(dict.fromkeys(f"{float(group.runs[0]['teacher_top1']):.2f}" for group in groups))
    text = f"All rows: {shared}; teacher's top-1 {' or '.join(teachers)} %; {int(groups[0].runs[0]['n_test']):,} test images.\n\n"
    notes = list(dict.fromkeys(group.note for group in groups if group.note))
    rows = []
    for group in groups:
        marker = f"\u00a0<sup>{notes.index(group.note) + 1}</sup>" if group.note else ""
        specs = [f"`{group.specs[key]}`" for key in differ]
        specs[differ.index("transfer")] += marker
        agreement = "\u00a0".join(f"{value:.1f}" for value in group.values("agreement"))
        each = "\u00a0".join(f"{value:.2f}" for value in group.values("top1")) if len(group.runs) > 1 else ""
        rows.append([*specs, ORIGIN[group.origin], group.spread(), each, agreement, seconds(group)])
    names = ["transfer set" if key == "transfer" else key for key in differ]
    head = [*names, "origin", "top-1, %", "each seed", "agreement, %", "seconds"]
    used = [place for place in range(len(head)) if any(row[place] for row in rows)]  # a column that is empty goes
    text += markdown([head[place] for place in used], [[row[place] for place in used] for row in rows])
    if notes:
        text += "\n" + "".join(f"{number}. {note[0].upper()}{note[1:]}.\n" for number, note in enumerate(notes, 1))
    return text


def teachers_table() -> str:
    """The teachers, with the accuracy that is published for the same network."""
    head = ("data set", "teacher", "top-1, %", "published, %", "note")
    return markdown(
        head,
        [[f"`{row['dataset']}`", f"`{row['teacher']}`", row["top1"], row["published"], row["note"]] for row in read("teachers")],
    )


def published_table() -> str:
    """What the papers report for the same pairs."""
    head = ("teacher → student", "data set", "method", "top-1, %", "source")
    return markdown(head, [list(row.values()) for row in read("published")])


def best(groups: list[Group], origin: str) -> str:
    """The best mean of three seeds or more by code that is still there; a dash where there is none."""
    there = [group for group in groups if group.origin == origin and len(group.runs) >= 3 and "earlier code" not in group.note]
    if not there:
        return "–"
    leader = max(there, key=Group.mean)
    method = "" if origin in ("real", "other") else f" (`{leader.specs['transfer'].split('+')[0]}`)"
    return f"{leader.spread()}{method}"


def glance_table() -> str:
    """The best of each kind for each pair of networks."""
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
    """What teachers and students tell of canaries: rates with their 95 % intervals, the surest students first."""
    rows = rows_of(LEAK)
    rows.sort(key=lambda row: (row["model"] == "student", -float(row["auc"])))

    def interval(row, name, after="", factor=100.0, digits=1):
        value, low, high = (f"{factor * float(row[f'{name}{part}{after}']):.{digits}f}" for part in ("", "_low", "_high"))
        return f"{value} ({low}\u2011{high})"

    lines = []
    for row in rows:
        name, origin = (row["label"], ORIGIN[row["origin"]]) if row["model"] == "student" else ("the teacher", "")
        distance = f"{float(row['distance_in']):.2f}\u00a0/\u00a0{float(row['distance_out']):.2f}" if row["distance_in"] else ""
        lines.append([
            name, origin, f"{float(row['top1']):.1f}", f"{float(row['told_in']):.1f}\u00a0/\u00a0{float(row['told_out']):.1f}",
            *(interval(row, "tpr", after) for after in ("_0.001", "_0.01")), interval(row, "auc", "", 1.0, 3), distance,
        ])  # fmt: skip
    head = ("student of", "origin", "top-1", "told", "TPR at 0.1 % FPR", "TPR at 1 % FPR", "AUC", "distance")
    common = f"{rows[0]['shadows']} shadows, {rows[0]['canaries']} canaries; data set `{rows[0]['dataset']}`, teacher "
    student = next(row["student"] for row in rows if row["student"])
    return f"{common}`{rows[0]['teacher']}`, student `{student}`.\n\n{markdown(head, lines)}"


SPECIAL = {"glance": glance_table, "leak": leak_table, "published": published_table, "teachers": teachers_table}


def table(name: str) -> str:
    """A table by its name: one of SPECIAL, or a CSV file."""
    return SPECIAL[name]() if name in SPECIAL else runs_table(name)


def filled(text: str) -> str:
    """A page with all of its tables made anew."""
    return MARKED.sub(lambda match: f"{match[1]}\n{table(match[2])}\n{match[3]}", text)


def pages() -> list[Path]:
    """The pages that hold tables."""
    return [ROOT / "README.md", ROOT / "docs/leak.md", *sorted((ROOT / "docs/results").glob("*.md"))]


def pages_of_tables() -> dict[str, Path]:
    """Name of a table -> the page that holds it; of one that stands on several the last."""
    return {name: path for path in pages() for _, name, _ in MARKED.findall(path.read_text("utf-8"))}


def main():
    """Write all pages."""
    for path in pages():
        path.write_text(filled(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
