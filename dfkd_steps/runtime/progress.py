"""Progress: a bar for a person, a line now and then for a log."""

import sys

from tqdm import tqdm

LOG_INTERVAL = 60.0  # seconds between two lines in a log, at least


def bar(items=None, *, total=None, initial=0, desc="", unit="it"):
    """``tqdm``: on a terminal a bar that appears after two seconds, in a log file one line a minute."""
    if sys.stderr.isatty():
        timing = {"delay": 2, "dynamic_ncols": True, "smoothing": 0.1}
    else:
        timing = {"delay": LOG_INTERVAL, "mininterval": LOG_INTERVAL, "maxinterval": LOG_INTERVAL, "ncols": 100, "ascii": True}
    return tqdm(items, total=total, initial=initial, desc=desc, unit=unit, **timing)


def say(text: str):
    """One line to the log, past any bar."""
    tqdm.write(text, file=sys.stderr)
