#!/usr/bin/env python3
"""Mutation testing: does a test notice when a line of a method, a loss, a file format or a rule is wrong?

    benchmarks/mutants                            all of benchmarks/mutants.yaml that has no result yet, and the rate
    benchmarks/mutants cmi pool                   those whose name has one of these words, again
    benchmarks/mutants --jobs 4 --results FILE    several side by side; where results are kept (mutants.csv in results/)
    benchmarks/mutants --again survived           also those that ended like this

Each mutant is one changed line, ``old -> new`` in one file, and the tests that have to fail with it. Each runs in a copy of the
tree, in a process that is forked from this one after PyTorch was imported, which saves the two seconds of that import. A
mutant whose tests pass has *survived*; with ``reason`` in the list it is a known survivor. An ``old`` that does not stand
exactly once in its file is an error, before anything runs; ``tests/unit/test_mutants.py`` looks for that too.
"""

import argparse
import contextlib
import csv
import io
import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "benchmarks" / "mutants.yaml"
# All that the tests of the list read.
COPIED = ("dfkd_steps", "tests", "params", "workflow", "dvc.yaml", ".dvcignore", ".gitignore", "pyproject.toml")
KILLED, SURVIVED, TIMEOUT, BROKEN = "killed", "survived", "timeout", "broken"


@dataclass(frozen=True)
class Mutant:
    """One changed line. ``name``: module and what it does; ``tests``: arguments of pytest; ``reason``: why no test can see it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    reason: str = ""


def read(path=LIST) -> list[Mutant]:
    """The mutants of a list, in order."""
    mutants = []
    for part in yaml.safe_load(Path(path).read_text()):
        module = Path(part["file"]).stem
        for entry in part["mutants"]:
            tests = tuple(entry.get("tests", part["tests"]))
            name = f"{module}: {entry['name']}"
            mutants.append(Mutant(name, part["file"], entry["old"], entry["new"], tests, entry.get("reason", "")))
    return mutants


def faults(mutants: list[Mutant], root=ROOT) -> list[str]:
    """What is wrong with a list: one line for each anchor, name or test file that is not as it should be."""
    lines, names = [], set()
    for mutant in mutants:
        text = (root / mutant.file).read_text() if (root / mutant.file).is_file() else ""
        if (times := text.count(mutant.old)) != 1:
            lines.append(f"{mutant.name}: {mutant.old!r} stands {times} times in {mutant.file}; give text that stands once")
        if mutant.old == mutant.new:
            lines.append(f"{mutant.name}: old and new are the same")
        if mutant.name in names:
            lines.append(f"{mutant.name}: two mutants have this name")
        names.add(mutant.name)
        gone = [test for test in mutant.tests if not (root / test.split("::")[0]).exists()]
        lines += [f"{mutant.name}: {test}: no such file of tests" for test in gone]
    return lines


def copy_tree(folder: Path):
    """What the tests need, without compiled files."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


def pytest_in(folder: str, tests: tuple[str, ...], as_it_is: bool):
    """Run tests in a copy of the tree; ends the process with pytest's exit status."""
    os.chdir(folder)
    with open("log", "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # Compiled files are trusted by the second and the size of their source: none may be of a mutant.
    sys.dont_write_bytecode = not as_it_is
    sys.path[:] = [folder, *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "benchmarks"))]
    os.environ["PYTHONPATH"] = folder
    import pytest

    status = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--durations=0", *tests])
    package = sys.modules.get("dfkd_steps")
    inside = package is not None and Path(package.__file__).is_relative_to(folder)
    sys.stdout.flush()
    os._exit(int(status) if inside else 70)


class Run:
    """The tests of a mutant (None: of the code as it is), in a process of their own, in a copy of the tree."""

    def __init__(self, mutant: Mutant | None, folder: Path, tests: tuple[str, ...], limit: float):
        self.mutant, self.folder, self.limit, self.started = mutant, folder, limit, time.monotonic()
        if mutant:
            path = folder / mutant.file
            self.text, self.stat = path.read_text(), path.stat()
            path.write_text(self.text.replace(mutant.old, mutant.new))
        arguments = str(folder), tests, mutant is None
        self.process = multiprocessing.get_context("fork").Process(target=pytest_in, args=arguments)
        self.process.start()

    def ended(self) -> tuple[str, float] | None:
        """The outcome and the seconds, with the copy as before; None while it runs."""
        seconds = time.monotonic() - self.started
        over = seconds > self.limit
        if self.process.is_alive() and not over:
            return None
        self.process.kill()
        self.process.join()
        if self.mutant:
            path = self.folder / self.mutant.file
            path.write_text(self.text)
            os.utime(path, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))
        # 1: a test failed; 2: a module did not import, which no test needs to notice.
        outcome = {0: SURVIVED, 1: KILLED}.get(self.process.exitcode, BROKEN)
        return TIMEOUT if over else outcome, seconds


def side_by_side(mutants: list[Mutant], folders: list[Path], limit: float):
    """Run mutants, one in each copy of the tree at a time; yields (mutant, outcome, seconds) as they end.

    All processes are forked from this thread: one that is forked from another may wait for a lock for ever.
    """
    waiting, running, free = list(mutants), [], list(folders)
    while waiting or running:
        while waiting and free:
            mutant = waiting.pop(0)
            running.append(Run(mutant, free.pop(), mutant.tests, limit))
        multiprocessing.connection.wait([run.process.sentinel for run in running], timeout=1)
        for run in list(running):
            if result := run.ended():
                running.remove(run)
                free.append(run.folder)
                yield run.mutant, *result


def as_it_is(folder: Path, tests: tuple[str, ...], limit: float) -> str:
    """The outcome of tests with the code as it is."""
    running = Run(None, folder, tests, limit)
    running.process.join(limit)
    return running.ended()[0]


def kept(path: Path) -> dict[tuple[str, ...], dict]:
    """Earlier results, by what the mutant was."""
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {key_of(row): row for row in csv.DictReader(file)}


def key_of(row) -> tuple[str, ...]:
    """What makes a result that of a mutant: it must not outlive a change of the line."""
    return row["name"], row["old"], row["new"]


def chosen(mutants, results, given) -> list[Mutant]:
    """The mutants that are to run."""
    if given.words:
        return [mutant for mutant in mutants if any(word in mutant.name for word in given.words)]
    done = {key for key, row in results.items() if row["outcome"] not in given.again}
    return [mutant for mutant in mutants if (mutant.name, mutant.old, mutant.new) not in done]


def preload():
    """Import what every test imports, but nothing of ours."""
    import h5py  # noqa: F401
    import numpy  # noqa: F401
    import omegaconf  # noqa: F401
    import pytest
    import safetensors.torch  # noqa: F401
    import torch

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pytest.main(["-n", "0", "--fixtures", "-p", "no:cacheprovider", os.devnull])  # loads its plugins, which takes seconds

    torch.set_num_threads(1)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # its first use imports much


def report(mutants, results) -> bool:
    """Print who survived and the rate; True where all that survive have a reason."""
    rows = [(mutant, results.get((mutant.name, mutant.old, mutant.new))) for mutant in mutants]
    done = [(mutant, row) for mutant, row in rows if row]
    fell = [mutant for mutant, row in done if row["outcome"] in (KILLED, TIMEOUT)]
    alive = [(mutant, row) for mutant, row in done if row["outcome"] not in (KILLED, TIMEOUT)]
    for mutant, row in alive:
        print(f"{row['outcome']}: {mutant.name}: {mutant.old!r} -> {mutant.new!r}{': ' + mutant.reason if mutant.reason else ''}")
    timeouts = sum(row["outcome"] == TIMEOUT for _, row in done)
    seconds = sum(float(row["seconds"]) for _, row in done)
    print(
        f"{len(fell)} of {len(done)} killed ({timeouts} by timeout), {100 * len(fell) / max(1, len(done)):.1f} %, "
        f"{len(mutants) - len(done)} without a result, {seconds:.0f} s"
    )
    return all(mutant.reason for mutant, _ in alive)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="run the mutants whose name has one of these words, whatever results there are")
    parser.add_argument("--jobs", type=int, default=1, help="side by side")
    parser.add_argument("--limit", type=float, default=120, help="seconds that the tests of a mutant may take")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "mutants.csv", help="where results are kept")
    parser.add_argument("--again", action="append", default=[], help="run again what ended like this: survived, broken, ...")
    given = parser.parse_args()
    mutants = read()
    if wrong := faults(mutants):
        print(*wrong, sep="\n")
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    preload()
    results = kept(given.results)
    todo = chosen(mutants, results, given)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))).resolve() for _ in range(given.jobs)]
        copy_tree(folders[0])
        every = tuple(dict.fromkeys(test for mutant in todo for test in mutant.tests))
        if todo and as_it_is(folders[0], every, 20 * given.limit) != SURVIVED:
            print((folders[0] / "log").read_text()[-3000:], "the tests fail with the code as it is", sep="\n")
            return 2
        for folder in folders[1:]:
            shutil.copytree(folders[0], folder, dirs_exist_ok=True)
        file = stack.enter_context(open(given.results, "a", newline=""))
        writer = csv.writer(file)
        if not file.tell():
            writer.writerow(["name", "old", "new", "outcome", "seconds"])
        for mutant, ended, seconds in side_by_side(todo, folders, given.limit):
            writer.writerow([mutant.name, mutant.old, mutant.new, ended, f"{seconds:.1f}"])
            file.flush()
            print(f"{ended:8} {seconds:5.1f} s  {mutant.name}", flush=True)
    return 0 if report(mutants, kept(given.results)) else 1


if __name__ == "__main__":
    sys.exit(main())
