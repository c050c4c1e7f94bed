"""Shards of a transfer set: where they lie, and which are whole."""

import re
from pathlib import Path

from ..runtime.errors import UserError
from ..storage import atomic, hdf5
from .job import Job

FOLDER = ".shards"
SHARD = re.compile(r"^\.?\d+-of-\d+\.h5")


def path_of(out, number: int, of: int) -> Path:
    """The file of shard ``number`` of ``of`` of the transfer set ``out``; numbers count from 0."""
    return Path(out).parent / FOLDER / f"{number}-of-{of}.h5"


def key_of(key: str, number: int, of: int) -> str:
    """The key of a shard, from that of the whole set."""
    return f"{key}-{number}-of-{of}"


def beside(out) -> list[tuple[int, int]]:
    """Number and count of each shard that lies beside the transfer set ``out``."""
    spelled = [path.stem.partition("-of-") for path in sorted((Path(out).parent / FOLDER).glob("*-of-*.h5"))]
    return [(int(number), int(of)) for number, _, of in spelled if number.isdecimal() and of.isdecimal()]


def is_made(out, key: str, number: int, of: int) -> bool:
    """Is a shard of the transfer set ``out`` there, made under the set's key? Its content is not read."""
    try:
        return atomic.key_of(path_of(out, number, of)) == key_of(key, number, of)
    except UserError:
        return False


def clear(out):
    """Delete the shards of the transfer set ``out``, which is there now, of whatever division, and what they worked in, but for
    locks: they are never read again."""
    for path in (Path(out).parent / FOLDER).glob("*"):
        if SHARD.search(path.name) and path.suffix != ".lock":
            path.unlink()


def whole(job: Job) -> list[Path]:
    """The shards of a job in order, if all of one division are there and carry its key; else none. Raises UserError where one
    is damaged: the set that is put together has a checksum of its own."""
    for of in sorted({of for _, of in beside(job.out)}):
        if all(is_made(job.out, job.key, number, of) for number in range(of)):
            paths = [path_of(job.out, number, of) for number in range(of)]
            for path in paths:
                hdf5.check(path)
            return paths
    return []
