"""What every registered method has to hold, on tiny networks: the contract of methods/base.py.

On the CPU, and on a GPU where PyTorch has one (``-m gpu`` runs those alone); there bytes are not compared, since they depend on
the order in which it adds.
"""

import collections
import dataclasses
import functools
import inspect
import itertools
import typing

import numpy as np
import photograph
import pytest
import torch
from mapping import is_mapped

from dfkd_steps import synthesize
from dfkd_steps.methods import base
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import objective
from dfkd_steps.models import frozen
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.pipeline import params
from dfkd_steps.runtime import device as runtime_device
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import choices, fields
from dfkd_steps.storage import checkpoint, dataset_file, image_format, kept_networks, network_file
from dfkd_steps.training import predict

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
CLASSES = tuple("0123456789")
SHAPE, WIDE = (1, 8, 8), (3, 40, 56)
PIXELS = {"steps": 4, "lr": 0.1}
GAME = {"rounds": 2, "turns": 2, "steps_s": 2, "train_batch": 8, "latent": 6, "width": 4, "student": "resnet8", "collect": 0.5}
INVERSION = {"n": 20, "rounds": 3, "warmup": 1, "steps_s": 2, "batch_s": 8, "student": "resnet8"}
FAST = {**INVERSION, "latent": 6, "width": 4, "steps": 2}
# The cheapest settings of each method that still do all it does; a new one is tried with its defaults until it has some here.
SMALL: dict = collections.defaultdict(dict)
SMALL |= {
    "adi": {**INVERSION, **PIXELS},
    "cmi": {**FAST, "bank": 4, "steps": 3, "lr_g": 0.1},
    "dafl": GAME,
    "dataset": {"source": "other"},
    "deepinversion": {**PIXELS, "l2": 0.1},
    "dfad": GAME,
    "dfq": GAME,
    "fast": FAST,
    "generative": {"rounds_each": 2, "steps": 2, "train_batch": 8, "latent": 6, "width": 4, "members": 2},
    "mixture": {"source": "other"},
    "nayer": {**FAST, "batches": 2, "batches_warmup": 1},
    "psaq": {**PIXELS, "schedule": "constant"},
    "single-image": {"images": photograph.path(0), "area": 0.3},
    "soft-targeted": {**PIXELS, "steps": 6, "window": 2},
    "ssd-kd": {**FAST, "rounds": 7, "diversity": 0.5},
    "zskd": {**PIXELS, "steps": 6, "window": 2},
}
SMALL["zskt"] = GAME
# Where the value that ``another`` takes would change nothing in so short a run.
OTHER = {
    "betas": [3.0],
    "kinds": ["uniform", "smooth"],
    "clip_s": 0.01,
    "clip_g": 0.01,
    "window": 4,
    "tolerance": 0.2,
    "tau": 2.0,
    "student": "resnet8-b",
    "source": "third",
    "images": photograph.path(1),
    "view": "strong",
    "view_s": "strong",
    "rounds": 5,
    "tv": 0.5,
    "bank": 2,
    "collect": 1.0,
    "reset": 0.0,
    "life": 1,
    "smooth_to": 0.9,
    "lr_warmup": 3,
}
# Fields that are only read where another one says so.
WITH = {"tau": {"loss_s": "kd"}, "window": {"tolerance": 0.05}, "fresh": {"views_kept": 2}}
# statistics: of the answers (test_current_statistics.py).
NOT_IN_IMAGES = {"method", "image_type", "n", "seed", "statistics"}
# What a teacher without BatchNorm cannot give; with these switched off the method runs on any.
BATCHNORM = ("bn", "bn_kl")


def network(arch, shape, classes=CLASSES):
    torch.manual_seed(0)
    channels = shape[0]
    described = Description("arch", arch, classes, shape, (0.13,) * channels, (0.31,) * channels)
    made = Classifier(build_architecture(arch, len(classes), shape), described)
    with torch.no_grad():  # so that BatchNorm statistics are those of something
        made.train()(torch.rand(64, *shape) ** 2)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    """Where a test computes."""
    return torch.device(request.param)


@pytest.fixture
def exact(device):
    """For what is compared to the bit."""
    if device.type != "cpu":
        pytest.skip("bytes are compared on the CPU")


@pytest.fixture(scope="module")
def teacher(device):
    return network("resnet8", SHAPE).to(device)


@pytest.fixture(scope="module")
def wide(device):
    """A teacher of colour images that are neither square nor of a size that halves often."""
    return network("resnet8", WIDE, CLASSES[:3]).to(device)


@pytest.fixture(scope="module")
def plain(device):
    return network("lenet5-half", (1, 28, 28)).to(device)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    made = {}
    for name, shift in (("other", 0), ("third", 1)):
        rng = np.random.default_rng(shift)
        arrays = {f"x_{split}": rng.integers(0, 256, (30, 3, 32, 32), np.uint8) for split in ("train", "test")}
        arrays |= {f"y_{split}": np.arange(30) % 10 for split in ("train", "test")}
        path = tmp_path_factory.mktemp(name) / "dataset.h5"
        dataset_file.write(path, name, {}, CLASSES, arrays)
        made[name] = dataset_file.open_dataset(path)
    return made


@pytest.fixture
def make(teacher, source, device):
    def build(name, teacher=teacher, **changes):
        values = {"method": name, "n": 20, "batch": 8, **SMALL[name], **changes}
        cls = method_registry.load(name)
        made = cls.Config(**values)
        sources = [source[one] for one in params.reads(made)]
        return cls(made, teacher, sources, device)

    return build


def everything(method, order=None):
    for index in range(method.rounds):
        method.round(index)
    made = {index: method.batch(index) for index in order or range(method.count())}
    return [made[index] for index in sorted(made)]


def same(one, two):
    return all(torch.equal(a.images, b.images) for a, b in zip(one, two, strict=True))


def weights(method):
    """All numbers of the networks that a method leaves, and of their snapshots."""
    nets = [net for _, net in sorted(method.networks().items())]
    states = [net.state_dict() for net in nets]
    states += [weights for net in nets for _, weights in sorted(getattr(net, "snapshots", {}).items())]
    return [value.cpu().clone() for state in states for value in state.values()]


def traces(method):
    """The images and the weights that a method leaves behind, as bytes."""
    images = [batch.images.cpu().numpy().tobytes() for batch in everything(method)]
    return images, [value.numpy().tobytes() for value in weights(method)]


def steps(method):
    """Yields the images and the weights of a method as they are after each round, and its batches: lists of tensors."""
    for index in range(method.rounds):
        method.round(index)
        yield [*weights(method), *([method.pool.images.clone()] if hasattr(method, "pool") else [])]
    for index in range(method.count()):
        yield [method.batch(index).images]


def differ(one, other):
    """Do two methods ever have other images or weights? Looks no further than the first that differ."""
    for some, others in itertools.zip_longest(one, other):
        if some is None or others is None or len(some) != len(others):
            return True
        if not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(some, others)):
            return True
    return False


def another(item, value):
    """A value of a field that is not ``value``."""
    if item.name in OTHER:
        return OTHER[item.name]
    if choices := fields.choices(item):
        return next(one for one in choices if one != value)
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value / 2 or 0.5


def flat(state):
    """The tensors of nested dicts and lists, and their numbers as tensors."""
    if isinstance(state, torch.Tensor):
        return [state.cpu().nan_to_num(-1.0)]  # a priority that is not known yet is NaN
    if isinstance(state, dict | list | tuple):
        inside = state.values() if isinstance(state, dict) else state
        return [tensor for one in inside for tensor in flat(one)]
    return [torch.tensor(state)] if isinstance(state, int | float) else []


def leaves(tensor):
    """What a tensor was computed from and has a gradient."""
    found, seen, todo = [], set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found += [node.variable] if hasattr(node, "variable") else []
        todo += [following for following, _ in node.next_functions]
    return found


def require_gradients(method, monkeypatch):
    """Each enabled loss of a method has a gradient that is not 0, to something."""
    found = {}

    def total(terms):
        for term, value in terms.items():
            gradients = torch.autograd.grad(value, leaves(value), retain_graph=True, allow_unused=True)
            size = max(float(one.abs().max()) for one in gradients if one is not None)
            found[term] = max(found.get(term, 0.0), size)
        return sum(terms.values())

    if not hasattr(method, "objective"):
        pytest.skip("it has no weighted sum of losses")
    monkeypatch.setattr(objective, "total", total)
    everything(method)
    enabled = {one for one in objective.TERMS if getattr(method.config, one, 0)}
    assert enabled and set(found) >= enabled
    assert all(size > 0 for size in found.values()), found


COLOUR = (3, 8, 8)
PIXELS_MOVE = ("adi", "deepinversion", "psaq", "soft-targeted", "zskd")  # in others the parameters of a generator
VIEWED = [(name, None) for name in method_registry.REGISTRY] + list(itertools.product(PIXELS_MOVE, choices.VIEWS))


@pytest.mark.parametrize(("name", "view"), VIEWED)
def test_gradients_lie_in_memory_as_what_they_move(name, view, make, device, monkeypatch):
    """Of colour images, whose layouts differ. PyTorch's fused Adam goes through both as they lie on a CPU, so that another order
    gives each value the gradient of another one: DeepInversion, ADI and PSAQ-ViT once climbed their losses in rolled views."""
    compared = []

    def layout(tensor):
        return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]

    def spied(step):
        def moved(optimizer, *rest, **more):
            for moving in itertools.chain(*(group["params"] for group in optimizer.param_groups)):
                if moving.grad is not None:
                    compared.append((layout(moving.grad), layout(moving)))
            return step(optimizer, *rest, **more)

        return moved

    for kind in (torch.optim.Adam, torch.optim.SGD):
        monkeypatch.setattr(kind, "step", spied(kind.step))
    everything(make(name, teacher=network("resnet8", COLOUR).to(device), **({"view": view} if view else {})))
    assert [pair for pair in compared if pair[0] != pair[1]] == []
    assert compared or not hasattr(method_registry.load(name).Config, "lr")


@pytest.mark.parametrize("name", method_registry.REGISTRY)
def test_each_field_has_one_default(name):
    """Declared in one class alone: whoever reads that class knows the default."""
    declared = {}
    for cls in method_registry.load(name).Config.__mro__:
        for field, kind in inspect.get_annotations(cls).items():  # those of the class itself
            if typing.get_origin(kind) is typing.ClassVar:
                continue
            declared.setdefault(field, []).append(cls.__name__)
    assert {field: classes for field, classes in declared.items() if len(classes) > 1} == {}
    assert set(declared) == {item.name for item in dataclasses.fields(method_registry.load(name).Config)}


def test_methods_are_named_and_flat():
    for name in method_registry.REGISTRY:
        cls = method_registry.load(name)
        assert cls.__name__.lower().replace("-", "") in {name.replace("-", ""), "realdata", "lsgdfd"}
        assert cls.Config.__name__ == f"{cls.__name__}Config" and cls.Config is method_registry.config_class(name)
        assert cls.Config.__module__.rpartition(".") == ("dfkd_steps.schemas.transfer", ".", cls.__module__.rpartition(".")[2])
        assert len(cls.__mro__) <= 5  # the class, at most one engine, Method, ABC, object


def test_partitions_are_as_many_as_the_shards_at_most(make):
    for name in method_registry.REGISTRY:
        method = make(name)
        parts = method.partitions()
        assert len(parts) == method.config.max_shards()
        assert [index for part in parts for index in part] == list(range(method.count()))


@pytest.mark.parametrize("name", method_registry.REGISTRY)
class TestContract:
    def test_shapes_range_and_count(self, name, make):
        method = make(name)
        batches = [base.Batch(one.images.cpu(), None if one.targets is None else one.targets.cpu()) for one in everything(method)]
        assert sum(len(one.images) for one in batches) == method.total == 20
        for one in batches:
            assert one.images.shape[1:] == SHAPE and one.images.dtype == torch.float32
            assert torch.isfinite(one.images).all() and one.images.min() >= 0 and one.images.max() <= 1
            assert one.images.flatten(1).std(1).min() > 0
            assert (one.targets is not None) == method.has_targets
            if method.has_targets:
                assert one.targets.shape == (len(one.images), 10)
                assert torch.allclose(one.targets.sum(1), torch.ones(len(one.images)), atol=1e-5)

    def test_images_that_are_not_square_and_three_classes(self, name, make, wide, device):
        """Through the step too, which stores them and asks the teacher again."""
        method = make(name, teacher=wide, n=6, batch=4)
        made = everything(method)
        assert sum(len(one.images) for one in made) == 6 or name == "dataset"
        for one in made:
            assert one.images.shape[1:] == WIDE and torch.isfinite(one.images).all()
            assert one.targets is None or one.targets.shape[1:] == (3,)
        stored = image_format.to_stored(made[0].images.cpu().numpy(), "uint8")
        assert predict.predict(wide, stored, device).shape == (len(stored), 3)

    def test_same_seed_same_bytes_other_seed_other(self, name, make, exact):
        assert traces(make(name)) == traces(make(name))
        assert traces(make(name))[0] != traces(make(name, seed=1))[0]

    def test_batches_do_not_depend_on_each_other(self, name, make, exact):
        if hasattr(make(name), "pool"):
            pytest.skip("its batches are rows of a pool")
        last = make(name).count() - 1
        assert last and same(everything(make(name)), everything(make(name), order=[last, *range(last)]))

    def test_side_by_side_is_the_same(self, name, make, exact, monkeypatch):
        if make(name).rounds:
            pytest.skip("its batches are read from a pool or drawn: nothing is computed side by side")
        monkeypatch.setenv("DFKD_THREADS", "3")
        threads = torch.get_num_threads()
        together = list(synthesize.in_order(make(name), range(make(name).count())))
        torch.set_num_threads(threads)
        monkeypatch.setenv("DFKD_THREADS", "1")
        torch.set_num_threads(1)
        assert same(together, list(synthesize.in_order(make(name), range(make(name).count()))))
        torch.set_num_threads(threads)

    def test_resumes_exactly_after_every_round(self, name, make, exact, tmp_path):
        if not make(name).rounds:
            pytest.skip("it has no rounds")
        whole, method = traces(make(name)), make(name)
        for index in range(method.rounds):
            method.round(index)
            checkpoint.save(tmp_path / "state", "key", state=method.state())
            method = make(name)
            method.restore(checkpoint.load(tmp_path / "state", "key")["state"])
        rounds, method.rounds = method.rounds, 0
        assert traces(method) == whole
        method.rounds = rounds

    def test_a_state_is_restored_as_it_was_saved(self, name, make, tmp_path):
        if not make(name).rounds:
            pytest.skip("it has no rounds")
        method, other = make(name), make(name)
        for index in range(method.rounds - 1):
            method.round(index)
        checkpoint.save(tmp_path / "state", "key", state=method.state())
        with checkpoint.opened(tmp_path / "state", "key") as kept:
            other.restore(kept["state"])
        assert not is_mapped(tmp_path / "state")  # a tensor that is not copied holds all of the file
        checkpoint.save(tmp_path / "again", "key", state=other.state())
        saved, again = (checkpoint.load(tmp_path / file, "key")["state"] for file in ("state", "again"))
        assert len(flat(saved)) > 10 and all(torch.equal(one, two) for one, two in zip(flat(saved), flat(again), strict=True))
        other.round(method.rounds - 1)  # on the device, whatever device the state was loaded to
        assert all(torch.isfinite(value.float()).all() for value in weights(other))

    def test_teacher_is_untouched(self, name, make, teacher):
        before = {key: value.clone() for key, value in teacher.state_dict().items()}
        everything(make(name))
        assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
        assert not teacher.training and all(p.grad is None for p in teacher.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())

    def test_every_field_changes_images_or_weights(self, name, make, exact, monkeypatch, tmp_path):
        """Not only what is said about them; and not by seeds that the value itself is part of."""
        np.save(tmp_path / "labels.npy", np.random.default_rng(0).normal(size=(10, 3)))
        monkeypatch.setitem(OTHER, "embedding_file", str(tmp_path / "labels.npy"))
        monkeypatch.setattr(runtime_device, "has_bf16", lambda kind: True)  # slow where it is emulated, and not the same
        # The teacher's fast copy, a quarter of the time, is the same for all methods here; they make one each in other tests.
        monkeypatch.setattr(frozen, "fast_copy", functools.cache(frozen.fast_copy))
        declared = dataclasses.fields(method_registry.load(name).Config)
        known, seed_of = {one.name for one in declared}, base.Method.seed_of
        named = {choice for one in declared for choice in fields.choices(one) or ()}
        monkeypatch.setattr(
            base.Method, "seed_of", lambda self, *parts: seed_of(self, *(one for one in parts if one not in named))
        )
        usual, configured = list(steps(make(name))), make(name).config
        for item in (one for one in declared if one.name not in NOT_IN_IMAGES):
            value = another(item, getattr(configured, item.name))
            assert fields.fault(item, value) is None
            read = {key: other for key, other in WITH.get(item.name, {}).items() if key in known}
            before = list(steps(make(name, **read))) if read else usual
            assert differ(before, steps(make(name, **read, **{item.name: value}))), f"{name}: {item.name} changes nothing"

    def test_every_loss_has_a_gradient(self, name, make, monkeypatch):
        require_gradients(make(name), monkeypatch)

    def test_without_batchnorm_it_runs_or_says_so(self, name, make, plain):
        small = {"student": "lenet5-half"} if "student" in SMALL[name] else {}
        needed = [one for one in BATCHNORM if getattr(make(name).config, one, 0)]
        if needed:
            with pytest.raises(UserError, match="has no BatchNorm statistics") as caught:
                make(name, teacher=plain, **small)
            assert "\n" not in str(caught.value) and f"(+{needed[0]}=0" in str(caught.value)
        batches = everything(make(name, teacher=plain, **small, **dict.fromkeys(needed, 0.0)))
        assert all(one.images.shape[1:] == (1, 28, 28) and torch.isfinite(one.images).all() for one in batches)

    def test_its_networks_survive_the_file(self, name, make):
        method = make(name)
        everything(method)
        for one in method.networks().values():
            content = network_file.to_bytes(one)
            assert network_file.to_bytes(kept_networks.from_bytes(content, "here")) == content

    def test_a_file_in_params_names_it(self, name, make):
        assert name in {params.kind_of("transfer", file) for file in params.names("transfer")}
