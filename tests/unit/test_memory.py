"""Chunks follow the size of an image and DFKD_MEMORY, what is drawn goes by the size alone, and the bound holds."""

import dataclasses
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dfkd_steps.models.classifier import Description
from dfkd_steps.procedural import drawing, registry
from dfkd_steps.runtime import device, latency, memory, passes
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training import predict


def test_chunks(monkeypatch):
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    for chunk in (memory.drawn, memory.passed):
        assert [chunk(shape) for shape in ((3, 32, 32), (3, 224, 224), (3, 40, 56), (3, 3000, 3000))] == [1000, 20, 457, 1]
    monkeypatch.setenv("DFKD_MEMORY", "4")
    assert memory.passed((3, 224, 224)) == 40 and memory.drawn((3, 224, 224)) == 20
    assert device.settings("cpu")["memory"] == 4.0  # rounding depends on it


def test_passes_follow_the_logits_of_pixels_where_they_are_more_than_the_image(monkeypatch):
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    for shape in ((3, 32, 32), (3, 224, 224), (1, 28, 28), (3, 3000, 3000)):
        assert passes.passed(shape) == passes.passed(shape, 4 * shape[0]) == memory.passed(shape)  # of a classifier as ever
    assert [passes.passed((3, 64, 64), number) for number in (12, 13, 21, 150)] == [250, 187, 125, 19]
    assert passes.passed((3, 2000, 2000), 150) == 1
    monkeypatch.setenv("DFKD_MEMORY", "4")
    assert passes.passed((3, 64, 64), 150) == 39
    dense = dataclasses.replace(described((3, 64, 64)), classes=tuple(map(str, range(150))), task="segmentation")
    assert passes.passed_by(dense) == 39 and passes.passed_by(dataclasses.replace(dense, task="classification")) == 500


def test_what_bytes_depend_on_is_in_the_provenance(monkeypatch):
    variables = {"DFKD_DETERMINISTIC": "0", "DFKD_COMPILE": "1", "DFKD_MEMORY": "3", "DFKD_THREADS": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(device, "has_bf16", lambda kind: False)
    expected = {"device": "cpu", "threads": 2, "compile": True, "bf16": False, "deterministic": False, "memory": 3.0}
    assert device.settings("cpu") == expected and memory.most() == 3 << 30


def test_a_latency_is_the_median_after_the_first_passes(monkeypatch):
    seconds = [1.0] * 5 + [0.004, 0.002] * 14 + [0.004, 9.0]
    moments = iter(np.cumsum([moment for took in seconds for moment in (0.0, took)]))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(moments))
    assert latency.milliseconds(lambda image: image, (1, 2, 2)) == pytest.approx(4.0)


@pytest.mark.parametrize("text", ["lots", "0", "-1", "nan", "inf", "0.1", "4GB"])
def test_what_is_no_amount(monkeypatch, text):
    monkeypatch.setenv("DFKD_MEMORY", text)
    with pytest.raises(UserError, match=r"DFKD_MEMORY: .* is not an amount of memory; set a number of GiB"):
        memory.given()


def test_the_limit_of_a_container_or_a_batch_system_counts(tmp_path, monkeypatch):
    """The least of those on the way to the process's own group, of either version of control groups."""
    monkeypatch.delenv("DFKD_MEMORY", raising=False)
    process, groups = tmp_path / "cgroup", tmp_path / "groups"
    assert memory.group_limits(process, groups) == []
    for path, text in {"memory.max": "max", "a/memory.max": "5000", "a/b/memory.max": "8000", "other/memory.max": "1",
                       "memory/job/memory.limit_in_bytes": "7000"}.items():  # fmt: skip
        (groups / path).parent.mkdir(parents=True, exist_ok=True)
        (groups / path).write_text(f"{text}\n")
    process.write_text("4:cpu,cpuacct:/other\n3:memory:/job\n0::/a/b\n")
    assert sorted(memory.group_limits(process, groups)) == [5000, 7000, 8000]
    monkeypatch.setattr(memory, "group_limits", lambda: [5000, 7000])
    monkeypatch.setattr(memory, "slurm_limits", list)
    assert memory.here() == 5000 < memory.most()
    monkeypatch.setattr(memory, "group_limits", list)
    assert memory.here() == memory.most()


@pytest.mark.skipif(sys.platform != "linux", reason="control groups")
@pytest.mark.parametrize("names", [("memory.max", "anon", "shmem"), ("memory/memory.limit_in_bytes", "total_rss", "total_shmem")])
def test_what_others_hold_in_a_control_group_is_not_left(tmp_path, names):
    """As where Snakemake runs beside its steps. Of either version; not what the kernel can take back."""
    process, limit = tmp_path / "cgroup", tmp_path / names[0]
    process.write_text("3:memory:/\n" if "/" in names[0] else "0::/\n")
    limit.parent.mkdir(exist_ok=True)
    limit.write_text("8000000000\n")
    status = Path("/proc/self/status").read_text()
    held = sum(int(status.partition(f"{name}:")[2].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))
    for others, left in ((0, 8e9), (3e9, 5e9), (9e9, 0)):
        (limit.parent / "memory.stat").write_text(f"{names[1]} {int(held + others - 40)}\ncache 500\n{names[2]} 40\nfile 7\n")
        assert memory.group_limits(process, tmp_path) == [pytest.approx(left, abs=1e8)]


def described(shape):
    return Description("arch", "x", ("a", "b"), shape, (0.5,) * shape[0], (0.25,) * shape[0])


@pytest.mark.parametrize("kind", registry.REGISTRY)
def test_large_images_are_drawn_a_piece_after_the_other(kind, monkeypatch):
    like, sizes, plain = described((3, 20, 28)), [], registry.load(kind)
    monkeypatch.setattr(memory, "VALUES", 3 * 3 * 20 * 28)
    monkeypatch.setattr(registry, "load", lambda kind: lambda number, *given: sizes.append(number) or plain(number, *given))
    images = drawing.draw(kind, 7, like, torch.Generator().manual_seed(3))
    assert sizes == [3, 3, 1] and images.shape == (7, 3, 20, 28)
    rng = torch.Generator().manual_seed(3)
    assert torch.equal(images[:3], plain(3, like, rng)) and torch.equal(images[3:6], plain(3, like, rng))


def test_a_forward_pass_of_large_images(monkeypatch):
    seen = []

    def teacher(images):
        seen.append(len(images))
        return images.sum((1, 2, 3))[:, None]

    monkeypatch.setenv("DFKD_MEMORY", "1")
    logits = predict.predict(teacher, torch.zeros(25, 3, 224, 224, dtype=torch.uint8).numpy(), "cpu")
    assert seen == [10, 10, 5] and logits.shape == (25, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bound")
@pytest.mark.parametrize("bound", ["DFKD_MEMORY", "the machine"])
def test_beyond_the_bound_is_one_line(bound, repository, tmp_path):
    """An allocation that this machine could well make; one of less would have ended the process without a word."""
    program = (
        "import torch\nfrom dfkd_steps.pipeline.job import run_guarded\nfrom dfkd_steps.runtime import memory\n"
        f"{'' if bound == 'DFKD_MEMORY' else 'memory.group_limits = lambda: [1 << 30]'}\n"
        "run_guarded('x', lambda: torch.ones(1 << 28, dtype=torch.uint8))\nprint('fits')\n"
        "run_guarded('x', lambda: torch.ones(1 << 31, dtype=torch.uint8))"
    )
    environment = {
        **os.environ,
        "DFKD_MEMORY": "1.5" * (bound == "DFKD_MEMORY"),
        "DFKD_DEVICE": "cpu",
        "PYTHONPATH": str(repository),
    }
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (2, "fits\n"), done.stderr
    assert done.stderr.startswith("error: ") and "memory ran out" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bound")
@pytest.mark.parametrize(
    ("given", "soft", "threads", "expected"),
    [
        ("", resource.RLIM_INFINITY, "1", 4.5),  # what a process reserves and never uses comes on top
        ("", resource.RLIM_INFINITY, "65", 4.5 + 64 * 24 / 1024),
        ("", 3 * memory.GIB, "1", 3),  # a user's own limit is not raised
        ("2", 3 * memory.GIB, "1", 2),
        ("8", resource.RLIM_INFINITY, "1", 4),
    ],
)
def test_what_bounds_a_process(given, soft, threads, expected, monkeypatch):
    """In a control group of 4 GiB."""
    limits = []
    monkeypatch.setattr(memory, "group_limits", lambda: [4 * memory.GIB])
    monkeypatch.setattr(memory.resource, "getrlimit", lambda which: (soft, resource.RLIM_INFINITY))
    monkeypatch.setattr(memory.resource, "setrlimit", lambda which, values: limits.append(values))
    monkeypatch.setenv("DFKD_MEMORY", given)
    monkeypatch.setenv("DFKD_THREADS", threads)
    memory.bound(False)
    assert limits == [(int(expected * memory.GIB), resource.RLIM_INFINITY)]


def test_a_gpu_is_bound_by_whom_it_serves_alone(monkeypatch):
    """A process for the CPU that asked CUDA about its GPU would hold memory of it."""
    shares = []
    monkeypatch.setenv("DFKD_MEMORY", "4")
    monkeypatch.setattr(resource, "setrlimit", lambda *given: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: SimpleNamespace(total_memory=16 * memory.GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    for module, name in ((device.gpu, "claim"), (device, "keep_memory"), (device, "leave_compiler_out")):
        monkeypatch.setattr(module, name, lambda: None)  # what would stay for the tests after this one
    monkeypatch.setattr(torch, "set_deterministic_debug_mode", lambda mode: None)
    for name, uses_gpu in (("", True), ("", False), ("cpu", True)):
        monkeypatch.setenv("DFKD_DEVICE", name)
        device.setup_process(uses_gpu)
    monkeypatch.delenv("DFKD_MEMORY")
    monkeypatch.delenv("DFKD_DEVICE")
    device.setup_process(True)
    assert shares == [0.25]


def test_slurm_says_what_a_job_may_hold(monkeypatch):
    """By node, or by core; 0 and nothing mean all that the node has."""
    monkeypatch.setattr(memory, "group_limits", list)
    whole = memory.most()
    for given, limit in (
        ({}, None),
        ({"SLURM_MEM_PER_NODE": "1500"}, 1500 << 20),
        ({"SLURM_MEM_PER_CPU": "700", "SLURM_CPUS_ON_NODE": "2"}, 1400 << 20),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_ON_NODE": "2"}, None),
        ({"SLURM_MEM_PER_NODE": "2G"}, None),
    ):
        for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert memory.here() == min(limit or whole, whole)
