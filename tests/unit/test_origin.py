"""What a transfer set says that it is made from: the teacher alone, drawings, or data."""

from pathlib import Path
from types import SimpleNamespace

import photograph
import pytest
from small_net import CPU, classifier

from dfkd_steps import synthesize
from dfkd_steps.methods import registry as method_registry
from dfkd_steps.pipeline import params
from dfkd_steps.procedural.registry import NOISE, PROCEDURAL


@pytest.fixture(scope="module")
def teacher():
    return classifier()


def metadata(teacher, text, own="mnist", history=None):
    config = params.load("transfer", text, Path(__file__).parents[2] / "params")
    sources = params.reads(config)
    inputs = [Path("teacher"), *(Path(f"results/{one}/dataset.h5") for one in sources)]
    job = SimpleNamespace(config=config, inputs=inputs, out=f"results/{own}/t/x/transfer_set.h5")
    method = method_registry.load(config.method)(config, teacher, [SimpleNamespace(sizes={"train": 10})] * len(sources), CPU)
    return synthesize.metadata(job, method, history or {})


ORIGINS = {
    "zskd": ("data-free", "zskd"),
    "zskd+start=smooth": ("data-free", "zskd"),
    "noise": ("data-free", "uniform noise"),
    "fast-5+student=resnet8": ("data-free", "fast"),
    "nayer-100+student=resnet8": ("data-free", "nayer"),
    "zskd-strokes": ("prior-based", "zskd from strokes"),
    "zskd-objects": ("prior-based", "zskd from objects"),
    "soft-targeted-glyphs": ("prior-based", "soft-targeted from glyphs"),
    "soft-targeted-scenes": ("prior-based", "soft-targeted from scenes"),
    "soft-targeted": ("data-free", "soft-targeted"),
    "procedural+kind=scenes": ("prior-based", "procedural (scenes)"),
    "mixture": ("prior-based", "mixture of uniform, smooth, leaves, strokes, fractals"),
    "dataset+source=mnist": ("real", "real data"),
    "dataset+source=kmnist": ("other", "other data (kmnist)"),
    "mixture+source=kmnist": ("other", "mixture of uniform, smooth, leaves, strokes, fractals, kmnist"),
}


def test_crops_of_a_photograph_are_other_data(teacher):
    config = method_registry.load("single-image").Config(method="single-image", images=photograph.path(0))
    method = method_registry.load("single-image")(config, teacher, [], CPU)
    about = synthesize.metadata(SimpleNamespace(config=config, inputs=["t"], out="results/mnist/t/x/transfer_set.h5"), method, {})
    assert (about["origin"], about["label"]) == ("other", "crops of 0.png")


@pytest.mark.parametrize("text", ORIGINS)
def test_the_origin_of_a_set(teacher, text):
    about = metadata(teacher, text)
    assert (about["origin"], about["label"]) == ORIGINS[text]
    assert about["classes"] == list(teacher.description.classes)  # dfkd inspect and export-set name them


def test_data_of_ones_own_that_are_split_otherwise_are_real(teacher):
    about = metadata(teacher, "dataset+source=mnist", own="mnist+seed=2+train=500")
    assert (about["origin"], about["label"]) == ("real", "real data (mnist)")
    about = metadata(teacher, "mixture+source=mnist", own="mnist+train=500")
    assert about["origin"] == "other" and about["label"].endswith(", with real data")


@pytest.mark.parametrize("kind", [*NOISE, *PROCEDURAL])
def test_a_start_is_data_free_if_it_is_noise(teacher, kind):
    text = "zskd" if kind == "uniform" else f"zskd+start={kind}"
    assert metadata(teacher, text)["origin"] == ("data-free" if kind in NOISE else "prior-based")


def test_a_mixture_of_noise_is_data_free(teacher):
    config = method_registry.load("mixture").Config(method="mixture", kinds=["uniform", "smooth"])
    assert method_registry.load("mixture")(config, teacher, [], CPU).drawn == ()


def test_a_set_has_learning_curves_where_there_are_any(teacher):
    curves = {"round": [1, 2], "loss": [0.5, 0.25]}
    assert metadata(teacher, "zskd", history=curves)["history"] == curves
    for none in ({}, {"round": []}):
        assert "history" not in metadata(teacher, "zskd", history=none)
