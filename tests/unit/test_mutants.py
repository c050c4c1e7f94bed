"""The list of mutants: each of its lines stands in the code, and the script tells a test that notices from one that does not."""

import argparse
import os
import subprocess
import sys

import pytest
import yaml


@pytest.fixture(scope="module")
def mutants(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    import mutants

    sys.path.remove(str(repository / "benchmarks"))
    return mutants


def test_the_list_is_alive(mutants):
    listed = mutants.read()
    assert mutants.faults(listed) == [] and len(listed) >= 150
    assert sum("(E1)" in one.name for one in listed) >= 10


def test_faults_of_a_list(mutants, tmp_path):
    (tmp_path / "code.py").write_text("a = 1\nb = 1\n")
    (tmp_path / "test_it.py").touch()

    def made(name, old, new="2", tests=("test_it.py::test_a[x]",)):
        return mutants.Mutant(name, "code.py", old, new, tests)

    listed = [made("once", "a = 1"), made("twice", "= 1"), made("gone", "c"), made("once", "b"), made("same", "b", "b"),
              made("no test", "b", tests=("test_other.py",)),
              mutants.Mutant("no file", "other.py", "a", "b", ("test_it.py",))]  # fmt: skip
    assert mutants.faults(listed, tmp_path) == [
        "twice: '= 1' stands 2 times in code.py; give text that stands once",
        "gone: 'c' stands 0 times in code.py; give text that stands once",
        "once: two mutants have this name",
        "same: old and new are the same",
        "no test: test_other.py: no such file of tests",
        "no file: 'a' stands 0 times in other.py; give text that stands once",
    ]


TESTS = """import time
from dfkd_steps.code import double

def test_it():
    assert double(2) == 4
    while double(1) < 0:
        time.sleep(1)
"""


def test_what_is_killed_survives_or_hangs_is_told_kept_and_not_run_again(mutants, repository, tmp_path, capsys):
    """On a tree of its own, by the script as it is called."""
    for folder in ("benchmarks", "dfkd_steps", "tests", "params", "workflow"):
        (tmp_path / folder).mkdir()
    for name in ("benchmarks/mutants.py", *(name for name in mutants.COPIED if (repository / name).is_file())):
        (tmp_path / name).write_text((repository / name).read_text())
    (tmp_path / "dfkd_steps" / "__init__.py").touch()
    (tmp_path / "dfkd_steps" / "code.py").write_text("def double(number):\n    return 2 * number\n")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    listed = {"killed": "3 * number", "survived": "number + number", "timeout": "4 if number == 2 else -1", "broken": "("}
    described = [{"name": name, "old": "2 * number", "new": new} for name, new in listed.items()]
    part = {"file": "dfkd_steps/code.py", "tests": ["tests/test_it.py"], "mutants": described}
    (tmp_path / "benchmarks" / "mutants.yaml").write_text(yaml.safe_dump([part]))

    command = [sys.executable, str(tmp_path / "benchmarks" / "mutants.py"), "--limit", "8", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1 and "2 of 4 killed (1 by timeout), 50.0 %, 0 without a result" in done.stdout, done.stdout
    rows = [line.split(",") for line in (tmp_path / "results" / "mutants.csv").read_text().splitlines()[1:]]
    assert {row[0].removeprefix("code: "): row[3] for row in rows} == {name: name for name in listed}
    assert (tmp_path / "dfkd_steps" / "code.py").read_text().count("2 * number") == 1  # the tree itself is never changed

    described[1]["reason"], described[3]["reason"] = "it is the same", "it is no Python"
    described[0]["new"] = "5 * number"  # another line, another mutant
    (tmp_path / "benchmarks" / "mutants.yaml").write_text(yaml.safe_dump([part]))
    again, results = (
        mutants.read(tmp_path / "benchmarks" / "mutants.yaml"),
        mutants.kept(tmp_path / "results" / "mutants.csv"),
    )

    def names(*words, again_too=()):
        how = argparse.Namespace(words=list(words), again=list(again_too))
        return [one.name.removeprefix("code: ") for one in mutants.chosen(again, results, how)]

    assert names() == ["killed"] and names(again_too=["survived"]) == ["killed", "survived"] and names("brok") == ["broken"]
    assert mutants.report(again, results)  # all that did not fall have a reason
    said = capsys.readouterr().out
    assert "survived: code: survived: '2 * number' -> 'number + number': it is the same" in said
    assert "1 of 3 killed (1 by timeout), 33.3 %, 1 without a result" in said
