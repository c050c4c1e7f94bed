"""Every file in params/ and every default, and the page that lists them."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import yaml

from dfkd_steps.pipeline import params, spec, sweep
from dfkd_steps.reporting import config_reference
from dfkd_steps.schemas import fields

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params"
FILES = [(group, name) for group in spec.GROUPS for name in params.names(group, PARAMS)]
NEEDS = {"dataset": "dataset+source=mnist-5k"}  # names that are a config with an override only


@pytest.mark.parametrize(("group", "name"), FILES, ids=map("/".join, FILES))
def test_every_file_loads_says_what_it_is_and_repeats_no_value(group, name):
    """Neither a default nor, where it has a base, a value of that."""
    resolved = params.load(group, NEEDS.get(name, name), PARAMS)
    path = params.path_of(group, name, PARAMS)
    assert path.read_text().startswith("# ")
    given = yaml.safe_load(path.read_text())
    base = yaml.safe_load(params.path_of(group, given["base"], PARAMS).read_text()) if "base" in given else {}
    for item in dataclasses.fields(resolved):
        default = base.get(item.name, config_reference.default_of(item))
        if item.name in given and default != "???" and (item.name in base or item.name != params.KIND_KEY.get(group)):
            assert getattr(resolved, item.name) != default, f"{item.name} has this value already"


@pytest.mark.parametrize(("group", "name"), FILES, ids=map("/".join, FILES))
def test_a_reduced_budget_is_said_where_the_name_says_it(group, name):
    first = params.path_of(group, name, PARAMS).read_text().split("\n", 1)[0]
    assert first.startswith("# Reduced budget (") == name.endswith("-cpu")


@pytest.mark.parametrize("group", spec.GROUPS)
def test_no_two_files_are_copies(group):
    """Two files that share two values and differ in at most one: one is the other's base, or both have a common one."""
    contents = {name: yaml.safe_load(params.path_of(group, name, PARAMS).read_text()) for name in params.names(group, PARAMS)}
    bases = {name: content.pop("base", None) for name, content in contents.items()}
    of_bases = {base: yaml.safe_load(params.path_of(group, base, PARAMS).read_text()) for base in {*bases.values()} - {None}}
    values = {name: of_bases.get(bases[name], {}) | content for name, content in contents.items()}
    for one, other in itertools.combinations(values, 2):
        first, second = values[one], values[other]
        differ = {key for key in first | second if first.get(key) != second.get(key)}
        shared = len(first | second) - len(differ)
        related = bases[one] == other or bases[other] == one or (bases[one] is not None and bases[one] == bases[other])
        assert related or len(differ) > 1 or shared < 2, f"{one} and {other} differ in {differ or 'nothing'} only"


SWEEPS = sorted((ROOT / "params/sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_names_runs_that_there_are(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    finals = sweep.finals(sweep.read(path))
    assert path.read_text().startswith("# ") and finals and len(set(finals)) == len(finals)
    for group, texts in sweep.read(path).items():
        for text in texts if group in spec.GROUPS else ():
            assert len({repr(params.load(group, other)) for other in texts}) == len(texts), text


COPIES = [path for path in SWEEPS if "cifar10-npz" in path.read_text()]


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_a_sweep_of_copies_is_one_of_what_can_be_downloaded(path, monkeypatch, tmp_path):
    """By the command in docs/results/index.md."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "mine.yaml").write_text(path.read_text().replace("-npz", ""))
    found = sweep.read(tmp_path / "mine.yaml")
    assert len(sweep.finals(found)) == len(sweep.finals(sweep.read(path)))
    kinds = {params.load("dataset", name).source for name in (*found["dataset"], *(found.get("source") or []))}
    assert kinds <= {"torchvision", "auto"}


ALL = [(group, kind) for group in spec.GROUPS for kind in params.kinds(group)]


@pytest.mark.parametrize(("group", "kind"), ALL)
def test_every_default_is_allowed_and_every_field_says_what_it_means(group, kind):
    for item in dataclasses.fields(params.schema(group, kind)):
        default = config_reference.default_of(item)
        assert item.metadata["doc"] and not item.metadata["doc"].endswith(".")
        if default != "???":
            assert fields.fault(item, default) is None, item.name


def test_the_page_of_fields_is_up_to_date():
    page = (ROOT / "docs/config.md").read_text("utf-8")
    _, below = page.split(config_reference.MARKER)
    assert below.strip() == config_reference.tables().strip(), (
        "run: python -m dfkd_steps.reporting.config_reference docs/config.md"
    )
