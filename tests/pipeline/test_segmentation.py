"""A small segmentation task from the drawing to the report: up to its balanced set by Snakemake, in shards; the rest by DVC."""

import csv
import re

import pytest

from .conftest import Copy

SWEEP = """
dataset: [drawn-shapes+drawn=32]
teacher: [unet-shapes+epochs=1]
transfer: [procedural+batch=8+kind=scenes+n=16]
balance: [equal]
student: [unet-tiny+epochs=1]
source: []
export: []
"""
TRANSFER = "results/drawn-shapes+drawn=32/unet-shapes+epochs=1/procedural+batch=8+kind=scenes+n=16"
STUDENT = f"{TRANSFER}/equal/unet-tiny+epochs=1"


@pytest.fixture(scope="module")
def copy(repository, tmp_path_factory):
    made = Copy.of_repository(repository, tmp_path_factory.mktemp("segmentation") / "copy", SWEEP)
    made.said = made.snakemake("--cores", "1", f"{TRANSFER}/equal/transfer_set.h5", "--config", "shards=2") + made.dvc("repro")
    return made


def test_it_ends_in_a_miou_and_pictures(copy):
    with open(copy.folder / "report/results.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["miou"]) < 100 and 0 < float(row["teacher_miou"]) < 100 and "top1" not in row
    page = (copy.folder / "report/index.html").read_text()
    assert "image, truth, teacher, student" in page and "mIoU %" in page
    assert (copy.folder / STUDENT / "examples.png").is_file() and "shard 1 of 2" in copy.said
    taken_over = set(re.findall("(results/.*): is current; DVC takes it over", copy.said))
    assert len(taken_over) == 4 and f"{TRANSFER}/equal/transfer_set.h5" in taken_over


def test_nothing_is_stale(copy):
    assert copy.audit() == set() and copy.jobs() == {} and copy.status() == set()


def test_pictures_that_dvc_does_not_version_make_no_stage_run(copy):
    """A stage cannot have an output that some tasks lack, so `dvc pull` brings none: the report was made again without them."""
    sheet = copy.folder / STUDENT / "examples.png"
    sheet.rename(copy.folder / "away.png")
    try:
        assert copy.status() == set()
    finally:
        (copy.folder / "away.png").rename(sheet)
