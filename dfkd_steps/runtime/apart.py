"""A call in a process of its own, for libraries that break down on some files or never come to an end with them."""

import faulthandler
import os
import pickle
import resource
import signal
import warnings
from collections.abc import Callable
from typing import Any

PATIENCE = 30


def call(name: str, work: Callable[[], Any], seconds: int) -> Any:
    """What ``work()`` returns, which has to be plain data; what it raises is raised here.

    Raises ValueError, with the ``name`` of the library, where the process breaks down or takes more than ``seconds`` of a
    processor; of a clock, which a busy machine runs out of, PATIENCE times as many.
    """
    receiving, sending = os.pipe()
    if not (child := _fork()):
        with open(sending, "wb") as pipe:
            _answer(work, seconds, pipe)
    os.close(sending)
    with open(receiving, "rb") as pipe:
        answer = pipe.read()
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        endless = -code in (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM)
        raise ValueError(f"{name} {f'does not end with it in {seconds} s' if endless else 'breaks down on it'}")
    found, error = pickle.loads(answer)
    if error:
        raise error
    return found


def _fork() -> int:
    # What is forked does one thing and ends: it needs no lock that another thread may hold.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _answer(work, seconds, pipe):
    """The child's part; ends the process."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE * seconds)  # it may wait for something, and not compute
        faulthandler.disable()  # the parent says it
        found, failed = None, None
        try:
            found = work()
        except Exception as error:
            failed = error.with_traceback(None)
        pipe.write(pickle.dumps((found, failed)))
        pipe.flush()
        code = 0
    finally:
        os._exit(code)
