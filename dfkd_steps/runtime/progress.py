"""Progress: a bar for a person, a line now and then for a log."""

import sys
import time

from tqdm import tqdm


def bar(items=None, *, total=None, initial=0, desc="", unit="it", every=60.0):
    """Like ``tqdm``. On a terminal a bar, after two seconds; in a log file one line at most each ``every`` seconds."""
    if sys.stderr.isatty():
        return tqdm(items, total=total, initial=initial, desc=desc, unit=unit, delay=2, dynamic_ncols=True, smoothing=0.1)
    return _Log(items, total=total, initial=initial, desc=desc, unit=unit, every=every)


def say(text: str):
    """One line to the log, past any bar."""
    tqdm.write(text, file=sys.stderr)


class _Log:
    def __init__(self, items, total, initial, desc, unit, every):
        self.items, self.n, self.desc, self.unit, self.every = items, initial, desc, unit, every
        self.total = len(items) if total is None and hasattr(items, "__len__") else total
        self.last, self.postfix = time.monotonic(), ""

    def __iter__(self):
        for item in self.items:
            yield item
            self.update()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def set_postfix_str(self, text, refresh=False):
        self.postfix = f", {text}"

    def update(self, number=1):
        self.n += number
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            print(f"{self.desc}: {self.n}/{self.total or '?'} {self.unit}{self.postfix}", file=sys.stderr, flush=True)
