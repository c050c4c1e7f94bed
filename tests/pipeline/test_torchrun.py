"""Distillation by two processes, started by torchrun: the student of one process, up to the order of adding."""

import csv

import pytest
import torch
from safetensors.torch import load_file

from .conftest import TEACHER

SET = f"{TEACHER}/zskd+batch=20+n=40+steps=5/equal"
# By Adam: the eigenvectors of SOAP, our own file's optimizer, turn other last bits into other weights.
# Of 40 samples in batches of 15, the two processes have 8 and 7.
BY_ADAM = "arch: lenet5-half\nbatch: 15\nepochs: 3\noptimizer: adam\nlr: 1.0e-3\n"
STUDENTS = [f"{SET}/by-adam{more}" for more in ("", "+sampling=priority")]
TOLERANCE = 2e-4  # of weights: a few steps of Adam, which amplifies differences in the last bits


@pytest.fixture(scope="module")
def copies(by_snakemake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    one, two = by_snakemake.again(folder / "one"), by_snakemake.again(folder / "two")
    for copy in (one, two):
        (copy.folder / "params/student/by-adam.yaml").write_text(BY_ADAM)
    for student in STUDENTS:
        arguments = (f"{student}/student.safetensors", f"{TEACHER}/teacher.safetensors", f"{SET}/transfer_set.h5")
        one.run("python", "-m", "dfkd_steps.distill", *arguments)
        two.run("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "dfkd_steps.distill", *arguments)
    return one, two


@pytest.mark.parametrize("student", STUDENTS)
def test_two_processes_make_the_student_of_one(copies, student):
    one, two = (load_file(copy.folder / student / "student.safetensors") for copy in copies)
    assert one.keys() == two.keys() and not all(torch.equal(one[name], two[name]) for name in one)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < TOLERANCE
    tables = [(copy.folder / student / "history.csv").read_text().splitlines() for copy in copies]
    losses = [[float(row["loss"]) for row in csv.DictReader(table)] for table in tables]
    # Losses are written with six digits, and what is drawn by priority follows the last bits of earlier losses.
    assert losses[0] == pytest.approx(losses[1], rel=2e-2) and len(losses[0]) == 3


def test_nothing_hidden_is_left(copies):
    assert not list((copies[1].folder / SET).rglob(".*"))
