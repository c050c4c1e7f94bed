"""The writing of a transfer set: whole, and with the same bytes, whatever interrupts it."""

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

from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage.journal import Journal
from dfkd_steps.storage.transfer_set import Layout, Writer

ROOT = Path(__file__).parents[2]


def fill(path, whole, key="k"):
    """Write the small set; returns the sha256 of the finished file."""
    small_set.fill(path, whole, key)
    return hashlib.sha256(Path(whole).read_bytes()).hexdigest()


def test_resuming_gives_the_same_bytes(tmp_path):
    undisturbed = fill(tmp_path / "a", tmp_path / "a.h5")
    for stop in range(BATCHES):
        writer = Writer(tmp_path / "b", "k", LAYOUT)
        for index in range(stop):
            writer.append(**batch(index))
        writer.close()
        again = Writer(tmp_path / "b", "k", LAYOUT)
        assert (again.batches, again.done, again.counts.sum()) == (stop, 8 * stop, 8 * stop)
        again.close()
        assert fill(tmp_path / "b", tmp_path / "b.h5") == undisturbed
        os.unlink(tmp_path / "b")


def test_cut_off_anywhere_it_resumes_with_whole_batches(tmp_path):
    undisturbed = fill(tmp_path / "a", tmp_path / "a.h5")
    journal = (tmp_path / "a").read_bytes()
    seen = set()
    for cut in range(0, len(journal), 7):
        (tmp_path / "b").write_bytes(journal[:cut])
        writer = Writer(tmp_path / "b", "k", LAYOUT)
        seen.add(writer.batches)
        assert writer.done == 8 * writer.batches
        writer.close()
    assert seen == {0, 1, 2, 3}
    for tail in (b"\0" * 100, b"\xff" * 100, journal[-50:]):
        (tmp_path / "b").write_bytes(journal[: len(journal) // 2] + tail)
        assert fill(tmp_path / "b", tmp_path / "b.h5") == undisturbed


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, b"HDF is no journal", os.urandom(3000)])
def test_a_foreign_working_file_starts_over(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    writer = Writer(tmp_path / "p", "k", LAYOUT)
    assert (writer.batches, writer.done) == (0, 0)
    writer.close()


@pytest.mark.parametrize(
    ("key", "layout"), [("other", LAYOUT), ("k", Layout((1, 4, 4), 3, 16)), ("k", Layout((1, 4, 4), 3, 8, targets=False))]
)
def test_another_key_or_layout_starts_over(tmp_path, key, layout):
    fill(tmp_path / "p", tmp_path / "x.h5")
    writer = Writer(tmp_path / "p", key, layout)
    assert writer.batches == 0
    writer.close()


def test_a_changed_byte_ends_the_journal_there(tmp_path):
    journal = Journal(tmp_path / "j", b"head")
    for number in range(5):
        journal.append(bytes([number]) * 100)
    journal.close()
    raw = bytearray((tmp_path / "j").read_bytes())
    raw[raw.index(b"\3" * 100) + 50] ^= 1
    (tmp_path / "j").write_bytes(raw)
    again = Journal(tmp_path / "j", b"head")
    assert [bytes(content) for content in again] == [bytes([number]) * 100 for number in range(3)]
    again.close()


def test_wrong_batches_are_refused_and_leave_nothing(tmp_path):
    writer = Writer(tmp_path / "p", "k", LAYOUT)
    with pytest.raises(ValueError, match="targets: shape"):
        writer.append(**{**batch(0), "targets": np.zeros((8, 4), np.float32)})
    with pytest.raises(FloatingPointError, match="logits: not a finite number in batch 0"):
        writer.append(**{**batch(0), "logits": np.full((8, 3), np.nan, np.float32)})
    assert (writer.done, writer.batches) == (0, 0)
    with pytest.raises(UserError, match="no sample is left"):
        writer.finish(tmp_path / "x.h5", {}, {})
    assert not (tmp_path / "x.h5").exists()
    writer.close()


KILLED = """
import sys, time
sys.path[:0] = [{root!r}, {here!r}]
import test_writing as t
writer = t.Writer("work", "k", t.Layout((1, 4, 4), 3, 8))
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
    writer = Writer(tmp_path / "work", "k", LAYOUT)
    assert stored <= writer.batches < 4000
    for number, part in enumerate(writer._batches()):
        for name, values in batch(number).items():
            np.testing.assert_array_equal(part[name], values)
    writer.close()
