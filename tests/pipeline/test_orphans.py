"""Jobs that a killed run left in the queue of Slurm, and what they take with them; commands that act as a Slurm serve here."""

import stat

from .conftest import STUDENT, ZSKD

TAKEN = f"{ZSKD}/{STUDENT}/student.safetensors"
# One job is in the queue until it is cancelled; cancelled, it removes what it had made, as the Snakemake in such a job does.
SQUEUE = """#!/bin/sh
[ -e cancelled ] || echo "17|dfkd_of-a-killed-run|$PWD"
"""
SCANCEL = f"""#!/bin/sh
rm {TAKEN}
echo "$@" >> cancelled
"""


def test_starts_over_where_an_input_is_taken(by_snakemake, tmp_path):
    copy, programs = by_snakemake.again(tmp_path / "copy"), tmp_path / "bin"
    programs.mkdir()
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    inherited = copy.environment()
    copy.environment = lambda: inherited | {"PATH": f"{programs}:{inherited['PATH']}"}
    (copy.folder / ZSKD / STUDENT / "metrics.json").unlink()
    assert "evaluate" in copy.snakemake("-n")
    assert not (copy.folder / "cancelled").exists(), "a dry run cancels nothing"

    said = copy.snakemake("--cores", "1")
    assert "the run that they belong to is gone: Slurm jobs 17" in said
    assert f"starts over: {TAKEN}" in said
    assert (copy.folder / "cancelled").read_text() == "17\n"
    assert copy.made() == by_snakemake.made()
