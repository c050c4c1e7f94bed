"""Kill a sweep at random moments, start it again each time, and compare with an undisturbed run.

    python tests/pipeline/crash.py KILLS [--seed 0] [--cores 2] [--folder DIR]
    python tests/pipeline/crash.py --calls       stop each step at each of its file-system calls in turn instead (calls.py)

Each time one process of the sweep, taken at random (Snakemake itself, a shell, a step), gets a kill -9. What the killed
process had started goes on, and so may work beside the next run. Whenever the sweep ends, every file has to have the
sha256 of the undisturbed run, nothing hidden may be left, and the sweep starts over from nothing.
"""

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline import calls
from pipeline.conftest import Copy

SWEEP = """
dataset: [mnist-5k+test=100+train=1000]
teacher: [lenet5+epochs=4]
transfer: [zskd+batch=20+n=300+steps=40, noise+n=2000, dataset+n=300+source=mnist-5k]
balance: [equal, none]
student: [lenet5-half+epochs=6]
source: [mnist-5k]
"""
STARTING, WORKING = 6.0, 8.0  # seconds: a kill comes so long after the start, or after the first job has begun


def session(leader: int) -> dict[int, str]:
    """Process id and command line of every process that a session leader started, and of itself."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            after_name = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            if int(after_name[3]) == leader and after_name[0] != "Z":
                found[int(entry.name)] = Path(entry.path, "cmdline").read_text().replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


def kind(command: str) -> str:
    """Which part of a sweep a command line is."""
    if "dfkd_steps." in command:
        name = command.split("dfkd_steps.")[1].split()[0]
        return name if command.startswith("python -m") else f"shell of {name}"
    return "snakemake" if "snakemake" in command else "other"


def kill_once(copy: Copy, rng, cores: int) -> str | None:
    """Start the sweep and kill one process of it; returns what that was, or None where the sweep ended before."""
    if any((copy.folder / ".snakemake/locks").glob("*")):
        copy.snakemake("--unlock")
    with open(copy.folder / "said", "w") as said:
        main = subprocess.Popen(["snakemake", "--cores", str(cores)], cwd=copy.folder, env=copy.environment(),
                                stdout=said, stderr=said, start_new_session=True)  # fmt: skip
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, STARTING))
    else:
        while main.poll() is None and not any("dfkd_steps." in command for command in session(main.pid).values()):
            time.sleep(0.05)
        time.sleep(rng.uniform(0, WORKING))
    if main.poll() is None and (there := session(main.pid)):
        victim = rng.choice(sorted(there))
        os.kill(victim, signal.SIGKILL)
        main.wait(timeout=300)
        return kind(there[victim])
    assert main.wait() == 0, (copy.folder / "said").read_text()
    return None


def compare(copy: Copy, expected: dict[str, str]):
    """Is every file there, with the bytes of the undisturbed run, and nothing beside?"""
    made = copy.made()
    wrong = sorted(name for name in {*made, *expected} if made.get(name) != expected.get(name))
    assert not wrong, f"not as in an undisturbed run: {', '.join(wrong)} in {copy.folder}"


def disturb(copy: Copy, expected, kills: int, seed: int, cores: int) -> collections.Counter:
    """Kill so many times, then let the sweep end; returns what was killed how often. AssertionError if a file differs."""
    rng, killed = random.Random(seed), collections.Counter()
    while killed.total() < kills:
        victim = kill_once(copy, rng, cores)
        if victim is None:
            compare(copy, expected)
            copy.run("rm", "-r", "results", "report")
        else:
            killed[victim] += 1
            print(f"{killed.total():3}  killed {victim}", flush=True)
    if any((copy.folder / ".snakemake/locks").glob("*")):
        copy.snakemake("--unlock")
    copy.snakemake("--cores", str(cores))
    compare(copy, expected)
    assert copy.audit() == set()
    return killed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, metavar="KILLS", nargs="?", default=0)
    parser.add_argument("--calls", action="store_true", help="stop at each file-system call in turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", help="where to work; kept (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, root = Path(given.folder or temporary), Path(__file__).parents[2]
        folder.mkdir(parents=True, exist_ok=True)
        if given.calls:
            os.environ["DFKD_DEVICE"] = "cpu"
            os.chdir(folder)
            print(f"stopped at {calls.sweep(folder, root)} places, and no byte differs")
            return
        undisturbed, disturbed = (Copy.of_repository(root, folder / name, SWEEP) for name in ("undisturbed", "disturbed"))
        undisturbed.snakemake("--cores", str(given.cores))
        expected = undisturbed.made()
        started = time.monotonic()
        killed = disturb(disturbed, expected, given.kills, given.seed, given.cores)
        print(f"{killed.total()} kills in {(time.monotonic() - started) / 60:.0f} min: "
              f"{', '.join(f'{name} {number}' for name, number in killed.most_common())}")  # fmt: skip
        print(f"all {len(expected)} files have the sha256 of an undisturbed run, and the audit finds no fault")


if __name__ == "__main__":
    main()
