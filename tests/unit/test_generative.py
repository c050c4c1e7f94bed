"""LS-GDFD: classes dealt out, members that know nothing of one another, and samples of each in turn."""

import pytest
import torch
from small_net import CPU, classifier

from dfkd_steps.methods import generative
from dfkd_steps.runtime.errors import UserError


@pytest.fixture(scope="module")
def teacher():
    return classifier()


def method(teacher, **changes):
    values = {"n": 20, "batch": 8, "members": 3, "rounds_each": 2, "steps": 2, "train_batch": 8, "latent": 4, "width": 2}
    return generative.LSGDFD(generative.LSGDFDConfig(method="generative", **{**values, **changes}), teacher, [], CPU)


def weights(member):
    return {**member.net.state_dict(), **dict(enumerate(one["exp_avg"] for one in member.optimizer.state.values()))}


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


DEALT = {1: [range(10)], 3: [(0, 3, 6, 9), (1, 4, 7), (2, 5, 8)], 10: [(label,) for label in range(10)]}


@pytest.mark.parametrize("members", DEALT)
def test_classes_are_dealt_out(teacher, members):
    made = method(teacher, members=members)
    weights = {one.net.dense.weight.sum().item() for one in made.members}
    assert len(weights) == members  # each starts from its own
    assert [one.net.description.classes for one in made.members] == [tuple(classes) for classes in DEALT[members]]
    assert made.rounds == members * 2 and made.networks() == {}
    for index in (0, made.rounds - 1):
        made.round(index)
    assert set(made.networks()) == {"generator-0", f"generator-{members - 1}"}  # those that were trained


def test_more_members_than_classes(teacher):
    with pytest.raises(UserError, match=r"^transfer: members: 11 is more than the 10 classes; give at most 10$"):
        method(teacher, members=11)


def test_members_do_not_know_of_one_another(teacher):
    whole = method(teacher)
    for index in range(whole.rounds):
        whole.round(index)
    for number in range(3):
        alone = method(teacher)
        for own in range(2):
            alone.round(2 * number + own)
        assert same(weights(alone.members[number]), weights(whole.members[number])), number
    mixed = method(teacher)
    for index in (4, 0, 2, 3, 5, 1):  # own rounds in order, those of others in between
        mixed.round(index)
    assert all(same(weights(a), weights(b)) for a, b in zip(mixed.members, whole.members))
    assert not torch.equal(whole.members[0].net.dense.weight, whole.members[1].net.dense.weight)


def test_each_member_is_asked_for_its_own_classes_only(teacher, monkeypatch):
    made, seen = method(teacher), []
    monkeypatch.setattr(made.objective, "forward", lambda images, targets, student: seen.append(targets))
    monkeypatch.setattr(made.objective, "terms", lambda looked: {"x": sum(one.sum() for one in made.members[1].net.parameters())})
    made.round(2)
    assert len(seen) == 2 and {*torch.cat(seen).tolist()} <= {1, 4, 7} and not torch.equal(*seen)


@pytest.mark.parametrize("members", [1, 3, 7])
def test_samples_are_of_the_members_in_equal_number(teacher, members):
    made = method(teacher, members=members)
    for number, member in enumerate(made.members):
        member.net.eval()
        member.net.mean.fill_(0.2 + 0.1 * number)
        member.net.std.fill_(0.001)
    batches = [made.batch(index).images for index in range(made.count())]
    assert [len(one) for one in batches] == [len(made.rows(index)) for index in range(made.count())]
    levels = torch.cat(batches).mean((1, 2, 3))
    counts = ((levels - 0.2) / 0.1).round().long().bincount(minlength=members)
    assert len(levels) == 20 and counts.max() - counts.min() <= 1 and levels.diff().min() > -0.05  # in order


def test_the_rate_goes_down_over_all_rounds_of_a_member_and_its_figure_is_a_mean(teacher, monkeypatch):
    trained, steps, advance = method(teacher, lr=0.01), [], generative.loop.advance

    def spied(net, optimise, loss, lr):
        steps.append((lr, loss.item()))
        advance(net, optimise, loss, lr)

    monkeypatch.setattr(generative.loop, "advance", spied)
    figures = [trained.round(index)["generator"] for index in (2, 3)]  # those of the second member
    assert [lr for lr, _ in steps] == pytest.approx([0.01 * share for share in (1, 0.853553, 0.5, 0.146447)], rel=1e-4)
    assert figures == pytest.approx([(steps[0][1] + steps[1][1]) / 2, (steps[2][1] + steps[3][1]) / 2], rel=1e-5)


def test_training_brings_the_loss_down(teacher):
    made = method(teacher, members=1, rounds_each=15, steps=4, width=8, train_batch=16, lr=0.01)
    told = [made.round(index)["generator"] for index in range(15)]
    assert sum(told[-3:]) < 0.98 * sum(told[:3])


@pytest.mark.parametrize("side", [64, 224])
def test_large_images(side):
    large = classifier(shape=(3, side, side))
    made = method(large, members=1, n=4, batch=4, rounds_each=2, steps=2, width=4, train_batch=4, lr=0.02)
    first, second = (made.round(index)["generator"] for index in range(2))
    assert second < first
    images = made.batch(0).images
    assert (
        images.shape == (4, 3, side, side) and images.min() >= 0 and images.max() <= 1 and not torch.equal(images[0], images[1])
    )


def test_a_loss_that_is_no_number_names_the_member(teacher):
    made = method(teacher)
    with torch.no_grad():
        made.members[1].net.dense.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"^generative: member 1, round 2: the loss is nan; lower lr$"):
        made.round(3)


def test_each_round_of_a_member_draws_other_numbers_in_train_mode(teacher, monkeypatch):
    trained, latents, modes = method(teacher), [], []
    net, draw = trained.members[1].net, trained.members[1].net.draw

    def spied(number, rng):
        drawn = draw(number, rng)
        latents.append(drawn[0])
        modes.append(net.training)
        return drawn

    monkeypatch.setattr(net, "draw", spied)
    for index in (2, 3):
        trained.round(index)
    assert len(torch.cat(latents).unique(dim=0)) == 2 * 2 * 8 and modes == [True] * 4


def test_adam_has_the_decay_of_generators(teacher):
    assert method(teacher).members[2].optimizer.param_groups[0]["betas"] == (0.5, 0.999)
