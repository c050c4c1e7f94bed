"""Ask the process of programs.py for a program and be like it: its files, its output, its exit code, its end by a signal.

python -IS tests/forked_program.py ADDRESS COMMAND...       the command, here and in this environment
"""

import json
import os
import signal
import socket
import sys

LARGEST = 1 << 17  # bytes of a request: arguments and the environment
MOST = 10  # files that a program begins with, by number


def ask(address: str, command: list[str], folder: str, environment: dict[str, str], files: dict[int, int]) -> int:
    """The exit code of a program, negative if a signal ended it; files: its number of each -> that in this process."""
    request = {"command": command, "folder": folder, "environment": environment, "fds": list(files)}
    request["parents"] = [os.getpid(), os.getppid()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], list(files.values()))
        code = connection.recv(100)
    assert code, f"{' '.join(command)}: was not started"
    return int(code)


def is_open(fd: int) -> bool:
    """Whether this process was given a file of that number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def main():
    """The command; ends as the program does."""
    files = {fd: fd for fd in range(MOST) if is_open(fd)}
    code = ask(sys.argv[1], sys.argv[2:], os.getcwd(), dict(os.environ), files)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
