"""Programs that tests run: each a fork of a process that has imported what they import, which takes most of a short run.

A program is a process all the same, with arguments, folder, environment and exit of its own; only its imports of other people's
modules are made once for all. Nothing of dfkd_steps is imported before the fork: what a copy of the repository has there, its
program reads itself. Programs that a test kills or sends signals to, and those that make what others are compared with, are
started as ever.

Steps are such programs too: Snakemake and DVC find a ``python`` in their PATH that asks for a fork (forked_program.py).

    python tests/programs.py FOLDER SOCKET PIPE       fork for whoever connects, until the pipe is closed at its other end
"""

import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from forked_program import LARGEST, MOST, ask

# What is imported before a program is forked: what it imports itself, and Snakemake when it reads the Snakefile.
READ = ("h5py", "jinja2", "jsonschema", "numpy", "omegaconf", "safetensors.numpy", "tqdm", "yaml")
IMPORTED = {
    "snakemake": ("snakemake.cli", "pandas", "PIL.Image", *READ),
    "dvc": ("dvc.cli", "dvc.commands.dag", "dvc.repo", "dvc.repo.plots", "dvc.data_cloud", "scmrepo.git", "dulwich.client"),
    "dfkd_steps.cli": READ,
    "dfkd_steps.resolve": READ,
    "dfkd_steps": ("torch", "PIL.Image", *READ),
}


def kind(command) -> str | None:
    """The entry of IMPORTED for a command, or None for a program that is started as ever."""
    if command[0] in ("snakemake", "dvc"):
        return command[0]
    if command[0] in ("python", sys.executable) and command[1] == "-m" and command[2].startswith("dfkd_steps."):
        runs_a_step = command[2] == "dfkd_steps.resolve" and len(command) > 3
        return command[2] if command[2] in IMPORTED and not runs_a_step else "dfkd_steps"
    return None


def started(command, folder, environment) -> tuple[int, str]:
    """The exit code of a command, and what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def run(command, folder, environment) -> tuple[int, str]:
    """The same, by a fork where it is one of these programs; the steps that it starts are forks as well."""
    if kind(command) is None or not sys.platform.startswith("linux"):
        return started(command, folder, environment)
    place = served()
    environment = environment | {"PATH": f"{place}:{environment['PATH']}"}
    with tempfile.TemporaryFile("w+") as said:
        code = ask(f"{place}/socket", list(command), str(folder), environment, {1: said.fileno(), 2: said.fileno()})
        said.seek(0)
        return code, said.read()


STARTING = threading.Lock()


def served() -> str:
    """The folder with the socket of the process that forks, and with a ``python`` that asks it for steps. The process is started
    where this one first asks for it, and ends with this one."""
    with STARTING:
        return _served()


@functools.cache
def _served() -> str:
    place = tempfile.mkdtemp(prefix="programs-")
    client = shlex.join([sys.executable, "-IS", str(Path(__file__).with_name("forked_program.py")), f"{place}/socket"])
    python = shlex.quote(sys.executable)
    Path(place, "python").write_text(
        f"""#!/bin/sh
case "$1 $2" in "-m dfkd_steps."*) exec {client} {python} "$@";; esac
exec {python} "$@"
"""
    )
    Path(place, "python").chmod(0o755)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{place}/socket")
    listener.listen(MOST)
    ended, _ = os.pipe()  # the other end is closed when this process ends, however it does
    command = [sys.executable, __file__, place, str(listener.fileno()), str(ended)]
    environment = {**os.environ, "PYTHONPATH": ""}
    with listener:
        subprocess.Popen(command, env=environment, pass_fds=[listener.fileno(), ended], stdin=subprocess.DEVNULL)
    os.close(ended)
    return place


def serve(place: str, listener: socket.socket, ended: int):
    """Fork a program for each request. Returns in a program's own process, with the request; in this one it never does."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if ended in select.select([listener, ended], [], [])[0]:
            shutil.rmtree(place)
            sys.exit()
        connection = listener.accept()[0]
        message, fds, _, _ = socket.recv_fds(connection, LARGEST, MOST)
        request = json.loads(message)
        for name in IMPORTED[kind(request["command"])]:
            with contextlib.suppress(ImportError):  # another release, which has it elsewhere
                importlib.import_module(name)
        gc.freeze()
        if os.fork():
            connection.close()
            for fd in fds:
                os.close(fd)
            continue
        listener.close()
        os.close(ended)
        if program := os.fork():
            for fd in fds:
                os.close(fd)
            watch(program, connection)
        connection.close()
        arrange(request["fds"], fds)
        return request


def watch(program: int, connection: socket.socket):
    """Tell the one who asked for a program how it ended; end it where the other has ended."""
    if connection in select.select([os.pidfd_open(program), connection], [], [])[0]:
        os.kill(program, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with contextlib.suppress(OSError):
        connection.send(str(code).encode())
    os._exit(0)


def arrange(numbers, fds):
    """Give the open files ``fds`` the numbers that they have where the program was asked for."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(numbers) + 1) for fd in fds]
    for fd in fds:
        os.close(fd)
    for number, fd in zip(numbers, moved):
        os.dup2(fd, number)
        os.close(fd)


def become(request):
    """Be the program that was asked for, from its first line to its exit."""
    command = request["command"]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    fd, _, shell = os.environ.get("DFKD_PROGRESS", "").partition(":")
    if shell and int(shell) in request["parents"]:
        os.environ["DFKD_PROGRESS"] = f"{fd}:{os.getpid()}"
    script = shutil.which(command[0]) if kind(command) == command[0] else None
    sys.argv = [script, *command[1:]] if script else command[2:]
    sys.orig_argv = [sys.executable, *(sys.argv if script else command[1:])]
    above = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.path.dirname(script) if script else request["folder"], *above]
    if script:
        runpy.run_path(script, run_name="__main__")
    else:
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    become(serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])))
