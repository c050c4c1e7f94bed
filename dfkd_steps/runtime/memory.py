"""How many images a step works on at once: by the size of an image, and by the memory that DFKD_MEMORY allows.

What is drawn together decides which numbers of a random generator an image gets, so it goes by the size of an image alone.
What only passes through a network together changes no more than the rounding, so it goes by DFKD_MEMORY too.
"""

import contextlib
import math
import os
import resource
import sys
from pathlib import Path

from .errors import UserError
from .threads import thread_count

GIB = 1 << 30
VALUES = 1000 * 3 * 32 * 32  # pixel values of images that are drawn together, and of a pass without DFKD_MEMORY
UNTOUCHED = GIB // 2  # what a process with PyTorch reserves and never uses, 0.46 to 0.8 GiB with one thread
UNTOUCHED_BY_THREAD = 24 << 20
DEFAULT = 2.0  # GiB; for each pixel value a network in use takes 60 (ResNet-18 at 224) to 300 bytes (ResNet-34 without a stem)


def given() -> float | None:
    """DFKD_MEMORY in GiB; None where it is unset."""
    text = os.environ.get("DFKD_MEMORY")
    if not text:
        return None
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0.25 <= gib <= 1 << 20:
        raise UserError(
            f"DFKD_MEMORY: {text[:40]!r} is not an amount of memory; set a number of GiB, 0.25 or more, e.g. 4, or unset it"
        )
    return gib


def most() -> int:
    """Bytes that a step may hold: DFKD_MEMORY, or what the machine has."""
    return int(given() * GIB) if given() else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def here() -> int:
    """Bytes that this process may hold: ``most``, or less where a container or a batch system allows less (Linux)."""
    return min([most(), *group_limits(), *slurm_limits()])


def slurm_limits(environment=os.environ) -> list[int]:
    """What Slurm gives a job on this node, in bytes: it may watch over it without control groups. Empty outside of a job, and
    where it gives all there is."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else 0

    mib = number("SLURM_MEM_PER_NODE") or number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE")
    return [mib << 20] if mib else []


def group_limits(process=Path("/proc/self/cgroup"), groups=Path("/sys/fs/cgroup")) -> list[int]:
    """What the control groups that this process is in, of either version, leave it: their limits in bytes, less what other
    processes in them hold at this moment."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        for line in process.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, name = (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
            folder = top / path.strip("/")
            for group in (folder, *folder.parents):
                with contextlib.suppress(OSError, ValueError):  # without a limit it is "max"
                    limits.append(max(0, int((group / name).read_text()) - _held_by_others(group)))
                if group == top:
                    break
    return limits


def _held_by_others(group: Path) -> int:
    """Bytes that other processes of a control group hold, and files in memory; not what the kernel can take back."""
    held = _summed(group / "memory.stat", "anon", "shmem", "total_rss", "total_shmem")
    return max(0, held - (_summed(Path("/proc/self/status"), "RssAnon:", "RssShmem:") << 10))


def _summed(file: Path, *names: str) -> int:
    """The sum of the numbers after ``names`` in a file of the kernel; 0 where it has none of them."""
    rows = map(str.split, file.read_text().splitlines()) if file.exists() else []
    return sum(int(row[1]) for row in rows if row and row[0] in names)


def drawn(image_shape) -> int:
    """Images (C,H,W) that are drawn or moved together."""
    return max(1, VALUES // max(1, math.prod(image_shape)))


def passed(image_shape) -> int:
    """Images (C,H,W) of a forward pass that no training step prescribes."""
    return max(1, int(VALUES * (given() or DEFAULT) / DEFAULT) // math.prod(image_shape))


def moved(image_shape) -> int:
    """Images (C,H,W) that are moved down a gradient of their own together: a pass that keeps what each layer gave takes several
    times the memory of one that does not."""
    return max(1, passed(image_shape) // 8)


def on_gpu(may: bool = True) -> bool:
    """Does this process compute on a GPU (CUDA)? ``may``: is it one that can; else CUDA is not asked for any."""
    torch = sys.modules.get("torch")
    return may and os.environ.get("DFKD_DEVICE") != "cpu" and torch is not None and torch.cuda.is_available()


def bound(gpu: bool = True):
    """No more than ``here`` for this process: beyond it an allocation fails, which else would end with the process killed. Where
    DFKD_MEMORY is set, a GPU is bound too if ``gpu``.

    On Linux; what only maps files, like sets that are read, does not count.
    """
    if sys.platform == "linux" and (given() or not on_gpu(gpu)):  # a driver may reserve more of the host than it uses
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limits = [here(), hard] if given() else [here() + UNTOUCHED + (thread_count() - 1) * UNTOUCHED_BY_THREAD, soft, hard]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limit for limit in limits if limit != resource.RLIM_INFINITY), hard))
    if on_gpu(gpu) and given():
        torch = sys.modules["torch"]
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, given() * GIB / whole))
