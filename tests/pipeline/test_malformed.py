"""Malformed specs and params files: exit code 2, a line for each fault, no traceback, and no file is written.

The steps' own commands run inside this process; what comes through them would end a test with a traceback.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dfkd_steps.pipeline import graph, params, spec
from dfkd_steps.runtime.errors import UserError

from .conftest import at_once
from .steps import command

DRAWN = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}
SOUND = dict(zip(spec.GROUPS, ("mnist-5k", "lenet5", "noise", "none", "lenet5-half")))
STEP_OF = {step.group: name for name, step in graph.STEPS.items() if step.group}


@pytest.fixture(autouse=True)
def here(repository, tmp_path, monkeypatch):
    """A working folder with a copy of the sound part of params/ that nothing but a test writes to."""
    for group, sound in SOUND.items():
        (tmp_path / "params" / group).mkdir(parents=True)
        for path in (repository / "params" / group).rglob(f"{sound}.yaml"):  # alone, since each call looks through all
            (tmp_path / "params" / group / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFKD_DEVICE", "cpu")
    return tmp_path


def entries() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def refused(step: str, *arguments) -> list[str]:
    """The lines that a step ends with; it has to end with code 2 and leave the folder as it was."""
    before = entries()
    code, lines = command(step, *arguments)
    assert code == 2 and lines
    assert all(len(line) < 1200 and line.isprintable() for line in lines), lines
    assert entries() == before
    return lines


# ------------------------------------------------------------------------------------------------- specs
HOSTILE = {
    "up": "../../etc",
    "dots": "..",
    "dots inside": "lenet5+arch=..",
    "hidden": ".ssh",
    "newline": "lenet5\nerror: all is well",
    "carriage return": "lenet5\r",
    "nul": "lenet5\0.yaml",
    "escape": "lenet5\x1b[2J",
    "bell": "\a",
    "home": "~root",
    "shell": "lenet5;touch x",
    "backticks": "`touch x`",
    "variable": "$HOME",
    "interpolation": "lenet5+seed=${oc.env:HOME}",
    "blank": " ",
    "blank after": "lenet5 ",
    "comma": "lenet5,seed=1",
    "quotes": "'lenet5'",
    "percent": "%2e%2e",
    "backslash": "..\\x",
    "option": "--help",
    "response file": "@x",
    "fullwidth": "\uff4c\uff45\uff4eet5",
    "surrogate": "lenet5\udcff",
    "right to left": "lenet5\u202e",
    "one too long": "a" * (spec.MAX_LENGTH + 1),
    "very long": "a" * 5000,
    "very long value": "lenet5+seed=" + "9" * 100_000,
    "out of order": "lenet5+seed=1+epochs=2",
    "twice": "lenet5+seed=1+seed=2",
    "unknown key": "lenet5+sede=1",
    "no value": "lenet5+seed=",
    "no key": "lenet5+=1",
    "kind": "lenet5+kind=import",
    "other spelling": "lenet5+lr=.1",
    "huge": "lenet5+epochs=1e999",
    "below": "lenet5+epochs=0",
    "not a number": "lenet5+lr=nan",
    "a list": "lenet5+mean=1",
    "unknown": "lenet6",
    "a file": "lenet5.yaml",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_specs(name):
    text = HOSTILE[name]
    lines = refused("teacher", f"results/mnist-5k/{text}/teacher.safetensors", "results/mnist-5k/dataset.h5")
    assert len(lines) == 1, lines


@pytest.mark.parametrize("path", ["/results/../etc/passwd", "/etc/passwd", "results", "", ".", "results/", "results//dataset.h5",
                                  "results/../dataset.h5", "results/mnist-5k/../../x/dataset.h5", "results/\0/dataset.h5",
                                  "results/mnist-5k/dataset.h5/", "results/mnist-5k/dataset.h5\n", "a" * 10_000,
                                  "results/" + "a/" * 500 + "dataset.h5", "results/mnist-5k/.dataset.h5.partial"])  # fmt: skip
def test_hostile_paths(path):
    if path == "results/mnist-5k/dataset.h5/":  # a path as good as any other
        assert graph.step_of(path) == "dataset"
        return
    assert len(refused("dataset", path)) == 1


@settings(max_examples=60, **DRAWN)
@given(st.sampled_from(spec.GROUPS), st.text(max_size=40) | st.text("lenet5+seed=1.-_eEtru\n\0/", max_size=40)
       | st.lists(st.tuples(st.sampled_from(["seed", "lr", "n", "arch", "x"]), st.text("019.-+e\n a", max_size=6)), max_size=3)
       .map(lambda pairs: "+".join(["lenet5", *(f"{key}={value}" for key, value in pairs)])))  # fmt: skip
def test_drawn_specs(group, text):
    specs = SOUND | {group: text}
    path = "/".join(["results", *(specs[one] for one in spec.GROUPS[: spec.GROUPS.index(group) + 1])])
    try:
        params.load(group, text)
        assume(False)  # it is sound
    except UserError as error:
        faults = str(error).splitlines()
    lines = refused(STEP_OF[group], f"{path}/{graph.STEPS[STEP_OF[group]].output}", "x")
    assert len(lines) <= max(1, len(faults))


# ------------------------------------------------------------------------------------------------- params files
BROKEN = [
    "", "[]", "3", "null", "hello", "a: [", "\tx", "%", "@", "`", "a: 1\n---\nb: 2", "? x", "- kind: train", "kind",
    "kind: [train]", "kind: trian", "kind: 3", "arch: lenet5", "kind: train", "kind: train\narch: lenet",
    "kind: train\narch: [lenet5]", "kind: train\narch: lenet5\nlr: fast", "kind: train\narch: lenet5\nlr: -1\nepochs: 0",
    "kind: import\narch: lenet5", "kind: import\ncheckpoint: x", "kind: import\ncheckpoint: [x]\narch: lenet5",
    "kind: library\nname: 3",
    "kind: train\narch: lenet5\nseed: 1\nseed: 2", "kind: train\narch: &a lenet5", "kind: !!python/name:os.system x",
    "kind: train\narch: lenet5\nlr: !!python/object/apply:os.system [touch x]", "kind: train\narch: ${oc.env:HOME}",
    "kind: train\narch: lenet5\n<<: {lr: 1}", "{" * 3000, "[" * 3000, "kind: " + "x" * 70_000, "kind: train\narch: lenet5\n\0: 1",
    "kind: train\narch: lenet5\nlr: 1:30", "kind: train\narch: lenet5\nepochs: 0b11", "kind: train\narch: lenet5\nflip: yes",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_broken_files(number):
    name = f"broken{number}"
    Path(f"params/teacher/{name}.yaml").write_text(BROKEN[number])
    lines = refused("teacher", f"results/mnist-5k/{name}/teacher.safetensors", "results/mnist-5k/dataset.h5")
    assert all(f"params/teacher/{name}.yaml: " in line or f"teacher {name!r}: " in line for line in lines), lines
    assert len(lines) == (2 if "epochs: 0\n" in BROKEN[number] + "\n" else 1), lines


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"kind: \xe9", b"\xef\xbb\xbf", b"\0" * 100, os.urandom(200)])
def test_files_that_are_no_text(raw):
    name = f"raw{len(raw)}-{raw[:2].hex()}"
    Path(f"params/teacher/{name}.yaml").write_bytes(raw)
    assert len(refused("teacher", f"results/mnist-5k/{name}/teacher.safetensors", "results/mnist-5k/dataset.h5")) == 1


KEYS = (
    st.sampled_from(["lr", "epochs", "flip", "optimizer", "arch", "seed", "kind", "mean"]) | st.text(max_size=8) | st.integers()
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
NUMBERS = iter(range(10**6))


@settings(max_examples=60, **DRAWN)
@given(
    st.dictionaries(KEYS, VALUES, max_size=5)
    | st.text(max_size=60)
    | st.text("kind: train\narch lenet5&*!{}[]?\"'#", max_size=60)
)
def test_drawn_files(content):
    name = f"drawn{next(NUMBERS)}"
    sound = {"kind": "train", "arch": "lenet5"}
    text = content if isinstance(content, str) else yaml.safe_dump(sound | content)
    Path(f"params/teacher/{name}.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        params.load("teacher", name)
        assume(False)  # it is sound
    except UserError as error:
        faults = str(error).splitlines()
    assert len(refused("teacher", f"results/mnist-5k/{name}/teacher.safetensors", "results/mnist-5k/dataset.h5")) == len(faults)


# ------------------------------------------------------------------------------------------------- real processes
def test_in_processes_of_their_own(repository):
    before = entries()
    commands = [("dataset", "results/../../dataset.h5"), ("teacher", "results/mnist-5k/lenet5\nerror: x/teacher.safetensors"),
                ("synthesize", "results/mnist-5k/lenet5/" + "a" * 3000 + "/transfer_set.h5")]  # fmt: skip

    def run(step, path):
        return subprocess.run([sys.executable, "-m", f"dfkd_steps.{step}", path], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": str(repository)})  # fmt: skip

    for done in at_once(*(functools.partial(run, *one) for one in commands)):
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert done.stderr.startswith("error: ")
    assert entries() == before
