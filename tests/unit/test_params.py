"""Every file in params/ and every default, and the page that lists them."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from dfkd_steps.pipeline import params, spec, sweep
from dfkd_steps.reporting import config_reference
from dfkd_steps.schemas import fields

ROOT = Path(__file__).parents[2]
FILES = sorted(path for group in spec.GROUPS for path in (ROOT / "params" / group).glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_loads_says_what_it_is_and_repeats_no_default(path):
    group = path.parent.name
    made = params.load(group, path.stem, ROOT / "params")
    assert path.read_text().startswith("# ")
    given = yaml.safe_load(path.read_text())
    for item in dataclasses.fields(made):
        default = config_reference.default_of(item)
        if item.name in given and default != "???" and item.name != params.KIND_KEY.get(group):
            assert getattr(made, item.name) != default, f"{item.name} is the default already"


SWEEPS = sorted((ROOT / "params/sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_names_runs_that_there_are(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    finals = sweep.finals(sweep.read(path))
    assert path.read_text().startswith("# ") and finals and len(set(finals)) == len(finals)


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
    assert below.strip() == config_reference.tables().strip(), "run: python -m dfkd_steps.reference docs/config.md"
