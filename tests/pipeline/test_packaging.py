"""What is installed, and how the workflow's own files look."""

import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_lock_has_no_hosts(repository):
    assert "://" not in (repository / "requirements.txt").read_text()


def test_lock_has_every_dependency(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    lines = (repository / "requirements.txt").read_text().splitlines()
    locked = {}
    for found in (re.match(r"([\w.-]+)==([^ ;]+)", line) for line in lines):
        if found:
            locked.setdefault(canonicalize_name(found[1]), []).append(found[2])
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement}: not in requirements.txt; run uv pip compile again"
        assert all(version in requirement.specifier for version in versions), f"{requirement}: locked at {versions}"


STYLE = {"ruff": ("check",), "ruff format": ("format", "--check"), "snakefmt": ("--check", "workflow")}


@pytest.mark.parametrize("tool", STYLE)
def test_style(tool, repository):
    command = [sys.executable, "-m", tool.split()[0], *STYLE[tool]]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint(fresh):
    hints = set(re.findall(r"^    \* (.*?):?$", fresh.snakemake("--lint", fails=True), re.M))
    assert hints <= {"Specify a conda environment or container for each rule."}
