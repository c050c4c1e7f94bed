"""Shards of a transfer set: where they lie, and which are whole."""

from pathlib import Path

from ..runtime.errors import UserError
from ..storage import atomic
from .job import Job

FOLDER = ".shards"


def path_of(out, number: int, of: int) -> Path:
    """The file of shard ``number`` of ``of`` of the transfer set ``out``; numbers count from 0."""
    return Path(out).parent / FOLDER / f"{number}-of-{of}.h5"


def key_of(key: str, number: int, of: int) -> str:
    """The key of a shard, from that of the whole set."""
    return f"{key}-{number}-of-{of}"


def whole(job: Job) -> list[Path]:
    """The shards of a job in order, if all of one division are there and carry its key; else none."""
    for first in sorted(path_of(job.out, 0, 1).parent.glob("0-of-*.h5")):
        of = first.stem.removeprefix("0-of-")
        if of.isdecimal() and all(_is_made(job, number, int(of)) for number in range(int(of))):
            return [path_of(job.out, number, int(of)) for number in range(int(of))]
    return []


def _is_made(job, number, of) -> bool:
    try:
        return atomic.key_of(path_of(job.out, number, of)) == key_of(job.key, number, of)
    except UserError:
        return False
