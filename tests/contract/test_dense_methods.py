"""What every method that takes a segmentation teacher has to hold with one, at 3x40x56 with 3 classes; the others say in a line
that they do not."""

import pytest
import torch
from test_methods import SMALL, everything, flat, require_gradients, traces, weights

from dfkd_steps import synthesize
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models.classifier import Classifier, Description, build_architecture
from dfkd_steps.models.tasks import SEGMENTATION
from dfkd_steps.pipeline import params
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import checkpoint, dataset_file, kept_networks, network_file

SHAPE, CLASSES = (3, 40, 56), ("ground", "disc", "stripes")
CPU = torch.device("cpu")
DENSE = [name for name in method_registry.REGISTRY if SEGMENTATION in method_registry.config_class(name).tasks]
# In place of what is for a class an image.
CHANGED = {"student": "unet-tiny", "onehot": 0.0, "entropy": 0.1, "presence": 1.0, "balance": 0.5, "distance": "l1-log"}


def network(seed):
    torch.manual_seed(seed)
    described = Description("arch", "unet-tiny", CLASSES, SHAPE, (0.4,) * 3, (0.3,) * 3, task=SEGMENTATION)
    made = Classifier(build_architecture("unet-tiny", 3, SHAPE), described)
    with torch.no_grad():
        made.train()(torch.rand(8, *SHAPE) ** 2)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def teacher():
    return network(0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, *SHAPE), generator=rng, dtype=torch.uint8).numpy()
    maps = torch.randint(0, 3, (24, *SHAPE[1:]), generator=rng, dtype=torch.uint8).numpy()
    path = tmp_path_factory.mktemp("other") / "dataset.h5"
    dataset_file.write(path, "other", {}, CLASSES, {"x_train": images, "y_train": maps, "x_test": images, "y_test": maps})
    return dataset_file.open_dataset(path)


@pytest.fixture
def make(teacher, source):
    def build(name, **changes):
        cls = method_registry.load(name)
        fields = cls.Config.__dataclass_fields__
        usual = {key: value for key, value in CHANGED.items() if key in fields}
        made = cls.Config(**{"method": name, "batch": 6, **SMALL[name], **usual, "n": 12, **changes})
        return cls(made, teacher, [source for _ in params.reads(made)], CPU)

    return build


def test_the_methods_of_the_field_are_there():
    assert {"dataset", "dfad", "deepinversion", "fast", "procedural", "ssd-kd"} <= set(DENSE)


@pytest.mark.parametrize("name", DENSE)
class TestContract:
    def test_shapes_range_and_count_and_same_seed_same_bytes(self, name, make):
        method = make(name)
        batches = everything(method)
        assert sum(len(one.images) for one in batches) == method.total == 12
        for one in batches:
            assert one.images.shape[1:] == SHAPE and one.targets is None
            assert torch.isfinite(one.images).all() and one.images.min() >= 0 and one.images.max() <= 1
            assert one.images.flatten(1).std(1).min() > 0
        assert traces(make(name))[0] == [one.images.numpy().tobytes() for one in batches]

    def test_resumes_exactly_after_every_round(self, name, make, tmp_path):
        if not make(name).rounds:
            pytest.skip("it has no rounds")
        whole, method = traces(make(name)), make(name)
        for index in range(method.rounds):
            method.round(index)
            checkpoint.save(tmp_path / "state", "key", state=method.state())
            method = make(name)
            method.restore(checkpoint.load(tmp_path / "state", "key")["state"])
            assert len(flat(method.state())) > 10
        method.rounds = 0
        assert traces(method) == whole

    def test_every_loss_has_a_gradient(self, name, make, monkeypatch):
        require_gradients(make(name), monkeypatch)

    def test_its_networks_are_for_segmentation_and_survive_the_file(self, name, make):
        method = make(name)
        everything(method)
        assert all(torch.isfinite(value.float()).all() for value in weights(method))
        for kept, one in method.networks().items():
            again = kept_networks.from_bytes(network_file.to_bytes(one), "here")
            assert kept != "student" or again.description.dense

    def test_a_class_an_image_is_refused(self, name, make):
        if "onehot" not in method_registry.load(name).Config.__dataclass_fields__:
            pytest.skip("it has no such loss")
        with pytest.raises(UserError, match=r"onehot needs one class per image.*\(\+onehot=0\)") as caught:
            make(name, onehot=1.0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(method_registry.REGISTRY) - set(DENSE)))
def test_the_others_say_so(name, teacher, tmp_path):
    path = tmp_path / "teacher.safetensors"
    network_file.save(path, teacher.net, teacher.description, "key", {})
    cls = method_registry.load(name)
    config = cls.Config(**{"method": name, "n": 12, "batch": 6, **SMALL[name]})
    with pytest.raises(
        UserError, match=f"transfer: {name}: is for classification, but the teacher is for segmentation; .*dfad"
    ) as caught:
        synthesize.made_for(config, network_file.load_frozen(path), [], CPU)
    assert "\n" not in str(caught.value)
