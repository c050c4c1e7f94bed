"""Mutate sound files and open them as the steps do: each is read or refused with a line, and no other exception comes through.

    python tests/fuzz.py [--seconds 600] [--seed 0] [--kinds hdf5 sets networks kept npz idx images checkpoints onnx metrics
                                                             specs params sweeps]

A mutant has bits, bytes or numbers changed, pieces moved, doubled, cut out or taken from another place, and in texts, and in the
head of a network's file, words of their grammar put in; artefacts get a checksum that fits, as whoever means harm would give
them. Not part of the suite; docs/faults.md has the last result.
"""

import argparse
import collections
import contextlib
import copy
import io
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load

sys.path.insert(0, str(Path(__file__).parent / "unit"))
import hostile

from dfkd_steps.datasets import array_files, readers
from dfkd_steps.models import onnx_import, pretrained
from dfkd_steps.models.classifier import Description, new_classifier
from dfkd_steps.pipeline import params, spec, sweep
from dfkd_steps.reporting import runs
from dfkd_steps.runtime import progress
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import atomic, dataset_file, hdf5, kept_networks, network_file, verify

ROOT = Path(__file__).parents[1]
HANGS = 60  # seconds for one file: then the process is ended, and the file stays in the temporary folder
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)


def mutated(raw: bytes, rng) -> bytes:
    """A copy with one to six changes."""
    content = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        if not content:
            return b""
        place, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64, 512))
        match rng.randrange(6):
            case 0:
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                content[place : place + length] = rng.randbytes(length)
            case 2:
                size = rng.choice((1, 2, 4, 8))
                content[place : place + size] = struct.pack("<Q", rng.choice(EDGES))[:size]
            case 3:
                del content[place : place + length]
            case 4:
                other = rng.randrange(len(content))
                content[place : place + length] = content[other : other + length]
            case 5:
                del content[rng.randrange(len(content)) :]
    return bytes(content)


WORDS = rb"+ = , / .. : - [ ] { } & * ! |# \" ' ${ << --- 1e999 nan -1 0 1e-3 .5 true null ~ __use_yte__".split()
WORDS += [b" ", b"\n", b"\t", b"\0", b"\xff"]
FIELDS = (b"seed", b"n", b"lr", b"batch", b"arch", b"base", b"method", b"kind", b"seeds", b"export", b"source", b"transfer")


def reworded(raw: bytes, rng) -> bytes:
    """A text with one to four words of the grammar put in, or else ``mutated``."""
    if rng.random() < 0.3:
        return mutated(raw, rng)
    for _ in range(rng.randint(1, 4)):
        place, gone = rng.randrange(len(raw) + 1), rng.choice((0, 0, 1, 4))
        word = rng.choice((*WORDS, *FIELDS, b"9" * rng.choice((3, 25, 400))))
        raw = raw[:place] + word + raw[place + gone :]
    return raw


def headed(raw: bytes, rng) -> bytes:
    """A file of safetensors, changed in its head more often than not, whose length then fits more often than not."""
    if rng.random() < 0.25:
        return mutated(raw, rng)
    (length,) = struct.unpack_from("<Q", raw)
    head = reworded(raw[8 : 8 + length], rng)
    return struct.pack("<Q", len(head) if rng.random() < 0.9 else length) + head + raw[8 + length :]


def sealed(opened):
    def function(path):
        hdf5.seal(path)
        opened(path)

    return function


def seal_network(path):
    """Give a network's file the checksum of its content, where it can be read so far."""
    raw = path.read_bytes()
    with contextlib.suppress(Exception):
        tensors, (length,) = load(raw), struct.unpack_from("<Q", raw)
        head = json.loads(raw[8 : 8 + length])
        content = json.loads(head["__metadata__"][network_file.METADATA])
        content["crc32"] = network_file.checksum(content, tensors)
        head["__metadata__"][network_file.METADATA] = json.dumps(content)
        text = json.dumps(head).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def open_network(path):
    seal_network(path)
    network_file.load(path)
    verify.verify(path)


def network_seeds(folder):
    """A plain one, and a student with snapshots."""
    yield hostile.a_network(hostile.NETWORK)(folder).read_bytes()
    student = new_classifier("lenet5-half", Description(**network_file.tuples(hostile.NETWORK)), 0)
    student.seen, student.snapshots = 40, {n: copy.deepcopy(student.net.state_dict()) for n in (10, 20)}
    network_file.publish(folder / "student.safetensors", "k", {}, student, [])
    yield (folder / "student.safetensors").read_bytes()
    yield network_file.to_bytes(student)


def open_metrics(path):
    with contextlib.suppress(Exception):
        content = json.loads(path.read_text())
        content.pop("crc32")
        path.write_text(json.dumps(content | {"crc32": atomic._checksum(content)}))
    runs.read([path])
    verify.verify(path)


def image_seeds(folder):
    for form, mode in (
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGBA"),
    ):
        out = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)).convert(mode).save(out, form)
        yield out.getvalue()


def bytes_of(make, folder):
    yield make(folder).read_bytes()


def checkpoint_seeds(folder):
    content = {"state_dict": {"module.w": torch.rand(8, 8), "module.b": torch.rand(8)}, "epoch": 3}
    for name, old in (("new", True), ("old", False)):
        torch.save(content, folder / name, _use_new_zipfile_serialization=old)
        yield (folder / name).read_bytes()


def npz_seeds(folder):
    yield Path(hostile.an_npz()(folder).path).read_bytes()


def idx_seeds(folder):
    yield struct.pack(">4B3I", 0, 0, 8, 3, 4, 5, 5) + bytes(100)


def onnx_seeds(folder):
    """A small network that leaves its normalisation to this program; needs the package onnx."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 3)
    )
    for fold in (True, False):
        how = {} if fold else {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
        torch.onnx.export(net.eval(), (torch.zeros(1, 1, 8, 8),), folder / "x.onnx", dynamo=False, **how)
        yield (folder / "x.onnx").read_bytes()


def open_onnx(path):
    onnx_import.read(path, "", Description("onnx", "x.onnx", tuple("abc"), (1, 8, 8), (0.5,), (0.5,)))


def texts_of(pattern):
    return lambda folder: (path.read_bytes() for path in sorted(ROOT.glob(pattern)))


def spec_seeds(folder):
    for group in spec.GROUPS:
        for name in params.names(group, ROOT / "params"):
            yield f"{group} {name}+seed=3".encode()


def open_spec(path):
    group, _, text = path.read_text("utf-8", "surrogateescape").partition(" ")
    params.load(group if group in spec.GROUPS else "transfer", text)


def open_params(path):
    """As a teacher's, a set's and a student's; each file is another, so what is remembered of the last does not count."""
    for cached in (params._layers, params._load):
        cached.cache_clear()
    for group in spec.GROUPS[1:]:
        folder = Path("params", group)
        shutil.copy(path, folder / "x.yaml")
    faults = []
    for group in spec.GROUPS[1:]:
        try:
            params.load(group, "x")
        except UserError as error:
            faults.append(error)
    if len(faults) == len(spec.GROUPS) - 1:
        raise faults[0]


def open_sweep(path):
    for cached in (params._layers, params._load):
        cached.cache_clear()
    sweep.finals(sweep.read(path))


TEXTS, HEADED = ("specs", "params", "sweeps", "metrics"), ("networks", "kept")
SPECS = {"specs": list("abcde")}  # of the path that mutants lie at
KINDS = {  # name -> (file name, seeds, how the steps open one)
    "hdf5": ("dataset.h5", lambda folder: bytes_of(hostile.dataset, folder), sealed(dataset_file.open_dataset)),
    "sets": ("transfer_set.h5", lambda folder: bytes_of(hostile.a_set, folder), sealed(hostile.open_set)),
    "networks": ("x.safetensors", network_seeds, open_network),
    "kept": (
        "kept",
        lambda folder: iter([hostile.a_generator(hostile.GENERATOR)(folder), *network_seeds(folder)]),
        lambda path: kept_networks.from_bytes(path.read_bytes(), path),
    ),
    "npz": ("x.npz", npz_seeds, lambda path: array_files.npz(groups.Npz(source="npz", path=str(path)))),
    "idx": ("train-images-idx3-ubyte", idx_seeds, lambda path: array_files._read_idx(path, 3)),
    "images": ("x.png", image_seeds, lambda path: readers.image(path, (3, 8, 8))),
    "checkpoints": ("x.pth", checkpoint_seeds, pretrained.read_weights),
    "onnx": ("x.onnx", onnx_seeds, open_onnx),
    "specs": ("spec", spec_seeds, open_spec),
    "params": ("x.yaml", texts_of("params/[!se]*/**/*.yaml"), open_params),
    "sweeps": ("x.yaml", texts_of("params/sweeps/*.yaml"), open_sweep),
    "metrics": (
        "metrics.json",
        lambda folder: bytes_of(
            hostile.a_metrics(hostile.METRICS | {"images_seen": 9, "curve": [[4, 50.0], [9, 80.0]]} | SPECS), folder
        ),
        open_metrics,
    ),
}


def fuzz(kind: str, seconds: float, seed: int) -> collections.Counter:
    """Open mutants of a kind for so long; counts what became of them. Prints each exception that came through, once a place."""
    name, seeds_of, opened = KINDS[kind]
    counts, rng, known = collections.Counter(), random.Random(seed), set()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seeds").mkdir()
        seeds = list(seeds_of(Path(folder) / "seeds"))
        path, until = Path(folder, "results/a/b/c/d/e", name), time.monotonic() + seconds
        path.parent.mkdir(parents=True)
        shutil.copytree(ROOT / "params", Path(folder, "params"))
        os.chdir(folder)
        change = reworded if kind in TEXTS else headed if kind in HEADED else mutated
        while time.monotonic() < until:
            path.write_bytes(change(rng.choice(seeds), rng))
            started = time.monotonic()
            try:
                opened(path)
                counts["read"] += 1
            except UserError as error:
                counts["refused"] += 1
                for ended in ("does not finish with it", "crashes on it"):
                    counts[f"of these HDF5 {ended}"] += ended in str(error)
                if not all(line.isprintable() and len(line) < 1000 for line in str(error).splitlines()):
                    counts["BAD LINE"] += 1
            except Exception:
                counts["EXCEPTION"] += 1
                where = traceback.format_exc()
                if where.splitlines()[-3:] not in map(list, known):
                    known.add(tuple(where.splitlines()[-3:]))
                    print(kind, where, flush=True)
            if time.monotonic() - started > 10:
                counts["SLOW"] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    hdf5.SECONDS = 2
    warnings.simplefilter("ignore")
    progress.say = lambda text: None  # what is said of a file that is read
    for kind in given.kinds:
        # A process of its own: a file that brings a library down is a finding, too.
        if not (child := os.fork()):
            signal.alarm(int(given.seconds) + HANGS)  # whatever library it is in
            counts = fuzz(kind, given.seconds, given.seed)
            mutants = counts["refused"] + counts["read"] + counts["EXCEPTION"]
            became = ", ".join(f"{what} {number}" for what, number in counts.most_common() if number)
            # Without that of the process that reads HDF5, which goes on.
            print(f"{kind}: {mutants} mutants in {time.process_time() / 60:.0f} min of a processor: {became}")
            sys.stdout.flush()
            os._exit(0)
        if code := os.waitpid(child, 0)[1]:
            left = f"; its last file stays below {tempfile.gettempdir()}"
            print(f"{kind}: the process ended with signal {code & 127}{left}", flush=True)


if __name__ == "__main__":
    main()
