"""Presets that carry the name of a publication have its settings: published.yaml, setting by setting and with its sources."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import yaml
from small_net import CPU, classifier
from torch import nn

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines import generator_inversion
from dfkd_steps.pipeline import params

ROOT = Path(__file__).parents[2]
PUBLISHED = yaml.safe_load((ROOT / "tests/unit/published.yaml").read_text("utf-8"))
TABLE = {name: entry for name, entry in PUBLISHED.items() if not name.startswith(".")}
OPTIONS = PUBLISHED[".options"]
ALWAYS_FREE = {"snapshots", "method", "image_type", "seed", "mix_s"}
# Presets without a publication of their own settings: baselines and sets without any setting, reconstructions, and our variants.
OURS = {
    "noise", "noise-current", "procedural", "mixture", "dataset", "zskd-small", "zskd-strokes", "zskd-objects", "zskd-scenes",
    "soft-targeted-glyphs", "soft-targeted-scenes", "generative", "generative-plain", "ssd-kd", "ssd-kd-resnet34",
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher():
    return classifier(shape=(3, 32, 32))


def config(name):
    return params.load("transfer", name, ROOT / "params")


def values(config, name):
    """A field of a config, or the product of several."""
    return math.prod(getattr(config, part) for part in name.split("*")) if "*" in name else getattr(config, name)


def flat(entry, part):
    """The settings of all sources in one."""
    found = {}
    for source, settings in entry.get(part, {}).items():
        assert source and not found.keys() & settings.keys(), f"{source}: given twice: {found.keys() & settings.keys()}"
        found |= settings
    return found


def same(found, wanted):
    return found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


def test_every_preset_is_pinned_or_ours():
    assert {name for name in params.names("transfer", ROOT / "params") if not name.endswith("-cpu")} == OURS | TABLE.keys()


@pytest.mark.parametrize("name", TABLE)
def test_the_settings_are_the_published_ones(name):
    resolved, entry = config(name), TABLE[name]
    wanted, differs = flat(entry, "settings"), entry.get("differs", {})
    assert {key: values(resolved, key) for key in wanted if not same(values(resolved, key), wanted[key])} == {}
    for key, told in differs.items():
        assert told["reason"] and told["here"] != told["published"], key
        assert same(getattr(resolved, key), told["here"]), key
    said = [*(part for key in wanted for part in key.split("*")), *differs, *entry.get("free", [])]
    assert getattr(resolved, "mix_s", "none") == "none", "no publication mixes the student's images"
    assert sorted(said) == sorted(item.name for item in dataclasses.fields(resolved) if item.name not in ALWAYS_FREE)


@pytest.mark.parametrize("name", [name for name in TABLE if "built" in TABLE[name]])
def test_what_is_built_is_as_published(name, teacher, monkeypatch):
    if name.endswith("-segmentation"):
        teacher = classifier("unet-tiny", (3, 32, 32))
    method_class = method_registry.load(config(name).method)
    method = method_class(dataclasses.replace(config(name), n=256), teacher, [], CPU)
    found, wanted = built(method, monkeypatch), flat(TABLE[name], "built")
    assert {key: found.get(key) for key in wanted if not same(found.get(key), wanted[key])} == {}


def built(method, monkeypatch) -> dict:
    """What the objects of a method are, by the names of published.yaml."""
    found = {}
    if hasattr(method, "student"):
        found |= of_student(method.student)
    if hasattr(method, "betas"):
        found |= {"pixels.betas": list(method.betas)}
    if hasattr(method, "discriminator"):
        found |= of_discriminator(method.discriminator)
    holder = getattr(method, "generator", None) or getattr(method, "inverter", None) or getattr(method, "members", [None])[0]
    if holder:
        net = getattr(holder, "net", None) or holder.generator
        found |= of_generator(net) | (of_adam(holder.optimizer, "generator") if hasattr(holder, "optimizer") else {})
    if method.config.method == "nayer":
        found |= {"labels.norm_eps": method.inverter.norm.eps, "labels.size": method.inverter.embeddings.shape[1]}
    elif method.config.method == "cmi":
        net = generator_inversion.new_generator(method.config, method.teacher, 0, CPU)
        found |= of_generator(net) | of_fresh(method, monkeypatch)
    if hasattr(method, "inverter") or method.config.method == "cmi":
        found |= {"inversion.betas": inversion_betas(monkeypatch)}
    return found


def of_generator(net) -> dict:
    """Its layers, in the order in which they are run."""
    first, norms = net.norm, [stage[1] for stage in net.stages]
    (eps,) = {norm.eps for norm in norms}
    head = {"generator.head": "tanh"} if net.tanh else {}
    if net.head_norm is not None:
        learnt = [one is not None and one.requires_grad for one in (net.head_norm.weight, net.head_norm.bias)]
        end = {(False, False): "", (True, False): " with scale", (True, True): " with scale and shift"}[tuple(learnt)]
        head = {"generator.head": f"{'tanh, ' if net.tanh else ''}BatchNorm{end}", "generator.head_eps": net.head_norm.eps}
    assert first.eps == 1e-5  # of all publications, GDFD's and DAFL's too
    return {
        "generator.eps": eps,
        "generator.head": "sigmoid",
        "generator.channels": [first.num_features, *(norm.num_features for norm in norms)],
        "generator.slope": net.stages[0][2].negative_slope,
        "generator.rectify_first": isinstance(net.first_activation, nn.LeakyReLU),
        "generator.dense_bias": net.dense.bias is not None,
        "generator.conv_bias": net.stages[0][0].bias is not None,
        "generator.init": init_of(net.stages[0][0].weight),
        **head,
    }


def init_of(weight) -> str:
    """The initialisation of a convolution's weights, by their standard deviation."""
    entering, leaving = weight[0].numel(), weight[:, 0].numel()
    known = {"PyTorch's": (3 * entering) ** -0.5, "Glorot": (2 / (entering + leaving)) ** 0.5, "N(0, 0.02)": 0.02}
    return min(known, key=lambda name: abs(known[name] - weight.std().item()))


def of_adam(adam, name) -> dict:
    assert type(adam) is torch.optim.Adam
    group = adam.param_groups[0]
    return {f"{name}.betas": list(group["betas"]), f"{name}.lr": group["lr"]}


def of_student(student) -> dict:
    optimizer, all_of_them = student.optimizer, len(list(student.net.parameters()))
    decayed = sum(len(group["params"]) for group in optimizer.param_groups if group["weight_decay"])
    group = optimizer.param_groups[0]
    return {
        "student.optimizer": type(optimizer).__name__,
        "student.momentum": group.get("momentum"),
        "student.nesterov": group.get("nesterov"),
        "student.decays": "all" if decayed == all_of_them else f"{decayed} of {all_of_them}",
        "student.betas": list(group.get("betas", ())),
        "student.schedule": student.schedule,
        "student.floor": student.floor,
    }


def of_discriminator(made) -> dict:
    first, _, last = made.net
    return {
        "discriminator.bank": made.BANK,
        "discriminator.embedded": last.out_features,
        "discriminator.hidden": "as its input" if first.out_features == first.in_features else first.out_features,
        **of_adam(made.optimizer, "discriminator"),
    }


def of_fresh(method, monkeypatch) -> dict:
    """The generator that CMI starts a batch from."""
    from dfkd_steps.methods import cmi

    class Started(Exception):
        pass

    def refine(generator, *_, **__):
        raise Started(generator)

    monkeypatch.setattr(cmi, "refine", refine)
    with pytest.raises(Started) as caught:
        method.round(0)
    net = caught.value.args[0]
    norms = torch.cat([net.norm.weight, *(stage[1].weight for stage in net.stages)])
    assert abs(norms.mean() - 1) < 0.01
    return {
        "generator.init_std": round(net.dense.weight.std().item(), 2),
        "generator.init_norm_std": round(norms.std().item(), 2),
        "generator.init_bias": net.dense.bias.abs().max().item(),
    }


def inversion_betas(monkeypatch) -> list[float]:
    """The betas of the Adam that a batch is refined by."""
    seen, adam = [], torch.optim.Adam

    def spy(groups, **how):
        seen.append(list(how["betas"]))
        return adam(groups, **how)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim, "Adam", spy)
        maker = nn.Linear(2, 2)
        generator_inversion.refine(maker, torch.rand(1, 2), torch.sum, steps=1, lr_g=0.1, lr_z=0.1, precision="fp32")
    return seen[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_ablation_has_the_published_value_of_an_option(name):
    entry = OPTIONS[name]
    transfers = yaml.safe_load((ROOT / f"params/sweeps/{entry['sweep']}.yaml").read_text("utf-8"))["transfer"]
    configs = [params.load("transfer", text, ROOT / "params") for text in transfers]
    assert entry["source"]
    for base in entry["transfers"]:
        plain = params.load("transfer", base, ROOT / "params")
        assert not getattr(plain, name), base
        assert all(one in configs for one in (plain, dataclasses.replace(plain, **{name: entry["published"]}))), base


def test_a_published_number_says_where_it_stands():
    for name, entry in TABLE.items():
        assert entry["published"]["source"] and entry["repository"], name
        assert "top1" not in entry["published"] or 50 < entry["published"]["top1"] < 100, name
