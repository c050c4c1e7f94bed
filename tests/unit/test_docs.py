"""README and docs: generated parts are up to date, commands stand there, and every file that is named exists."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import small_net
import torch
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import make_figures  # noqa: E402
import make_method_pages  # noqa: E402
import make_results  # noqa: E402

from dfkd_steps.reporting import tables  # noqa: E402
from dfkd_steps.storage import kept_networks, network_file  # noqa: E402

PAGES = [
    ROOT / "README.md",
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGES = [page for page in PAGES if "parts" not in page.parts]
NAMED = re.compile(r"(?<![\w/{.])((?:docs|params|tests|workflow|dfkd_steps|benchmarks|examples|\.ci)/[\w./+-]*\w)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
COLUMNS = (*tables.CSV_HEAD, *tables.MAPS, "note")  # of docs/results/data/
LATER = {"probe_balanced", "note", *tables.MAPS}  # that not all of these files have
# What a page tells the reader to write, or that is made by a run.
TO_WRITE = re.compile(r"NAME|mine\.|METHOD")


def shown(page) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", make_results.pages(), ids=shown)
def test_tables_are_those_of_the_csv_files(page):
    text = page.read_text("utf-8")
    assert "<!-- table:" in text
    assert text == make_results.filled(text), "run: python docs/make_results.py"


def test_method_pages_are_up_to_date():
    for page, text in make_method_pages.written().items():
        assert page.read_text("utf-8") == text, f"{shown(page)}: run python docs/make_method_pages.py"


def test_a_measure_other_than_the_heading_is_named():
    """The tables of methods have accuracies of classifiers and of segmentation networks in one column."""
    rows = [row for method in make_method_pages.ORDER for row in make_method_pages.rows_of(method, make_method_pages.presets())]
    maps = [row for row in rows if "camvid" in row[0] or "shapes" in row[0]]
    assert len(maps) > 2 and all(row[5].endswith(" (mIoU)") for row in maps)
    assert not any("mIoU" in row[5] for row in rows if row not in maps)


def test_every_csv_file_has_its_table():
    there = set(make_results.pages_of_tables())
    files = {path.stem for path in make_results.DATA.glob("*.csv")}
    assert files <= there and there <= files | set(make_results.SPECIAL)


@pytest.mark.parametrize("path", sorted(make_results.DATA.glob("*-*.csv")), ids=lambda path: path.stem)
def test_rows_are_sound(path):
    rows = make_results.read(path.stem)
    names = list(rows[0])
    assert names == [name for name in COLUMNS if name in names] and set(COLUMNS) - set(names) <= LATER
    for row in rows:
        assert row["origin"] in ("data-free", "prior-based", "real", "other") and row["label"], row
        measure = "miou" if row.get("miou") else "top1"
        best = 100 if row["origin"] == "real" else float(row[f"teacher_{measure}"])  # a teacher may be trained for too short
        assert 0 < float(row[measure]) <= best <= 100 and 0 < float(row[f"teacher_{measure}"]) <= 100, row
        assert 0 < float(row[make_results.MEASURES[measure][1]] or 1) <= 100, row
        for group in make_results.SPECS:
            _, *overrides = row[group].split("+")
            assert overrides == sorted(overrides) and all("=" in one for one in overrides), row[group]
        drawn = re.search(r"^procedural|-(strokes|glyphs|objects|scenes)\b", row["transfer"])
        assert bool(drawn) == (row["origin"] == "prior-based"), row


def test_groups_are_runs_that_differ_in_seeds():
    first = dict.fromkeys(make_results.SPECS, "a") | {"origin": "data-free", "teacher_top1": "90", "note": ""}
    rows = [
        first | {"transfer": "x+seed=1+tau=2", "top1": "80"},
        first | {"transfer": "x+seed=2+tau=2", "top1": "82"},
        first | {"transfer": "x+seed=3+tau=3", "top1": "70"},
        first | {"transfer": "x+seed=3+tau=3", "top1": "60", "note": "earlier code: other"},
    ]
    groups = make_results.grouped(rows)
    assert [(group.specs["transfer"], len(group.runs), group.spread()) for group in groups] == [
        ("x+tau=2", 2, "81.00\u00a0±\u00a01.41"),
        ("x+tau=3", 1, "70.00"),
        ("x+tau=3", 1, "60.00"),
    ]


def test_the_best_is_of_three_seeds_and_of_code_that_is_there():
    row = dict.fromkeys(make_results.SPECS, "a") | {"teacher_top1": "99", "origin": "data-free"}
    low = make_results.Group({"transfer": "low+n=2"}, [row | {"top1": value} for value in ("50", "51", "52")])
    two = make_results.Group({"transfer": "two"}, [row | {"top1": value} for value in ("90", "91")])
    old = make_results.Group({"transfer": "old"}, [row | {"top1": "95", "note": "earlier code: gone"}] * 3)
    assert make_results.best([two, low, old], "data-free") == "51.00\u00a0±\u00a01.00 (`low`)"
    assert make_results.best([two, low, old], "real") == "–"


def test_the_navigation_names_every_page():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"[\w/-]+\.md", text))
    there = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert named == there
    assert yaml.safe_load(text)["theme"]["font"] is False  # no font from elsewhere


def test_rows_of_results_say_their_setting():
    """No "the same" in a table row: whoever sorts or quotes one loses what it refers to."""
    for page in PAGES:
        if {"results", "notes"} & set(page.parts):
            assert not re.findall(r"^\|.*\bthe same\b.*", page.read_text("utf-8"), re.MULTILINE), shown(page)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_file_that_is_named_exists(page):
    text = page.read_text("utf-8")
    for name in NAMED.findall(text):
        if not TO_WRITE.search(name):
            assert any(ROOT.glob(name)), f"{name}: no such file"
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), f"{target}: no such file"


def test_code_and_params_name_pages_that_exist():
    for folder in ("dfkd_steps", "workflow", "params", "benchmarks", "examples"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".smk", ".yaml", ".j2", ".rst"):
                for name in re.findall(r"\bdocs/[\w./-]*\w", path.read_text("utf-8")):
                    assert (ROOT / name).exists(), f"{shown(path)}: {name}: no such page"


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")  # pip install -e '.[docs]'
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)"', (tmp_path / "index.html").read_text("utf-8"))


def test_commands_of_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    commands = [
        line.split("  #")[0].strip() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert commands[:2] == ["pip install -e . && snakemake", "pip install -e '.[test]' && pytest"]
    for command in commands:
        assert shlex.split(command)


def test_every_method_has_a_page_a_paper_and_a_citation():
    from dfkd_steps.methods.registry import REGISTRY

    assert set(make_method_pages.ORDER) == set(REGISTRY)
    titles = {entry["title"] for entry in make_method_pages.bibliography().values()}
    cited = {entry["title"] for entry in yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["references"]}
    assert titles == cited


def test_the_example_runs(tmp_path, capsys):
    import torch

    from dfkd_steps.models.classifier import Description, build_architecture
    from dfkd_steps.storage import network_file

    torch.manual_seed(0)
    description = Description("arch", "lenet5", tuple("0123456789"), (1, 28, 28), (0.13,), (0.31,))
    network_file.save(tmp_path / "t.safetensors", build_architecture("lenet5", 10, (1, 28, 28)), description, "k", {})
    example = runpy.run_path(str(ROOT / "examples/your_teacher.py"))
    example["main"](str(tmp_path / "t.safetensors"), steps=5, drawings=1500)
    found = re.search(r"agreement on 150 held-out drawings: ([\d.]+) %", capsys.readouterr().out)
    assert 0 <= float(found[1]) <= 100


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a teacher, a student and a transfer set under the names that docs/library.md has."""
    monkeypatch.chdir(tmp_path)
    teacher = small_net.classifier(shape=(1, 28, 28))
    small_net.write(tmp_path, teacher, 80)
    for name in ("teacher", "student"):
        network_file.save(tmp_path / f"{name}.safetensors", teacher.net, teacher.description, "k", {})
    return tmp_path


def test_the_page_on_the_library_is_a_program_that_runs(files, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 5
    exec(compile("\n".join(blocks), "docs/library.md", "exec"), space := {"__name__": "page"})
    said = capsys.readouterr().out
    assert "torch.Size([64, 1, 28, 28]) torch.Size([64, 10])" in said and re.search(r"3 \{'loss': .*'generator': ", said)
    images, again = space["images"], space["again"]
    assert torch.allclose(again(images), space["own"](images), atol=1e-4) and len(space["labels"]) == 80
    assert space["inside"].description.spelled == "resnet8"


def test_the_example_of_a_loop_of_ones_own_stops_at_the_agreement(files, capsys):
    example = runpy.run_path(str(ROOT / "examples/own_loop.py"))
    example["main"]("teacher.safetensors", "out.safetensors", 0.0, 3)
    assert capsys.readouterr().out.count("round ") == 1
    student = kept_networks.from_bytes(Path("out.safetensors").read_bytes(), "out.safetensors")
    assert student.description.spelled == "lenet5-half"


HEAD = "dataset,teacher,transfer,balance,student,label,origin,key,metric,images,seconds,threads,value\n"


def curve(transfer: str, seconds: list, threads="1") -> str:
    rows = (f"d,t,{transfer},none,s,x,data-free,{transfer},top1,{10**(place + 2)},{given},{threads},{40 + 10 * place}\n"
            for place, given in enumerate(seconds))  # fmt: skip
    return "".join(rows)


@pytest.mark.parametrize(
    ("rows", "panels", "lines"),
    [
        (curve("fast", [10, 100, 1000]) + curve("dfq", [20, 200, 2000]), 2, 4),
        (curve("fast", [10, 100, 1000]) + curve("dfq", [20, 200, 2000], threads=""), 2, 3),
        (curve("fast", ["", "", ""]), 1, 1),
    ],
    ids=["all is known", "threads of a run are not", "no seconds at all"],
)
def test_a_figure_of_curves_leaves_out_what_is_not_known(rows, panels, lines, tmp_path):
    (tmp_path / "curves-x.csv").write_text(HEAD + rows)
    drawn = make_figures.curves(tmp_path / "curves-x.csv")
    assert drawn.count('height="330" fill="none"') == panels and drawn.count('stroke-width="1.8"') == lines
    assert ("core-hours, image" in drawn) == (panels == 2)
