"""What reads a set holds a piece of it, however large the set is, of label maps too; by the numpy memory it takes."""

import dataclasses
import functools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from small_net import CPU, wrap
from torch import nn

from dfkd_steps import balance, distill
from dfkd_steps import dataset as dataset_step
from dfkd_steps import teacher as teacher_step
from dfkd_steps.balancing import selection
from dfkd_steps.datasets import readers
from dfkd_steps.models.tasks import SEGMENTATION, VOID
from dfkd_steps.pipeline import params
from dfkd_steps.reporting import export_set, figures, inspect, other_images, other_maps
from dfkd_steps.runtime import disk, memory
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer, class_counts
from dfkd_steps.storage.verify import verify

NUMBER, SIDE, CLASSES = 300, 64, 3
SHOWN = 2 << 20  # bytes that 30 images take as floats, with those of one class twice
MOST = 1 << 20  # bytes; the images take 3.7 MB, the maps 1.2 MB and as integers 9.8 MB


class Cheap(nn.Module):
    """The mean of each channel as logits, of an image or of each pixel."""

    def __init__(self, dense):
        super().__init__()
        self.dense, self.scale = dense, nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.scale * (images if self.dense else images.mean((2, 3)))


def teacher(dense):
    return wrap(Cheap(dense), (3, SIDE, SIDE), CLASSES, **({"task": SEGMENTATION} if dense else {}))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """As small beside the set as they are beside one of 15 GB."""
    monkeypatch.setattr(disk, "PIECE", 1 << 15)
    monkeypatch.setattr(memory, "VALUES", 3 * 3 * SIDE**2)
    monkeypatch.delenv("DFKD_MEMORY", raising=False)


@pytest.fixture(params=[False, True], ids=["labels", "maps"])
def path(request, tmp_path):
    """A set whose class 2 is the rarest."""
    dense, rng = request.param, np.random.default_rng(0)
    layout = Layout((3, SIDE, SIDE), CLASSES, targets=False, task=SEGMENTATION if dense else "classification")
    writer = Writer(tmp_path / "transfer_set.h5", "key", layout, NUMBER)
    for start in range(0, NUMBER, 50):
        images = rng.integers(0, 256, (50, 3, SIDE, SIDE), np.uint8)
        if dense:
            maps = rng.choice(CLASSES, (50, SIDE, SIDE), p=(0.45, 0.45, 0.1)).astype(np.uint8)
            maps[0, :9] = 2
            fields = {"labels": maps}
        else:
            logits = (rng.normal(size=(50, CLASSES)) - (0, 0, 1)).astype(np.float32)
            fields = {"logits": logits, "labels": logits.argmax(1)}
        writer.append(images=images, round=np.full(50, start), **fields)
    writer.finish({}, {"label": "test"})
    return tmp_path / "transfer_set.h5"


def held(work) -> int:
    """The most bytes of arrays that ``work()`` holds at once."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def balanced(path, config):
    with TransferSet(path) as transfer:
        layout = dataclasses.replace(transfer.layout, weights=config.mode == "weight")
        start = functools.partial(Writer, path.with_name("balanced.h5"), "key", layout, resume=False)
        balance.MODES[config.mode](config, teacher(transfer.layout.dense), transfer, start, CPU)


CONFIGS = (
    groups.NoBalance(),
    groups.EqualBalance(rounds=1, push_steps=1),
    groups.EqualBalance(deficit="short", surplus="confident"),
    groups.ConfidenceBalance(threshold=0.2),
    groups.WeightBalance(),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.mode}-{getattr(config, 'deficit', '')}")
def test_balance(path, config, monkeypatch):
    monkeypatch.setattr(selection, "CHUNK", 40)
    balanced(path, config)  # what torch imports at the first gradient does not count
    # The least of three: other threads of the process (of xdist, which passes on what tests said) allocate now and then.
    assert min(held(lambda: balanced(path, config)) for _ in range(3)) < MOST


def test_looking_at_a_set(path, tmp_path):
    def pictures():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        export_set.write_png(path, folder)

    def strips():
        with TransferSet(path) as transfer:
            figures.sample_strips(transfer, ("a", "b", "c"))

    def counts():
        with TransferSet(path) as transfer:
            class_counts(transfer)

    looks = (lambda: verify(path), lambda: inspect.summary(path), lambda: inspect.samples(path))
    for look in (*looks, counts, pictures, strips):
        assert held(look) < MOST + SHOWN * (look is looks[2])


@pytest.mark.parametrize("hold", [0, 1 << 30])
def test_the_images_of_a_student(path, monkeypatch, hold):
    """Held on the device without a second copy beside them, or read row by row."""
    monkeypatch.setitem(distill.HOLD, "cpu", hold)

    def steps():
        with TransferSet(path) as transfer:
            images = distill.Images(transfer, CPU)
            for start in range(0, NUMBER, 4):
                found = (images(torch.arange(start, start + 4)) * 255).round().byte().numpy()
                assert np.array_equal(found, transfer.read("images", slice(start, start + 4)))
            assert bool(images.held) == bool(hold)

    assert held(steps) < MOST


@pytest.mark.parametrize("dense", [False, True])
def test_a_data_set(tmp_path, dense):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUMBER, 3, SIDE, SIDE), np.uint8)
    labels = rng.integers(0, CLASSES, (NUMBER, SIDE, SIDE) if dense else NUMBER)
    labels = labels.astype(np.uint8) if dense else labels
    if dense:
        labels[:, 0] = VOID
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:4], "y_test": labels[:4]}
    path = tmp_path / "dataset.h5"
    assert held(lambda: dataset_file.write(path, "key", {}, "abc", arrays)) < MOST
    stored = dataset_file.open_dataset(path).arrays
    assert all(np.array_equal(stored[name], values) for name, values in arrays.items())
    network = teacher(dense)
    network.classes, network.image_shape = "abc", (3, SIDE, SIDE)

    def evaluated():
        opened = dataset_file.open_dataset(path)
        other_images.figures({"student": network}, opened.arrays["x_train"], labels)

    looks = (lambda: inspect.samples(path), lambda: inspect.summary(path), evaluated)
    for look in looks[: 2 if dense else 3]:
        assert held(look) < MOST + SHOWN * (look is looks[0])


# ---------------------------------------------------------------------------------------------- data sets out of folders
@pytest.fixture
def photographs(tmp_path):
    """A folder of three classes of 40 images; and one of maps for as many."""
    rng = np.random.default_rng(0)
    for row in range(120):
        pixels = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        for folder in (f"classes/{row % 3}", "pairs/images"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            pixels.save(tmp_path / f"{folder}/{row:03}.png")
        (tmp_path / "pairs/masks").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 3, (SIDE, SIDE), np.uint8)).save(tmp_path / f"pairs/masks/{row:03}.png")
    return tmp_path


CHANGES = ({}, {"val": 0.2}, {"train": 30, "test": 9}, {"canaries": 10, "shadow": 1})


@pytest.mark.parametrize("changes", [*CHANGES, "masks"], ids=str)
def test_a_data_set_that_is_made_on_the_disk_has_the_bytes_of_one_made_in_memory(photographs, changes, monkeypatch):
    dense = changes == "masks"
    config = groups.Images(source="images", path=str(photographs / "classes"), size=SIDE, **({} if dense else changes))
    if dense:
        config = groups.Masks(source="masks", path=str(photographs / "pairs"), height=SIDE, classes=3)
    job = SimpleNamespace(config=config, key="k", provenance=lambda device: {})

    def made(name):
        job.out = photographs / name / "dataset.h5"
        job.out.parent.mkdir()
        dataset_step.run(job)
        assert [path.name for path in job.out.parent.iterdir()] == ["dataset.h5"]

    made("held")
    monkeypatch.setattr(memory, "most", lambda: 1 << 19)
    made("before")  # what is imported at the first time does not count
    # The lesser of two: once in a while what Python keeps of another test is counted with it.
    assert min(held(lambda: made("read")), held(lambda: made("again"))) < MOST + dense * 3 * 120 * SIDE**2
    assert len({(photographs / name / "dataset.h5").read_bytes() for name in ("held", "read")}) == 1


def test_the_images_of_a_teacher(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (NUMBER, 3, SIDE, SIDE), np.uint8), np.arange(NUMBER) % CLASSES
    dataset_file.write(tmp_path / "dataset.h5", "k", {}, "abc", dict(zip(dataset_file.FIELDS, (images, labels) * 2)))
    opened = dataset_file.open_dataset(tmp_path / "dataset.h5")
    monkeypatch.setattr(teacher_step, "new_classifier", lambda *_: teacher(False).requires_grad_(True))
    config = params.load("teacher", "lenet5+batch=4+epochs=1")

    def trained(name):
        teacher_step.train(config, opened, tmp_path / name, "k", CPU)

    trained("first")  # what torch imports does not count
    assert held(lambda: trained("second")) < MOST


@pytest.mark.parametrize("dense", [False, True], ids=["labels", "maps"])
def test_a_folder_of_other_images(tmp_path, dense, monkeypatch):
    """It is decoded a pass at a time, and its figures are those of the images together."""
    rng, network = np.random.default_rng(0), teacher(dense)
    network.classes, network.image_shape = tuple("abc"), (3, SIDE, SIDE)
    for number in range(NUMBER):  # a name for each, of twelve different images
        path = tmp_path / f"{number:03}.png"
        if number < 12:
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE + 4, 3), np.uint8)).save(path)
        else:
            path.hardlink_to(tmp_path / f"{number % 12:03}.png")
    figures_of = other_maps.figures if dense else other_images.figures
    networks, found = {"teacher": network, "student": network}, []

    def measured():
        images, labels = other_images.read(tmp_path, network, dense)
        assert labels is None and len(images) == NUMBER and images.shape[1:] == (3, SIDE, SIDE)
        found.append(figures_of(networks, images, None))

    measured()  # what is imported at the first time does not count
    assert held(measured) < MOST
    whole = np.stack([readers.image(path, (3, SIDE, SIDE)) for path in sorted(tmp_path.iterdir())])
    assert found[1] == figures_of(networks, whole, None)
    (tmp_path / "011.png").unlink()
    (tmp_path / "011.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"011\.png: "):
        measured()
