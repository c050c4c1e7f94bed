"""Give this process a GPU that no other job on this host holds; under Slurm the one that Slurm gave."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import lock_descriptor

from .errors import UserError

_held = None  # the lock file's descriptor; the kernel releases the lock when the process ends, however it ends


def count() -> int:
    """GPUs of this host; DFKD_GPUS overrides, for tests."""
    if (given := os.environ.get("DFKD_GPUS")) is not None:
        if not given.isdecimal():
            raise UserError(f"DFKD_GPUS: {given!r} is not a number of GPUs; set 0 or more, or unset it")
        return int(given)
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def claim(poll: float = 0.5) -> str:
    """Wait for a free GPU, hold it until this process ends, and return its index ('' without GPUs).

    A job of Slurm takes what Slurm gave it: without CUDA_VISIBLE_DEVICES that is nothing, whatever the host has. Elsewhere
    several indices in CUDA_VISIBLE_DEVICES are those to choose from; a single one, or what are no indices, stays as it is.
    """
    global _held
    if "SLURM_JOB_ID" in os.environ:
        return os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if os.environ.get("DFKD_DEVICE") == "cpu":
        return given or ""
    indices = [str(index) for index in range(count())] if given is None else [index.strip() for index in given.split(",")]
    if not indices or (given is not None and (len(indices) < 2 or not all(index.isdecimal() for index in indices))):
        return given or ""
    folder, waits = _folder(), False
    while True:
        for index in indices:
            lock = _open(folder / index)
            if not lock_descriptor(lock, blocking=False):
                os.close(lock)
                continue
            _held = lock
            os.environ["CUDA_VISIBLE_DEVICES"] = index
            return index
        if not waits:
            print(f"waiting for one of {len(indices)} GPUs; all are in use by other jobs", file=sys.stderr, flush=True)
            waits = True
        time.sleep(poll)


def _folder() -> Path:
    """Where the locks of this host are: one place for all users, and not TMPDIR, which may differ from job to job."""
    folder = Path(os.environ.get("DFKD_GPU_LOCKS", "/tmp/dfkd-gpus"))
    before = os.umask(0)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o1777)
    os.umask(before)
    return folder


def _open(path) -> int:
    """A descriptor of a lock file that may be another user's: then it can be opened, but not as if to make it.

    A ``FileLock`` refuses a file of another user in a folder of all users.
    """
    before = os.umask(0o022)  # all have to read it, whatever files the first user lets others read
    try:
        with contextlib.suppress(PermissionError):
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    finally:
        os.umask(before)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
