"""Calls in a process of its own, for libraries that break down on some files or never come to an end with them."""

import contextlib
import faulthandler
import os
import pickle
import resource
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any

PATIENCE = 30
FILES = 4096  # numbers of files that a process may have open, at most


class Worker:
    """A process that makes one call after another, each a function of a module with its arguments, until one breaks it down.

    Forked at the first call, as a process for each call would cost as much as twenty calls where torch is loaded.
    """

    def __init__(self):
        self.lock, self.child, self.pipe = threading.Lock(), 0, None

    def call(self, name: str, seconds: int, work: Callable[..., Any], *arguments) -> Any:
        """What ``work(*arguments)`` returns, which has to be plain data; what it raises is raised here.

        Raises ValueError, with the ``name`` of the library, where the process breaks down or takes more than ``seconds`` of a
        processor; of a clock, which a busy machine runs out of, PATIENCE times as many.
        """
        request = pickle.dumps((seconds, PATIENCE * seconds, work, arguments))
        with self.lock:
            if not self._alive():
                self._begin()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ends: the answer is missing
                self.pipe.write(len(request).to_bytes(8, "big") + request)
                self.pipe.flush()
            answer = _message(self.pipe)
            if answer is None:
                raise ValueError(f"{name} {self._end(seconds)}")
        result, error = pickle.loads(answer)
        if error:
            raise error
        return result

    def _alive(self) -> bool:
        """Whether this process has a worker that goes on; that of the process from which this one was forked is not its child."""
        with contextlib.suppress(ChildProcessError):
            return self.child > 0 and os.waitpid(self.child, os.WNOHANG) == (0, 0)
        return False

    def _begin(self):
        mine, its = socket.socketpair()
        child = _fork()
        if not child:
            _serve(its)
        its.close()
        self.child, self.pipe = child, mine.makefile("rwb")

    def _end(self, seconds) -> str:
        """Why the worker has ended."""
        code, self.child = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1]), 0
        endless = -code in (signal.SIGXCPU, signal.SIGALRM)
        return f"does not finish with it in {seconds} s" if endless else "crashes on it"


WORKER = Worker()
call = WORKER.call


def _fork() -> int:
    # What is forked needs no lock that another thread may hold.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _message(pipe) -> bytes | None:
    """What was sent, its length before it; None where the other side is gone."""
    with contextlib.suppress(ConnectionResetError):
        length = pipe.read(8)
        content = pipe.read(int.from_bytes(length, "big"))
        return content if len(length) == 8 and len(content) == int.from_bytes(length, "big") else None
    return None


def _serve(its):
    """The worker's part; ends the process, when the other side is gone at the latest."""
    try:
        # Locks, logs and pipes of the other process are to end with it. What goes wrong it says itself.
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        os.closerange(3, its.fileno())
        os.closerange(its.fileno() + 1, FILES)
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        pipe = its.makefile("rwb")
        while (request := _message(pipe)) is not None:
            answer = _answer(request)
            pipe.write(len(answer).to_bytes(8, "big") + answer)
            pipe.flush()
    finally:
        os._exit(0)


def _answer(request: bytes) -> bytes:
    seconds, patience, work, arguments = pickle.loads(request)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent.ru_utime + spent.ru_stime) + seconds + 1, hard))
    signal.alarm(patience)  # it may wait for something, and not compute
    result, failed = None, None
    try:
        result = work(*arguments)
    except Exception as error:
        failed = error.with_traceback(None)
    signal.alarm(0)
    return pickle.dumps((result, failed))
