"""Give this process a GPU that no other job on this host holds. Where CUDA_VISIBLE_DEVICES is set (Slurm), keep it."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_held = None  # the lock file; the kernel releases it when the process ends, however it ends


def count() -> int:
    """GPUs of this host; DFKD_GPUS overrides, for tests."""
    if (told := os.environ.get("DFKD_GPUS")) is not None:
        return int(told)
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def claim(poll: float = 0.5) -> str:
    """Wait for a free GPU, hold it until this process ends, and return its index ('' without GPUs)."""
    global _held
    if "CUDA_VISIBLE_DEVICES" in os.environ or os.environ.get("DFKD_DEVICE") == "cpu" or not (number := count()):
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")
    folder = Path(tempfile.gettempdir()) / f"dfkd-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        for index in range(number):
            lock = open(folder / str(index), "w")  # noqa: SIM115 (held on purpose)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            _held = lock
            os.environ["CUDA_VISIBLE_DEVICES"] = str(index)
            return str(index)
        time.sleep(poll)
