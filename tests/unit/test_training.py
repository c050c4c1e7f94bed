"""The training loop: schedules, resumption to the bit, orders, and what stops it."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from dfkd_steps.runtime import progress
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import choices, groups
from dfkd_steps.storage import checkpoint
from dfkd_steps.training import loop

CONFIG = groups.Student(arch="lenet5-half", epochs=6, batch=16, lr=0.05, optimizer="adam")


def data():
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(64, 8, generator=draw)
    return x, (x[:, 0] > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def fit(tmp_path, net, config=CONFIG, stop_after=None, key="k"):
    x, y = data()

    def losses(rng, epoch):
        assert net.training
        if stop_after is not None and epoch >= stop_after:
            raise KeyboardInterrupt
        for rows in loop.order(len(x), config.batch, rng):
            yield nn.functional.cross_entropy(net(x[rows]), y[rows])

    return loop.fit(net, config, 4, losses, tmp_path / ".partial", key, "cpu", "test")


@pytest.mark.parametrize("kind", choices.OPTIMIZERS)
def test_learns_and_resumes_to_the_bit(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)
    config = dataclasses.replace(CONFIG, optimizer=kind)
    whole = network()
    history = fit(tmp_path / "nowhere", whole, config) if (tmp_path / "nowhere").mkdir() is None else None
    assert history[-1]["loss"] < history[0]["loss"] and not whole.training
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, network(), config, stop_after=3)
    resumed = network()
    assert fit(tmp_path, resumed, config) == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_other_key_or_broken_checkpoint_starts_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, network(), stop_after=3)
    fit(tmp_path, network(), key="other")
    assert "starting over" in capsys.readouterr().err
    (tmp_path / ".partial").write_bytes(b"PK\3\4 torn")
    assert len(fit(tmp_path, network())) == 6
    assert "not usable" in capsys.readouterr().err


def test_the_bar_counts_steps_so_that_a_long_epoch_is_seen(tmp_path, monkeypatch, capsys):
    """Resumed, it begins where the checkpoint is."""
    monkeypatch.setattr(checkpoint, "EVERY", -1.0)
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, network(), stop_after=3)
    capsys.readouterr()
    fit(tmp_path, network())
    said = capsys.readouterr().err
    places = re.findall(r" (\d+)/24 \[.*, epoch (\d) of 6, loss \d\.\d{4}\]", said)
    assert list(dict.fromkeys(places)) == [(str(step), str((step - 1) // 4 + 1)) for step in range(13, 25)], said


def test_a_loss_that_is_not_finite_stops(tmp_path):
    net = network()

    def losses(rng, epoch):
        yield from (net(data()[0]).sum() * float("nan") for _ in range(3))

    with pytest.raises(UserError, match="loss is nan in epoch 1; lower lr"):
        loop.fit(net, CONFIG, 1, losses, tmp_path / "p", "k", "cpu", "test")
    with pytest.raises(UserError, match="the loss is nan, its gradients not finite; lower the learning rate, or set clip"):
        loop.fit(net, dataclasses.replace(CONFIG, optimizer="soap"), 1, losses, tmp_path / "p", "k", "cpu", "test")


def test_schedules():
    rates = {
        kind: [loop.rate(dataclasses.replace(CONFIG, schedule=kind, lr=1.0), step, 100) for step in range(100)]
        for kind in ("cosine", "onecycle", "constant")
    }
    assert rates["constant"] == [1.0] * 100
    assert rates["cosine"][0] == 1 and rates["cosine"] == sorted(rates["cosine"], reverse=True) and rates["cosine"][-1] < 1e-3
    peak = rates["onecycle"].index(max(rates["onecycle"]))
    assert 18 <= peak <= 20 and max(rates["onecycle"]) == 1 and rates["onecycle"][-1] < 0.02 and rates["onecycle"][0] == 0.05


@pytest.mark.parametrize("total", [1, 2, 4, 7, 12, 100])
def test_one_cycle_never_exceeds_its_peak(total):
    config = dataclasses.replace(CONFIG, schedule="onecycle", lr=0.3)
    assert max(loop.rate(config, step, total) for step in range(total)) == pytest.approx(0.3, rel=0.3)
    assert all(0 < loop.rate(config, step, total) <= 0.3 for step in range(total))


def test_order():
    draw = torch.Generator().manual_seed(0)
    rows = torch.cat(list(loop.order(50, 8, draw)))
    assert len(rows) == 48 and len(set(rows.tolist())) == 48 and rows.tolist() != sorted(rows.tolist())
    assert [len(part) for part in loop.order(5, 8, draw)] == [5]
    rows = torch.cat(list(loop.order(10, 4, draw, steps=6)))
    assert len(rows) == 24 and rows.bincount(minlength=10).min() >= 2
    weights = torch.tensor([0.0, 1.0, 3.0])
    counts = torch.cat(list(loop.order(3, 3, draw, steps=1000, weights=weights))).bincount(minlength=3)
    assert counts[0] == 0 and 2.7 < counts[2] / counts[1] < 3.3


def test_weight_decay_spares_biases_and_norms():
    groups_ = loop.optimizer(network(), dataclasses.replace(CONFIG, weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups_] == [(0.1, {2}), (0.0, {1})]


def test_sgd_has_the_momentum_of_nesterov():
    """Two steps down a slope of 1: the second velocity is 1.9, and the step looks ahead by another 0.9 of it."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    optimise = loop.optimizer(net, dataclasses.replace(CONFIG, optimizer="sgd", weight_decay=0.0))
    for _ in range(2):
        loop.advance(net, optimise, net.weight.sum(), 0.1)
    assert net.weight.item() == pytest.approx(-0.1 * ((1 + 0.9) + (1 + 0.9 * 1.9)))


def test_one_schedule_for_all_epochs_and_numbers_of_its_own_for_each(tmp_path, monkeypatch):
    rates, drawn, advance, config = [], [], loop.advance, dataclasses.replace(CONFIG, epochs=2, schedule="cosine", lr=0.02)
    monkeypatch.setattr(
        loop, "advance", lambda net, optimise, loss, lr, clip: rates.append(lr) or advance(net, optimise, loss, lr)
    )
    net = network()

    def losses(rng, epoch):
        drawn.append(torch.rand(3, generator=rng))
        for _ in range(2):
            yield net(data()[0]).square().mean()

    loop.fit(net, config, 2, losses, tmp_path / "p", "k", "cpu", "test")
    assert rates == pytest.approx([0.02 * share for share in (1, 0.853553, 0.5, 0.146447)], rel=1e-4)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(("kind", "weight"), [("adam", 1 - 0.1), ("adamw", 1 - 0.1 * 0.5)])
def test_decay_is_apart_from_the_gradient_in_adamw_alone(kind, weight):
    """A step without a gradient: to Adam the decay is all of it, and its first step is of the size of its rate."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    optimise = loop.optimizer(net, dataclasses.replace(CONFIG, optimizer=kind, weight_decay=0.5))
    loop.advance(net, optimise, 0 * net.weight.sum(), 0.1)
    assert net.weight.item() == pytest.approx(weight)


def test_each_epoch_clips_drops_anew_and_tells_its_mean_loss(tmp_path, monkeypatch):
    clips, dropped, modes, advance, net = [], [], [], loop.advance, network()
    monkeypatch.setattr(loop, "advance", lambda *given: clips.append(given[4]) or advance(*given))

    def losses(rng, epoch):
        dropped.append(torch.rand(3))  # as dropout draws, of the generator that all have in common
        for loss in (1.0, 2.0, 6.0):
            modes.append(net.training)
            yield loss + epoch + 0 * net(data()[0]).sum()

    def ended(epoch):
        modes.append(net.training)
        return {}

    config = dataclasses.replace(CONFIG, epochs=2, clip=0.3, schedule="cosine", lr=0.05)
    history = loop.fit(net, config, 3, losses, tmp_path / "p", "k", "cpu", "test", ended=ended)
    assert clips == [0.3] * 6 and [row["loss"] for row in history] == [3.0, 4.0]
    assert not torch.equal(*dropped) and modes == [True, True, True, False] * 2
    assert [row["lr"] for row in history] == pytest.approx([0.05 * 0.75, 0.05 * 0.0669873], rel=1e-4)  # of the last step


def test_one_cycle_goes_up_for_a_fifth_and_down_to_nearly_nothing():
    config = dataclasses.replace(CONFIG, schedule="onecycle", lr=0.8)
    rates = [loop.rate(config, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.4, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
