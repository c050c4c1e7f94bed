"""What every registered method has to hold, on tiny networks: the contract of methods/base.py."""

import dataclasses

import numpy as np
import pytest
import torch

from dfkd_steps import config, data, fields, methods, models, networks, synthesize

CPU = torch.device("cpu")
CLASSES = tuple("0123456789")
# The cheapest settings of each method that still do all it does.
SMALL = {"zskd": {"steps": 6, "lr": 0.1, "window": 2}, "noise": {}, "dataset": {"source": "other"}}
# For each field that a spec can set, another value; a field not named here gets one from its type.
OTHER = {
    "zskd": {
        "betas": [3.0],
        "start": "smooth",
        "tau": 2.0,
        "steps": 3,
        "lr": 0.01,
        "window": 4,
        "tolerance": 0.2,
        "precision": "bf16",
    },
    "noise": {"kind": "smooth"},
    "dataset": {"source": "third"},
}
NOT_IN_IMAGES = {"method", "image_type", "n"}


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    description = networks.Description("arch", "lenet5-half", CLASSES, (1, 28, 28), (0.13,), (0.31,))
    net = models.build("lenet5-half", 10, (1, 28, 28))
    return networks.Classifier(net, description).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    made = {}
    for name, shift in (("other", 0), ("third", 1)):
        rng = np.random.default_rng(shift)
        arrays = {f"x_{split}": rng.integers(0, 256, (30, 3, 32, 32), np.uint8) for split in ("train", "test")}
        arrays |= {f"y_{split}": np.arange(30) % 10 for split in ("train", "test")}
        path = tmp_path_factory.mktemp(name) / "dataset.h5"
        data.write(path, name, {}, CLASSES, arrays)
        made[name] = data.open_dataset(path)
    return made


@pytest.fixture
def make(teacher, source):
    def build(name, **changes):
        values = {"method": name, "n": 20, "batch": 8, **SMALL[name], **changes}
        made = methods.load(name).Config(**values)
        sources = [source[one] for one in config.reads(made)]
        return methods.load(name).Method(made, teacher, sources, CPU)

    return build


def everything(method, order=None):
    made = {index: method.batch(index) for index in order or range(method.count())}
    return [made[index] for index in sorted(made)]


def same(one, two):
    return all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", methods.REGISTRY)
class TestContract:
    def test_shapes_range_and_count(self, name, make):
        method = make(name)
        batches = everything(method)
        assert sum(len(one.images) for one in batches) == method.total == 20
        for one in batches:
            assert one.images.shape[1:] == (1, 28, 28) and one.images.dtype == torch.float32
            assert torch.isfinite(one.images).all() and one.images.min() >= 0 and one.images.max() <= 1
            assert one.images.flatten(1).std(1).min() > 0
            assert (one.targets is not None) == method.has_targets
            if method.has_targets:
                assert one.targets.shape == (len(one.images), 10)
                assert torch.allclose(one.targets.sum(1), torch.ones(len(one.images)), atol=1e-5)

    def test_same_seed_same_bytes_other_seed_other(self, name, make):
        assert same(everything(make(name)), everything(make(name)))
        assert not same(everything(make(name)), everything(make(name, seed=1)))

    def test_batches_do_not_depend_on_each_other(self, name, make):
        assert make(name).independent
        assert same(everything(make(name)), everything(make(name), order=[2, 0, 1]))

    def test_side_by_side_is_the_same(self, name, make, monkeypatch):
        monkeypatch.setenv("DFKD_THREADS", "3")
        threads = torch.get_num_threads()
        together = list(synthesize.in_order(make(name), 0))
        torch.set_num_threads(threads)
        monkeypatch.setenv("DFKD_THREADS", "1")
        torch.set_num_threads(1)
        assert same(together, list(synthesize.in_order(make(name), 0)))
        torch.set_num_threads(threads)

    def test_teacher_is_untouched(self, name, make, teacher):
        before = {key: value.clone() for key, value in teacher.state_dict().items()}
        everything(make(name))
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
        assert not teacher.training and all(p.grad is None for p in teacher.parameters())

    def test_every_field_changes_something(self, name, make):
        usual = everything(make(name))
        for item in dataclasses.fields(methods.load(name).Config):
            if item.name in NOT_IN_IMAGES | {"seed"}:
                continue
            value = OTHER[name].get(item.name, 5 if item.name == "batch" else None)
            assert value is not None, f"say another value of {item.name} in OTHER"
            assert fields.fault(item, value) is None
            changed = everything(make(name, **{item.name: value}))
            differs = len(changed) != len(usual) or not same(changed, usual)
            assert differs, f"{name}: {item.name} changes nothing"

    def test_a_file_in_params_names_it(self, name, make):
        named = [path.stem for path in config.PARAMS.glob("transfer/*.yaml") if config.load("transfer", path.stem).method == name]
        assert named
