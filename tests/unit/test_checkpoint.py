"""Checkpoints: what was saved comes back under its key; anything else is a fresh start that says so."""

import errno
import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch
from mapping import MAPS, is_mapped

from dfkd_steps.storage import checkpoint

STATE = {
    "net": {"w": torch.arange(3.0)},
    "rows": [[torch.ones(2, 2, dtype=torch.uint8)], None],
    "number": 3,
    "loss": {"last": 0.5},
}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "x.state", "key", rounds=4, state=STATE)
    return tmp_path / "x.state"


def test_what_was_saved_comes_back(path):
    kept = checkpoint.load(path, "key")
    assert kept["rounds"] == 4 and torch.equal(kept["state"]["net"]["w"], STATE["net"]["w"])
    (ones,), nothing = kept["state"]["rows"]
    assert ones.dtype == torch.uint8 and nothing is None and kept["state"]["loss"] == {"last": 0.5}


def test_saving_replaces_and_leaves_nothing_beside(path):
    checkpoint.save(path, "key", rounds=5)
    assert checkpoint.load(path, "key") == {"key": "key", "rounds": 5}
    assert [one.name for one in path.parent.iterdir()] == ["x.state"]


def test_a_save_that_fails_leaves_the_last_one(path):
    # Which of the two it is, and what else it says, depends on the version of Python.
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        checkpoint.save(path, "key", state=lambda: None)
    assert checkpoint.load(path, "key")["rounds"] == 4


def test_a_full_disk_does_not_stay_full_of_a_checkpoint_that_did_not_fit(path, monkeypatch):
    """A pool of images takes gigabytes: what was written of it would leave no room for any other job of the folder."""

    def fill(content, beside):
        beside.write_bytes(bytes(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", fill)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, "key", rounds=5)
    assert [one.name for one in path.parent.iterdir()] == ["x.state"]
    assert checkpoint.load(path, "key")["rounds"] == 4


def test_checkpoints_take_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock, cost = [100.0], 0.1

    def save(path, key, **content):
        clock[0] += cost

    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save", save)
    pace = checkpoint.Pace()
    for cost, wait in ((0.1, 20), (4, 20), (0.1, 80), (0.1, 20)):  # noqa: B007 (of the save)
        clock[0] += wait - 0.5
        assert not pace.due()
        clock[0] += 1
        assert pace.due()
        pace.save(tmp_path / "x", "key")


def test_nothing_there(tmp_path, capsys):
    assert checkpoint.load(tmp_path / "none", "key") is None and capsys.readouterr().err == ""


class Foreign:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: None, "made with a different config or code, starting over"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "not usable"),
        (lambda path: path.write_bytes(b""), "not usable"),
        (lambda path: torch.save([1, 2], path), "starting over"),
        (lambda path: torch.save({"key": "other", "evil": Foreign()}, path), "not usable"),
    ],
)
def test_of_no_use(path, capsys, spoil, said):
    spoil(path)
    assert checkpoint.load(path, "other") is None
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and "ran" not in told.out  # no code of a file is run


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes"),
     RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"), OSError(errno.EIO, "I/O error"),
     PermissionError(errno.EACCES, "no")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_of_the_system_does_not_start_over(path, monkeypatch, error):
    """The state may be whole, and the next checkpoint would replace it: whoever resumes with too little memory lost hours."""

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(checkpoint.torch, "load", fails)
    with pytest.raises(type(error)):
        checkpoint.load(path, "key")
    monkeypatch.undo()
    assert checkpoint.load(path, "key")["rounds"] == 4


def test_a_checkpoint_is_read_as_it_is_used_and_left_afterwards(path):
    """Weights and moments that training changes are copies: they neither hold the file nor change it."""
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(path, "key", state=checkpoint.state_of(net, optimizer))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_DATA)
    with checkpoint.opened(path, "key") as kept:
        assert is_mapped(path) or not MAPS.exists()
        checkpoint.restore(net, optimizer, kept["state"])
    assert not is_mapped(path) and kept == {} and resource.getrlimit(resource.RLIMIT_DATA) == limits
    optimizer.step()
    assert path.read_bytes() == before
    with checkpoint.opened(path, "other") as kept:
        assert kept is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bound")
def test_a_resumed_run_holds_its_images_once(tmp_path, repository):
    """500 MB of images beside 400 MB of room: a run that fits could not be resumed."""
    program = """if True:
        import resource, sys, torch
        from dfkd_steps.methods.engines.image_pool import ImagePool
        from dfkd_steps.storage import checkpoint

        pool, size = ImagePool(500, (3, 600, 600), "cpu"), 500 * 3 * 600 * 600
        pool.filled = pool.written = 500
        checkpoint.save("x", "key", state=pool.state())
        held = int(open("/proc/self/status").read().partition("VmData:")[2].split()[0]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (held + size * 3 // 4, resource.RLIM_INFINITY))
        with checkpoint.opened("x", "key") as kept:
            pool.restore(kept["state"])
        torch.ones(size // 2, dtype=torch.uint8)
        try:
            torch.ones(size, dtype=torch.uint8)
        except RuntimeError:
            print("bound again")
    """
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (0, "bound again\n"), done.stderr
