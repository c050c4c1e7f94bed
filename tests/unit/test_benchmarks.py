"""The benchmarks measure every method that there is, and their sweeps are ones that both drivers take."""

import importlib.util
import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from dfkd_steps import evaluate
from dfkd_steps.methods import registry
from dfkd_steps.models import frozen, hooks
from dfkd_steps.models.classifier import build_architecture
from dfkd_steps.pipeline import params, sweep
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.training import probes

ROOT = Path(__file__).parents[2]


def script(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    described = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / f"benchmarks/{name}.py")
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "listing"), [("sizes", "METHODS"), ("methods_speed", "DEFAULT")])
def test_every_method_is_measured(name, listing, monkeypatch):
    monkeypatch.chdir(ROOT)
    specs = getattr(script(name, monkeypatch), listing)
    assert {params.load("transfer", spec).method for spec in specs} == {*registry.REGISTRY} - {"dataset"}


def test_evaluation_is_measured_on_all_probe_images(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    module, passed = script("sizes", monkeypatch), []
    net = module.teacher("resnet8", 32, 3)
    work, pieces = module.of_step("evaluate", net, 4, tmp_path)

    def logits(networks, batches, device):
        passed.append(sum(map(len, batches)))
        return [torch.ones(passed[-1], 3)] * len(networks)

    monkeypatch.setattr(evaluate, "logits", logits)
    work()
    assert pieces == sum(passed) == 200 * (len(probes.DRAW) + 1)


@pytest.mark.parametrize("name", ["resnet20", "wrn16-1"])
def test_the_operations_of_a_fused_teacher_are_counted(name, monkeypatch):
    module, device = script("methods_speed", monkeypatch), torch.device("cpu")
    teacher = module.network(name, device)
    fused = frozen.fast_copy(teacher, "fp32")
    with torch.no_grad(), module.counter_of_operations() as counter:
        fused(torch.rand(4, 3, 32, 32))
    # A BatchNorm that stands before its convolution is computed, and counted, as a convolution of each channel by itself.
    assert counter.get_total_flops() == pytest.approx(2 * 4 * hooks.macs(teacher, (3, 32, 32)), rel=0.01)


@pytest.mark.parametrize("name", ["soft-targeted", "zskd", "fast-lenet5-cpu"])
def test_a_method_is_timed(name, monkeypatch):
    """Images optimised by themselves, which are what the teacher is given, and those of a generator with a student."""
    monkeypatch.chdir(ROOT)
    module = script("methods_speed", monkeypatch)
    config = module.changed(
        params.load("transfer", name), student="lenet5-half", n=8, batch=4, batch_s=4, width=4, precision="fp32"
    )
    run = module.run_of(config, module.network("lenet5", torch.device("cpu")), 1)
    assert run["operations"] > 0 and run["seconds"] > 0 and run["all seconds"] >= run["seconds"]
    assert (run["student operations"] > 0) == (run["student seconds"] > 0) == hasattr(config, "steps_s")


@pytest.mark.parametrize("quantity", [[], ["--operations"]])
def test_the_hours_of_a_sweep(monkeypatch, capsys, tmp_path, quantity):
    """Real data have no cost of synthesis, but one of distillation; methods have both."""
    monkeypatch.chdir(ROOT)
    module = script("sweep_hours", monkeypatch)
    # Settings of the whole process, which would stay for the tests after this one.
    monkeypatch.setattr(module.methods_speed, "prepare", lambda: torch.device("cpu"))
    lists = {
        "dataset": ["mnist"], "teacher": ["lenet5"], "transfer": ["dataset+source=mnist", "zskd-small+steps=2"],
        "balance": ["none"], "student": ["lenet5-half"],
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(json.dumps(lists))
    monkeypatch.setattr("sys.argv", ["sweep_hours.py", str(tmp_path / "sweep.yaml"), "--steps", "1", *quantity])
    module.main()
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| lenet5 ")]
    hours = {row[1].strip(): [float(cell) for cell in row[3:]] for row in rows}
    assert list(hours) == lists["transfer"]
    assert hours["dataset+source=mnist"][1] == 0 < min(*hours["zskd-small+steps=2"], hours["dataset+source=mnist"][2])
    if quantity:  # a pass and two gradients, but not the first layer's with respect to the images
        macs, first = hooks.macs(build_architecture("lenet5", 10, (1, 28, 28)), (1, 28, 28)), 6 * 25 * 28 * 28
        seen = params.load("teacher", "lenet5").epochs * module.IMAGES
        assert hours["dataset+source=mnist"][0] == pytest.approx((6 * macs - 2 * first) * seen / 1e15, rel=0.01)


def test_steps_are_run_without_snakemake(monkeypatch, capsys, tmp_path):
    module, data = script("run_steps", monkeypatch), "results/mnist-5k+train=300/dataset.h5"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(ROOT / "params", "params")
    network = "results/mnist-5k+train=300/lenet5+epochs=1/teacher.safetensors"

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["run_steps.py", *arguments])
        module.main()
        return [line.split(" s  ")[1] for line in capsys.readouterr().out.splitlines()]

    assert run(network, "--seconds", "0") == [f"{data}: the time is over"]
    assert run(network, "--keep", "kept") == [data, network]
    kept = {str(path.relative_to("kept")) for path in Path("kept").rglob("*") if path.is_file()}
    assert kept == {network, network.replace("teacher.safetensors", "history.csv"), f"logs/{data}.log", f"logs/{network}.log"}
    assert run(network) == []
    Path(network).with_name("history.csv").unlink()  # not current without it
    assert run(network) == [network]
    with pytest.raises(UserError, match=r"its step failed \(code 2\): error: .*train: 9999999"):
        run(data.replace("300", "9999999"))


def test_a_step_that_the_time_ends_is_terminated(monkeypatch, tmp_path):
    module, started = script("run_steps", monkeypatch), []
    monkeypatch.chdir(tmp_path)
    popen = subprocess.Popen
    monkeypatch.setattr(module.subprocess, "Popen", lambda _, **how: started.append(popen(["sleep", "60"], **how)) or started[0])
    assert module.make("results/mnist-5k/dataset.h5", 0.2) is False
    assert started[0].returncode == -signal.SIGTERM


def test_the_sweep_of_scaling_is_one_for_dvc(tmp_path, monkeypatch):
    module = script("scaling", monkeypatch)
    monkeypatch.setattr(module, "run", lambda *how: None)
    module.checkout(tmp_path, 10)
    monkeypatch.chdir(tmp_path)
    lists = sweep.literal()
    assert len(sweep.finals(lists)) == 10 and json.loads(Path("params/experiment.yaml").read_text()) == lists
