"""The pages of the methods, docs/methods/*.md, and the tables of methods in README.md and docs/methods/index.md.

python docs/make_method_pages.py

A page is made of the method's docstring, docs/methods/parts/METHOD.md, its presets in params/transfer/, its rows of
docs/results/data/*.csv and its entry in docs/references.bib. What a method requires is found by starting it.
"""

import ast
import contextlib
import re
from pathlib import Path

import make_results as results
import yaml

from dfkd_steps.methods import registry

ROOT = results.ROOT
METHODS = ROOT / "docs/methods"
MARKED = re.compile(r"(<!-- (methods|choice) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
INCLUDE = re.compile(r"^--8<-- (\w+)\n", re.MULTILINE)
# The order of tables: by what a method is, not by name.
ORDER = (
    "zskd", "soft-targeted", "deepinversion", "psaq", "adi", "generative", "dafl", "zskt", "dfad", "dfq", "cmi", "fast", "nayer",
    "ssd-kd", "noise", "procedural", "single-image", "mixture", "dataset",
)  # fmt: skip


def bibliography() -> dict[str, dict[str, str]]:
    """The entries of docs/references.bib by key: title, author, venue, year, eprint, and the entry itself as ``bibtex``."""
    text = (ROOT / "docs/references.bib").read_text("utf-8")
    entries = {}
    for entry in re.findall(r"^@\w+\{.*?^\}", text, re.DOTALL | re.MULTILINE):
        fields = dict(re.findall(r"^  (\w+)\s*=\s*\{(.*)\},$", entry, re.MULTILINE))
        entries[re.match(r"@\w+\{(\w+)", entry)[1]] = {**fields, "bibtex": entry}
    return entries


def part(name: str) -> tuple[dict[str, str], str]:
    """The front matter and the text of docs/methods/parts/NAME.md."""
    _, head, text = (METHODS / "parts" / f"{name}.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), INCLUDE.sub(lambda match: (METHODS / "parts" / f"{match[1]}.md").read_text("utf-8"), text)


def docstring(method: str) -> str:
    """The docstring of a method's module, read without importing torch."""
    module = ROOT / f"dfkd_steps/{registry.module_of(method).replace('.', '/')}.py"
    return ast.get_docstring(ast.parse(module.read_text("utf-8")))


def presets() -> dict[str, tuple[str, Path]]:
    """Each preset of params/transfer/, with its method and its file; a preset without ``method`` has that of its ``base``."""
    # Files that begin with _ are bases only.
    files = {path.stem: path for path in sorted((ROOT / "params/transfer").rglob("[!_]*.yaml"))}
    content = {name: yaml.safe_load(path.read_text("utf-8")) for name, path in files.items()}
    return {name: (given.get("method") or content[given["base"]]["method"], files[name]) for name, given in content.items()}


def comment(path: Path) -> str:
    """The comment that a preset begins with, on one line."""
    lines = path.read_text("utf-8").splitlines()
    head = [line[2:] for line in lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]]
    return " ".join(head)


def citation(entry: dict[str, str]) -> str:
    """First authors, title, venue, year and link."""
    family = [author.split(",")[0] for author in entry["author"].split(" and ")]
    who = " and ".join(family) if len(family) < 3 else f"{family[0]} et al."
    venue = re.search(r"\((\w+)\)(.*)", entry.get("booktitle", ""))
    where = (
        f"{venue[1]}{venue[2]} {entry['year']}"
        if venue
        else f"{entry.get('booktitle', 'arXiv').split(' Conf')[0]} {entry['year']}"
    )
    return f"{who}, *{entry['title']}*, {where}, [arXiv {entry['eprint']}](https://arxiv.org/abs/{entry['eprint']})"


def short(entry: dict[str, str]) -> str:
    """Venue and year as a link."""
    where = citation(entry).rsplit("*, ", 1)[1].split(", [")[0]
    return f"[{where}](https://arxiv.org/abs/{entry['eprint']})"


def rows_of(method: str, known: dict) -> list[list[str]]:
    """The measured groups of runs of a method, best first for each data set."""
    pages = results.pages_of_tables()
    rows, seen = [], set()
    for path in sorted(results.DATA.glob("*-*.csv")):
        for group in results.grouped(results.read(path.stem)):
            name = group.specs["transfer"].split("+")[0]
            runs = tuple(
                sorted((run["teacher"], run["transfer"], run["student"], run["commit"], run["top1"]) for run in group.runs)
            )
            if known.get(name, ("",))[0] != method or runs in seen:  # the runs of an ablation stand in two files
                continue
            seen.add(runs)
            page = pages[path.stem].relative_to(ROOT / "docs").as_posix()
            specs = [f"`{group.specs[key]}`" for key in ("transfer", "balance", "student")]
            origin = results.ORIGIN[group.origin]
            accuracy = group.spread() + ("" if group.measure == "top1" else f" ({results.MEASURES[group.measure][0]})")
            runs = f"{len(group.runs)}{', earlier code' if group.earlier else ''}"
            rows.append([f"[`{group.specs['dataset']}`](../{page})", *specs, origin, accuracy, runs])
    return sorted(rows, key=lambda row: (row[0], -float(row[5].split()[0])))


def page(method: str) -> str:
    """The page of one method."""
    head, text = part(method)
    entry, known = bibliography()[head["reference"]], presets()
    paths = {name: path for name, (of, path) in known.items() if of == method}
    code = f"<{head['code']}>" if head["code"].startswith("http") else head["code"]
    listed = [[f"`{name}`", comment(path)] for name, path in sorted(paths.items(), key=lambda item: (item[0] != method, item[0]))]
    rows = rows_of(method, known)
    measured = (
        "All runs used a CPU; [Results](../results/index.md) describes how they were made, and by which version.\n\n"
        + results.markdown(("data set", "transfer set", "balance", "student", "origin", "top-1, %", "runs"), rows)
        if rows
        else "No run of this method has been reported.\n"
    )
    return f"""<!-- Written by `python docs/make_method_pages.py`; edit docs/methods/parts/{method}.md. -->
# {head["title"]}

{head["summary"]}

- Name in a path: {quoted(names(method, known))}
- Paper: {citation(entry)}
- Public code: {code}
- Module: `dfkd_steps/{registry.module_of(method).replace(".", "/")}.py`: {docstring(method).splitlines()[0]}

{text.strip()}

## Presets

`dfkd spec NAME` prints every value; [Config](../config.md) lists all keys.

{results.markdown(("preset", "description"), listed)}
## Results

{measured}
## Citation

```bibtex
{entry["bibtex"]}
```
"""


def names(method: str, known: dict) -> list[str]:
    """The presets of a method that are a publication: without a teacher, a start or a budget in the name."""
    publication = re.compile(rf"{method}(-cmi|-imagenet|-\d+)?|sre2l")
    published = [name for name, (of, _) in known.items() if of == method and publication.fullmatch(name)]
    return sorted(published, key=lambda name: (not name.startswith(method), len(name), name))


def quoted(listed: list[str]) -> str:
    """Names as code, on one line."""
    return ", ".join(f"`{name}`" for name in listed)


def requirements() -> dict[str, list[str]]:
    """Method -> what it refuses to start without, by the check of ``dfkd new`` on two small teachers that lack one thing each."""
    from torch import nn

    from dfkd_steps.models.classifier import Classifier, Description
    from dfkd_steps.reporting import first_try

    described = Description("factory", "docs:teacher", ("cat", "dog"), (3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    mean = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    lacking = {
        "BatchNorm": (nn.Conv2d(3, 4, 3), nn.ReLU(), *mean, nn.Linear(4, 2)),
        "a linear classifier": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), *mean),
    }
    refused = {}
    with contextlib.chdir(ROOT):
        for what, layers in lacking.items():
            teacher = Classifier(nn.Sequential(*layers), described).eval().requires_grad_(False)
            for method, _, why in first_try.fitting(teacher, "resnet8"):
                refused.setdefault(method, []).extend([what] if why else [])
    return refused


def choice(prefix: str) -> str:
    """All methods with what helps to choose one: what they require, what they make, which presets are for a CPU."""
    from dfkd_steps.models import tasks

    known, required, rows = presets(), requirements(), []
    for method in ORDER:
        method_class = registry.load(method)
        fields = registry.config_class(method).__dataclass_fields__
        images = ["a data set"] if method_class.all_from_sources else ["a photograph"] if "images" in fields else []
        rows.append([
            f"[{part(method)[0]['title']}]({prefix}{method}.md)",
            ", ".join(images or required.get(method, [])) or "–",
            "yes" if "student" in fields else "–",
            "yes" if tasks.SEGMENTATION in method_class.Config.tasks else "–",
            quoted(sorted(name for name, (of, _) in known.items() if of == method and name.endswith("-cpu"))) or "–",
        ])  # fmt: skip
    return results.markdown(("method", "requires", "online student", "segmentation", "presets for a CPU"), rows)


def table(prefix: str) -> str:
    """All methods with what they do, their paper and the link to their page."""
    entries, known, rows = bibliography(), presets(), []
    for method in ORDER:
        head, _ = part(method)
        rows.append(
            [
                f"[{head['title']}]({prefix}{method}.md)",
                quoted(names(method, known)),
                head["summary"],
                short(entries[head["reference"]]),
            ]
        )
    return results.markdown(("method", "name", "what it does", "paper"), rows)


def written() -> dict[Path, str]:
    """Every file that this script writes, and what belongs in it."""
    tables = {"methods": table, "choice": choice}
    pages = {METHODS / f"{method}.md": page(method) for method in ORDER}
    for path, prefix in ((ROOT / "README.md", "docs/methods/"), (METHODS / "index.md", "")):
        pages[path] = MARKED.sub(
            lambda match, link=prefix: f"{match[1]}\n{tables[match[2]](link)}\n{match[3]}", path.read_text("utf-8")
        )
    return pages


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, "utf-8")
