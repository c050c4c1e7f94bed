"""The step distill: where a student starts, what it learns from, which epoch is kept, exact resumption, error lines."""

import copy
import dataclasses

import numpy as np
import pytest
import small_net
import torch
from mapping import is_mapped
from small_net import CPU, classifier, close
from torch import nn

from dfkd_steps import distill
from dfkd_steps.models import head
from dfkd_steps.models.classifier import Classifier, build_network
from dfkd_steps.models.generator import build_generator
from dfkd_steps.pipeline import params
from dfkd_steps.pipeline.job import Job
from dfkd_steps.runtime.device import autocast
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import atomic, checkpoint, network_file
from dfkd_steps.storage.transfer_set import TransferSet
from dfkd_steps.training import losses, priority_sampling
from dfkd_steps.training.predict import to_float

CONFIG = groups.Student(arch="resnet8", epochs=3, batch=8, lr=0.01, tau=4.0, augment="none")


def student_of(**how):
    return dataclasses.replace(CONFIG, **how)


def rng(seed):
    described = classifier().description
    return build_generator(described, latent=4, width=4, arch="dfad", classes=(seed, seed + 3), seed=seed)


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


@pytest.fixture(scope="module")
def kept():
    return {"student": classifier(seed=2), "generator-0": rng(0), "generator-1": rng(1)}


@pytest.fixture(scope="module")
def path(tmp_path_factory, teacher, kept):
    return small_net.write(tmp_path_factory.mktemp("set"), teacher, weights=True, kept=kept)


@pytest.fixture
def transfer(path):
    with TransferSet(path) as opened:
        yield opened


@pytest.fixture
def bare(tmp_path, teacher):
    """A set without networks and without weights."""
    with TransferSet(small_net.write(tmp_path, teacher, 12)) as opened:
        yield opened


def learn(made, teacher, transfer, folder, key="key"):
    return distill.distill(made, teacher, transfer, folder / ".partial", key, CPU)


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Interrupted(Exception):
    """Ends a training from inside."""


class Guide(nn.Module):
    """A teacher that counts how often it is asked, and may stop."""

    def __init__(self, teacher, stop_after=None):
        super().__init__()
        self.teacher, self.description, self.asked, self.stop_after = teacher, teacher.description, [], stop_after

    def forward(self, images):
        self.asked.append(images)
        if self.stop_after is not None and len(self.asked) > self.stop_after:
            raise Interrupted
        return self.teacher(images)


@pytest.fixture(autouse=True)
def guides_are_asked_themselves(monkeypatch):
    """A copy of a guide would count for itself."""
    fast_copy = distill.frozen.fast_copy
    monkeypatch.setattr(
        distill.frozen, "fast_copy", lambda net, precision: net if isinstance(net, Guide) else fast_copy(net, precision)
    )


# ------------------------------------------------------------------------------------------- where it starts
def test_of_no_epoch_it_is_the_student_that_was_kept(tmp_path, teacher, transfer, kept):
    made, history = learn(student_of(init="transfer", epochs=0), teacher, transfer, tmp_path)
    assert same(made, kept["student"]) and history == [] and not made.training
    again, _ = learn(student_of(init="transfer", epochs=0, select="agreement"), teacher, transfer, tmp_path)
    assert same(again, kept["student"])


def test_the_step_writes_it(tmp_path, teacher, path, kept):
    network_file.save(tmp_path / "teacher.safetensors", teacher.net, teacher.description, "t", {})
    made = student_of(init="transfer", epochs=0)
    job = Job("distill", tmp_path / "student.safetensors", [tmp_path / "teacher.safetensors", path], made, "d", {})
    distill.run(job)
    assert same(network_file.load(job.out), kept["student"]) and atomic.key_of(job.out) == "d"
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,lr\n"


def test_from_there_it_learns_on(tmp_path, teacher, transfer, kept):
    made, history = learn(student_of(init="transfer"), teacher, transfer, tmp_path)
    assert not same(made, kept["student"]) and history[-1]["loss"] < history[0]["loss"]
    begun = distill.begin(student_of(init="transfer"), teacher, transfer, CPU)
    assert same(begun, kept["student"]) and all(one.requires_grad for one in begun.parameters())


def test_weights_come_from_the_seed(teacher, transfer):
    one, two, other = (distill.begin(student_of(seed=seed), teacher, transfer, CPU) for seed in (0, 0, 1))
    assert same(one, two) and not same(one, other)


# -------------------------------------------------------------------------------------- what it learns from
def test_fresh_images_take_the_place_of_the_stored(tmp_path, teacher, transfer, monkeypatch):
    monkeypatch.setattr(distill.Images, "__call__", lambda self, rows: pytest.fail("read a stored image"))
    guide = Guide(teacher)
    _, history = learn(student_of(fresh=True, epochs=2), guide, transfer, tmp_path)
    assert [len(one) for one in guide.asked] == [8] * 10  # as many steps as one pass over the set has
    assert len(torch.cat(guide.asked).flatten(1).unique(dim=0)) == 80 and history[-1]["loss"] > 0


def test_fresh_images_are_of_all_members_in_equal_number(transfer, kept):
    made = distill.Fresh(transfer, CPU)
    members = [kept[f"generator-{number}"].eval() for number in range(2)]
    for step, shares in ((0, (3, 2)), (1, (2, 3)), (2, (3, 2))):
        draw = torch.Generator().manual_seed(step)
        parts = [member.sample(number, draw)[0] for member, number in zip(members, shares)]
        close(made(5, step, torch.Generator().manual_seed(step)), torch.cat(parts))
    assert made(1, 0, draw).shape == (1, *small_net.SHAPE)


def test_a_batch_smaller_than_the_number_of_members_leaves_none_of_them_out(transfer, monkeypatch):
    made, times = distill.Fresh(transfer, CPU), torch.zeros(10)

    class Member:
        def __init__(self, number):
            self.number = number

        def sample(self, size, rng):
            times[self.number] += size
            return torch.zeros(size, *small_net.SHAPE), None

    made.members = [Member(number) for number in range(10)]
    draw = torch.Generator().manual_seed(0)
    for step in range(50):
        assert len(made(4, step, draw)) == 4
    assert times.tolist() == [20.0] * 10


@pytest.mark.parametrize(
    ("how", "asked"), [({}, False), ({"sampling": "given"}, False), ({"augment": "flip-crop"}, True), ({"mix": "mixup"}, True),
                       ({"mix": "cutmix", "augment": "shift"}, True), ({"fresh": True}, True), ({"sampling": "priority"}, False),
                       ({"augment": "shift", "views_kept": 1}, True)],
)  # fmt: skip
def test_stored_logits_serve_where_the_image_is_as_it_was_stored(tmp_path, teacher, transfer, how, asked):
    guide = Guide(teacher)
    learn(student_of(epochs=1, **how), guide, transfer, tmp_path)
    assert bool(guide.asked) == asked


def test_stored_logits_teach_what_the_teacher_would(tmp_path, teacher, transfer, monkeypatch):
    (tmp_path / "asked").mkdir()
    stored, told = learn(CONFIG, teacher, transfer, tmp_path)
    monkeypatch.setattr(distill.views, "view", lambda name, images, rng: images)
    asked, again = learn(student_of(augment="shift"), teacher, transfer, tmp_path / "asked")
    assert [one["loss"] for one in told] == pytest.approx([one["loss"] for one in again], rel=1e-3)
    close(asked.net.linear.weight, stored.net.linear.weight, rtol=0.01, atol=1e-3)


def test_the_teacher_is_asked_on_the_very_mixture(tmp_path, teacher, transfer, monkeypatch):
    guide, shown = Guide(teacher), []
    plain = Classifier.forward

    def forward(self, images):
        shown.append(images)
        return plain(self, images)

    monkeypatch.setattr(Classifier, "forward", forward)
    learn(student_of(epochs=1, mix="mixup", augment="flip-crop"), guide, transfer, tmp_path)
    by_student = shown[1::2]  # the teacher is asked first
    assert len(by_student) == len(guide.asked) == 5 and all(a is b for a, b in zip(by_student, guide.asked))


def test_of_kept_views_the_teacher_is_asked_once(tmp_path, teacher, transfer, monkeypatch):
    guide, shown = Guide(teacher), []
    plain = Classifier.forward

    def forward(self, images):
        shown.append(images) if torch.is_grad_enabled() else None
        return plain(self, images)

    monkeypatch.setattr(Classifier, "forward", forward)
    learn(student_of(epochs=5, augment="resized-crop", views_kept=2), guide, transfer, tmp_path)
    asked = torch.cat(guide.asked)
    assert len(asked) == len(asked.flatten(1).unique(dim=0)) == 2 * 40
    epochs = torch.cat(shown).flatten(1).split(40)
    assert len(epochs) == 5 and torch.equal(epochs[0].unique(dim=0), epochs[2].unique(dim=0))
    assert torch.equal(torch.cat(epochs[:2]).unique(dim=0), asked.flatten(1).unique(dim=0))


def test_rows_from_the_file_are_the_rows_that_are_held(transfer, monkeypatch):
    held, gathered = distill.Images(transfer, CPU), distill.Images(transfer, CPU)
    rows = torch.tensor([7, 0, 39, 7, 16])
    shown, labels = held(rows), held.field("labels", rows)
    assert sorted(held.held) == ["images", "labels"]
    monkeypatch.setitem(distill.HOLD, "cpu", transfer.nbytes("images") - 1)
    assert torch.equal(gathered(rows), shown) and shown.dtype == torch.float32 and len(held) == 40
    assert torch.equal(gathered.field("labels", rows), labels)
    assert sorted(gathered.held) == ["labels"]  # the images are larger than what may be held
    assert shown.is_contiguous(memory_format=torch.channels_last) and gathered(rows).stride() == shown.stride()
    assert torch.equal(labels, torch.from_numpy(transfer.read("labels"))[rows])


def test_given_weights_are_those_of_the_rows(tmp_path, teacher, transfer, monkeypatch):
    read, plain = [], distill.Images.__call__
    monkeypatch.setattr(distill.Images, "__call__", lambda self, rows: read.append(rows) or plain(self, rows))
    learn(student_of(sampling="given", epochs=20), teacher, transfer, tmp_path)
    counts = torch.cat(read).bincount(minlength=40)
    assert counts[0] == 0 and counts[30:].sum() > 3 * counts[:10].sum()  # the set's weights rise from 0 to 2


def test_priorities_are_what_was_lost_last(tmp_path, teacher, transfer, monkeypatch):
    visits, plain = [], priority_sampling.Priorities.visited

    def visited(self, rows, weights, lost):
        visits.append((self, weights, lost))
        plain(self, rows, weights, lost)

    monkeypatch.setattr(priority_sampling.Priorities, "visited", visited)
    _, history = learn(student_of(sampling="priority", epochs=1), teacher, transfer, tmp_path)
    assert len(visits) == 5 and len({id(one) for one, *_ in visits}) == 1 and len(visits[0][0].delta) == 40
    assert all(not lost.requires_grad and abs(weights.mean() - 1) < 1e-5 for _, weights, lost in visits)
    assert history[0]["loss"] == pytest.approx(sum((weights * lost).mean().item() for _, weights, lost in visits) / 5, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_hard_draws_by_the_loss_before_each_epoch(tmp_path, teacher, transfer, monkeypatch, precision):
    given, students, plain, begin = [], [], distill.loop.order, distill.begin

    def order(number, batch, rng, steps=0, weights=None):
        given.append((copy.deepcopy(students[0]), weights))
        return plain(number, batch, rng, steps, weights)

    monkeypatch.setattr(distill, "begin", lambda *arguments: students.append(begin(*arguments)) or students[0])
    monkeypatch.setattr(distill.loop, "order", order)
    learn(student_of(sampling="hard", epochs=3, lr=0.05, tau=4.0, precision=precision), teacher, transfer, tmp_path)
    images, logits = (torch.from_numpy(transfer.read(name)) for name in ("images", "logits"))
    for student, weights in given:
        assert student.training
        with torch.no_grad(), autocast(CPU, precision):
            answered = student.eval()(to_float(images)).float()
        lost = losses.kd_each(answered, logits.float(), 4.0)
        assert torch.allclose(weights, lost.clamp_min(priority_sampling.EPS), rtol=1e-3, atol=1e-5)
    assert len(given) == 3 and not torch.allclose(given[0][1], given[2][1], rtol=0.05)


@pytest.mark.parametrize(
    "how",
    [
        {"loss": "l1"},
        {"tau": 1.0},
        {"seed": 1},
        {"sampling": "priority", "beta": 1.0},
        {"sampling": "hard"},
        {"steps_per_epoch": 3},
    ],
)
def test_options_change_the_student(tmp_path, teacher, transfer, how):
    base = {"sampling": "priority"} if "beta" in how else {}
    (tmp_path / "b").mkdir()
    one, two = (
        learn(student_of(**base), teacher, transfer, tmp_path)[0],
        learn(student_of(**how), teacher, transfer, tmp_path / "b")[0],
    )
    assert not same(one, two)


# --------------------------------------------------------------------------------------------- which epoch
def answer(student, label):
    """Makes a student answer one class, whatever it sees."""
    with torch.no_grad():
        student.net.linear.weight.zero_()
        student.net.linear.bias.copy_(torch.eye(10)[label])


def test_the_epoch_that_agrees_best_is_the_result(tmp_path, teacher, transfer, monkeypatch):
    counts, plain = torch.from_numpy(transfer.read("labels")).bincount(minlength=10), distill.Held.ended

    def ended(self, epoch):
        answer(self.student, int(counts.argmax() if epoch == 1 else counts.argmin()))
        return plain(self, epoch)

    monkeypatch.setattr(distill.Held, "ended", ended)
    made, history = learn(student_of(select="agreement", holdout=0.5), teacher, transfer, tmp_path)
    agreed = [one["agreement"] for one in history]
    assert agreed[1] > max(agreed[0], agreed[2])
    assert made.net.linear.bias.argmax() == counts.argmax()
    assert list(history[0]) == ["epoch", "loss", "lr", "agreement"]


def test_held_keeps_the_best_weights(teacher, transfer):
    student = distill.begin(CONFIG, teacher, transfer, CPU)
    images = distill.Images(transfer, CPU)
    held = distill.Held(student_of(holdout=0.25), images, student)
    assert sorted([*held.rows.tolist(), *held.others.tolist()]) == list(range(40)) and len(held.rows) == 10
    truth = images.field("labels", held.rows)
    classes = truth.bincount(minlength=10).argsort(descending=True, stable=True).tolist()
    most, none = classes[0], classes[-1]
    agreement = float((truth == most).float().mean())
    assert agreement > float((truth == none).float().mean())

    told = []
    for label, mark in ((none, 1.0), (most, 2.0), (none, 3.0), (most, 4.0)):
        answer(student, label)
        student.seen = int(100 * mark)
        student.snapshots[student.seen - 50] = {}
        with torch.no_grad():
            student.net.bn1.bias.fill_(mark)
        told.append(held.ended(0)["agreement"])
    assert told[1] == told[3] == pytest.approx(agreement) and told[0] == told[2] < agreement
    resumed = distill.Held(student_of(holdout=0.25), images, student)
    resumed.restore(held.state())
    resumed.select()
    assert student.seen == 200 and list(student.snapshots) == [50, 150]  # of what came later these weights know nothing
    assert student.net.bn1.bias.eq(2.0).all()  # the first of the best, and all of its weights
    assert student.net.linear.bias.argmax() == most


@pytest.mark.parametrize(
    ("source", "number", "sizes"),
    [
        (range(20), 5, [1] * 5),
        ([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], 7, [3, 3]),  # no more than so many
        ([0] * 9 + [1] * 4, 3, [4]),  # at least a source, the smallest
        ([5] * 8 + list(range(100, 140)), 6, [1] * 6),  # a source that is larger is left to learn from
    ],
)
def test_copies_of_a_sample_are_held_out_together(source, number, sizes):
    """A student that has learnt a copy of what is held out would be selected for what it remembers."""
    source = torch.tensor(list(source))
    draws = [distill.apart(source, number, torch.Generator().manual_seed(seed)) for seed in range(20)]
    for rows, others in draws:
        assert sorted([*rows.tolist(), *others.tolist()]) == list(range(len(source)))
        assert not set(source[rows].tolist()) & set(source[others].tolist())
        assert sorted(source[rows].unique(return_counts=True)[1].tolist()) == sizes
    assert len({tuple(rows.tolist()) for rows, _ in draws}) > 1 or len(sizes) == 1


def test_held_goes_by_the_sources_of_the_set(tmp_path, teacher):
    source = np.arange(40) // 4
    with TransferSet(small_net.write(tmp_path, teacher, source=source)) as transfer:
        student = distill.begin(CONFIG, teacher, transfer, CPU)
        held = distill.Held(student_of(holdout=0.25), distill.Images(transfer, CPU), student)
        assert len(held.rows) == 8 and not set(source[held.rows]) & set(source[held.others])


def test_the_last_epoch_counts_unless_asked_otherwise(tmp_path, teacher, transfer, monkeypatch):
    monkeypatch.setattr(distill.Held, "select", lambda self: pytest.fail("selected"))
    _, history = learn(CONFIG, teacher, transfer, tmp_path)
    assert [list(one) for one in history] == [["epoch", "loss", "lr"]] * 3


@pytest.mark.parametrize("sampling", ["uniform", "given", "priority"])
def test_what_is_held_out_is_never_learnt_from(tmp_path, teacher, transfer, monkeypatch, sampling):
    read, plain = [], distill.Images.__call__
    monkeypatch.setattr(
        distill.Images, "__call__", lambda self, rows: read.append((rows, distill.torch.is_grad_enabled())) or plain(self, rows)
    )
    learn(student_of(select="agreement", holdout=0.3, sampling=sampling), teacher, transfer, tmp_path)
    held = {*torch.cat([rows for rows, learning in read if not learning]).tolist()}
    learnt = {*torch.cat([rows for rows, learning in read if learning]).tolist()}
    assert len(held) == 12 and not held & learnt and len(learnt) > 15


# ------------------------------------------------------------------------- all outputs of a teacher that is cut to some
@pytest.fixture(scope="module")
def wide():
    return classifier(seed=3)


@pytest.fixture(scope="module")
def narrow(wide):
    """The same teacher cut to three of its classes."""
    description = dataclasses.replace(wide.description, classes=("seven", "two", "five"))
    weights, whole = head.cut(wide.net.state_dict(), description, (7, 2, 5), "t")
    made = Classifier(build_network(description), description)
    made.net.load_state_dict(weights)
    made.whole = whole
    return made.eval().requires_grad_(False)


def set_of(folder, teacher, **how):
    folder.mkdir(exist_ok=True)
    return TransferSet(small_net.write(folder, teacher, 40, **how))


@pytest.mark.parametrize(
    "how",
    [{"augment": "none"}, {"augment": "mild"}, {"mix": "cutmix"}, {"augment": "resized-crop", "views_kept": 2},
     {"sampling": "hard"}, {"sampling": "given"}, {"sampling": "priority"}],
)  # fmt: skip
def test_a_student_learns_all_outputs_and_keeps_those_that_count(tmp_path, wide, narrow, how):
    """It is that of a set that the whole teacher has labelled, cut afterwards."""
    made = student_of(lr=0.05, snapshots=2, **how)
    with set_of(tmp_path / "narrow", narrow, weights=True) as some, set_of(tmp_path / "wide", wide, weights=True) as every:
        assert some.layout.num_classes == 3 and every.layout.num_classes == 10
        student, history = learn(dataclasses.replace(made, outputs="all"), narrow, some, tmp_path / "narrow")
        whole, expected = learn(made, wide, every, tmp_path / "wide")
    images = torch.rand(4, *wide.description.image_shape)
    # Stored logits and new ones are rounded apart.
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in expected], rel=1e-3)
    assert student.description.classes == ("seven", "two", "five") and student.seen == whole.seen and not student.training
    assert torch.allclose(student(images), whole(images)[:, [7, 2, 5]], atol=1e-3)
    assert list(student.snapshots) == list(whole.snapshots) and len(student.snapshots) == 2
    for weights in student.snapshots.values():
        student.net.load_state_dict(weights)
    assert student.whole is None


def test_the_epoch_that_agrees_best_is_found_by_the_classes_that_count(tmp_path, wide, narrow):
    """The labels of the set are numbers of these."""
    made = student_of(select="agreement", outputs="all", epochs=6, lr=0.05)
    with set_of(tmp_path / "narrow", narrow) as some:
        student, history = learn(made, narrow, some, tmp_path / "narrow")
        held = distill.Held(made, distill.Images(some, CPU), student)
        held.ended(0)
    assert round(held.agreement, 6) == max(row["agreement"] for row in history) > 0.5


class Wide(nn.Module):
    """A hidden layer as wide as there are classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * num_classes), nn.Linear(2 * num_classes, num_classes))

    def forward(self, images):
        return self.layers(images)


def test_a_student_that_cannot_be_cut_is_refused_before_the_first_step(tmp_path, narrow, monkeypatch):
    built = head.build_network
    monkeypatch.setattr(head, "build_network", lambda made: Wide(made.num_classes) if made.name == "wide" else built(made))
    wide_student = Classifier(Wide(10), dataclasses.replace(narrow.description, name="wide", classes=tuple("0123456789")))
    monkeypatch.setattr(distill, "begin", lambda *given: wide_student)
    monkeypatch.setattr(distill.loop, "fit", lambda *given: pytest.fail("it learns"))
    with set_of(tmp_path / "narrow", narrow) as some:
        refused(lambda: learn(student_of(outputs="all"), narrow, some, tmp_path), "cannot be identified", "set outputs: kept")


def test_of_a_teacher_that_is_not_cut_there_are_no_other_outputs(tmp_path, teacher, transfer):
    refused(lambda: learn(student_of(outputs="all"), teacher, transfer, tmp_path), "is not cut", "set outputs: kept")
    assert "set outputs: kept, or init: random" in student_of(outputs="all", init="transfer").check()


# -------------------------------------------------------------------------------------------- resumption
@pytest.mark.parametrize(
    "how",
    [{"sampling": "priority", "augment": "mild"}, {"sampling": "hard", "augment": "mild"}, {"fresh": True},
     {"sampling": "priority", "select": "agreement", "holdout": 0.4, "mix": "mixup"},
     {"init": "transfer", "mix": "cutmix", "augment": "strong"}, {"sampling": "given", "select": "agreement", "augment": "mild"},
     {"sampling": "priority", "select": "agreement", "augment": "resized-crop", "views_kept": 3}],
)  # fmt: skip
def test_resumes_to_the_bit(tmp_path, teacher, transfer, monkeypatch, how):
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)
    (tmp_path / "whole").mkdir()
    made, guide = student_of(epochs=4, lr=0.05, **how), Guide(teacher)
    whole, history = learn(made, guide, transfer, tmp_path / "whole")
    with pytest.raises(Interrupted):
        learn(made, Guide(teacher, stop_after=len(guide.asked) // 2 + 1), transfer, tmp_path)
    torch.manual_seed(99)
    rest = Guide(teacher)
    resumed, again = learn(made, rest, transfer, tmp_path)
    assert 0 < len(rest.asked) < len(guide.asked)
    assert again == history and same(whole, resumed) and whole.seen == resumed.seen
    assert not is_mapped(tmp_path / ".partial")


def test_the_best_weights_of_a_checkpoint_are_copied():
    """Its file is read through a memory map, which one tensor of it would hold."""
    held, state = object.__new__(distill.Held), {"agreement": 0.5, "best": {"w": torch.ones(2)}, "seen": 3}
    held.restore(state)
    assert torch.equal(held.best["w"], torch.ones(2)) and held.best["w"].data_ptr() != state["best"]["w"].data_ptr()


# -------------------------------------------------------------------------------------------- error lines
def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), str(caught.value)


def test_sets_that_cannot_serve(tmp_path, teacher, transfer, bare):
    def start(opened, **how):
        return lambda: learn(student_of(**how), teacher, opened, tmp_path)

    where = str(transfer.path)
    refused(
        start(transfer, init="transfer", arch="resnet8-b"), where, "no student resnet8-b", "one of resnet8", "set init: random"
    )
    refused(start(bare, init="transfer"), str(bare.path), "no student resnet8 to start from (none)", "set init: random")
    refused(start(bare, fresh=True), str(bare.path), "contains no generator", "set fresh: false")
    refused(lambda: distill.check(bare, student_of(sampling="given")), str(bare.path), "no sampling weights", "sampling: uniform")
    distill.check(transfer, student_of(sampling="given"))


def test_a_student_does_not_learn_from_one_sample(tmp_path, teacher):
    with TransferSet(small_net.write(tmp_path, teacher, 1)) as opened:
        refused(lambda: learn(CONFIG, teacher, opened, tmp_path), "1 samples, 1 of them to train on, are too few", "larger set")
    (tmp_path / "two").mkdir()
    with TransferSet(small_net.write(tmp_path / "two", teacher, 2)) as opened:
        held = student_of(select="agreement")
        refused(lambda: learn(held, teacher, opened, tmp_path), "2 samples, 1 of them to train on", "or lower holdout")
        assert len(learn(CONFIG, teacher, opened, tmp_path)[1]) == 3


CONFIGS = {
    "lenet5-half+epochs=0": "epochs is 0 and init is random, so nothing would be learnt; set init: transfer",
    "lenet5-half+fresh=true+sampling=given": "fresh images cannot be drawn with given sampling; set sampling: uniform",
    "lenet5-half+fresh=true+sampling=priority": "fresh images cannot be drawn with priority sampling",
    "lenet5-half+augment=mild+views_kept=4": "views_kept: 'mild' views cannot be stored; set augment to one of shift",
    "lenet5-half+augment=none+views_kept=4": "views_kept: 'none' views cannot be stored",
    "resnet8-views+mix=mixup+views_kept=4": "views_kept: mixed views differ in every step; set mix: none",
    "resnet8-views+fresh=true+views_kept=4": "views_kept: fresh images are used only once; set fresh: false",
    "lenet5-half+holdout=0": "holdout: '0' must be above 0",
    "lenet5-half+holdout=0.6": "holdout: '0.6' is above 0.5",
    "lenet5-half+beta=2": "beta: '2' is above 1",
    "lenet5-half+mix=cut": "mix: 'cut' is unknown",
    "lenet5-half+select=best": "select: 'best' is unknown",
    "lenet5-half+epochs=-1": "epochs: '-1' is below 0",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_that_cannot_work_are_one_line(text, repository):
    refused(lambda: params.load("student", text, repository / "params"), CONFIGS[text])


@pytest.mark.parametrize(
    "text", ["lenet5-half+epochs=0+init=transfer", "lenet5-half+fresh=true", "lenet5-half+fresh=true+select=agreement"]
)
def test_configs_at_the_limit_work(text, repository):
    assert params.load("student", text, repository / "params").check() is None


def test_the_holdout_depends_on_the_seed_alone(teacher, transfer):
    student, images = distill.begin(CONFIG, teacher, transfer, CPU), distill.Images(transfer, CPU)
    rows = [distill.Held(student_of(seed=seed), images, student).rows.tolist() for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_stored_logits_are_those_of_the_images_also_beside_held_out_ones(tmp_path, teacher, transfer, monkeypatch):
    read, call, field = [], distill.Images.__call__, distill.Images.field

    def images(self, rows):
        read.append(("images", rows.tolist())) if torch.is_grad_enabled() else None
        return call(self, rows)

    def fields(self, name, rows):
        read.append((name, rows.tolist())) if name == "logits" else None
        return field(self, name, rows)

    monkeypatch.setattr(distill.Images, "__call__", images)
    monkeypatch.setattr(distill.Images, "field", fields)
    learn(student_of(select="agreement", holdout=0.3, epochs=1), teacher, transfer, tmp_path)
    assert len(read) == 6 and all(one == ("images", two[1]) for one, two in zip(read[::2], read[1::2]))


def test_the_student_sees_the_view_and_the_mixture_that_it_is_told(tmp_path, teacher, transfer, monkeypatch):
    named, view, mix = [], distill.views.view, distill.views.mix
    monkeypatch.setattr(distill.views, "view", lambda name, *rest: named.append(name) or view(name, *rest))
    monkeypatch.setattr(distill.views, "mix", lambda name, *rest: named.append(name) or mix(name, *rest))
    learn(student_of(augment="shift", mix="cutmix", epochs=1), teacher, transfer, tmp_path)
    assert named == ["shift", "cutmix"] * 5


def test_given_weights_are_those_of_the_rows_also_beside_held_out_ones(tmp_path, teacher, transfer, monkeypatch):
    config, given, order = student_of(sampling="given", select="agreement", holdout=0.3, epochs=1), [], distill.loop.order
    monkeypatch.setattr(distill.loop, "order", lambda *arguments: given.append(arguments[4]) or order(*arguments))
    learn(config, teacher, transfer, tmp_path)
    others = distill.Held(config, distill.Images(transfer, CPU), distill.begin(config, teacher, transfer, CPU)).others
    assert len(given) == 1 and torch.equal(given[0], torch.from_numpy(transfer.read("weights"))[others])


def test_each_step_takes_its_turn_of_the_members_and_is_a_mean_over_its_images(tmp_path, teacher, transfer, monkeypatch):
    """Also where a batch is larger than the set."""
    steps, call = [], distill.Fresh.__call__
    monkeypatch.setattr(
        distill.Fresh, "__call__", lambda self, number, step, rng: steps.append((number, step)) or call(self, number, step, rng)
    )
    monkeypatch.setattr(distill.student_losses, "load", lambda *_: lambda student_logits, _: 1 + 0 * student_logits.sum(1))
    _, history = learn(student_of(fresh=True, epochs=2, batch=64, steps_per_epoch=3), teacher, transfer, tmp_path)
    assert steps == [(64, 0), (64, 1), (64, 2)] * 2 and [row["loss"] for row in history] == [1.0, 1.0]
