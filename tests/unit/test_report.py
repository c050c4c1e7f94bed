"""The report over results trees made by the project's own writers."""

import base64
import csv
import io
import itertools
import json
import re
import statistics
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfkd_steps import cli, report
from dfkd_steps.pipeline import audit, graph, keys, spec
from dfkd_steps.reporting import figures, inspect, page, runs, tables
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import atomic, network_file
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer

CLASSES = [f"class {i}" for i in range(4)]


class Tree:
    """A results tree; ``run`` adds one run with everything that lies beside it."""

    def __init__(self, root, classes=CLASSES, shape=(1, 8, 8)):
        self.root, self.classes, self.shape = root / "results", classes, shape
        self.rng = np.random.default_rng(0)

    def set(self, path, about, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return
        n, k = len(labels), len(self.classes)
        writer = Writer(path, "key", Layout(self.shape, k, targets=False), n)
        images = self.rng.integers(0, 256, (n, *self.shape)).astype(np.uint8)
        logits = np.eye(k, dtype=np.float32)[labels]
        writer.append(images=images, logits=logits, labels=labels, round=np.zeros(n))
        writer.finish({}, about)

    def history(self, path, epochs=5):
        path.write_bytes(
            network_file.history_csv([{"epoch": e, "loss": 3.0 / e**3, "lr": 0.1 - 0.01 * e} for e in range(1, epochs + 1)])
        )

    def run(self, transfer, balance="none", student="half", top1=90.0, about=None, teacher="net", dataset="toy", **metrics):
        specs = [dataset, teacher, transfer, balance, student]
        folder, k = self.root.joinpath(*specs), len(self.classes)
        labels = np.sqrt(np.arange(40)).astype(int) % k  # uneven
        about = {"label": transfer, "origin": "data-free"} if about is None else about
        self.set(folder.parents[1] / "transfer_set.h5", about, labels)
        before, even = np.bincount(labels, minlength=k), np.repeat(np.arange(k), 3)
        after = labels if balance == "none" else even
        counts = {"histogram_before": before.tolist(), "histogram_after": np.bincount(after, minlength=k).tolist()}
        told = {"classes": list(self.classes), **counts}
        self.set(folder.parent / "transfer_set.h5", {**about, **told}, after)
        folder.mkdir(parents=True, exist_ok=True)
        self.history(folder / "history.csv")
        self.history(folder.parents[2] / "history.csv")
        content = {
            "top1": top1, "top5": 100.0, "teacher_top1": 95.5, "agreement": 93.25, "ece": 0.0123, "nll": 0.5,
            "kl_to_teacher": 1e-06, "compression": 3.98,
            "parameters": 15738, "macs": 123456, "n_test": 400, "per_class": [top1] * (k - 1) + [None],
            "confusion_matrix": (np.eye(k, dtype=int) * 90 + 10).tolist(),
            "classes": list(self.classes), "specs": specs, "key": "0" * 20,
        } | metrics  # fmt: skip
        atomic.write_json(folder / "metrics.json", content)
        return folder / "metrics.json"

    def baseline(self, **more):
        return self.run("dataset+source=toy", about={"label": "real data", "origin": "real"}, **{"top1": 94.0} | more)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture(autouse=True)
def current(monkeypatch):
    """No preset has the names of these runs, which count as current all the same."""
    monkeypatch.setattr(audit, "stale", lambda paths: {})


def made(tree, metrics, name="index.html"):
    """The page as text."""
    out = tree.root.parent / "report" / name
    assert report.main([str(out), *map(str, metrics)]) == 0
    return out.read_text()


class Outline(HTMLParser):
    """What a page would load, and what stands in its result table; fails on a tag that is closed out of order."""

    VOID = ("meta", "link", "img", "input", "wbr", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.rows, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_seeds_are_grouped_with_mean_and_sample_deviation(tree):
    values = {"zskd": 90.0, "zskd+seed=1": 91.0, "zskd+seed=2": 93.5}
    metrics = [tree.run(transfer, top1=top1) for transfer, top1 in values.items()]
    metrics += [tree.run("zskd", student="half+seed=1", top1=92.0), tree.run("zskd+steps=9", top1=80.0)]
    text = made(tree, metrics)
    rows = {row[0]: row for row in Outline(text).rows if row and row[0].startswith("zskd")}
    assert set(rows) == {"zskd", "zskd+steps=9"}
    four = [90.0, 91.0, 93.5, 92.0]
    # data set, teacher and balance are the same in all rows: said above the table, and no columns
    assert rows["zskd"][2] == f"{statistics.mean(four):.2f} ± {statistics.stdev(four):.2f}"
    assert rows["zskd"][-1] == "4"
    assert rows["zskd"][3].startswith(f"{statistics.mean(four) - 95.5:+.2f}")
    assert rows["zskd+steps=9"][2] == "80.00"
    assert rows["zskd+steps=9"][-1] == "1"
    same = "dataset toy, teacher net, balance none, student half, parameters 15,738, MACs 123,456, compression 3.98"
    assert f"The same in all rows: {same}." in text


def test_the_table_begins_with_teachers_and_goes_from_the_best_run_down(tree):
    runs_of = {"noise": 50.0, "zskd": 91.25, "mixture": 70.5}
    metrics = [tree.run(transfer, top1=top1, top1_interval=[top1 - 2, top1 + 1.5]) for transfer, top1 in runs_of.items()]
    metrics += [tree.run("zskd", teacher="net+seed=1", top1=92.75, teacher_top1=96.5), tree.run("fast", top1=60.0)]
    outline = Outline(made(tree, metrics))
    table = [row for row in outline.rows if row and row[0] in ("teacher", "fast", *runs_of)][:5]
    assert [row[0] for row in table] == ["teacher", "zskd", "mixture", "fast", "noise"]
    assert table[0][2] == "96.00 ± 0.71" and table[0][3] == "" and table[0][-1] == "2"  # over its seeds
    assert table[1][2] == "92.00 ± 1.06" and table[2][2] == "70.50 68.50 to 72.00"
    assert table[3][2] == "60.00"  # of which no interval is known
    several = runs.teachers(runs.grouped(runs.read([*metrics, tree.run("zskd", dataset="other", teacher_top1=80.0)])))
    assert [(one.specs["dataset"], one.specs["teacher"], one.values) for one in several] == [
        ("other", "net", [80.0]), ("toy", "net", [95.5, 96.5]),
    ]  # fmt: skip
    assert 'aria-sort="descending"><button>top-1 %' in made(tree, metrics)
    assert '<td class="num" data-v="96.00">96.00 ± 0.71</td>' in made(tree, metrics)  # what a click on the head sorts by


def test_another_seed_of_the_data_set_is_no_repeat(tree):
    read = runs.read([tree.run("zskd"), tree.run("zskd", dataset="toy+seed=1"), tree.run("zskd", teacher="net+seed=1")])
    assert [(g.specs["dataset"], len(g.runs)) for g in runs.grouped(read)] == [("toy", 2), ("toy+seed=1", 1)]


def group_of(*metrics):
    """Repeats with these metrics."""
    path = Path("results/d/t/x/b/s/metrics.json")
    return runs.Group({}, [runs.Run(path, {}, content, "", "data-free") for content in metrics])


def test_figures_of_repeats_by_hand():
    first = {
        "top1": 90.0,
        "teacher_top1": 95.0,
        "top1_interval": [88.0, 92.0],
        "parameters": 15738,
        "macs": 9,
        "compression": 2.0,
    }
    second = {**first, "top1": 93.0, "top1_interval": [91.0, 94.0], "parameters": 15740}
    first["ece"] = 0.1
    both, alone = group_of(first, second), group_of(first)
    assert (both.text("top1", 2), both.text("gap", 2)) == ("91.50 ± 2.12", "-3.50 ± 2.12")
    assert (both.interval("top1", 1), alone.interval("top1", 1)) == ("", "88.0 to 92.0")
    assert (both.text("ece", 2), alone.text("ece", 2)) == ("–", "0.10")  # and not the mean of those that have it
    assert both.text("parameters", 0) == "15,739"  # a size has no deviation
    maps = {"miou": 40.0, "teacher_miou": 55.5, "agreement_miou": 70.0, "pixel_accuracy": 80.0}
    assert group_of(maps).text("gap", 2) == "-15.50"
    assert runs.equal_sizes([both, alone]) == ["macs", "compression"] and runs.equal_sizes([alone]) == []


def test_the_dots_of_a_panel_by_hand(tree):
    metrics = [tree.run(f"zskd{seed}", top1=top1) for seed, top1 in (("", 90.0), ("+seed=1", 93.0))]
    metrics += [tree.run("zskd", teacher="net+seed=1", teacher_top1=98.5, top1=91.5), tree.run("fast", top1=60.0)]
    metrics.append(tree.run("noise", top1=30.0, top1_interval=[25.0, 35.5]))
    (panel,) = page._panels(runs.grouped(runs.read(metrics)))
    spans = {row["group"].specs["transfer"]: page._interval(row["group"], "top1") for row in panel["rows"]}
    assert list(spans.items()) == [("zskd", (90.0, 93.0)), ("fast", (60.0, 60.0)), ("noise", (25.0, 35.5))]  # best first
    assert panel["teacher_accuracy"] == 97.0  # of two teachers, however many students each has
    assert page._confusion([[30, 10], [0, 5]]) == [[(30, 75), (10, 25)], [(0, 0), (5, 100)]]


def test_a_set_is_summed_up_by_hand(tmp_path):
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    writer = Writer(tmp_path / "transfer_set.h5", "key", Layout((1, 2, 2), 2), 4)
    rest = {"images": np.zeros((4, 1, 2, 2)), "targets": np.full((4, 2), 0.5), "round": np.zeros(4)}
    writer.append(logits=np.log(probabilities), labels=np.array([0, 0, 0, 1]), **rest)
    writer.finish({}, {"classes": ["ant", "bee"]})
    lines = inspect.summary(tmp_path / "transfer_set.h5")
    assert any("mean confidence 0.750, mean entropy 0.527 of 0.693 nats" in line for line in lines)
    assert [line.split()[1:] for line in lines if line.startswith("targets")] == [["mean", "entropy", "0.693", "nats"]]
    ant, bee = (next(line for line in lines if line.startswith(f"  {name}")).split() for name in ("ant", "bee"))
    assert ant == ["ant", "3", "75.0%", "0.733", "#" * 40] and bee == ["bee", "1", "25.0%", "0.800", "#" * 13]


def test_another_seed_of_the_balance_is_a_repeat(tree):
    metrics = [tree.run("zskd", balance="equal"), tree.run("zskd", balance="equal+seed=1", top1=92.0)]
    (group,) = runs.grouped(runs.read(metrics))
    assert group.specs["balance"] == "equal" and group.mean("top1") == 91.0


def test_the_summary_is_the_mean_over_runs(tree):
    metrics = [
        tree.run("zskd", top1=90.0),
        tree.run("zskd", student="half+seed=1", top1=93.0),
        tree.run("noise", top1=30.0, ece=0.5),
    ]
    summary = json.loads(runs.to_summary(runs.read(metrics)))
    assert (summary["runs"], summary["top1"], summary["ece"]) == (3, 71.0, round((0.0123 * 2 + 0.5) / 3, 6))


def test_an_agreement_is_no_match_for_an_accuracy(tree):
    """However high it is, and beside an accuracy it is in no short table."""
    groups = runs.grouped(runs.read([without_labels(tree, "noise", 99.0), tree.run("zskd", top1=90.0, probe_balanced=95.0)]))
    assert [group.specs["transfer"] for group in runs.best_first(groups)] == ["zskd", "noise"]
    short = [[name for name, *_ in runs.shown_columns(given, ("top1", "probe_balanced"))] for given in (groups, groups[1:])]
    assert short == [["top1", "probe_balanced"], ["top1"]]


def test_the_origin_is_that_of_the_set_before_balancing(tree):
    path = tree.run("zskd", about={"label": "first", "origin": "prior-based"})
    (path.parents[1] / "transfer_set.h5").unlink()
    tree.set(path.parents[1] / "transfer_set.h5", {"label": "second", "origin": "real"}, np.zeros(4, int))
    assert [(run.label, run.origin) for run in runs.read([path])] == [("first", "prior-based")]
    (path.parents[2] / "transfer_set.h5").unlink()
    assert [(run.label, run.origin) for run in runs.read([path])] == [("second", "real")]


def test_badges_tell_data_free_prior_based_real_other_and_unknown(tree):
    metrics = [
        tree.run("zskd"),
        tree.baseline(),
        tree.run("glyphs", about={"label": "procedural (glyphs)", "origin": "prior-based"}),
        tree.run("letters", about={"label": "other data (letters)", "origin": "other"}),
    ]
    metrics.append(tree.run("silent", about={}))
    origins = {run.specs["transfer"]: (run.origin, run.badge) for run in runs.read(metrics)}
    assert origins == {
        "zskd": ("data-free", "data-free"),
        "dataset+source=toy": ("real", "real data"),
        "glyphs": ("prior-based", "prior-based"),
        "letters": ("other", "other data (letters)"),
        "silent": ("unknown", "origin unknown"),
    }


def test_baseline_is_the_unbalanced_real_data_run_of_the_same_teacher_and_student(tree):
    metrics = [
        tree.run("zskd"),
        tree.baseline(balance="equal", top1=94.9),
        tree.baseline(top1=94.25),
        tree.baseline(student="tiny", top1=70.0),
    ]
    text = made(tree, metrics)
    assert "real data 94.25" in text
    assert "real data 70.00" in text
    assert "94.90</span>" in text
    low, high, _ = figures.dot_axis([90.0, 94.25, 94.9, 95.5])
    assert f'class="r" style="left:{100 * (94.25 - low) / (high - low):.2f}%"' in text
    assert "no real-data baseline" not in text


def test_one_run_without_baseline_history_or_sets(tree):
    path = tree.run("zskd")
    for name in ("history.csv", "../transfer_set.h5", "../../transfer_set.h5"):
        (path.parent / name).unlink()
    (path.parents[3] / "history.csv").write_text("epoch,loss,lr\n")  # an imported teacher
    text = made(tree, [path])
    assert "no real-data baseline among these runs" in text
    assert "origin unknown" in text
    assert "No samples to show" in text
    assert text.count("No training curves") == 2
    assert "1 run</h1>" in text
    assert "± is" not in text


def test_page_holds_all_its_parts_and_loads_nothing(tree):
    text = made(tree, [tree.run("zskd"), tree.run("zskd", balance="equal"), tree.baseline()])
    outline = Outline(text)
    assert all(one.startswith(("#", "data:")) for one in outline.loads)
    assert not re.search(r"https?:|@import|url\(", text)
    # 2 transfer sets with 4 classes, one of them also after balance; 2 charts for the teacher and each of 3 runs, one with the
    # curves of all runs, 3 histograms, 3 times bars per class
    assert outline.tags.count("img") == 12
    assert outline.tags.count("svg") == 2 + 3 * 2 + 1 + 3 + 3
    assert "before 40" in text
    assert "after 12" in text
    assert "unchanged" in text


def test_names_are_escaped(tmp_path):
    tree = Tree(tmp_path, classes=["<script>alert(1)</script>", '"quoted"', "a&b", "plain"])
    text = made(tree, [tree.run("zskd", about={"label": "<b>x</b>", "origin": "other"})])
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>x" not in text
    assert Outline(text).tags.count("script") == 1


def test_bytes_repeat_in_any_order_of_arguments(tree):
    metrics = [tree.run("zskd"), tree.run("noise"), tree.baseline()]
    assert made(tree, metrics) == made(tree, metrics[::-1], "again.html")


def test_csv_has_a_line_per_run_and_plain_decimals(tree):
    made(tree, [tree.run("zskd+seed=1", top1=91.5), tree.run("zskd", extra=7), tree.baseline()])
    text = (tree.root.parent / "report/results.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["transfer"] for row in rows] == ["dataset+source=toy", "zskd", "zskd+seed=1"]
    assert [row["origin"] for row in rows] == ["real", "data-free", "data-free"]
    assert rows[0]["label"] == "real data"
    assert rows[2]["top1"] == "91.5"
    assert rows[2]["kl_to_teacher"] == "0.000001"
    assert rows[2]["macs"] == "123456"
    assert [row["extra"] for row in rows] == ["", "7", ""]
    summary = json.loads((tree.root.parent / "report/summary.json").read_text())
    mean = sum(float(row["top1"]) for row in rows) / 3
    assert summary["runs"] == 3 and summary["top1"] == pytest.approx(mean) and "extra" not in summary
    assert "key" not in rows[0]
    assert "per_class" not in rows[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "is damaged or not a .json file"),
        ("[1]", "has no checksum"),
        ({"top1": "90"}, "top1 is '90', not a number"),
        ({"top1": True}, "top1 is True, not a number"),
        ({"top1": 100.5}, "top1 is 100.5, not a number in its range"),
        ({"ece": -0.1}, "ece is -0.1, not a number in its range"),
        ({"ece": float("nan")}, "ece is nan, not a finite number"),
        ({"specs": ["toy", "net", "noise", "none", "half"]}, "not about the run that its path names"),
        ({"confusion_matrix": [[1]]}, "confusion_matrix is not a table of 4 x 4"),
        ({"per_class": [1, 2]}, "per_class is not a list of 4"),
        ({"classes": []}, "classes is missing or empty"),
    ],
)
def test_bad_metrics_are_one_line_and_exit_code_2(tree, capsys, content, message):
    path = tree.run("zskd")
    if content is None:
        path.unlink()
    else:
        changed = content if isinstance(content, str) else atomic.read_json(path) | content
        path.write_text(changed if isinstance(content, str) else json.dumps(changed | {"crc32": atomic._checksum(changed)}))
    out = tree.root.parent / "report/index.html"
    assert report.main([str(out), str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.parent.exists()


def test_a_changed_number_is_refused(tree, capsys):
    path = tree.run("zskd", top1=10.0)
    path.write_text(path.read_text().replace('"top1": 10.0', '"top1": 90.0'))
    assert report.main([str(tree.root.parent / "report/index.html"), str(path)]) == 2
    assert f"{path}: is damaged or was changed" in capsys.readouterr().err


def test_bad_paths_and_neighbours_are_refused(tree, capsys):
    path, out = tree.run("zskd"), str(tree.root.parent / "report/index.html")
    assert report.main([out, str(path), str(path)]) == 2
    assert "is given twice" in capsys.readouterr().err
    assert report.main([out, str(path.parent / "history.csv")]) == 2
    assert "give a metrics.json of the step evaluate" in capsys.readouterr().err
    assert report.main([out + ".txt", str(path)]) == 2
    assert "is not an .html file" in capsys.readouterr().err
    (path.parent / "history.csv").write_text("epoch,loss\n1,much\n")
    assert report.main([out, str(path)]) == 2
    assert "column loss is not a number" in capsys.readouterr().err
    tree.history(path.parent / "history.csv")
    (path.parents[1] / "transfer_set.h5").write_bytes(b"nothing")
    assert report.main([out, str(path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_set_with_other_classes_than_the_metrics_is_refused(tree):
    path = tree.run("zskd")
    (path.parents[2] / "transfer_set.h5").unlink()
    tree.classes = CLASSES[:3]
    tree.set(path.parents[2] / "transfer_set.h5", {"origin": "data-free"}, np.zeros(3, int))
    with pytest.raises(UserError, match=r"has 3 classes, .* has 4"):
        page.render(runs.read([path]))


def test_the_page_comes_after_what_is_beside_it(monkeypatch, tmp_path):
    """A report is current by the key in its page: where that is, the rest is of the same runs."""
    written = []
    for name in ("to_csv", "to_summary", "grouped", "to_text"):
        monkeypatch.setattr(runs, name, lambda some: "")
    monkeypatch.setattr(runs, "read", lambda metrics: [])
    monkeypatch.setattr(page, "render", lambda some, key: "")
    monkeypatch.setattr(atomic, "write", lambda path, content: written.append(path.name))
    report.report(tmp_path / "index.html", [])
    assert written == ["results.csv", "summary.json", "index.html"]
    with pytest.raises(UserError, match=r"index\.htm: is not an \.html file"):
        report.report(tmp_path / "index.htm", [])


def test_runs_that_are_not_current_are_refused(tree, capsys, monkeypatch):
    """Those of one sweep may be of two configs, where a preset was edited meanwhile."""
    paths, out = [tree.run("zskd"), tree.run("zskd+seed=1")], tree.root.parent / "report/index.html"
    monkeypatch.setattr(audit, "stale", lambda metrics: {str(metrics[1]): "was made with a different config; make it again"})
    assert report.main([str(out), *map(str, paths)]) == 2
    stale = sorted(paths)[1]
    assert capsys.readouterr() == (
        "",
        f"error: {stale}: was made with a different config; make it again (1 of 2 runs of the report are not current; "
        "`dfkd audit -v` says why)\n",
    )
    assert not out.parent.exists()


def test_command_prints_the_table_and_last_the_path(tree, capsys):
    metrics, out = [tree.run("zskd"), tree.baseline()], tree.root.parent / "report/index.html"
    listed = tree.root.parent / "metrics.txt"
    listed.write_text("".join(f"{path}\n" for path in metrics))
    assert report.main([str(out), f"@{listed}"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split()[:5] == ["dataset", "teacher", "transfer", "balance", "student"]
    assert lines[1].split()[2] == "dataset+source=toy"
    assert "94.00" in lines[1]
    assert "-1.50" in lines[1]
    assert "real data" in lines[1]
    assert lines[-1] == str(out)
    assert len(lines) == 4
    assert not said.err
    assert {one.name for one in out.parent.iterdir()} == {"index.html", "results.csv", "summary.json"}


def test_200_runs_are_fast_and_limits_are_stated(tmp_path):
    tree = Tree(tmp_path, [f"c{i}" for i in range(10)], (3, 32, 32))
    metrics = [tree.run(f"zskd+seed={s}+steps={n}", balance, f"half+seed={t}") for n, s, balance, t in
               itertools.product(range(1, 6), range(5), ("none", "equal"), range(4))]  # fmt: skip
    started = time.monotonic()
    read = runs.read(metrics)
    whole = page.render(read)
    assert len(read) == 200
    assert time.monotonic() - started < 20
    assert len(whole) < 10_000_000
    assert "Left out" not in whole
    small = page.render(read, samples_limit=1, details_limit=1)
    # One figure is drawn before a budget of one character is spent.
    assert "49 × sample grids" in small  # 24 of sets, 25 of what balance made of them
    assert "200 × confusion matrices" in small
    assert len(small) < 400_000
    Outline(small)


def test_line_chart_keeps_its_ends_and_takes_a_logarithm_of_wide_ranges():
    x = list(range(1, 1001))
    chart = figures.line_chart("loss", [(x, [1000.0 / i for i in x])])
    points = re.search(r'points="([^"]*)"', chart)[1].split()
    assert len(points) <= 201
    assert points[0] == "62.0,26.0"
    assert points[-1] == "290.0,108.0"
    assert "(log)" in chart
    assert re.findall(r'<text x="56" y="(\d+)" class="end">([^<]*)<', chart) == [("112", "1"), ("71", "31.6"), ("30", "1e+03")]
    middle = float(points[20].split(",")[1])  # epoch 101 of 1,000: two thirds of the way down on a logarithmic axis
    assert middle == pytest.approx(26 + 82 * np.log10(101) / 3, abs=0.1)
    flat = figures.line_chart("lr", [([1.0], [0.1])])
    assert "polyline" not in flat
    assert 'cy="67.0"' in flat
    assert "(log)" not in flat


def test_curves_of_one_chart_and_charts_of_one_scale_can_be_compared():
    """Half the value lies at half the height, in another curve and in another chart too."""
    chart = figures.line_chart("loss", [([1, 2], [0.0, 8.0]), ([1, 2, 3], [4.0, 4.0, 4.0])])
    first, second = (points.split() for points in re.findall(r'points="([^"]*)"', chart))
    assert first == ["62.0,108.0", "176.0,26.0"] and second[-1] == "290.0,67.0"
    assert re.findall(r'class="end">([^<]*)<', chart)[:3] == ["0", "4", "8"]
    assert chart.count("polyline") == 2 and 'class="curve c1"' in chart
    alone = figures.line_chart("loss", [([1, 2], [4.0, 4.0])], figures.Scale(0.0, 8.0, False))
    assert "62.0,67.0" in alone


@pytest.mark.parametrize(
    ("values", "ends"), [([92.1, 97.6], (90, 98)), ([10.0, 97.6], (0, 100)), ([99.9, 100.0], (99.8, 100)), ([0.0, 0.4], (0, 0.4))]
)
def test_the_axis_of_dots_shows_small_differences(values, ends):
    low, high, ticks = figures.dot_axis(values)
    assert (low, high) == pytest.approx(ends, abs=1e-6)
    assert 3 <= len(ticks) <= 8 and ticks == sorted(ticks) and low <= min(values) and max(values) <= high <= 100


def without_labels(tree, transfer, agreement):
    """A run whose data set has no test images."""
    path = tree.run(transfer)
    content = atomic.read_json(path)
    for name in (
        "top1",
        "top5",
        "teacher_top1",
        "agreement",
        "ece",
        "nll",
        "kl_to_teacher",
        "n_test",
        "per_class",
        "confusion_matrix",
    ):
        del content[name]
    kinds = [{"kind": "glyphs", "n": 200, "agreement": agreement, "kl": 0.5}]
    atomic.write_json(path, content | {"probe_balanced": agreement, "probe_kl": 0.5, "n_probe": 200, "probe_kinds": kinds,
                                       "probe_per_class": [50.0, None, 60.0, 70.0]})  # fmt: skip
    return path


def test_without_labels_the_page_orders_by_agreement_and_calls_nothing_an_accuracy(tree, capsys):
    text = made(tree, [without_labels(tree, "noise", 40.0), without_labels(tree, "zskd", 80.0)])
    outline = Outline(text)
    heads = next(row for row in outline.rows if "transfer" in row)
    assert "probe agreement %" in heads and not {"top-1 %", "gap to teacher", "agreement %"} & set(heads)
    bars = text[text.index('<section id="bars">') : text.index('<section id="curves">')]
    assert bars.index('name">zskd<') < bars.index('name">noise<') and "this is not an accuracy" in bars and "top-1" not in bars
    assert "agreement on probe images 80.00 %" in text and "accuracy unknown" in text
    assert "probe agreement %" in capsys.readouterr().out and "nan" not in text


def test_runs_with_and_without_labels_stand_in_one_report(tree):
    text = made(tree, [without_labels(tree, "noise", 40.0), tree.run("zskd", probe_balanced=70.0)])
    assert "70.00" in text and "90.00" in text
    outline = Outline(text)  # what has no accuracy stands last, the teacher first
    assert [row[0] for row in outline.rows if row and row[0] in ("teacher", "noise", "zskd")] == ["teacher", "zskd", "noise"]
    latex = tables.latex(runs.read(sorted(tree.root.glob("**/metrics.json"))))
    assert latex.splitlines()[-6:-3] == [
        r"teacher &  & 95.50 &  &  &  &  \\",
        r"\midrule",
        r"noise & data-free & -- & -- & -- & 40.00 & 15,738 \\",
    ]
    assert r"zskd & data-free & 90.00 & $-$5.50 &" in latex


@pytest.mark.parametrize(
    ("others", "columns", "teacher", "first"),
    [
        ([("zskd", {"balance": "equal"})], "llr", "teacher &  &", "equal & data-free &"),
        ([("zskd", {"teacher": "wide"})], "lllr", r"net & teacher &  &", r"net & student & data-free &"),
        ([], "llr", "teacher &  &", "student & data-free &"),
    ],
)
def test_the_row_of_a_teacher_has_a_name_whatever_differs(tree, others, columns, teacher, first):
    tree.run("zskd")
    for name, how in others:
        tree.run(name, **how)
    lines = tables.latex(runs.read(sorted(tree.root.glob("**/metrics.json")))).splitlines()
    assert next(line for line in lines if "tabular" in line).startswith(rf"\begin{{tabular}}{{{columns}")
    rows = [line for line in lines if "&" in line]
    assert rows[1].startswith(teacher) and any(row.startswith(first) for row in rows[2:])


def test_confusions_of_many_classes_are_a_list(tmp_path):
    tree = Tree(tmp_path, [f"c{i}" for i in range(120)])
    path = tree.run("zskd", confusions=[[3, 5, 9]])
    content = atomic.read_json(path)
    del content["confusion_matrix"]
    atomic.write_json(path, content)
    text = made(tree, [path])
    assert "<th>c3</th><th>c5</th>" in text
    atomic.write_json(path, content | {"confusions": [[3, 120, 9]]})
    with pytest.raises(UserError, match="confusions is not a list"):
        runs.read([path])


def test_curves_of_a_student_inside_are_drawn_by_round(tree):
    history = {"round": [1, 2, 3], "loss": [9.0, 3.0, 1.0], "agreement": [10.0, 50.0, 80.0], "generator": [1.0, 2.0, 3.0]}
    text = made(tree, [tree.run("dafl", about={"label": "dafl", "data_free": True, "history": history}), tree.run("noise")])
    section = text[text.index('<section id="curves">') : text.index('<section id="teachers">')]
    assert "online student: loss" in section and "online student: agreement, %" in section and "round 3" in section
    assert "generator: loss" in section and section.count("</svg>") == 4


def test_curves_of_students_with_snapshots_are_drawn_by_images(tree):
    text = made(tree, [tree.run("dafl", curve=[[100, 20.0], [1000, 60.0], [10000, 90.0]]), tree.run("noise")])
    section = text[text.index('<section id="curves">') : text.index('<section id="teachers">')]
    chart = section[section.index('aria-label="top-1 % by images') :]
    chart = chart[: chart.index("</svg>")]
    assert (
        re.search(r'points="62\.0,108\.0 176\.0,[\d.]+ 290\.0,26\.0"', chart) and "images 1e+04" in chart
    )  # the axis is logarithmic
    path = tree.run("zskd", curve=[[100, "a"]])
    with pytest.raises(UserError, match="curve is not a list of pairs"):
        runs.read([path])


def test_bars_are_as_long_as_their_values():
    widths = re.findall(
        r'class="bar0" x="96" y="\d+" width="([\d.]+)"', figures.class_bars("t", ["a", "b", "c"], {"s": [50, None, 100]}, 100)
    )
    assert [float(width) for width in widths] == [64.0, 0.0, 128.0]
    many = figures.class_bars("t", range(1000), {"before": [3] * 1000, "after": [1] * 1000})
    assert many.count("<path") == 3
    assert len(many) < 100_000


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 9, 7), (3, 200, 100)])
def test_sample_strips_show_the_first_of_each_class(tmp_path, shape):
    tree = Tree(tmp_path, shape=shape)
    tree.set(tmp_path / "transfer_set.h5", {}, np.array([2, 0, 2, 2, 0]))
    with TransferSet(tmp_path / "transfer_set.h5") as transfer:
        strips = figures.sample_strips(transfer, CLASSES, per_class=2)
        first = figures.tile(transfer.read("images", slice(1, 2))[0])
    assert [(strip["name"], strip["n"]) for strip in strips] == [("class 0", 2), ("class 2", 2)]
    image = decoded(strips[0]["uri"])
    height, width = first.shape[:2]
    assert max(height, width) <= 64
    assert height / width == pytest.approx(shape[1] / shape[2], rel=0.05)
    np.testing.assert_array_equal(image[:height], first)
    assert image.shape == (2 * height + 1, width, 4)
    assert not image[height].any()


def test_of_many_classes_those_with_most_samples_are_shown(tmp_path):
    """Of a thousand classes the first ones may be nearly empty."""
    labels = np.repeat([990, 3, 500, 7], [5, 1, 4, 2])
    writer = Writer(tmp_path / "transfer_set.h5", "k", Layout((1, 6, 9), 1000, targets=False), len(labels))
    logits = np.eye(1000, dtype=np.float32)[labels]
    writer.append(images=np.zeros((len(labels), 1, 6, 9), np.uint8), logits=logits, labels=labels, round=np.zeros(len(labels)))
    writer.finish({}, {})
    with TransferSet(tmp_path / "transfer_set.h5") as transfer:
        strips = figures.sample_strips(transfer, range(1000), most_classes=3)
    assert [(strip["name"], strip["n"]) for strip in strips] == [("7", 2), ("500", 4), ("990", 5)]
    assert list(inspect.samples(tmp_path / "transfer_set.h5")) == ["3 (1)", "7 (2)", "500 (4)", "990 (5)"]
    assert figures.fullest([0, 2, 5, 2], 2) == [1, 2] and figures.fullest([0, 0], 2) == []


def test_confusion_picture_is_opaque_where_the_mass_is():
    alpha = decoded(figures.confusion_png([[4, 0], [3, 1]]))[..., 3]
    assert alpha.tolist() == [[255, 0], [round(255 * 0.75**0.5), round(255 * 0.5)]]


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def logged(artefact_path, text):
    log = artefact_path.parents[-2].parent / "logs" / f"{artefact_path}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)


def test_markdown_has_each_run_and_what_it_took(tree, monkeypatch):
    monkeypatch.chdir(tree.root.parent)
    tree.root = tree.root.relative_to(tree.root.parent)
    about = {"label": "zskd from glyphs", "origin": "prior-based"}
    first, second = (tree.run(name, top1=top1, about=about) for name, top1 in (("zskd+seed=1", 91.0), ("zskd+seed=2", 93.5)))
    tree.run("noise", top1=50.0)
    tree.run("single-image", top1=40.0, about={"label": "crops of a|b.jpg", "origin": "other"})
    logged(first.parents[2] / "transfer_set.h5", "zskd: 5/40 sample\nsynthesize: 40 samples, 1203.5 s\n")
    logged(first.parent / "student.safetensors", "resumes after epoch 3\ndistill: 20 epochs, 99.6 s\n")
    logged(second.parents[2] / "transfer_set.h5", "zskd: 5/40 sample\n")  # killed
    text = tables.markdown(runs.read(sorted(tree.root.glob("**/metrics.json"))))
    assert text.splitlines() == [
        "dataset `toy`, teacher `net`, balance `none`, student `half`",
        "",
        "| transfer | origin | runs: top-1 % | mean ± std | agreement % | synthesis + distillation, s |",
        "|---|---|---|---|---|---|",
        "|  | teacher | 95.50 | 95.50 |  |  |",
        "| `noise` | data-free | 50.00 | 50.00 | 93.25 | – + – |",
        r"| `single-image` | crops of a\|b.jpg | 40.00 | 40.00 | 93.25 | – + – |",
        "| `zskd` | prior-based | 91.00 93.50 | 92.25 ± 1.77 | 93.25 ± 0.00 | 1,204 + 100, – + – |",
    ]


def test_seconds_of_an_earlier_artefact_are_left_out(tree, monkeypatch):
    """A driver without logs made it again, and the log of Snakemake is that of the first."""
    monkeypatch.chdir(tree.root.parent)
    tree.root = tree.root.relative_to(tree.root.parent)
    monkeypatch.setattr(tables.keys, "expected_key", lambda path: f"k{len(path)}")
    path = tree.run("zskd+seed=1", top1=91.0)
    transfer, student = path.parents[2] / "transfer_set.h5", path.parent / "student.safetensors"
    (run,) = runs.read([path])
    logged(transfer, f"synthesize: 40 samples, 1203.5 s, key k{len(str(transfer))}\n")
    logged(student, "distill: 20 epochs, 99.6 s, key k0\n")
    assert [tables.seconds(run, step) for step in ("synthesize", "distill")] == [1203.5, None]


def test_csv_has_a_line_per_run(tree, monkeypatch):
    """Numbers in full, seconds where there is a log, and no cell that a spreadsheet would run."""
    monkeypatch.chdir(tree.root.parent)
    tree.root = tree.root.relative_to(tree.root.parent)
    first = tree.run("zskd+seed=1", top1=91.25, about={"label": "=cmd|' /C calc'!A0", "origin": "data-free"}, key="k1", n_test=9)
    second = tree.run("zskd+seed=2", top1=93.5)
    logged(first.parents[2] / "transfer_set.h5", "synthesize: 40 samples, 1203.5 s\n")
    logged(second.parents[2] / "transfer_set.h5", "resumes after 3\nsynthesize: 40 samples, 3.5 s\n")
    table = list(csv.DictReader(io.StringIO(tables.to_csv(runs.read(sorted(tree.root.glob("**/metrics.json")))))))
    columns = (
        "dataset,teacher,transfer,balance,student,label,origin,top1,teacher_top1,agreement,probe_balanced,seconds_synthesize,"
        "seconds_distill"
    )
    assert list(table[0]) == [*columns.split(","), "n_test", "commit", "key"]
    assert [row["top1"] for row in table] == ["91.25", "93.5"]
    assert (table[0]["label"], table[0]["origin"], table[0]["key"]) == ("'=cmd|' /C calc'!A0", "data-free", "k1")
    assert [row["seconds_synthesize"] for row in table] == ["1203.5", "3.5"]
    assert {row["seconds_distill"] for row in table} == {""} and {row["commit"] for row in table} == {""}


def test_csv_names_the_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "a").write_text("")
    subprocess.run(["git", "add", "a"], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert tables._commit() == head
    (tmp_path / "a").write_text("changed")
    assert tables._commit() == f"{head}-dirty"


def test_a_label_is_printed_without_what_a_terminal_obeys(tree):
    tree.run("zskd", about={"label": "a\x1b[2Jb", "origin": "other"})
    (read,) = runs.read(tree.root.glob("**/metrics.json"))
    assert read.label == r"'a\x1b[2Jb'"


def test_table_shows_the_current_runs_of_a_sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(Path(__file__).parents[2] / "params")
    lists = {"dataset": "mnist-5k", "teacher": "lenet5", "transfer": "noise, noise+seed=1, zskd", "balance": "none",
             "student": "lenet5-half"}  # fmt: skip
    (tmp_path / "x.yaml").write_text("".join(f"{group}: [{names}]\n" for group, names in lists.items()))
    for transfer, old in (("noise", False), ("noise+seed=1", True)):
        specs = dict(zip(spec.GROUPS, ("mnist-5k", "lenet5", transfer, "none", "lenet5-half")))
        path = str(graph.path_of("evaluate", specs))
        Tree(Path()).run(transfer, dataset="mnist-5k", teacher="lenet5", student="lenet5-half", top1=60.0 + old,
                         key="of other code" if old else keys.expected_key(path))  # fmt: skip
    assert cli.main(["table", "x.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("| data")] == ["| data-free | 60.00 | 60.00 | 93.25 | – + – |"]
    assert lines[-1] == "2 of 3 runs are missing, 1 of them made with a different config or code: snakemake --config sweep=x.yaml"
    (tmp_path / "my sweep.yaml").write_text((tmp_path / "x.yaml").read_text())
    assert cli.main(["table", "my sweep.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("snakemake --config 'sweep=my sweep.yaml'")
    (tmp_path / "y.yaml").write_text((tmp_path / "x.yaml").read_text().replace("zskd", "procedural"))
    assert cli.main(["table", "--csv", "x.yaml", "y.yaml"]) == 0
    out, err = capsys.readouterr()
    assert [row["transfer"] for row in csv.DictReader(io.StringIO(out))] == ["noise"] and err.count("runs are missing") == 2
    assert cli.main(["table", "x.yaml", "y.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## x.yaml", "## y.yaml"]
    for option, form in (("--csv", "to_csv"), ("--curves", "curves_csv"), ("--latex", "latex")):
        monkeypatch.setattr(tables, form, lambda runs, form=form: f"{form} of {len(runs)}")
        assert cli.main(["table", option, "x.yaml", "y.yaml"]) == 0
        assert capsys.readouterr().out.strip() == f"{form} of 1"  # once, though it is of both
    assert cli.main(["table", "nix.yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
