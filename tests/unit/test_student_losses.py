"""The losses of a student: ours, and those of the user's, plugged in by a name."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch
from small_net import CPU, classifier, close

from dfkd_steps.methods.engines.online_student import OnlineStudent
from dfkd_steps.pipeline import keys, params
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import fields, groups
from dfkd_steps.schemas import student_losses as table
from dfkd_steps.training import losses, student_losses

MINE = """
import torch

def squares(student_logits, teacher_logits, tau):
    return ((student_logits - teacher_logits) / tau).square().flatten(1).mean(1)

def whole(student_logits, teacher_logits, tau):
    return squares(student_logits, teacher_logits, tau).mean()

def hard(student_logits, teacher_logits, tau):
    return (student_logits.argmax(1) != teacher_logits.argmax(1)).float()

def detached(student_logits, teacher_logits, tau):
    return 0 * squares(student_logits, teacher_logits, tau)

def infinite(student_logits, teacher_logits, tau):
    return squares(student_logits, teacher_logits, tau) / 0

def steep(student_logits, teacher_logits, tau):
    return squares(student_logits, teacher_logits, tau) + (student_logits - student_logits).square().flatten(1).sum(1).sqrt()

def number(student_logits, teacher_logits, tau):
    return 1.0

def cold(student_logits, teacher_logits):
    return squares(student_logits, teacher_logits, 1.0)

def few(student_logits, teacher_logits, tau):
    assert len(student_logits) < 10, "too many"
    return squares(student_logits, teacher_logits, tau)

def three(student_logits, teacher_logits, tau):
    return (squares if len(student_logits) == 3 else whole)(student_logits, teacher_logits, tau)

def coarse(student_logits, teacher_logits, tau):
    return squares(*(torch.nn.functional.avg_pool2d(logits, 4) for logits in (student_logits, teacher_logits)), tau)

class Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits):
        return logits.square().mean(1)

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no way back")

def stuck(student_logits, teacher_logits, tau):
    return Forward.apply(student_logits)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch, request):
    """A module of the user's in the working directory, its name of each test's own."""
    name = "losses_" + re.sub(r"\W", "_", request.node.name)
    tmp_path.joinpath(f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def described(classes=4, dense=False):
    return SimpleNamespace(num_classes=classes, dense=dense, image_shape=(3, 8, 12))


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(2, 5, 4)


def test_ours_by_name(logits):
    student, teacher = logits
    kd = losses.kd_each(student, teacher, 3.0)
    for name, wanted in {"kd": kd, "kd-mean": kd / 4, "l1": (student - teacher).abs().mean(1)}.items():
        close(student_losses.load(name, 3.0, described())(student, teacher), wanted)


def test_the_arguments_of_an_entry_reach_its_function(logits, monkeypatch):
    monkeypatch.setitem(table.REGISTRY, "twice", ("losses", "weighted", {"weight": 2.0}))
    weighted = lambda student, teacher, tau, weight: weight * losses.kd_each(student, teacher, tau)  # noqa: E731
    monkeypatch.setattr(losses, "weighted", weighted, raising=False)
    close(student_losses.load("twice", 3.0, described())(*logits), 2 * losses.kd_each(*logits, 3.0))


@pytest.mark.parametrize("dense", [False, True])
def test_one_of_the_user(mine, logits, dense):
    loss = student_losses.load(f"factory.{mine}.squares", 2.0, described(dense=dense))
    close(loss(*logits), ((logits[0] - logits[1]) / 2).square().mean(1))


@pytest.mark.parametrize(
    ("function", "said"),
    [("whole", "returns a value of shape () for 3 samples; return one loss per sample"),
     ("number", "returns a value of type float for 3 samples"),
     ("hard", "has no gradient with respect to the student's logits; compute it from these"),
     ("detached", "has no gradient with respect to the student's logits"),
     ("infinite", "is not finite for ordinary logits; clamp"),
     ("steep", "is not finite for ordinary logits; clamp"),
     ("cold", "failed: TypeError: .*unexpected keyword argument 'tau'; correct it"),
     ("none", "failed: AttributeError: .*; correct it, or the name"),
     ("stuck", "failed: ValueError: no way back; correct it")],
)  # fmt: skip
def test_what_is_no_loss_is_refused_before_the_first_step(mine, function, said):
    with pytest.raises(UserError, match=f"^loss: '{mine}:{function}' {re.escape(said).replace(re.escape('.*'), '.*')}"):
        student_losses.load(f"factory.{mine}.{function}", 2.0, described())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("few", "failed: AssertionError: too many; correct it"),
        ("three", "returns a value of shape () for 12 samples; return one"),
    ],
)
def test_a_loss_that_fails_in_a_step_is_the_users_too(mine, function, said):
    loss = student_losses.load(f"factory.{mine}.{function}", 2.0, described())
    with pytest.raises(UserError, match=f"^loss: '{mine}:{function}' {re.escape(said)}"):
        loss(torch.rand(12, 4), torch.rand(12, 4))


def test_a_loss_of_maps_is_tried_on_maps_of_the_size_of_images(mine):
    assert student_losses.load(f"factory.{mine}.coarse", 1.0, described(dense=True))(*torch.rand(2, 5, 4, 8, 12)).shape == (5,)


def test_a_student_inside_a_method_learns_by_it(mine):
    teacher, images = classifier(seed=1), torch.rand(6, *classifier().description.image_shape)
    settings = params.schema("transfer", "dfad")(student="resnet8", loss_s=f"factory.{mine}.squares", tau=2.0, view_s="none")
    made = OnlineStudent(settings, teacher, CPU)
    wanted = ((made.net.train()(images) - teacher(images)) / 2).square().mean(1).detach()
    made.net.eval()
    close(OnlineStudent(settings, teacher, CPU).step(images, 0.0, None), wanted)


# ------------------------------------------------------------------------------------- config and keys
def test_names_that_a_config_takes(mine):
    for group, kind, field in (("student", "", "loss"), ("transfer", "fast", "loss_s")):
        item = {one.name: one for one in dataclasses.fields(params.schema(group, kind))}[field]
        for name in (*table.REGISTRY, "factory.mine.loss", "factory.my.own.loss"):
            assert fields.fault(item, name) is None
        for name in ("dkd", "factory.mine", "factory.", "torchvision.resnet18"):
            assert fields.fault(item, name) == "is unknown"
        assert fields.known(item, "dkd") == [*table.REGISTRY, "factory.MODULE.FUNCTION"]


def recipe(text):
    keys._recipe.cache_clear()
    params._load.cache_clear()
    params._layers.cache_clear()
    return keys.recipe("distill", {"student": text})


def test_the_code_of_a_loss_is_in_the_key_of_those_who_learn_by_it(mine, tmp_path, monkeypatch):
    """A table with one entry more leaves all students as they are; the source of a loss of the user's counts."""
    folder = tmp_path / "params/student"
    folder.mkdir(parents=True)
    folder.joinpath("ours.yaml").write_text("arch: lenet5-half\n")
    folder.joinpath("theirs.yaml").write_text(f"arch: lenet5-half\nloss: factory.{mine}.squares\n")
    before = {name: recipe(name) for name in ("ours", "theirs")}
    assert "training.losses" in before["ours"]["code"] and list(before["theirs"]["files"]) == [f"{mine}.py"]
    monkeypatch.setitem(table.REGISTRY, "dkd", ("dkd", "dkd_each", {}))
    assert {name: recipe(name) for name in before} == before
    tmp_path.joinpath(f"{mine}.py").write_text(MINE + "# changed\n")
    assert recipe("ours") == before["ours"] and recipe("theirs") != before["theirs"]
    monkeypatch.setitem(table.REGISTRY, "kd", ("losses", "kd_mean_each", {}))
    assert recipe("ours") != before["ours"]


def test_registered_functions_exist():
    for name in table.REGISTRY:
        assert callable(student_losses.load(name, 1.0, described()))
    assert set(table.REGISTRY) == set(fields.choices(groups.Student.__dataclass_fields__["loss"]))
