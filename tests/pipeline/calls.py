"""Stop a step at a file-system call of its own, run it again, and compare with an undisturbed run.

Each call below results/ and report/ that changes something is a place to stop: before it, and for calls that write also with
half of their content there. A step runs in a child process, which ends at once, as after a kill -9.
"""

import contextlib
import io
import os
import random
import shutil
import sys
from pathlib import Path

from dfkd_steps import report
from dfkd_steps.pipeline import graph
from dfkd_steps.storage import checkpoint

from . import steps

CHAIN = {
    "teacher": "lenet5+epochs=3",
    "transfer": "of-rounds",  # checkpoints of rounds
    "balance": "equal+push_steps=0",  # classes that are drawn again
    "student": "lenet5-half+epochs=3",
}
REPORT = ("report/index.html", "report/results.csv", "report/summary.json")
PATCHED = ("replace", "rename", "unlink", "remove", "fsync", "ftruncate", "posix_fallocate", "pwrite")
WRITING = ("open", "pwrite")
STOPPED = 9


class Stop:
    """Counts the calls of this process, and ends it at call number ``at``, before it or in its middle."""

    def __init__(self, at: int | None = None, middle: bool = False):
        self.at, self.middle, self.names = at, middle, []
        for name in PATCHED:
            self._patch(name)
        sys.addaudithook(self._opened)

    def _patch(self, name):
        plain = getattr(os, name)

        def call(target, *arguments, **options):
            if self._reached(name, target):
                if self.middle and name == "pwrite":
                    plain(target, arguments[0][: len(arguments[0]) // 2], *arguments[1:])
                os._exit(STOPPED)
            return plain(target, *arguments, **options)

        setattr(os, name, call)

    def _opened(self, event, arguments):
        writes = event == "open" and isinstance(arguments[1], str) and set("wxa+") & set(arguments[1])
        if writes and self._reached("open", arguments[0]):
            if self.middle:
                with io.FileIO(os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as file:
                    file.write(b"half of it")
            os._exit(STOPPED)

    def _reached(self, name, target) -> bool:
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.path.abspath(os.fsdecode(target))
        if not Path(path).is_relative_to(Path("results").absolute()) and not Path(path).is_relative_to(Path("report").absolute()):
            return False
        self.names.append(name)
        return len(self.names) - 1 == self.at


def make(job: str) -> int:
    """Run a step of the chain, or the report over it; returns its exit code."""
    if job != "report":
        return steps.make(job)[0]
    with contextlib.redirect_stdout(io.StringIO()):
        return report.main([REPORT[0], steps.PATHS["evaluate"]])


def run(job: str, at: int | None = None, middle: bool = False) -> tuple[int, list[str]]:
    """Exit code of a job in a child process that is stopped at a call, and the names of the calls that it made."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        checkpoint.EVERY = 0.0
        stop = Stop(at, middle)
        code = make(job)
        os.write(writer, " ".join(stop.names).encode())
        os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read().decode().split()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


def outputs(job: str) -> list[Path]:
    """The files that a job makes."""
    if job == "report":
        return list(map(Path, REPORT))
    out = Path(steps.PATHS[job])
    return [out, out.with_name("history.csv")] if job in ("teacher", "distill") else [out]


def places(job: str) -> list[tuple[int, bool]]:
    """Where a job can be stopped: number of the call, and whether in its middle."""
    remove(job)
    code, names = run(job)
    assert code == 0 and names, (job, code, names)
    return [(at, middle) for at, name in enumerate(names) for middle in ((False, True) if name in WRITING else (False,))]


def remove(job: str):
    """Take away what a job makes, and what it keeps hidden."""
    for path in outputs(job):
        path.unlink(missing_ok=True)
    for path in hidden():
        path.unlink()


def hidden() -> list[Path]:
    """Hidden files below results/ and report/."""
    return [path for top in ("results", "report") for path in Path(top).rglob(".*") if path.is_file()]


def disturb(job: str, place: tuple[int, bool], expected: dict[Path, bytes]):
    """Stop a job at a place, run it again, and compare: AssertionError where a byte differs or a hidden file stays."""
    remove(job)
    code, _ = run(job, *place)
    assert code == STOPPED, (job, place, code)
    assert run(job)[0] == 0, (job, place)
    for path, content in expected.items():
        assert path.read_bytes() == content, (job, place, path)
    assert not hidden(), (job, place, hidden())


def chain(folder: Path, repository: Path, without=()) -> dict[str, dict[Path, bytes]]:
    """Make the chain in ``folder``, which is the working folder; job -> its files and their content."""
    steps.make_chain(folder, repository, CHAIN, without)
    Path("report").mkdir()
    assert make("report") == 0
    jobs = [job for job in (*graph.STEPS, "report") if job not in without]
    return {job: {path: path.read_bytes() for path in outputs(job)} for job in jobs}


def sweep(folder: Path, repository: Path, share: float = 1.0, seed: int = 0, without=(), say=print) -> int:
    """Disturb all jobs but those ``without`` at a share of all places, drawn by ``seed``; returns at how many."""
    expected, rng, done = chain(folder, repository, without), random.Random(seed), 0
    for job, files in expected.items():
        there = places(job)
        drawn = rng.sample(there, max(1, round(share * len(there))))
        for place in sorted(drawn):
            disturb(job, place, files)
        done += len(drawn)
        say(f"{job}: {len(drawn)} of {len(there)} places, no byte differs")
        shutil.rmtree("logs", ignore_errors=True)
    return done
