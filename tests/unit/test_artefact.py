"""Artefacts appear whole or not at all, one process makes each, and their keys are read with care."""

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import small_net
import small_set
import torch
from safetensors.torch import save_file

from dfkd_steps.pipeline import audit, graph, keys, params, shards, spec
from dfkd_steps.pipeline.job import parse_job
from dfkd_steps.runtime import locks
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.storage import atomic, checkpoint, dataset_file, hdf5, network_file, verify
from dfkd_steps.storage.transfer_set import TransferSet

ROOT = Path(__file__).parents[2]
DATASET = "results/mnist-5k/dataset.h5"
TEACHER = "results/mnist-5k/lenet5/teacher.safetensors"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with params/ in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").symlink_to(ROOT / "params")
    return tmp_path


def write(path, key="k" * 20):
    """A file of the right format that carries a key."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["key"] = key
        hdf5.seal(path)
    elif path.suffix == ".safetensors":
        save_file({"w": torch.zeros(100)}, path, {"dfkd": json.dumps({"key": key})})
    else:
        atomic.write_json(path, {"key": key})
    return path


def fault(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- key_of
NAMES = ("x.h5", "x.safetensors", "x.json")


@pytest.mark.parametrize("name", NAMES)
def test_key_of(tmp_path, name):
    assert atomic.key_of(write(tmp_path / name)) == "k" * 20
    assert "no such file; correct the path" in fault(atomic.key_of, tmp_path / f"other{name}")
    assert f"no such file; make it first (snakemake {tmp_path}" in fault(atomic.key_of, tmp_path / "results" / f"other{name}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"hello", b"\xff" * 2000, b"[" * 100_000, b'{"a": 1}', b"[]", b"null", b'{"key": 3}']
)
def test_foreign_files_carry_no_key(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    told = fault(atomic.key_of, tmp_path / name)
    assert told.startswith(f"{tmp_path / name}: ") and told.endswith(" written by dfkd")


@pytest.mark.parametrize(
    ("path", "again"),
    [
        (DATASET, True),
        (TEACHER, True),
        ("results/mnist-5k/lenet5/noise/.shards/0-of-2.h5", True),
        ("results/mnist-5k/lenet5/noise/none/lenet5-half/metrics.json", True),
        ("results/mnist-5k/lenet5/noise/none/lenet5-half/export.json", True),
        ("results/mnist-5k/lenet5/noise/none/lenet5-half/export/state_dict.safetensors", False),
        ("data/dataset.h5", False),
        ("teacher.safetensors", False),
    ],
)
def test_only_what_steps_write_is_to_be_deleted(here, path, again):
    """Anything else may be sound, and somebody's own; from whatever folder it is named."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("not written by dfkd")
    os.chdir(Path(path).parent)
    told = fault(atomic.key_of, Path(path).name)
    assert told.endswith("delete it and make it again" if again else " written by dfkd"), told
    assert ("delete" in told) == again


@pytest.mark.parametrize("name", NAMES)
def test_truncated_files(tmp_path, name):
    whole = write(tmp_path / name).read_bytes()
    for size in {0, 1, 7, len(whole) // 3, len(whole) - 2}:
        (tmp_path / name).write_bytes(whole[:size])
        assert "is damaged or not" in fault(atomic.key_of, tmp_path / name)


@pytest.mark.parametrize("name", ["x.safetensors", "x.json"])  # libhdf5 itself can crash on a broken file
def test_changed_bytes_give_a_key_or_a_fault(tmp_path, name):
    whole, rng = write(tmp_path / name).read_bytes(), random.Random(0)
    for _ in range(300):
        raw = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(raw)
        try:
            told = atomic.key_of(tmp_path / name)
        except UserError as error:
            told = str(error)
        assert isinstance(told, str) and (told.isprintable() or name == "x.json")


@pytest.mark.parametrize(
    "metadata", [None, {}, {"dfkd": "[]"}, {"dfkd": "3"}, {"dfkd": "{"}, {"dfkd": '{"key": [1]}'}, {"format": "pt"}]
)
def test_foreign_safetensors(tmp_path, metadata):
    save_file({"w": torch.zeros(3)}, tmp_path / "x.safetensors", metadata)
    told = fault(atomic.key_of, tmp_path / "x.safetensors")
    assert told.endswith("give a teacher.safetensors or student.safetensors written by dfkd")


def test_an_hdf5_key_that_is_no_text(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["key"] = [1, 2, 3]
    hdf5.seal(tmp_path / "x.h5")
    assert "is not an artefact of dfkd (no key)" in fault(atomic.key_of, tmp_path / "x.h5")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_not_called_damaged(name):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        os.chmod(folder, 0o755)
        path = write(Path(folder, name))
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            told = fault(atomic.key_of, path)
            for read in {".h5": (TransferSet, dataset_file.open_dataset), ".json": (atomic.read_json,)}.get(
                path.suffix, (network_file.read_metadata, network_file.load)
            ):
                assert fault(read, path) == told
        finally:
            os.seteuid(0)
    assert told == f"{path}: cannot be read (Permission denied); correct its permissions"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_read_is_not_made_again(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        monkeypatch.chdir(folder)
        path = write(Path(TEACHER))
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            told = fault(audit.to_remake, "results", ["report/index.html"], [])
        finally:
            os.seteuid(0)
    assert told == f"{TEACHER}: cannot be read (Permission denied); correct its permissions"


def test_links_to_folders_are_followed_and_circles_are_not(here):
    write(TEACHER)
    os.rename("results/mnist-5k", "elsewhere")
    Path("results/mnist-5k").symlink_to(here / "elsewhere")
    Path("elsewhere/loop").symlink_to(here)  # by which each artefact would be found again, under a longer path
    assert list(itertools.islice(audit.walk("results"), 2)) == [TEACHER]  # no second one; followed, a circle takes hours


def test_what_params_no_longer_know_is_left_where_it_lies(here):
    gone = write("results/mnist-5k/lenet5/of-a-preset-that-was-renamed/transfer_set.h5")
    spelled = write("results/mnist-5k/lenet5/zskd-small+seed=0/transfer_set.h5")
    write(TEACHER, keys.expected_key(TEACHER))
    found, _ = audit.to_remake("results", ["report/index.html"], [])
    assert "of-a-preset-that-was-renamed" in found.pop(str(gone))
    assert "seed is 0 already" in found.pop(str(spelled))
    assert set(found) == {TEACHER}  # without its history, which is told as ever


def test_a_date_in_the_future_is_refused_and_nothing_is_dated(here):
    write(DATASET)
    before, later = write(TEACHER).stat().st_mtime, time.time() + 3600
    os.utime(DATASET, (later, later))
    assert "dataset.h5: is dated " in fault(audit.to_remake, "results", ["report/index.html"], [])
    assert Path(TEACHER).stat().st_mtime == before


SET = "results/mnist-5k/lenet5/noise/transfer_set.h5"


@pytest.fixture
def dated(here, monkeypatch):
    """A function that dates a data set, a teacher, its history and a transfer set, in seconds before now; all are current, but
    for those of the list that it returns."""
    faults = {}
    monkeypatch.setattr(audit, "stale", lambda paths: dict(faults))
    for name in (DATASET, TEACHER, SET):
        write(name)
    Path(TEACHER).with_name("history.csv").write_text("epoch")

    def date(dataset, teacher, history, transfer):
        for name, age in zip(
            (DATASET, TEACHER, Path(TEACHER).with_name("history.csv"), SET), (dataset, teacher, history, transfer)
        ):
            os.utime(name, (time.time() - age,) * 2)
        return faults

    return date


def remake():
    return audit.to_remake("results", ["report/index.html"], [])


def test_inputs_that_are_newer_than_what_was_made_from_them(dated):
    dated(40, 30, 20, 10)
    assert remake() == ({}, set())
    dated(25, 30, 20, 10)
    assert remake() == ({}, {DATASET})
    dated(25, 20, 30, 10)  # its history is older
    assert remake() == ({}, {DATASET})
    dated(40, 5, 20, 10)
    assert remake() == ({}, {TEACHER})


def test_a_link_is_as_new_as_itself_and_as_what_it_leads_to(dated):
    dated(40, 30, 20, 10)
    os.rename(DATASET, "elsewhere.h5")
    Path(DATASET).symlink_to(Path("elsewhere.h5").absolute())
    os.utime("elsewhere.h5", (time.time() - 40,) * 2)
    assert remake() == ({}, {DATASET})  # the link is of now
    os.utime(DATASET, (time.time() - 40,) * 2, follow_symlinks=False)
    os.utime("elsewhere.h5", (time.time() - 15,) * 2)
    assert remake() == ({}, {DATASET})


def test_what_is_made_from_a_stale_file_is_made_again(dated):
    dated(40, 30, 20, 10)[DATASET] = "was changed"
    assert remake() == ({DATASET: "was changed", TEACHER: f"is made from {DATASET}", SET: f"is made from {TEACHER}"}, set())


def test_metrics_that_are_newer_than_their_report(here, monkeypatch):
    metrics = str(write("results/mnist-5k/lenet5/noise/none/lenet5-half/metrics.json"))
    report = write("report/index.html")
    monkeypatch.setattr(audit, "stale", lambda paths: {})
    monkeypatch.setattr(audit, "report_fault", lambda path, metrics: None)
    os.utime(report, (time.time() - 20,) * 2)
    assert audit.to_remake("results", [str(report)], [metrics]) == ({}, {metrics})
    os.utime(metrics, (time.time() - 30,) * 2)
    assert audit.to_remake("results", [str(report)], [metrics]) == ({}, set())


def test_shards_of_other_settings_or_in_another_s_place_are_made_again(dated):
    dated(40, 30, 20, 10)
    expected = keys.expected_key(SET)
    for number, key in enumerate((f"{expected}-0-of-3", f"{expected}-0-of-3", f"{'x' * 20}-2-of-3")):
        write(shards.path_of(SET, number, 3), key)
    wrong = {str(shards.path_of(SET, number, 3)) for number in (1, 2)}
    assert remake() == (dict.fromkeys(wrong, "is a shard made with a different config, code or input"), set())


def test_a_report_over_other_metrics_is_made_again(here):
    metrics, page = "results/mnist-5k/lenet5/noise/none/lenet5-half/metrics.json", Path("report/index.html")
    page.parent.mkdir()
    page.write_text(f'<meta name="dfkd-key" content="{keys.report_key({metrics: keys.expected_key(metrics)})}">')
    assert audit.to_remake("results", [str(page)], [metrics]) == ({}, set())
    found, _ = audit.to_remake("results", [str(page)], [metrics.replace("noise", "noise+seed=1")])
    assert found == {str(page): "was made from different metrics or code; make it again"}
    page.write_text("<html>")
    assert "no key" in audit.to_remake("results", [str(page)], [metrics])[0][str(page)]


def test_an_input_of_which_a_bit_was_changed_is_refused(here):
    path = write(DATASET, keys.expected_key(DATASET))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert "dataset.h5: is damaged (its checksum does not match)" in fault(parse_job, "teacher", [TEACHER, DATASET])


def test_what_no_disk_holds_is_refused_before_anything_is_made(here):
    write(TEACHER, keys.expected_key(TEACHER))
    out = "results/mnist-5k/lenet5/noise+n=1000000000000/transfer_set.h5"
    assert "of disk space, with only" in fault(parse_job, "synthesize", [out, TEACHER])


def test_a_history_of_another_network_is_found(here):
    net = small_net.classifier()
    Path(TEACHER).parent.mkdir(parents=True)
    network_file.publish(Path(TEACHER), keys.expected_key(TEACHER), {}, net, [{"epoch": 1, "loss": 2.0}])
    assert audit.fault(TEACHER) is None
    history = Path(TEACHER).with_name("history.csv")
    history.write_text(history.read_text().replace("2.0", "1.0"))
    assert audit.fault(TEACHER) == "its history.csv was changed or belongs to another network; make it again"
    history.unlink()
    assert audit.fault(TEACHER) == "its history.csv is missing; make it again"


def test_any_changed_number_of_a_json_artefact_is_found(tmp_path):
    atomic.write_json(tmp_path / "x.json", {"key": "k", "top1": 10.0, "list": [1, None, 0.1], "n": 3})
    assert atomic.read_json(tmp_path / "x.json") == {"key": "k", "top1": 10.0, "list": [1, None, 0.1], "n": 3}
    whole = (tmp_path / "x.json").read_text()
    for old, new in (("10.0", "90.0"), ("0.1", "0.2"), ("null", "0"), ('"n": 3', '"n": 4'), ('"k"', '"l"'), ('"n"', '"m"')):
        (tmp_path / "x.json").write_text(whole.replace(old, new))
        assert "its checksum does not match" in fault(atomic.key_of, tmp_path / "x.json")
        assert "its checksum does not match" in verify.verify(tmp_path / "x.json")[0]
    (tmp_path / "x.json").write_text(json.dumps({"key": "k"}))
    assert "has no checksum" in fault(atomic.key_of, tmp_path / "x.json")


# --------------------------------------------------------------------------------------------------- working
def test_working_yields_the_hidden_file_and_cleans_up(tmp_path):
    out = tmp_path / "new" / "metrics.json"
    with atomic.exclusive(out, "key") as partial:
        write(partial.with_suffix(".json"), "key")
        assert partial.parent == out.parent and partial.name.startswith(".")
        assert not out.exists()
        atomic.commit(partial.with_suffix(".json"), out)
    assert os.listdir(out.parent) == ["metrics.json"]
    with atomic.exclusive(out, "key") as partial:
        assert partial is None
    with atomic.exclusive(out, "another") as partial:
        assert partial is not None
    assert os.listdir(out.parent) == ["metrics.json"]


def test_a_failed_step_keeps_what_it_did_and_lets_go_of_the_lock(tmp_path):
    out = tmp_path / "x.h5"
    with pytest.raises(UserError, match="on purpose"), atomic.exclusive(out, "key") as partial:  # noqa: PT012
        partial.write_text("half")
        raise UserError("on purpose")
    assert sorted(os.listdir(tmp_path)) == [".x.h5.partial"]
    with atomic.exclusive(out, "key") as partial:
        assert partial.read_text() == "half"


def left_by_kills(out):
    """Files that kills of a step of ``out`` can leave, and one of another artefact beside it."""
    for ending in (
        "partial",
        "partial.done",
        "partial.done.next",
        "partial.state",
        "partial.state.next",
        "partial.next",
        "whole",
    ):
        out.with_name(f".{out.name}.{ending}").write_text("x")
    out.with_name(f".other.{out.name}.partial").write_text("x")


def test_hidden_files_go_when_the_artefact_is_made_or_found_made(tmp_path):
    out = tmp_path / "x.json"
    left_by_kills(out)
    with pytest.raises(UserError), atomic.exclusive(out, "key"):
        raise UserError("on purpose")
    assert len(os.listdir(tmp_path)) == 8  # a failed step resumes from them
    with atomic.exclusive(out, "key"):
        write(out, "key")
    assert sorted(os.listdir(tmp_path)) == [".other.x.json.partial", "x.json"]
    left_by_kills(out)
    with atomic.exclusive(out, "key") as partial:
        assert partial is None
    assert sorted(os.listdir(tmp_path)) == [".other.x.json.partial", "x.json"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_every_kind_of_file_has_the_mode_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        small_set.fill(tmp_path / "transfer_set.h5")
        images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2
        arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
        dataset_file.write(tmp_path / "dataset.h5", "k", {}, "ab", arrays)
        net = small_net.classifier()
        network_file.publish(tmp_path / "student.safetensors", "k", {}, net, [])
        atomic.write_json(tmp_path / "metrics.json", {"key": "k"})
        checkpoint.save(tmp_path / "state", "k", step=1)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes) == {"transfer_set.h5", "transfer_set.h5.done", "dataset.h5", "student.safetensors", "history.csv",
                          "metrics.json", "state"}  # fmt: skip
    assert set(modes.values()) == {mode}, modes


def test_an_error_while_nothing_is_to_do_is_not_swallowed(tmp_path):
    write(tmp_path / "x.json", "key")
    with pytest.raises(UserError, match="on purpose"), atomic.exclusive(tmp_path / "x.json", "key"):
        raise UserError("on purpose")


class Worker:
    """A process that makes ``out``, after a word if it is told to wait; ``said`` is what it came to."""

    def __init__(self, out, wait=False):
        self.heard, said = os.pipe()
        told, self.tell = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(said)
            os.close(told)
            return
        sys.stderr = os.fdopen(os.dup(said), "w")  # where "waiting for ..." goes
        try:
            with atomic.exclusive(out, "key") as partial:
                os.write(said, b"None\n" if partial is None else b"works\n")
                if partial is not None:
                    if wait:
                        os.read(told, 1)
                    os.close(os.open(out.parent / "alone", os.O_CREAT | os.O_EXCL))
                    time.sleep(0.02)
                    os.unlink(out.parent / "alone")
                    atomic.write_json(out, {"key": "key"})
        except BaseException as error:
            os.write(said, f"failed: {error!r}\n".encode())
        os._exit(0)

    def says(self) -> str:
        """What it has said since, at least a line unless it has ended."""
        return os.read(self.heard, 1000).decode()

    def end(self) -> str:
        """Wait for its end; all that it said since."""
        found = ""
        while part := self.says():
            found += part
        os.waitpid(self.pid, 0)
        os.close(self.heard)
        os.close(self.tell)
        return found


def test_a_lock_that_is_left_where_the_file_system_has_none_names_its_holder(tmp_path, monkeypatch, capsys):
    """Lustre without -o flock: the file of a killed process stays, and another host cannot know that it is gone."""

    class Left:
        def __init__(self, path):
            self.path = path

        def acquire(self, blocking=True):
            if not blocking:
                raise locks.Timeout(str(self.path))

        def release(self):
            pass

    monkeypatch.setattr(locks, "FileLock", Left)
    for content, holder in (("4711\nnode017\n", " of process 4711 on node017; delete it if that process is gone"), ("", "")):
        (tmp_path / "lock").write_text(content)
        with locks.locked(tmp_path / "lock", "waiting"):
            pass
        assert capsys.readouterr().err == f"waiting (lock {tmp_path / 'lock'}{holder})\n"


def test_a_second_process_waits_and_then_finds_it_made(tmp_path):
    out = tmp_path / "out" / "metrics.json"
    first = Worker(out, wait=True)
    assert first.says() == "works\n"
    second = Worker(out)
    assert second.says() == (
        f"waiting for another process that is working on {out.parent} (lock {out.with_name(f'.{out.name}.partial.lock')})\n"
    )
    os.write(first.tell, b"!")
    assert (first.end(), second.end()) == ("", "None\n")
    assert os.listdir(out.parent) == ["metrics.json"]


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    out = tmp_path / "out" / "metrics.json"
    first = Worker(out, wait=True)
    assert first.says() == "works\n"
    waiting = [Worker(out) for _ in range(4)]
    assert all("waiting" in one.says() for one in waiting)
    os.kill(first.pid, signal.SIGKILL)
    assert first.end() == ""
    # One of them goes on, alone, and the others find its work.
    said = sorted(one.end().splitlines()[-1] for one in waiting)
    assert said == ["None"] * 3 + ["works"]
    assert os.listdir(out.parent) == ["metrics.json"]


def test_publish_replaces_at_once_and_write_json_refuses_nan(tmp_path):
    out = write(tmp_path / "metrics.json", "old")
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(out, {"key": "new", "top1": float("nan")})
    assert atomic.key_of(out) == "old"
    atomic.write_json(out, {"key": "new", "b": 1, "a": 2})
    check = zlib.crc32(b'{"a": 2, "b": 1, "key": "new"}')
    assert out.read_text() == f'{{\n "a": 2,\n "b": 1,\n "crc32": "{check:08x}",\n "key": "new"\n}}\n'
    assert os.listdir(tmp_path) == ["metrics.json"]


def test_content_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """Else a crash of the machine leaves a whole name over half a content; and whoever reads meanwhile finds the old one."""
    out, calls = tmp_path / "x.json", []
    out.write_bytes(b"old")
    fsync, replace = os.fsync, os.replace

    def synced(number):
        calls.append(("fsync", os.fstat(number).st_ino))
        fsync(number)

    def replaced(source, target):
        calls.append(("replace", os.stat(source).st_ino))
        assert (Path(source).read_bytes(), Path(target).read_bytes()) == (b"new", b"old")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    atomic.write(out, b"new")
    content, folder = out.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("fsync", content), ("replace", content), ("fsync", folder)]


def test_a_seal_tells_two_files_of_one_key_apart(tmp_path):
    """By it a step knows that an input was replaced while it worked."""
    seals = []
    for seed in (1, 2):
        net = small_net.classifier(seed=seed)
        network_file.save(tmp_path / "x.safetensors", net.net, net.description, "key", {})
        seals.append(atomic.seal_of(tmp_path / "x.safetensors"))
    assert None not in seals and len(set(seals)) == 2
    path = write(tmp_path / "x.h5")
    assert atomic.seal_of(path) == path.read_bytes()[-8:].hex()
    path.write_bytes(path.read_bytes()[:-1])
    assert atomic.seal_of(path) is None and atomic.seal_of(tmp_path / "none.h5") is None


# ------------------------------------------------------------------------------------------------------- job
def test_job_knows_its_config_inputs_and_key(here):
    write(DATASET, keys.expected_key(DATASET))
    made = parse_job("teacher", [TEACHER, DATASET])
    assert (made.step, made.out, made.inputs) == ("teacher", Path(TEACHER), [Path(DATASET)])
    assert made.config == params.load("teacher", "lenet5")
    assert made.key == keys.expected_key(TEACHER) and len(made.key) == 20
    assert made.input_keys == {"mnist-5k/dataset.h5": keys.expected_key(DATASET)}
    assert parse_job("teacher", [f"{here}/{TEACHER}", f"{here}/{DATASET}"]).key == made.key


def test_the_key_follows_the_inputs(here):
    write(DATASET, "another")
    assert parse_job("teacher", [TEACHER, DATASET]).key != keys.expected_key(TEACHER)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([TEACHER], f"{TEACHER}: inputs are none; give {DATASET}"),
        ([TEACHER, DATASET, DATASET], f"inputs are {DATASET} {DATASET}; give {DATASET}"),
        ([TEACHER, "results/mnist/dataset.h5"], f"give {DATASET}"),
        ([DATASET], "is made by the step dataset, not teacher"),
        (["results/mnist-5k/lenet5/teacher.h5"], "no step makes such a file"),
        (["results/mnist-5k/teacher.safetensors"], "no step makes such a file"),
        (["teacher.safetensors"], "is not under results/"),
        (["results/mnist-5k/../teacher.safetensors", DATASET], "'..' is not NAME"),
        (["results/mnist-5k/nix/teacher.safetensors", DATASET], "no file params/teacher/nix.yaml"),
        (["results/mnist-5k/lenet5+seed=1+lr=1/teacher.safetensors", DATASET], "out of order"),
        ([TEACHER, DATASET], f"{DATASET}: no such file; make it first"),
    ],
)
def test_job_refuses(here, arguments, told):
    assert told in fault(parse_job, "teacher", arguments)
    assert not Path("results").exists()


def test_a_step_ends_with_one_line_and_code_2(here):
    command = [sys.executable, "-m", "dfkd_steps.dataset", "results/a/teacher.safetensors"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: results/a/teacher.safetensors: no step makes such a file")
    assert not Path("results").exists()


def test_every_step_is_found_by_its_path():
    specs = dict(zip(spec.GROUPS, ("mnist-5k", "lenet5", "zskd+seed=1", "none", "lenet5-half")))
    for step in graph.STEPS:
        path = graph.path_of(step, specs)
        assert graph.step_of(path) == step
        assert all(graph.step_of(one) in graph.STEPS[step].inputs for one in graph.inputs_of(path))


def test_a_file_that_finds_no_room_holds_none(tmp_path, monkeypatch):
    """Else the error line finds none either."""
    plain = Path.write_bytes

    def half(path, content):
        plain(path, content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left on device"):
        atomic.write(tmp_path / "x.json", b"content")
    assert not list(tmp_path.iterdir())


def test_shards_are_deleted_when_the_set_is_made_of_whatever_division(tmp_path):
    """Nothing reads them again, and they may be as large as the set."""
    folder = tmp_path / shards.FOLDER
    folder.mkdir()
    there = [
        "0-of-2.h5",
        "1-of-2.h5",
        "0-of-3.h5",
        ".1-of-3.h5.partial",
        ".1-of-3.h5.partial.done",
        ".1-of-3.h5.partial.lock",
        "notes",
    ]
    for name in there:
        (folder / name).touch()
    shards.clear(tmp_path / "transfer_set.h5")
    assert {path.name for path in folder.iterdir()} == {".1-of-3.h5.partial.lock", "notes"}
    shards.clear(tmp_path / "elsewhere/transfer_set.h5")
