"""A finished sweep is pushed and pulled into a fresh clone, through a folder and through a real SSH server: nothing runs."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from .conftest import ALL, STUDENT, TEACHER, ZSKD, Copy

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def ssh(tmp_path):
    """The address of an SSH server on this host that lets in one key, and that key."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": tmp_path / "host", "AuthorizedKeysFile": tmp_path / "authorized_keys",
        "PidFile": tmp_path / "sshd.pid", "Subsystem": "sftp internal-sftp", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no",
    }  # fmt: skip
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:  # where the package has never been started, this folder is missing
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    log = (tmp_path / "sshd.log").open("w")
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    try:
        limit = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None and time.monotonic() < limit, (tmp_path / "sshd.log").read_text()
            time.sleep(0.05)
        yield f"ssh://127.0.0.1:{port}{tmp_path / 'remote'}", str(tmp_path / "user")
    finally:
        server.terminate()
        server.wait()
        log.close()


@pytest.fixture(scope="module")
def versioned(by_snakemake, tmp_path_factory):
    """What ``snakemake version`` made of a sweep, committed."""
    copy = by_snakemake.again(tmp_path_factory.mktemp("versioned") / "copy")
    copy.run("git", "add", ".")
    copy.run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a sweep")
    return copy


def share(versioned, address, folder, *settings) -> Copy:
    """Push to a remote, clone with git, pull; the clone, in which nothing was run."""
    remote = [("remote", "add", "--local", "-f", "-d", "shared", address)]
    remote += [("remote", "modify", "--local", "shared", *setting) for setting in settings]
    for command in remote:
        versioned.dvc(*command)
    versioned.dvc("push", "-q")
    clone = Copy(folder / "clone")
    versioned.run("git", "clone", "-q", str(versioned.folder), str(clone.folder))
    assert not (clone.folder / "results").exists() and not (clone.folder / ".dvc/cache").exists()
    for command in remote:
        clone.dvc(*command)
    clone.dvc("pull", "-q")
    return clone


def check_that_nothing_runs(clone, versioned):
    made = versioned.made()
    assert clone.made() == made
    assert f"{ZSKD}/{STUDENT}/metrics.json" in made and "report/results.csv" in made
    assert (
        clone.run(sys.executable, "-m", "dfkd_steps.cli", "audit")
        == f"{sum(ALL.values()) - ALL['report']} artefacts are current, 0 are not\n"
    )
    assert "Nothing to be done" in clone.snakemake()
    assert clone.status() == set()
    assert clone.made() == made


def test_through_a_folder(versioned, tmp_path):
    clone = share(versioned, str(tmp_path / "remote"), tmp_path)
    # Whatever order the files came in: this is the worst.
    clone.run("touch", f"{TEACHER}/teacher.safetensors")
    check_that_nothing_runs(clone, versioned)


@pytest.mark.skipif(not SSHD, reason="no sshd here; install openssh-server (.ci/run does)")
def test_through_ssh(versioned, ssh, tmp_path):
    address, key = ssh
    clone = share(versioned, address, tmp_path, ("keyfile", key), ("allow_agent", "false"))
    assert any((tmp_path / "remote").rglob("??/*")), "the files went through the server"
    assert "Accepted publickey" in (tmp_path / "sshd.log").read_text()
    check_that_nothing_runs(clone, versioned)
