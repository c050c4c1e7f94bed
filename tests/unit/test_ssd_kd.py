"""SSD-KD: the modulating function by hand, and which rows of the buffer a renewal replaces."""

import pytest
import torch
import torch.nn.functional as F
from small_net import CPU, classifier, close

from dfkd_steps.methods import ssd_kd
from dfkd_steps.methods.engines.renewal import ACTIONS, Action, Agent


@pytest.fixture(scope="module")
def teacher():
    return classifier()


def method(teacher, **changes):
    values = {"n": 12, "batch": 8, "rounds": 6, "warmup": 1, "steps_s": 2, "batch_s": 6, "steps": 1, "latent": 4, "width": 2}
    made = ssd_kd.Config(method="ssd-kd", student="resnet8", tau=4.0, **{**values, **changes})
    return ssd_kd.Method(made, teacher, [], CPU)


def images(number, seed=0):
    return torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def full(teacher):
    """A method whose buffer is full: generations 0 and 1."""
    made = method(teacher)
    made.fill(images(8, 0), 0)
    made.fill(images(4, 1), 1)
    return made


@pytest.mark.parametrize(("diversity", "gamma"), [(1.0, 2.0), (0.0, 2.0), (1.0, 0.0), (0.5, 3.0)])
def test_phi(full, diversity, gamma):
    full.config.diversity, full.config.gamma = diversity, gamma
    full.labels[:] = torch.tensor([0] * 6 + [1] * 3 + [2] * 3)
    logits, labels = torch.randn(4, 10, generator=draw()) * 3, torch.tensor([0, 1, 2, 9])
    sure = F.softmax(logits, 1).max(1).values
    by_hand = (1 - torch.tensor([0.5, 0.25, 0.25, 0.0])) ** diversity * (1 - sure) ** gamma
    found = full.phi(logits, labels)
    close(found, by_hand / by_hand.mean())
    assert found.mean().item() == pytest.approx(1)


def test_phi_counts_what_the_buffer_holds(teacher):
    made, logits = method(teacher, gamma=0.0), torch.zeros(2, 10)
    close(made.phi(logits, torch.tensor([0, 1])), torch.ones(2))  # empty: nothing is frequent
    made.pool.add(images(4), 0)
    made.labels[:4] = torch.tensor([1, 1, 1, 3])
    close(made.phi(logits, torch.tensor([0, 1])), torch.tensor([1.6, 0.4]))  # the empty places count for no class


@pytest.mark.parametrize("gap", [12.0, 30.0, 80.0])
def test_phi_of_images_that_the_teacher_is_all_sure_of(full, gap):
    """Still of mean 1 and in the right order: 1 - p must not be lost to rounding."""
    full.config.diversity = 0.0
    logits = torch.zeros(3, 10)
    logits[:, 4] = torch.tensor([gap, gap + 1, gap + 2])
    found = full.phi(logits, torch.full((3,), 4))
    expected = torch.exp(-2 * torch.tensor([0.0, 1.0, 2.0]))
    close(found, expected / expected.mean(), rtol=1e-3)


def test_phi_weights_the_losses_of_samples(full):
    shown, wanted = images(8, 5), torch.arange(8)
    with full.learner.frozen() as student:
        seen = full.objective.look(shown, wanted, student)
    each = F.cross_entropy(seen.logits, wanted, reduction="none")
    found = full.terms(shown, wanted, 1)
    close(found["onehot"], 0.4 * (each * full.phi(seen.logits, wanted)).mean())
    assert set(full.terms(shown, wanted, 0)) == {"bn", "onehot"}


def test_difficulty_is_the_weighted_divergence(full):
    rows = torch.arange(12)
    shown = full.pool.read(rows)
    p, q = F.softmax(full.teacher(shown) / 4, 1), F.softmax(full.learner.net(shown) / 4, 1)
    each = 16 * (p * (p / q).log()).sum(1)
    assert full.difficulty(rows) == pytest.approx((full.phi(full.teacher(shown), full.labels) * each).mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("action", "rows"),
    [(Action(0.25), {3, 7}), (Action(0.5), {3, 7, 0, 11}), (Action(1.0, easy=False), {0, 1, 2, 3, 4, 5, 6, 7})],
)
def test_renewal_replaces_the_best_learnt_or_the_oldest(full, action, rows):
    learnt = torch.tensor([0.3, 5, 5, 0.1, 5, 5, 5, 0.2, 5, 5, 5, 0.4])
    full.priorities.visited(torch.arange(12), 1.0, learnt)
    before, made = full.pool.images.clone(), images(8, 9)
    full.renew(action, made, 4, draw())
    changed = {row for row in range(12) if not torch.equal(full.pool.images[row], before[row])}
    assert changed == rows == set(torch.nonzero(full.pool.generation == 4).flatten().tolist())
    assert set(torch.nonzero(full.priorities.delta.isnan()).flatten().tolist()) == rows
    stored = (made * 255).round().byte()
    entered = [next(i for i, one in enumerate(stored) if torch.equal(one, full.pool.images[row])) for row in sorted(rows)]
    assert len(set(entered)) == len(rows)  # each image once
    assert torch.equal(full.labels, full.teacher(full.pool.read(torch.arange(12))).argmax(1))
    assert len(full.pool) == 12


def test_what_enters_is_drawn_by_phi(full, monkeypatch):
    made, counts = images(8, 9), torch.zeros(8)
    chance = torch.tensor([4.0, 2, 1, 1, 0, 0, 0, 0])
    monkeypatch.setattr(full, "phi", lambda logits, labels: chance)
    monkeypatch.setattr(full, "put", lambda places, entered, index: counts.add_((made == entered).all((1, 2, 3))))
    for seed in range(200):
        full.renew(Action(0.125), made, 1, draw(seed))
    assert counts.sum() == 200
    assert torch.allclose(counts / 200, chance / 8, atol=0.1)


def test_a_round_learns_from_what_it_did(full, monkeypatch):
    told, gains = [], iter([2.0, 3.0])
    monkeypatch.setattr(full, "difficulty", lambda rows: next(gains))
    monkeypatch.setattr(full.agent, "choose", lambda state, rng: 2)
    monkeypatch.setattr(full.agent, "learn", lambda *arguments: told.append(arguments))
    full.last = {"loss": 1e9, "state": 1}
    full.round(2)
    assert told == [(1, 2, 0.5 * 12 / 8, 0)]  # in state 1, half a batch of 8 into 12, half as hard again, and the loss fell
    assert (full.pool.generation == 2).sum() == round(ACTIONS[2].share * 8)


def test_action_zero_makes_no_images(full, monkeypatch):
    monkeypatch.setattr(full.agent, "choose", lambda state, rng: 0)
    monkeypatch.setattr(full, "invert", lambda index, rng: pytest.fail("made images for nothing"))
    full.round(2)
    assert full.pool.generation.max() == 1


def test_until_the_buffer_is_full_all_of_a_batch_enters(teacher, monkeypatch):
    made = method(teacher, n=20)
    monkeypatch.setattr(made.agent, "choose", lambda state, rng: pytest.fail("asked too early"))
    for index in range(3):
        made.round(index)
    assert len(made.pool) == 20 and made.pool.generation.tolist() == [2] * 4 + [0] * 4 + [1] * 8 + [2] * 4


def test_the_student_draws_by_priority_and_leaves_its_losses(full):
    full.priorities.visited(torch.arange(12), 1.0, torch.full((12,), 1e-9))
    full.priorities.visited(torch.tensor([5]), 1.0, torch.tensor([1e6]))
    before = full.priorities.delta.clone()
    full.config.steps_s = 1
    full.study(2, draw())
    assert torch.nonzero(full.priorities.delta != before).flatten().tolist() == [5]
    assert full.last["state"] == Agent.state_of(full.last["loss"], None)
