"""Transfer sets on disk: rates of writing, reading in order and gathering rows at random, against a copy in memory.

    python benchmarks/set_io.py [--images 1000000] [--batch 128] [--folder /tmp]

The set has the shape of MNIST: 28x28 uint8, 10 classes. The file is in the page cache when it is read: what is measured
is this program, not the disk.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer

CHUNK = 500


def write(folder, images: int) -> float:
    """Make a set of random images; returns the seconds its writing took, from the first batch to the checksum."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (CHUNK, 1, 28, 28), np.uint8)
    logits = rng.normal(size=(CHUNK, 10)).astype(np.float32)
    targets = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    part = {"images": pixels, "logits": logits, "labels": logits.argmax(1), "targets": targets}
    started = time.perf_counter()
    writer = Writer(folder / "transfer_set.h5", "key", Layout((1, 28, 28), 10), images)
    for number in range(images // CHUNK):
        part["images"] ^= np.uint8(number % 251)
        writer.append(**part, round=np.full(CHUNK, number))
    writer.finish({}, {"label": "random"})
    return time.perf_counter() - started


def rate(run, seconds=2.0):
    """Calls of ``run`` a second, over about so many seconds."""
    calls, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        run()
        calls += 1
    return calls / passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--folder", default=None)
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        seconds, path = write(Path(folder), given.images), Path(folder, "transfer_set.h5")
        size = path.stat().st_size / 1e9
        print(f"{given.images} images, {size:.2f} GB")
        print(f"write                       {seconds:8.1f} s   {size / seconds:8.2f} GB/s")
        piece = np.zeros(64 << 20, np.uint8)
        print(f"copy in memory              {'':8}     {rate(lambda: piece.copy()) * piece.nbytes / 1e9:8.2f} GB/s")
        with TransferSet(path) as opened:
            started = time.perf_counter()
            total = sum(part["images"].nbytes for _, part in opened.chunks("images"))
            seconds = time.perf_counter() - started
            print(f"read images in order        {seconds:8.1f} s   {total / seconds / 1e9:8.2f} GB/s")
            for field in ("images", "logits"):
                calls = rate(lambda field=field: opened.read(field, rng.integers(0, given.images, given.batch)))
                print(f"gather {given.batch} rows of {field:8} {1e3 / calls:8.3f} ms  {calls * given.batch:9.0f} rows/s")
            held = opened.read("images")
            calls = rate(lambda: held[rng.integers(0, given.images, given.batch)])
            print(f"images held in memory       {1e3 / calls:8.3f} ms  {calls * given.batch:9.0f} rows/s")


if __name__ == "__main__":
    main()
