"""All of ``hostile``: refused with a line for each fault, within seconds and little memory, and nothing of it runs."""

import collections
import time
from pathlib import Path

import pytest
from hostile import CASES
from peak import memory_at_most

from dfkd_steps.runtime.errors import UserError


@pytest.mark.parametrize("name", CASES)
def test_hostile(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, make = CASES[name]
    given = make(tmp_path)
    started = time.monotonic()
    with memory_at_most(300_000), pytest.raises(UserError) as caught:  # kB
        function(given)
    for line in str(caught.value).splitlines():
        assert len(line) < 1000 and line.isprintable(), line
    assert not Path("executed").exists()
    assert time.monotonic() - started < 20


def test_there_are_many():
    counts = collections.Counter(name.split(":")[0] for name in CASES)
    assert counts.total() >= 700 and min(counts.values()) >= 15, counts
