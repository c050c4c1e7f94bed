"""Step: a part of a transfer set, so that several jobs make one set. `synthesize` finds the shards and puts them together.

    python -m dfkd_steps.shard results/.../transfer_set.h5 NUMBER OF IN...

The set is the same to the byte, whatever the number of shards.
"""

import sys

from . import synthesize
from .pipeline import shards
from .pipeline.job import Job, parse_job, run_guarded, say_memory
from .runtime import progress
from .runtime.device import select_device
from .runtime.errors import UserError
from .storage import atomic


def share(partitions: list[range], number: int, of: int) -> range:
    """The batches of shard ``number`` of ``of``, no more than there are partitions: whole ones, in order."""
    mine = partitions[number * len(partitions) // of : (number + 1) * len(partitions) // of]
    return range(mine[0].start, mine[-1].stop)


def run(job: Job, number: int, of: int):
    """Make shard ``number`` of ``of`` of a job of ``synthesize``."""
    device = select_device()
    method = synthesize.make(job, device)
    partitions = method.partitions()
    if of > len(partitions):
        raise UserError(f"{job.out}: {of} shards are more than its {len(partitions)} parts; use fewer")
    batches = share(partitions, number, of)
    out, key = shards.path_of(job.out, number, of), shards.key_of(job.key, number, of)
    with atomic.exclusive(out, key) as partial:
        if partial is None:
            return
        writer, history = synthesize.fill(job, method, batches, partial, key)
        samples = synthesize.finish(job, method, writer, synthesize.kept_by(method), history, partial, out)
    progress.say(f"shard {number} of {of}: {samples} samples, {progress.spent():.1f} s, key {job.key}")
    say_memory("shard")


def arguments(argv: list[str]):
    """Job, number and count of the command line."""
    if len(argv) < 4 or not all(number.isdecimal() for number in argv[1:3]) or not int(argv[1]) < int(argv[2]):
        given = " ".join(argv) or "nothing"
        raise UserError(f"shard: {given}: expected OUT NUMBER OF IN..., NUMBER from 0 to OF - 1; like transfer_set.h5 0 4 IN")
    return parse_job("synthesize", [argv[0], *argv[3:]]), int(argv[1]), int(argv[2])


if __name__ == "__main__":
    run_guarded("shard", lambda: run(*arguments(sys.argv[1:])))
