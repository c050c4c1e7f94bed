"""The writing of a transfer set: whole, and with the same bytes, whatever interrupts it."""

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_set
from small_set import BATCHES, LAYOUT, batch

from dfkd_steps.runtime import progress
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer

ROOT = Path(__file__).parents[2]
TOTAL = 8 * BATCHES


def fill(path, key="k", total=TOTAL):
    """Write the small set; returns the sha256 of the finished file."""
    small_set.fill(path, key, total)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def begin(path, batches, total=TOTAL):
    """A working file with so many batches."""
    writer = Writer(path, "k", LAYOUT, total)
    for index in range(batches):
        writer.append(**batch(index))
    return writer


@pytest.mark.parametrize("total", [TOTAL, TOTAL + 1, TOTAL + 50])
def test_resuming_gives_the_same_bytes(tmp_path, total):
    undisturbed = fill(tmp_path / "a", total=TOTAL)
    for stop in range(BATCHES + 1):
        begin(tmp_path / "b", stop, total)
        again = Writer(tmp_path / "b", "k", LAYOUT, total)
        assert (again.batches, again.done, again.counts.sum()) == (stop, 8 * stop, 8 * stop)
        assert fill(tmp_path / "b", total=total) == undisturbed
        os.unlink(tmp_path / "b")


@pytest.mark.parametrize(("key", "goes_on"), [("k", True), ("other", False)])
def test_a_set_that_goes_on_has_taken_the_seconds_of_before_too(tmp_path, monkeypatch, key, goes_on):
    monkeypatch.setitem(progress.clock, "before", 10_000_000.0)
    begin(tmp_path / "p", 2)
    monkeypatch.setitem(progress.clock, "before", 0.0)
    Writer(tmp_path / "p", key, LAYOUT, TOTAL)
    assert (progress.spent() > 10_000_000) == goes_on


def test_killed_after_it_was_finished(tmp_path):
    """Between the checksum and the new name: the counter says that all is there."""
    assert fill(tmp_path / "a") == fill(tmp_path / "a")


def test_a_batch_that_the_counter_does_not_tell_of_is_written_again(tmp_path):
    undisturbed = fill(tmp_path / "a")
    begin(tmp_path / "b", 2)
    counted = (tmp_path / "b.done").read_bytes()
    begin(tmp_path / "b", 0).append(**batch(77))
    (tmp_path / "b.done").write_bytes(counted)
    assert Writer(tmp_path / "b", "k", LAYOUT, TOTAL).batches == 2
    assert fill(tmp_path / "b") == undisturbed


@pytest.mark.parametrize("name", ["images", "labels", "round"])
def test_rows_that_a_crash_of_the_machine_lost_start_over(tmp_path, name):
    undisturbed = fill(tmp_path / "a")
    writer = begin(tmp_path / "b", 3)
    writer.rows.write(name, 9, np.zeros_like(batch(1)[name][:1]) - 1)
    again = Writer(tmp_path / "b", "k", LAYOUT, TOTAL)
    assert (again.batches, again.done, again.counts.sum()) == (0, 0, 0)
    assert fill(tmp_path / "b") == undisturbed


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"HDF is no working file", os.urandom(3000)])
def test_a_damaged_working_file_or_counter_starts_over(tmp_path, content):
    undisturbed = fill(tmp_path / "a")
    for name in ("b", "b.done"):
        begin(tmp_path / "b", 3)
        (tmp_path / name).write_bytes(content)
        assert Writer(tmp_path / "b", "k", LAYOUT, TOTAL).batches == 0
        assert fill(tmp_path / "b") == undisturbed
        os.unlink(tmp_path / "b.done")


@pytest.mark.parametrize(
    ("key", "layout", "total"),
    [("other", LAYOUT, TOTAL), ("k", Layout((1, 4, 4), 3, "float32"), TOTAL), ("k", Layout((1, 4, 4), 3, targets=False), TOTAL),
     ("k", LAYOUT, TOTAL + 1)],
)  # fmt: skip
def test_another_key_or_layout_starts_over(tmp_path, key, layout, total):
    begin(tmp_path / "p", 3)
    writer = Writer(tmp_path / "p", key, layout, total)
    assert (writer.batches, writer.done) == (0, 0)


def test_without_resume_it_starts_over(tmp_path):
    begin(tmp_path / "p", 3)
    assert Writer(tmp_path / "p", "k", LAYOUT, TOTAL, resume=False).batches == 0


def test_wrong_batches_are_refused_and_leave_nothing(tmp_path):
    writer = Writer(tmp_path / "p", "k", LAYOUT, 15)
    with pytest.raises(ValueError, match="targets: shape"):
        writer.append(**{**batch(0), "targets": np.zeros((8, 4), np.float32)})
    with pytest.raises(FloatingPointError, match="logits: not a finite number in batch 0"):
        writer.append(**{**batch(0), "logits": np.full((8, 3), np.nan, np.float32)})
    assert (writer.done, writer.batches) == (0, 0)
    writer.append(**batch(0))
    with pytest.raises(ValueError, match="16 samples, expected 15"):
        writer.append(**batch(1))
    assert Writer(tmp_path / "p", "k", LAYOUT, 15).batches == 1


@pytest.mark.parametrize("name", ["images", "targets", "weights"])
def test_what_is_not_finite_is_not_written(tmp_path, name):
    layout = dataclasses.replace(LAYOUT, image_type="float32", weights=True)
    fields = {**batch(0), "images": np.zeros((8, 1, 4, 4), np.float32), "weights": np.ones(8, np.float32)}
    fields[name] = np.full_like(fields[name], np.nan)
    with pytest.raises(FloatingPointError, match=f"{name}: not a finite number in batch 0"):
        Writer(tmp_path / "p", "k", layout, 8).append(**fields)


def test_the_counter_of_before_stays_until_the_next_one_is_whole(tmp_path, monkeypatch):
    writer = begin(tmp_path / "p", 2)

    def killed(*paths):
        raise InterruptedError

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(InterruptedError):
        writer.append(**batch(2))
    assert Writer(tmp_path / "p", "k", LAYOUT, TOTAL).batches == 2


def test_a_set_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no samples are left"):
        Writer(tmp_path / "p", "k", LAYOUT, 0)
    assert os.listdir(tmp_path) == []


KILLED = """
import sys, time
sys.path[:0] = [{root!r}, {here!r}]
import test_writing as t
writer = t.Writer("work", "k", t.LAYOUT, 8 * 4000)
print("from", writer.batches, flush=True)
for index in range(writer.batches, 4000):
    writer.append(**t.batch(index))
    print(index, flush=True)
"""


def test_kill_9_at_random_moments(tmp_path):
    code = KILLED.format(root=str(ROOT), here=str(Path(__file__).parent))
    rng, stored = random.Random(0), 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert int(process.stdout.readline().split()[1]) >= stored  # nothing that was reported as stored is lost
            for _ in range(rng.randrange(1, 60)):
                stored = int(process.stdout.readline()) + 1
            time.sleep(rng.random() / 100)
            process.send_signal(signal.SIGKILL)
    writer = Writer(tmp_path / "work", "k", LAYOUT, 8 * 4000)
    assert stored <= writer.batches < 4000
    writer.finish({}, {})
    with TransferSet(tmp_path / "work") as opened:
        assert len(opened) == writer.done == 8 * writer.batches
        for start, part in opened.chunks(*batch(0), rows=8):
            for name, values in batch(start // 8).items():
                np.testing.assert_array_equal(part[name], values)
