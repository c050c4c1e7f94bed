"""The step evaluate: each metric against a formula of its own, and the step on two small networks."""

import ast
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_net import classifier
from torch.multiprocessing.reductions import StorageWeakRef

from dfkd_steps import dataset, evaluate, export
from dfkd_steps.models import hooks
from dfkd_steps.models.classifier import Description, build_architecture
from dfkd_steps.pipeline.job import Job
from dfkd_steps.procedural.drawing import in_pieces
from dfkd_steps.runtime import memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.runtime.seeds import make_rng
from dfkd_steps.schemas import groups
from dfkd_steps.storage import atomic, dataset_file, network_file
from dfkd_steps.storage.image_format import to_unit
from dfkd_steps.training import metrics as formulas
from dfkd_steps.training import probes, segmentation_metrics
from dfkd_steps.training.predict import batches

SPECS = ["own", "lenet5", "zskd", "none", "half"]


def logits(n=200, k=7, seed=0, scale=3.0):
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, k, generator=draw)


def labels(n=200, k=7, seed=9):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, k, n))


def softmax(row):
    powers = [math.exp(v - max(row)) for v in row]
    return [p / sum(powers) for p in powers]


@pytest.fixture(scope="module")
def case():
    student, teacher, truth = logits(seed=1), logits(seed=2), labels()
    # A third of the student's and half of the teacher's answers are right, so that no metric is at its limit.
    student[::3] += 8 * torch.eye(7)[truth[::3]]
    teacher[::2] += 8 * torch.eye(7)[truth[::2]]
    return student, teacher, truth, formulas.measure(student, teacher, truth)


def test_accuracies_by_counting(case):
    student, teacher, truth, metrics = case
    rows = list(zip(student.tolist(), teacher.tolist(), truth.tolist()))
    best = [sorted(range(7), key=lambda k, row=row: -row[k]) for row, _, _ in rows]
    theirs = [max(range(7), key=row.__getitem__) for _, row, _ in rows]
    assert metrics["top1"] == 100 * sum(order[0] == y for order, (_, _, y) in zip(best, rows)) / 200
    assert metrics["top5"] == 100 * sum(y in order[:5] for order, (_, _, y) in zip(best, rows)) / 200
    assert metrics["teacher_top1"] == 100 * sum(k == y for k, (_, _, y) in zip(theirs, rows)) / 200
    assert metrics["agreement"] == 100 * sum(order[0] == k for order, k in zip(best, theirs)) / 200
    assert metrics["n_test"] == 200
    assert 0 < metrics["top1"] < metrics["top5"] < 100


def test_confusion_matrix_has_the_truth_in_rows(case):
    student, _, truth, metrics = case
    counted = [[0] * 7 for _ in range(7)]
    for y, k in zip(truth.tolist(), student.argmax(1).tolist()):
        counted[y][k] += 1
    assert metrics["confusion_matrix"] == counted
    assert metrics["per_class"] == [round(100 * row[k] / sum(row), 4) for k, row in enumerate(counted)]


def test_kl_and_nll_in_nats(case):
    student, teacher, truth, metrics = case
    kl = nll = 0.0
    for s, t, y in zip(student.tolist(), teacher.tolist(), truth.tolist()):
        q, p = softmax(s), softmax(t)
        kl += sum(a * math.log(a / b) for a, b in zip(p, q)) / 200
        nll -= math.log(q[y]) / 200
    assert metrics["kl_to_teacher"] == pytest.approx(kl, abs=1e-6)
    assert metrics["nll"] == pytest.approx(nll, abs=1e-6)


def test_ece_by_fifteen_bins(case):
    student, _, truth, metrics = case
    bins = [[] for _ in range(15)]
    for row, y in zip(student.tolist(), truth.tolist()):
        p = softmax(row)
        bins[min(14, int(15 * max(p)))].append((max(p), p.index(max(p)) == y))
    ece = sum(abs(sum(c for c, _ in part) - sum(hit for _, hit in part)) / 200 for part in bins if part)
    assert metrics["ece"] == pytest.approx(ece, abs=1e-5)


def test_too_sure_and_not_sure_enough_do_not_cancel_out():
    """Of ten images at a confidence of 0.6 nine are right, of ten at 0.9 six: each bin is off by 0.3, their mean by nothing."""
    probabilities = torch.tensor([[0.6, 0.4]] * 10 + [[0.9, 0.1]] * 10)
    labels = torch.tensor([0] * 9 + [1] + [0] * 6 + [1] * 4)
    assert formulas.calibration_error(probabilities.log(), labels) == pytest.approx(0.3, abs=1e-6)


def test_a_perfect_twin_scores_in_full():
    truth = torch.tensor([0, 1, 2, 1])
    sure = 50 * torch.eye(3)[truth]
    metrics = formulas.measure(sure, sure.clone(), truth)
    assert [metrics[name] for name in ("top1", "teacher_top1", "agreement")] == [100.0] * 3
    assert [metrics[name] for name in ("kl_to_teacher", "nll", "ece")] == [0.0] * 3
    assert metrics["confusion_matrix"] == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]


@pytest.mark.parametrize(("classes", "there"), [(5, False), (6, True)])
def test_top5_is_a_figure_of_more_than_five_classes(classes, there):
    logits = torch.eye(classes)
    assert ("top5" in formulas.measure(logits, logits, torch.arange(classes))) == there


def test_a_class_without_test_images_has_no_accuracy():
    metrics = formulas.measure(logits(4, 3), logits(4, 3), torch.tensor([0, 0, 2, 2]))
    assert metrics["per_class"][1] is None
    assert None not in (metrics["per_class"][0], metrics["per_class"][2])


def test_sizes_of_lenet5_and_half_by_hand():
    teacher, student = (build_architecture(name, 10, (1, 28, 28)) for name in ("lenet5", "lenet5-half"))
    made = evaluate.size(student, teacher, (1, 28, 28))
    assert made["teacher_parameters"] == 61706
    assert made["teacher_macs"] == 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert made["parameters"] == hooks.parameters(student)
    assert made["macs"] == 28 * 28 * 3 * 25 + 10 * 10 * 8 * 75 + 200 * 60 + 60 * 42 + 42 * 10
    assert made["compression"] == round(61706 / made["parameters"], 6)


# ---------------------------------------------------------------------------------------------- the step
def write_network(path, arch, seed, shape=(1, 28, 28), classes=10, key="net", spoil=False):
    torch.manual_seed(seed)
    net = build_architecture(arch, classes, shape)
    if spoil:
        torch.nn.init.constant_(net[-1].bias, float("nan"))
    names = tuple(map(str, range(classes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    network_file.save(path, net, Description("arch", arch, names, shape, (0.3,) * shape[0], (0.4,) * shape[0]), key, {})


@pytest.fixture
def tree(tmp_path):
    """A results folder with a data set of 2,310 test images, a teacher and a student with random weights."""
    root = tmp_path / "results"
    rng = np.random.default_rng(3)
    own = {"x_train": rng.integers(0, 256, (20, 28, 28), np.uint8), "y_train": np.arange(20) % 10,
           "x_test": rng.integers(0, 256, (2310, 28, 28), np.uint8), "y_test": np.arange(2310) % 10}  # fmt: skip
    np.savez(tmp_path / "own.npz", **own)
    dataset.run(Job("dataset", root / "own" / "dataset.h5", [], groups.Npz("npz", path=str(tmp_path / "own.npz")), "data", {}))
    write_network(root / "own" / "lenet5" / "teacher.safetensors", "lenet5", 1)
    write_network(root.joinpath(*SPECS, "student.safetensors"), "lenet5-half", 2)
    return root


def job(root, key="a-key"):
    inputs = [
        root.joinpath(*SPECS, "student.safetensors"),
        root / "own" / "lenet5" / "teacher.safetensors",
        root / "own" / "dataset.h5",
    ]
    return Job("evaluate", root.joinpath(*SPECS, "metrics.json"), inputs, None, key, {"own/dataset.h5": "data"})


def test_the_step_measures_what_the_networks_say(tree):
    evaluate.run(job(tree))
    made = json.loads(job(tree).out.read_text())
    images, truth = dataset_file.open_dataset(tree / "own" / "dataset.h5").read("test")
    student, teacher = (network_file.load(path) for path in job(tree).inputs[:2])
    with torch.no_grad():
        s, t = (net(torch.from_numpy(images).float() / 255).argmax(1).numpy() for net in (student, teacher))
    assert made["n_test"] == 2310
    # A logit may differ by its last bit with the size of the batch.
    assert made["top1"] == pytest.approx(100 * (s == truth).mean(), abs=0.1)
    assert made["teacher_top1"] == pytest.approx(100 * (t == truth).mean(), abs=0.1)
    assert made["agreement"] == pytest.approx(100 * (s == t).mean(), abs=0.1)
    assert np.sum(made["confusion_matrix"]) == 2310
    assert made["specs"] == SPECS
    assert made["classes"] == [str(k) for k in range(10)]
    assert atomic.key_of(job(tree).out) == "a-key"
    assert made["provenance"][0]["step"] == "evaluate"
    assert made["provenance"][0]["inputs"] == {"own/dataset.h5": "data"}


def test_maps_of_several_students_take_one_pass_of_the_teacher():
    """And each student's counts are those that it has alone."""
    students = [classifier("unet-tiny", (3, 20, 28), 3, seed=seed) for seed in (1, 2)]
    teacher, passes = classifier("unet-tiny", (3, 20, 28), 3, seed=3), []
    teacher.register_forward_pre_hook(lambda module, images: passes.append(len(images[0])))
    images, truth = torch.rand(6, 3, 20, 28), torch.randint(0, 3, (6, 20, 28))
    batches = list(zip(images.split(4), truth.split(4)))
    job = SimpleNamespace(inputs=["student", "teacher"])
    together = evaluate.count(students, teacher, batches, job, "test", torch.device("cpu"))
    assert passes == [4, 2]
    for student, counts in zip(students, together, strict=True):
        (alone,) = evaluate.count([student], teacher, batches, job, "test", torch.device("cpu"))
        assert segmentation_metrics.measured(counts) == segmentation_metrics.measured(alone)
    assert not torch.equal(together[0].student, together[1].student)


def test_dvc_shows_the_scalars_and_nothing_of_the_tables(tree):
    from dvc.repo.metrics.show import _extract_metrics

    evaluate.run(job(tree))
    shown = _extract_metrics(json.loads(job(tree).out.read_text()), "metrics.json")
    assert set(shown) == {
        "key", "crc32", "top1", "top5", "teacher_top1", "agreement", "kl_to_teacher", "nll", "ece", "n_test",
        "parameters", "macs", "teacher_parameters", "teacher_macs", "compression", "balanced_accuracy",
        "probe_agreement", "probe_balanced", "probe_kl", "probe_ece", "probe_classes", "n_probe",
    }  # fmt: skip


def test_the_same_inputs_give_the_same_bytes(tree):
    evaluate.run(job(tree))
    first = job(tree).out.read_bytes()
    evaluate.run(job(tree, key="other"))
    assert job(tree).out.read_bytes() != first
    evaluate.run(job(tree))
    assert job(tree).out.read_bytes() == first
    assert sorted(path.name for path in job(tree).out.parent.iterdir()) == ["metrics.json", "student.safetensors"]


@pytest.mark.parametrize(
    ("which", "change", "words"),
    [
        (0, {"arch": "lenet5-half", "shape": (3, 28, 28)}, ["student.safetensors", "3x28x28", "1x28x28"]),
        (1, {"arch": "lenet5", "shape": (1, 32, 32)}, ["teacher.safetensors", "1x32x32", "1x28x28"]),
        (0, {"arch": "lenet5-half", "classes": 12}, ["student.safetensors", "12 classes", "10"]),
        (0, {"arch": "lenet5-half", "spoil": True}, ["student.safetensors", "not finite"]),
    ],
)
def test_a_network_that_does_not_fit_is_one_line_and_no_file(tree, which, change, words):
    write_network(job(tree).inputs[which], seed=1, **change)
    with pytest.raises(UserError) as raised:
        evaluate.run(job(tree))
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), raised.value
    assert not job(tree).out.exists()


SPLIT = re.compile(r"test|[xy]_(test)?")  # what a name of the test images is, or begins with
# The maker; the reader; the log of an imported teacher; those of a finished student; one that tells how many there are;
# and two that open no image: how two data sets are split, and how many logits there will be.
READERS = {"dataset.py", "evaluate.py", "teacher.py", "pipeline/together.py", "pipeline/estimate.py"} | {
    f"reporting/{name}.py" for name in ("inspect", "other_images", "other_maps")
}


def test_no_other_module_reads_the_test_images():
    """By any text that names them, in quotes of whatever kind or in an f-string; docstrings are none."""
    package, named = Path(evaluate.__file__).parent, set()
    for path in package.rglob("*.py"):
        name, tree = path.relative_to(package).as_posix(), ast.parse(path.read_text())
        if name.startswith(("datasets/", "storage/")):  # that the images are read and written with
            continue
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        named |= {name for text in texts if SPLIT.fullmatch(text)}
    assert named == READERS


def test_the_teacher_and_sources_of_images_read_the_training_images_alone():
    package = Path(evaluate.__file__).parent
    reads = {}
    for name in ("teacher.py", "methods/dataset.py", "methods/mixture.py", "evaluate.py"):
        calls = [node for node in ast.walk(ast.parse((package / name).read_text())) if isinstance(node, ast.Call)]
        reads[name] = {
            ast.unparse(one.args[0]) for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "read"
        }
    # An imported teacher is measured on the test images for its log; nothing of that stays in its file.
    expected = {"evaluate.py": {"'test'"}, "teacher.py": {"'train'", "'test'"}}
    assert reads == {name: expected.get(name, {"'train'"}) for name in reads}


# ---------------------------------------------------------------------------------------------- without labels
def test_wilson_interval_of_a_textbook_and_at_the_ends():
    assert formulas.wilson(15, 50) == pytest.approx([19.10, 43.75], abs=0.01)
    low, high = formulas.wilson(100, 100)
    assert high == 100.0 and low == pytest.approx(100 / (1 + 1.959964**2 / 100), abs=1e-3)


def test_balanced_accuracy_gives_each_class_one_voice(case):
    student, _, truth, metrics = case
    said = student.argmax(1)
    each = [(said[truth == k] == k).double().mean().item() for k in range(7)]
    assert metrics["balanced_accuracy"] == pytest.approx(100 * sum(each) / 7, abs=1e-3)
    assert metrics["balanced_accuracy"] != pytest.approx(metrics["top1"], abs=1e-3)
    low, high = metrics["top1_interval"]
    assert low < metrics["top1"] < high


def test_many_classes_keep_their_commonest_confusions_and_no_matrix():
    truth = torch.arange(3000) % 1000
    truth[1500:1502] = 1  # class 1 has two images more
    student = torch.zeros(3000, 1000)
    student[torch.arange(3000), (truth + (truth < 2).long()) % 1000] = 9.0  # classes 0 and 1 are taken for the next one
    made = formulas.measure(student, student, truth)
    assert "confusion_matrix" not in made
    assert made["confusions"] == [[1, 2, 5], [0, 1, 3]]
    assert len(json.dumps(made, indent=1)) < 40_000


def test_probe_figures_by_counting():
    draw = torch.Generator().manual_seed(5)
    student = {"a": torch.randn(30, 4, generator=draw), "b": torch.randn(20, 4, generator=draw)}
    teacher = {"a": torch.randn(30, 4, generator=draw), "b": torch.randn(20, 4, generator=draw)}
    for one in teacher.values():
        one[:, 3] = -9  # a class that the teacher never answers
    made = formulas.compare(student, teacher)
    said, told = (torch.cat([one["a"], one["b"]]).argmax(1).tolist() for one in (student, teacher))
    assert made["probe_agreement"] == 100 * sum(map(int.__eq__, said, told)) / 50
    each = [[s == t for s, t in zip(said, told) if t == k] for k in range(3)]
    assert made["probe_balanced"] == pytest.approx(100 * sum(sum(one) / len(one) for one in each) / 3, abs=1e-3)
    assert made["probe_counts"] == [*map(len, each), 0] and made["probe_classes"] == 3
    assert made["probe_per_class"][3] is None
    assert [one["kind"] for one in made["probe_kinds"]] == ["a", "b"] and [one["n"] for one in made["probe_kinds"]] == [30, 20]
    own = [s == t for s, t in zip(student["b"].argmax(1).tolist(), teacher["b"].argmax(1).tolist())]
    assert made["probe_kinds"][1]["agreement"] == 100 * sum(own) / 20
    kl = sum(
        a * math.log(a / b)
        for one in ("a", "b")
        for s, t in zip(student[one].tolist(), teacher[one].tolist())
        for a, b in zip(softmax(t), softmax(s))
    )
    assert made["probe_kl"] == pytest.approx(kl / 50, abs=1e-5)
    of_kinds = [
        sum(
            a * math.log(a / b)
            for s, t in zip(student[kind].tolist(), teacher[kind].tolist())
            for a, b in zip(softmax(t), softmax(s))
        )
        for kind in ("a", "b")
    ]
    assert [kind["kl"] * kind["n"] for kind in made["probe_kinds"]] == pytest.approx(of_kinds, abs=1e-3)


def test_probes_leave_out_what_the_student_learnt_from():
    like = Description("arch", "lenet5", ("a", "b"), (1, 16, 16), (0.1,), (0.3,))
    every = dict(probes.draw(like, number=9))
    assert {"glyphs", "uniform", "smooth", "leaves", probes.MOSAIC} <= set(every)
    assert all(images.shape == (9, 1, 16, 16) and images.dtype == torch.uint8 for images in every.values())
    left = dict(probes.draw(like, ["procedural.glyphs", "procedural.noise", "methods.noise"], number=9))
    assert set(every) - set(left) == {"glyphs", "uniform", "gaussian", "smooth"}
    assert all(torch.equal(left[kind], every[kind]) for kind in left)  # the same for every student


def test_a_mosaic_has_four_kinds():
    made = torch.full((9, 1, 6, 6), 99, dtype=torch.uint8)
    for kind in range(9):
        probes.put_in(made, torch.full((9, 1, 6, 6), kind, dtype=torch.uint8), kind, 9)
    assert all(len(image.unique()) == 4 for image in made)
    assert made[0, 0, :3, :3].unique().tolist() == [0] and made[1, 0, 3:, 3:].unique().tolist() == [7]


def test_without_test_images_there_is_no_accuracy(tree, capsys):
    path = tree / "own" / "dataset.h5"
    opened = dataset_file.open_dataset(path)
    arrays = {**opened.arrays, "x_test": opened.arrays["x_test"][:0], "y_test": opened.arrays["y_test"][:0]}
    arrays = {name: np.array(values) for name, values in arrays.items()}
    dataset_file.write(path, "data", {}, opened.classes, arrays)
    evaluate.run(job(tree))
    made = json.loads(job(tree).out.read_text())
    assert not {"top1", "teacher_top1", "agreement", "n_test", "per_class", "ece", "nll"} & set(made)
    student, teacher = (network_file.load(path) for path in job(tree).inputs[:2])
    drawn = dict(probes.draw(teacher.description, ["procedural.noise"]))  # params/transfer/zskd/zskd.yaml starts from noise
    with torch.no_grad():
        same = [(student(x.float() / 255).argmax(1) == teacher(x.float() / 255).argmax(1)) for x in drawn.values()]
    assert made["probe_agreement"] == pytest.approx(100 * torch.cat(same).float().mean().item(), abs=0.2)
    assert [one["kind"] for one in made["probe_kinds"]] == list(drawn)
    said = capsys.readouterr().err
    assert "no test images, so no accuracy; agreement with the teacher" in said


def test_each_kind_of_probes_has_random_numbers_of_its_own(monkeypatch):
    seeds, plain = [], probes._drawn
    monkeypatch.setattr(probes, "_drawn", lambda *given: seeds.append(given[3].initial_seed()) or plain(*given))
    like = Description("arch", "lenet5", ("a", "b"), (1, 16, 16), (0.1,), (0.3,))
    assert len(list(probes.draw(like, number=2))) == len(probes.DRAW) + 1
    assert len(seeds) == len(set(seeds)) == len(probes.DRAW)


def test_an_answer_is_among_the_first_five():
    """Of six classes, the label of image i being the answer number i."""
    logits = torch.arange(6.0, 0, -1).expand(6, 6)
    metrics = formulas.measure(logits, logits, torch.arange(6))
    assert metrics["top1"] == pytest.approx(100 / 6, abs=1e-3) and metrics["top5"] == pytest.approx(500 / 6, abs=1e-3)


def test_each_bin_of_the_calibration_error_begins_at_a_fifteenth():
    """At confidences of 0.645 and 0.67, on both sides of ten fifteenths, all right and all wrong."""
    probabilities = torch.tensor([[0.645, 0.355], [0.67, 0.33]], dtype=torch.float64)
    assert formulas.calibration_error(probabilities.log(), torch.tensor([0, 1])) == pytest.approx((0.355 + 0.67) / 2)


def test_the_calibration_of_probes_is_the_students_as_to_the_teachers_answer():
    """Four times a probability of 3/4, and the teacher, all sure, agrees twice."""
    student = {"a": torch.tensor([[3.0, 1.0]]).log().expand(4, 2)}
    teacher = {"a": 50 * torch.eye(2)[[0, 0, 1, 1]]}
    assert formulas.compare(student, teacher)["probe_ece"] == 0.25


def test_there_are_two_hundred_probes_of_each_kind():
    like = Description("arch", "lenet5", ("a", "b"), (1, 8, 8), (0.1,), (0.3,))
    assert {len(images) for _, images in probes.draw(like)} == {200}


def test_probes_are_what_the_kinds_give_in_pieces_and_mosaics_of_their_quarters(monkeypatch):
    """By the drawing of sets and a formula of its own for each quarter, of images that are drawn in three pieces."""
    like = Description("arch", "x", ("a", "b"), (3, 23, 26), (0.4,) * 3, (0.3,) * 3)
    monkeypatch.setattr(memory, "VALUES", 41 * 3 * 23 * 26)
    drawn = {}
    for kind, function in probes.DRAW.items():
        rng = make_rng("cpu", "probes", kind)
        images = torch.cat([function(number, like, rng) for number in (41, 41, 18)])
        rng = make_rng("cpu", "probes", kind)
        assert torch.equal(images, in_pieces(function, 100, like, rng))  # as sets are drawn
        drawn[kind] = (255 * images).round().to(torch.uint8)
    every, parts = dict(probes.draw(like, number=100)), list(drawn.values())
    assert list(every) == [*drawn, probes.MOSAIC] and memory.drawn(like.image_shape) == 41
    assert all(torch.equal(every[kind], images) for kind, images in drawn.items())
    for row, mosaic in enumerate(every[probes.MOSAIC]):
        a, b, c, d = (parts[(row + 2 * quarter) % len(parts)][row] for quarter in range(4))
        assert torch.equal(mosaic[:, :11, :13], a[:, :11, :13]) and torch.equal(mosaic[:, :11, 13:], b[:, :11, 13:])
        assert torch.equal(mosaic[:, 11:, :13], c[:, 11:, :13]) and torch.equal(mosaic[:, 11:, 13:], d[:, 11:, 13:])


@pytest.mark.parametrize("step", ["classes", "maps", "export"])
def test_one_kind_of_probes_is_held_at_a_time(step, monkeypatch):
    """When a kind is drawn, those before it are gone."""
    held, plain = [], probes._drawn

    def drawn(*given):
        assert all(images.expired() for images in held)
        images = plain(*given)
        held.append(StorageWeakRef(images.untyped_storage()))
        return images

    monkeypatch.setattr(probes, "_drawn", drawn)
    net = classifier("unet-tiny" if step == "maps" else "lenet5", (1, 32, 32), 3)
    if step == "export":
        assert sum(map(len, export.together(probes.draw(net.description, number=4), 3))) == 40
    else:
        job = SimpleNamespace(out="results/own/lenet5/noise/none/half/metrics.json", inputs=["s", "t"])
        (evaluate.maps_on_probes if step == "maps" else evaluate.on_probes)([net], net, job, torch.device("cpu"))
    assert len(held) == len(probes.DRAW)


def test_parts_of_all_kinds_are_those_of_one_array():
    like = Description("arch", "x", ("a", "b"), (1, 8, 8), (0.4,), (0.3,))
    whole = np.concatenate([images.numpy() for _, images in probes.draw(like, number=5)])
    for rows in (1, 3, 7, 64):
        parts = list(export.together(probes.draw(like, number=5), rows))
        assert [len(part) for part in parts] == [len(part) for part in batches(whole, rows)]
        assert (np.concatenate(parts) == to_unit(whole)).all()


def test_figures_of_many_logits_are_taken_some_at_a_time(monkeypatch):
    """ImageNet's 50,000 images and 1,000 classes took 4 GiB, in double precision, whatever DFKD_MEMORY."""
    rng = torch.Generator().manual_seed(0)
    student, teacher, labels = torch.randn(300, 7, generator=rng), torch.randn(300, 7, generator=rng), torch.arange(300) % 7
    whole, sizes, plain = formulas.measure(student, teacher, labels), [], formulas.F.log_softmax
    monkeypatch.setattr(formulas, "VALUES", 7 * 40)
    monkeypatch.setattr(formulas.F, "log_softmax", lambda logits, axis: sizes.append(len(logits)) or plain(logits, axis))
    assert formulas.measure(student, teacher, labels) == whole
    assert max(sizes) == 40 and sum(sizes) == 4 * 300
    monkeypatch.setattr(formulas, "VALUES", 3)  # fewer than a row has
    assert formulas.measure(student, teacher, labels) == whole
