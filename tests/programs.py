"""Programs that tests run: each a fork of a process that has imported what they import, which takes most of a short run.

A program is a process all the same, with arguments, folder, environment and exit of its own; only its imports of other people's
modules are made once for all. Nothing of dfkd_steps is imported before the fork: what a copy of the repository has there, its
program reads itself. Programs that a test kills or sends signals to, and those that make what others are compared with, are
started as ever.

    python tests/programs.py FD       serve the socket FD until its other end is closed
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

LARGEST = 1 << 17  # bytes of a request: arguments and the environment
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
        return command[2] if command[2] in IMPORTED else "dfkd_steps"
    return None


def started(command, folder, environment) -> tuple[int, str]:
    """The exit code of a command, and what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout


def run(command, folder, environment) -> tuple[int, str]:
    """The same, by a fork where it is one of these programs."""
    if kind(command) is None or not sys.platform.startswith("linux"):
        return started(command, folder, environment)
    mine, other = socket.socketpair()
    with mine, tempfile.TemporaryFile("w+") as said:
        request = {"command": command, "folder": str(folder), "environment": environment}
        with other:
            socket.send_fds(control(), [json.dumps(request).encode()], [other.fileno(), said.fileno()])
        code = mine.recv(100)
        assert code, f"{' '.join(command)}: was not started"
        said.seek(0)
        return int(code), said.read()


STARTING = threading.Lock()


def control() -> socket.socket:
    """The socket of the process that forks: started where this one first asks for it, and ended with this one."""
    with STARTING:
        return _started()


@functools.cache
def _started() -> socket.socket:
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
    with other:
        command = [sys.executable, __file__, str(other.fileno())]
        environment = {**os.environ, "PYTHONPATH": ""}
        server = subprocess.Popen(command, env=environment, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
    atexit.register(server.wait)
    atexit.register(mine.close)  # called before the one above
    return mine


def serve(requests):
    """Fork a program for each request. Returns in a program's own process, with the request; in this one it never does."""
    while True:
        message, fds, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if not message:
            with contextlib.suppress(ChildProcessError):
                while os.wait():
                    pass
            sys.exit()
        request = json.loads(message)
        for name in IMPORTED[kind(request["command"])]:
            with contextlib.suppress(ImportError):  # another release, which has it elsewhere
                importlib.import_module(name)
        gc.freeze()
        if os.fork():
            for fd in fds:
                os.close(fd)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            continue
        answer, said = fds
        if program := os.fork():
            os.close(said)
            code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            os.write(answer, str(code).encode())
            os._exit(0)
        os.close(answer)
        requests.close()
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.close(said)
        return request


def become(request):
    """Be the program that was asked for, from its first line to its exit."""
    command = request["command"]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
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
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
