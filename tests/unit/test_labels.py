"""Labels of synthesis: near uniform over the classes, new in each round, and those that the losses are given."""

import pytest
import torch
from small_method import alone, build, spy_on_targets
from small_net import convolutions, wrap


@pytest.fixture(scope="module")
def teacher():
    return wrap(convolutions(10), classes=10)


@pytest.mark.parametrize("name", ["adi", "cmi", "fast", "ssd-kd"])
def test_random_labels_are_near_uniform_and_new_in_each_round(name, teacher, monkeypatch):
    method = build(name, teacher, **alone(name, "onehot"), batch=500, n=500, rounds=3, warmup=2, steps=1)
    seen = spy_on_targets(monkeypatch)
    for index in range(2):
        method.round(index)
    assert len(seen) == 2 and all(one.shape == (500,) for one in seen)
    counts = torch.stack([one.bincount(minlength=10) for one in seen])
    assert counts.shape == (2, 10) and (counts - 50).abs().max() < 30  # more than four standard deviations of 6.7
    assert not torch.equal(*seen)


def test_deepinversion_takes_the_classes_in_turn(teacher, monkeypatch):
    method = build("deepinversion", teacher, **alone("deepinversion", "onehot"), n=47, batch=23, steps=1)
    seen = spy_on_targets(monkeypatch)
    for index in (0, 1, 2):
        method.batch(index)
    assert torch.cat(seen).tolist() == [sample % 10 for sample in range(47)]


@pytest.mark.parametrize(("members", "classes"), [(1, range(10)), (3, (1, 4, 7))])
def test_the_labels_of_ls_gdfd_are_near_uniform_over_the_classes_of_a_member(members, classes, teacher, monkeypatch):
    method = build("generative", teacher, **alone("generative", "onehot"), members=members, steps=2, train_batch=300)
    seen = spy_on_targets(monkeypatch)
    method.round(0 if members == 1 else 1)
    counts = torch.cat(seen).bincount(minlength=10)
    expected = torch.tensor([600 / len(classes) if label in classes else 0 for label in range(10)])
    assert (counts - expected).abs().max() < 60 and counts[list(classes)].min() > 0 and counts.sum() == 600
    assert (counts[expected == 0] == 0).all()


@pytest.mark.parametrize("name", ["dafl", "dfad", "dfq", "zskt"])
def test_alternating_training_gives_no_labels(name, teacher, monkeypatch):
    method = build(name, teacher, turns=1)
    seen = spy_on_targets(monkeypatch)
    method.round(0)
    assert seen and all(one is None for one in seen)
