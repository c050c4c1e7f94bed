"""Progress: a bar for a person, a line now and then for a log, and for the terminal of a workflow whose steps write to logs."""

import contextlib
import os
import sys
import time

from tqdm import tqdm

LOG_INTERVAL = 60.0  # seconds between two lines in a log, at least
# A line to the terminal of a workflow: after FIRST seconds, and then with each SHARE of the work or every LAST seconds.
FIRST, SHARE, LAST = 10.0, 0.05, 300.0
WHERE = "DFKD_PROGRESS"  # "FD:PID": where the terminal is, and the shell that opened it
terminal = {"job": "", "fd": None}
clock = {"began": time.monotonic(), "before": 0.0}  # of the job: its start, and seconds of earlier attempts


def begin(job: str):
    """What the lines to the terminal are about: ``job``, as a person knows it.

    The file descriptor counts for the process that the shell PID started, or became, alone: in others its number is another
    file's.
    """
    fd, _, shell = os.environ.get(WHERE, "").partition(":")
    mine = fd.isdecimal() and shell in (str(os.getpid()), str(os.getppid()))
    terminal.update(job=job, fd=int(fd) if mine else None)
    clock.update(began=time.monotonic(), before=0.0)
    if mine:  # Snakemake shows why a queue ended a job below the job's own log, but not below an empty one
        say(f"{job}: begins")


def spent() -> float:
    """Seconds that the job has taken, with those of earlier attempts up to what it goes on from; kept with checkpoints, and told
    in logs alone: no artefact holds a time."""
    return clock["before"] + time.monotonic() - clock["began"]


def resumed(seconds: float):
    """The job goes on from what was reached after so many seconds."""
    clock["before"] = max(clock["before"], seconds)


def tell(line: str):
    """A line to the terminal of the workflow, if there is one."""
    if terminal["fd"] is not None:
        with contextlib.suppress(OSError):  # the terminal may be gone, and the work is to go on
            os.write(terminal["fd"], f"{line}\n".encode())


class Bar(tqdm):
    """A bar of tqdm that also tells the terminal of the workflow."""

    def __init__(self, *args, **how):
        super().__init__(*args, **how)
        self.began, self.said_at, self.said_n = time.monotonic(), 0.0, 0

    def update(self, n=1):
        """Some more is done."""
        displayed = super().update(n)
        if terminal["fd"] is not None and self.total:
            self._tell(time.monotonic() - self.began)
        return displayed

    def _tell(self, spent: float):
        soon = spent - self.said_at < FIRST
        if soon or (self.said_at and self.n - self.said_n < SHARE * self.total and spent - self.said_at < LAST):
            return
        self.said_at, self.said_n = spent, self.n
        left = spent * (self.total - self.n) / max(1, self.n - self.initial)
        postfix = f", {self.postfix}" if self.postfix else ""
        tell(f"  {terminal['job']}: {self.n:,} of {self.total:,} {plural(self.unit)}{postfix}, {duration(left)} left")


class Lines:
    """A log in which each state of a bar is a line: a bar goes back to the start of its own line, and what follows would stand
    behind it there. What is said in between does not draw such a bar again, since it is not on stderr itself."""

    encoding = "ascii"

    def write(self, text: str):
        if text := text.strip():
            sys.stderr.write(f"{text}\n")

    def flush(self):
        sys.stderr.flush()


def plural(unit: str) -> str:
    """Several of a unit: steps, batches, classes."""
    return f"{unit}es" if unit.endswith(("s", "tch")) else f"{unit}s"


def duration(seconds: float) -> str:
    """A time for people, in seconds, minutes or hours."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bar(items=None, *, total=None, initial=0, desc="", unit="it"):
    """``tqdm``: on a terminal a bar that appears after two seconds, in a log file one line a minute."""
    if sys.stderr.isatty():
        timing = {"delay": 2, "dynamic_ncols": True, "smoothing": 0.1}
    else:
        timing = {"delay": LOG_INTERVAL, "mininterval": LOG_INTERVAL, "maxinterval": LOG_INTERVAL, "ncols": 100, "ascii": True}
        timing["file"] = Lines()
    return Bar(items, total=total, initial=initial, desc=desc, unit=unit, **timing)


def say(text: str):
    """One line to the log, past any bar."""
    tqdm.write(text, file=sys.stderr)
