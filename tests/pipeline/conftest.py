"""Both drivers over a tiny real sweep of MNIST digits, each in a copy of the repository; run once for all tests."""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import programs
import pytest

# Nine runs of steps for one method and the baseline; ``source`` is a data set that nothing but the baseline reads.
SWEEP = """
dataset: [mnist-5k+test=100+train=500]
teacher: [lenet5+epochs=1]
transfer: [zskd+batch=20+n=40+steps=5, dataset+n=100+source=mnist-5k]
balance: [equal]
student: [lenet5-half+epochs=1]
source: [mnist-5k]
export: []
"""
DATASET = "results/mnist-5k+test=100+train=500"
TEACHER = f"{DATASET}/lenet5+epochs=1"
ZSKD = f"{TEACHER}/zskd+batch=20+n=40+steps=5"
BASELINE = f"{TEACHER}/dataset+n=100+source=mnist-5k"
STUDENT = "equal/lenet5-half+epochs=1"
ALL = {"dataset": 2, "teacher": 1, "synthesize": 2, "balance": 2, "distill": 2, "evaluate": 2, "report": 1}
COPIED = ("dfkd_steps", "params", "workflow", "dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml")


class Copy:
    """A copy of the repository, with the commands of both drivers."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.forks = True  # programs are forks of one that has imported what they import (programs.py)

    @classmethod
    def of_repository(cls, repository: Path, folder: Path, sweep: str = SWEEP):
        """A fresh checkout with a sweep, by default the tiny one, in git and DVC."""
        folder.mkdir()
        for name in COPIED:
            if (repository / name).is_dir():
                # With what is compiled, which holds as times of modification are kept; not what another process is writing.
                shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
            else:
                shutil.copy2(repository / name, folder / name)
        (folder / "params/experiment.yaml").write_text(sweep)
        copy = cls(folder)
        for command in ("git init -q", "dvc init -q", "dvc config core.analytics false"):
            copy.run(*command.split())
        return copy

    def again(self, folder: Path):
        """A copy of this copy with its results, times of modification included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Copy(folder)

    @staticmethod
    def environment() -> dict[str, str]:
        """What commands find in their environment."""
        found = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        found.pop("DFKD_THREADS", None)  # Snakemake sets it for its profiles, and a step without it takes one
        # Each of many processes would compile the modules again.
        found |= {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
        return found | {"DFKD_DEVICE": "cpu", "DVC_NO_ANALYTICS": "1", "COLUMNS": "200"}

    def run(self, *command: str, fails=False) -> str:
        """What a command prints; the test ends here if it fails, or does not where it has to."""
        code, said = self.ended(*command)
        assert (code != 0) == fails, f"{' '.join(command)}: exit code {code}\n{said}"
        return said

    def ended(self, *command: str) -> tuple[int, str]:
        """The exit code of a command, and what it prints."""
        return (programs.run if self.forks else programs.started)(command, self.folder, self.environment())

    def snakemake(self, *arguments: str, fails=False) -> str:
        return self.run("snakemake", *arguments, fails=fails)

    def dvc(self, *arguments: str, fails=False) -> str:
        return self.run("dvc", *arguments, fails=fails)

    def audit(self, fails=False) -> set[str]:
        """The artefacts that the audit calls stale."""
        lines = self.run(sys.executable, "-m", "dfkd_steps.cli", "audit", fails=fails).splitlines()
        return {line.split(": ")[0] for line in lines if line.startswith("results/")}

    def jobs(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule Snakemake would run."""
        said = self.snakemake(*arguments, "-n", "--quiet", "rules")
        table = re.search(r"^job +count\n[- ]+\n(.*?)\ntotal", said, re.M | re.S)
        found = dict(line.split() for line in table[1].splitlines()) if table else {}
        assert found or "Nothing to be done" in said, said
        return {rule: int(number) for rule, number in found.items() if rule != "all"}

    def changed(self) -> set[str]:
        """The stages that DVC calls changed, after it looked at config, code and files outside; but ``resolve``, which always
        runs."""
        self.dvc("repro", "-q", "resolve")
        return self.status()

    def status(self) -> set[str]:
        """The stages that DVC calls changed by what ``resolve`` found when it last ran, but ``resolve``."""
        return set(re.findall(r"^([\w-]+(?:@\S+)?):$", self.dvc("status"), re.M)) - {"resolve"}

    def edit(self, name: str, old: str, new: str):
        """Change a file; ``old`` has to be in it."""
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    def made(self) -> dict[str, str]:
        """sha256 of every file under results/ and report/ but what is there for the drivers alone."""
        files = [path for top in ("results", "report") for path in (self.folder / top).rglob("*") if path.is_file()]
        named = {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        return {name: digest for name, digest in named.items() if "_resolved" not in name and ".kept." not in name}


def at_once(*calls):
    """What the functions return; run side by side, as most of the time goes into the start of programs."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return [started.result() for started in [pool.submit(call) for call in calls]]


@pytest.fixture(scope="session")
def drivers(repository, tmp_path_factory):
    """Two copies: one made by ``snakemake version``, one by ``dvc repro``. Tests leave them as they are.

    Made once for all processes of pytest-xdist: the first one makes them, and the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "drivers"
    folder.mkdir(exist_ok=True)
    copies = [Copy(folder / name) for name in ("snakemake", "dvc")]
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = folder / "said.json"
        if not said.exists():
            by_snakemake, by_dvc = (Copy.of_repository(repository, copy.folder) for copy in copies)
            by_snakemake.forks = by_dvc.forks = False  # as users start them
            told = at_once(lambda: by_snakemake.snakemake("--cores", "1", "all", "version"), lambda: by_dvc.dvc("repro"))
            said.write_text(json.dumps(told))
    for copy, told in zip(copies, json.loads(said.read_text())):
        copy.said = told
    return copies


@pytest.fixture(scope="session")
def by_snakemake(drivers) -> Copy:
    """A copy that Snakemake made and handed over to DVC."""
    return drivers[0]


@pytest.fixture(scope="session")
def by_dvc(drivers) -> Copy:
    """A copy that DVC made; Snakemake never ran in it."""
    return drivers[1]


@pytest.fixture(scope="session")
def fresh(repository, tmp_path_factory) -> Copy:
    """A copy in which nothing ran."""
    return Copy.of_repository(repository, tmp_path_factory.mktemp("fresh") / "copy")
