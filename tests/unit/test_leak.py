"""Canaries in data sets and sweeps, and `dfkd leak` where the answer is known: networks that have learnt their canaries by heart,
and networks that never saw one."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_net
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from dfkd_steps import dataset, synthesize
from dfkd_steps.models.classifier import Classifier, Description
from dfkd_steps.pipeline import graph, params, sweep
from dfkd_steps.pipeline.job import Job
from dfkd_steps.reporting import leak, runs
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file
from dfkd_steps.storage.transfer_set import Layout, Writer

SHADOWS, CANARIES, CLASSES = 6, 24, 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Images of noise whose brightness tells their class."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("npz") / "set.npz"
    arrays = {}
    for split, number in (("train", 96), ("test", 8)):
        labels = np.arange(number) % CLASSES
        arrays[f"y_{split}"] = labels
        arrays[f"x_{split}"] = (60 * labels[:, None, None] + rng.integers(0, 60, (number, 8, 8))).astype(np.uint8)
    np.savez(path, **arrays)
    return path


def make(file, root, shadow, canaries=CANARIES):
    """The data set of a shadow, opened."""
    name = f"own+canaries={canaries}+shadow={shadow}" if shadow else f"own+canaries={canaries}"
    config = groups.Npz("npz", path=str(file), canaries=canaries, shadow=shadow)
    dataset.run(Job("dataset", out := root / "results" / name / "dataset.h5", [], config, "key", {}))
    return dataset_file.open_dataset(out)


@pytest.fixture(scope="module")
def root(file, tmp_path_factory):
    return tmp_path_factory.mktemp("shadows")


@pytest.fixture(scope="module")
def shadows(file, root):
    return [make(file, root, number) for number in range(1, SHADOWS + 1)]


# ---------------------------------------------------------------------------------------------- canaries
def test_canaries_are_training_images_with_a_wrong_label(file, tmp_path):
    made, plain = make(file, tmp_path, 0), np.load(file)
    told = made.canaries
    rows, labels = told["positions"], np.array(told["labels"])
    images, given = made.read("train")
    assert len(set(rows)) == CANARIES and told["rows"] == rows and not any(told["out"])
    assert (given[rows] == labels).all() and (labels != plain["y_train"][rows]).all() and set(labels) == set(range(CLASSES))
    others = np.setdiff1d(np.arange(96), rows)
    assert np.array_equal(images[:, 0], plain["x_train"]) and (given[others] == plain["y_train"][others]).all()
    assert len(made.read("test")[0]) == 8


def test_each_canary_is_in_one_shadow_of_each_pair(shadows, file):
    out, plain = np.array([one.canaries["out"] for one in shadows]), np.load(file)
    assert (out[::2] ^ out[1::2]).all() and (out.sum(1) == CANARIES // 2).all()
    assert len({tuple(one) for one in out.tolist()}) == SHADOWS
    for one in shadows:
        images, labels = one.read("train")
        assert one.canaries["rows"] == shadows[0].canaries["rows"] and one.canaries["labels"] == shadows[0].canaries["labels"]
        told = zip(*(one.canaries[name] for name in ("positions", "rows", "labels", "out")))
        held = [(at, row, label) for at, row, label, left in told if not left]
        assert len(images) == 96 - CANARIES // 2 and len(held) == CANARIES // 2
        assert all(np.array_equal(images[at, 0], plain["x_train"][row]) and labels[at] == label for at, row, label in held)
        missing = [row for row, left in zip(one.canaries["rows"], one.canaries["out"]) if left]
        assert not any((images[:, 0] == plain["x_train"][row]).all((1, 2)).any() for row in missing)


def test_the_seed_decides_what_are_canaries_and_which_are_left_out(file):
    def planted(seed):
        config = groups.Npz("npz", path=str(file), canaries=CANARIES, shadow=1, seed=seed)
        return dataset.plant(config, dict(np.load(file)), CLASSES)[1]

    first, again, other = map(planted, (0, 0, 1))
    assert first == again and all(first[name] != other[name] for name in ("rows", "labels", "out"))


@pytest.mark.parametrize(
    ("changes", "why"), [({"canaries": 49}, "more than half of the 96"), ({"shadow": 1}, "canaries is 0; set canaries")]
)
def test_canaries_that_cannot_be(file, tmp_path, changes, why):
    config = groups.Npz("npz", path=str(file), **changes)
    if config.check():
        assert why in config.check()
        return
    with pytest.raises(UserError, match=why):
        dataset.run(Job("dataset", tmp_path / "dataset.h5", [], config, "key", {}))


@pytest.mark.parametrize("canaries", [20, 40])  # as many as an image is high, too
def test_label_maps_have_none(tmp_path, canaries):
    config = groups.DrawnShapes(canaries=canaries, height=40, width=40)
    with pytest.raises(UserError, match=r"canaries: .* the labels are maps; remove canaries"):
        dataset.run(Job("dataset", tmp_path / "dataset.h5", [], config, "key", {}))
    masks = {"path": "x", "names": ["a", "b"], "height": 8}
    assert "set canaries" in groups.Masks(**masks, shadow=3).check() and groups.Masks(**masks).check() is None


def test_a_card_has_none():
    assert "canaries and shadow have no effect" in groups.Card(classes=3, height=8, canaries=2).check()


# ---------------------------------------------------------------------------------------------- sweeps
@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a sweep; the params are those of the project."""
    monkeypatch.chdir(Path(__file__).parents[2])

    def write(**changes):
        content = yaml.safe_load(Path("params/sweeps/mnist-5k-leak.yaml").read_text()) | changes
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "sweep.yaml"

    return write


def test_a_sweep_with_shadows_has_every_data_set_in_each(written):
    lists = sweep.read(written(shadows=4, dataset=["mnist-5k+canaries=50", "mnist-5k+canaries=60+train=900"]))
    assert lists["dataset"][::4] == ["mnist-5k+canaries=50+shadow=1", "mnist-5k+canaries=60+shadow=1+train=900"]
    assert len(lists["dataset"]) == 8 and "shadows" not in lists
    with pytest.raises(UserError, match="has shadows, which DVC does not expand"):
        sweep.literal(written(shadows=4))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dataset": ["mnist-5k"]}, "has no canaries, but the sweep has shadows"),
        ({"dataset": ["mnist-5k+canaries=9+shadow=1"]}, "sets a shadow"),
        ({"shadows": 5}, "give an even number, 4 or more"),
    ],
)
def test_shadows_that_cannot_be(written, changes, why):
    with pytest.raises(UserError, match=why):
        sweep.read(written(**changes))


def test_own_is_the_data_set_of_the_path(written):
    path = "results/mnist-5k+canaries=9+shadow=1/lenet5/dataset+source=own/transfer_set.h5"
    assert str(graph.inputs_of(path)[-1]) == "results/mnist-5k+canaries=9+shadow=1/dataset.h5"
    assert graph.sources("dataset+source=own") == [] and graph.sources("dataset+source=own", "mnist") == ["mnist"]
    config = params.load("transfer", "dataset+source=own")
    job = Job("synthesize", path, ["teacher", Path("results/mnist-5k+canaries=9+shadow=1/dataset.h5")], config, "key", {})
    about = {"teacher": small_net.classifier(), "about": lambda self: {"label": "dataset"}}
    method = type("Real", (), {"all_from_sources": True, "drawn": (), **about})()
    assert synthesize.metadata(job, method, {})["origin"] == "real"


# ---------------------------------------------------------------------------------------------- attacks
class Memory(nn.Module):
    """The class of the nearest image that it was trained on, the surer the nearer; else that of the brightness."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def forward(self, images):
        pixels = images.flatten(1)
        bright = -40 * (pixels.mean(1, keepdim=True) - (torch.arange(CLASSES) * 60 + 30) / 255) ** 2
        near, at = torch.cdist(pixels, self.images).min(1)
        return bright + 30 * torch.exp(-4 * near)[:, None] * F.one_hot(self.labels[at], CLASSES)


def network(one, with_canaries):
    """A network of a shadow that knows its training set by heart: all of it, or all but the canaries; with noise of its own."""
    images, labels = one.read("train")
    kept = np.ones(len(images), bool)
    if not with_canaries:
        kept[[at for at, left in zip(one.canaries["positions"], one.canaries["out"]) if not left]] = False
    net = Memory(torch.from_numpy(images[kept] / 255).float().flatten(1), torch.from_numpy(labels[kept]))
    description = Description("arch", "none", tuple(map(str, range(CLASSES))), (1, 8, 8), (0.0,), (1.0,))
    return Classifier(net, description).eval()


@pytest.fixture
def finished(shadows, root, monkeypatch):
    """Runs of each shadow: its teacher has learnt its canaries by heart, and of its two students one has and one has not."""
    nets, found = {}, []
    for one in shadows:
        name = one.path.parent.name
        for transfer, origin, knows in (("copy", "real", True), ("blind", "data-free", False)):
            specs = dict(zip(("dataset", "teacher", "transfer", "balance", "student"), (name, "t", transfer, "none", "s")))
            path = graph.path_of("evaluate", specs, root / "results")
            found.append(runs.Run(path, specs, {"top1": 70.0, "teacher_top1": 80.0}, transfer, origin))
            nets[graph.path_of("distill", specs, root / "results")] = network(one, knows)
            nets[graph.path_of("teacher", specs, root / "results")] = network(one, True)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
            folder = graph.path_of("synthesize", specs, root / "results").parent
            if not (folder / "transfer_set.h5").exists():
                small_net.write(folder, nets[graph.path_of("teacher", specs, root / "results")])
    monkeypatch.setattr(leak.runs, "read", lambda paths: [run for run in found if str(run.path) in set(map(str, paths))])
    monkeypatch.setattr(leak.audit, "fault", lambda path: None)
    monkeypatch.setattr(leak.audit, "lineage", lambda paths: [str(Path(paths[0]).parents[2] / "transfer_set.h5"), *paths])
    monkeypatch.setattr(leak.network_file, "load_frozen", lambda path, device: nets[path])
    return [str(run.path) for run in found]


def test_a_network_that_learnt_its_canaries_leaks_and_one_that_never_saw_them_does_not(finished):
    teacher, copy, blind = leak.rows(finished, leak.finished(finished))
    assert [row.model for row in (teacher, copy, blind)] == ["teacher", "student", "student"]
    assert (copy.specs["transfer"], blind.specs["transfer"]) == ("copy", "blind") and blind.origin == "data-free"
    assert blind.specs["dataset"] == f"own+canaries={CANARIES}" and teacher.top1 == 80 and copy.top1 == 70
    for row in (teacher, copy):
        assert row.attack.area[0] > 0.99 and row.attack.rates[0][0] > 0.9 and row.attack.rates[1][1] > 0.8
        assert row.label_rates[0] > 95 and row.label_rates[1] < 20
    assert blind.attack.area[1] <= 0.5 <= blind.attack.area[2] + 0.05 and blind.attack.rates[0][0] < 0.1
    assert abs(blind.label_rates[0] - blind.label_rates[1]) < 10
    assert teacher.distance is None and 0.3 < copy.distance[2] < 0.7 and copy.distance[0] > 0  # a set of noise
    assert {row.shadows for row in (teacher, copy, blind)} == {SHADOWS} and blind.canaries == CANARIES


def test_an_image_is_at_no_distance_from_itself():
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8)
    assert leak.nearest(images, images.flip(0)).tolist() == [0.0] * 40
    black, white = torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    white[1, 0, 0] = 0
    assert leak.nearest(black, white).item() == pytest.approx(12**0.5)


def test_a_run_whose_networks_or_images_are_not_current_is_left_out(finished, monkeypatch):
    """Its metrics may be whole: the student was trained again since, and not evaluated."""
    stale = str(Path(finished[0]).parents[2] / "transfer_set.h5")
    monkeypatch.setattr(leak.audit, "fault", lambda path: "was made with a different config" if path == stale else None)
    shadows = {row.label: row.shadows for row in leak.rows(finished, leak.finished(finished)) if row.model == "student"}
    assert shadows == {"copy": SHADOWS - 1, "blind": SHADOWS}


def test_the_table_and_the_csv_have_every_figure(finished):
    found = leak.rows(finished, leak.finished(finished))
    rows = list(csv.DictReader(io.StringIO(leak.to_csv(found))))
    assert [row["model"] for row in rows] == ["teacher", "student", "student"] and rows[0]["distance_in"] == ""
    assert float(rows[1]["told_in"]) > 95 and float(rows[1]["told_out"]) < 20 and rows[1]["top1"] == "70"
    assert float(rows[1]["tpr_0.001"]) > 0.9 and float(rows[1]["tpr_low_0.01"]) <= float(rows[1]["tpr_0.01"])
    assert float(rows[2]["auc"]) == pytest.approx(found[2].attack.area[0], abs=1e-4) and rows[2]["shadows"] == str(SHADOWS)
    head, *cells = leak.cells(found)
    assert all(len(row) == len(head) for row in cells) and cells[1][1] == "copy" and "100.0 [" in cells[1][6]


def test_a_rate_of_false_positives_below_one_score_is_said(finished):
    found = leak.rows(finished, leak.finished(finished))
    assert leak.too_few(found).startswith(
        f"TPR at 0.1 % and 1 % FPR is that of no false positive at all, because there are only {SHADOWS * CANARIES // 2}"
    )
    for others, said in ((99, "0.1 % and 1 %"), (100, "0.1 %"), (999, "0.1 %"), (1000, "")):
        few = [replace(row, attack=replace(row.attack, others=others)) for row in found]
        assert leak.too_few(few).startswith(f"TPR at {said} FPR is" if said else "") and bool(leak.too_few(few)) == bool(said)


def test_distances_are_medians_to_the_nearest_image_by_hand(tmp_path, monkeypatch):
    """Images of one level each: eight times the difference of two levels, as they have 64 pixels."""
    levels, held = [0, 40, 90, 250], {"a": [True, True, True, False], "b": [False, False, False, True]}
    images = {place: np.full((1, 8, 8), level, np.uint8) for place, level in enumerate(levels)}
    for name, near in (("a", [1, 42, 96, 130]), ("b", [70, 200, 201, 255])):
        layout = Layout((1, 8, 8), 2, targets=False)
        writer = Writer(tmp_path / name, "key", layout, 4, resume=False)
        stored = np.array(near, np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
        writer.append(images=stored, logits=np.zeros((4, 2)), labels=np.zeros(4, int), round=np.zeros(4))
        writer.finish({}, {})
    monkeypatch.setattr(leak, "_path", lambda run, step: tmp_path / run)
    canaries = [leak.Canaries(np.zeros(4, int), np.array(member), images) for member in held.values()]
    inside, outside, area = leak._distances(list(held), canaries)
    # Members: 1, 2, 6 of a and 5 of b; the others: 120 of a and 70, 30, 20 of b.
    assert (inside, outside) == pytest.approx((8 * 3.5 / 255, 8 * 50 / 255), rel=1e-4) and area == 1.0


def test_too_few_shadows_are_one_line(finished):
    with pytest.raises(UserError, match="4 shadows of one transfer set are needed; 2 of 4 runs are missing"):
        leak.rows(finished[:2], leak.finished(finished[:2]), "2 of 4 runs are missing")


def test_too_few_canaries_are_one_line():
    """Of two, each shadow has the same as another, or the others: its own alone would tell."""
    member = np.array([[True, False], [False, True]] * 2)
    canaries = [leak.Canaries(np.zeros(2, int), held, {}) for held in member]
    with pytest.raises(UserError, match="leak: 2 canaries are too few for an attack with 4 shadows; give hundreds"):
        leak._attacked("student", {}, [None], np.random.default_rng(0).normal(size=(4, 2, 3)), canaries, 50.0)


def test_a_sweep_without_shadows_is_one_line(tmp_path):
    finals = [
        str(tmp_path / f"results/mnist+canaries=20/lenet5/noise+seed={seed}/none/lenet5-half/metrics.json") for seed in "1234"
    ]
    with pytest.raises(
        UserError, match=r"leak: the sweep has no shadows, .*; write dataset: \[NAME\+canaries=NUMBER\] and shadows:"
    ):
        leak.rows(finals, leak.finished(finals))


def test_a_canary_that_no_finished_shadow_held_is_one_line(finished):
    with pytest.raises(UserError, match="canaries are in none of the finished shadows"):
        leak._canaries([Path(finished[0]).parents[4] / "dataset.h5"])


def test_damaged_canaries_are_one_line(shadows, tmp_path):
    for positions, labels, out in (
        ([1], [CLASSES], [False]), ([1], [-1], [False]), ([96], [1], [False]), ([97], [1], [True]), ([-1], [1], [False]),
        ([1, 2], [1], [False]), ([1], [1], [0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="attribute canaries"):
            dataset_file._canaries(json.dumps({"positions": positions, "labels": labels, "out": out}), 96, CLASSES)
    for position, left_out in ((95, False), (96, True)):  # the last, and a place behind it
        sound = {"positions": [position], "labels": [CLASSES - 1], "out": [left_out]}
        assert dataset_file._canaries(json.dumps(sound), 96, CLASSES) == sound
    assert dataset_file._canaries(None, 96, CLASSES) is None
