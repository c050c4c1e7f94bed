"""SSD-KD: the modulating function by hand, and which images of the buffer are replaced, and by how many."""

import pytest
import torch
import torch.nn.functional as F
from small_net import CPU, classifier, close

from dfkd_steps.methods import ssd_kd


@pytest.fixture(scope="module")
def teacher():
    return classifier()


def method(teacher, **changes):
    values = {"n": 12, "batch": 8, "rounds": 6, "warmup": 1, "steps_s": 2, "batch_s": 6, "steps": 1, "latent": 4, "width": 2}
    made = ssd_kd.SSDKDConfig(method="ssd-kd", student="resnet8", tau=4.0, **{**values, **changes})
    return ssd_kd.SSDKD(made, teacher, [], CPU)


def images(number, seed=0):
    return torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def full(teacher):
    """A method whose buffer is full: of rounds 0 and 1."""
    made = method(teacher)
    for index, number in enumerate((8, 4)):
        made.put(made.pool.places(number), images(number, index), None, index)
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


def test_phi_of_pixels_by_hand(full):
    full.config.diversity, full.config.gamma = 2.0, 3.0
    logits, held = torch.randn(4, 3, 2, 5, generator=draw()), torch.tensor([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    by_hand = []
    for image in logits.flatten(2):
        classes, sure = image.argmax(0), F.softmax(image, 0).amax(0)
        rare = sum((1 - held[:, label].mean()) ** 2 for label in classes) / 10
        by_hand.append(rare * (1 - sure.mean()) ** 3)
    by_hand = torch.stack(by_hand)
    close(full.phi_of_pixels(logits, held), by_hand / by_hand.mean())


def test_phi_weights_the_losses_of_samples(full, monkeypatch):
    found, weights = [], []
    terms = full.objective.terms

    def keep(outputs, phi):
        each = F.cross_entropy(outputs.teacher_logits, outputs.targets, reduction="none")
        close(phi, full.phi(outputs.teacher_logits, outputs.targets))
        assert not phi.requires_grad  # images are not moved so that they count for less
        found.append(terms(outputs, phi))
        weights.append(0.4 * (each * phi).mean())
        return found[-1]

    monkeypatch.setattr(full.objective, "terms", keep)
    for index in (0, 1):
        full.round(index)
    close(torch.stack([terms["onehot"] for terms in found]), torch.stack(weights))
    assert [set(terms) for terms in found] == [{"bn", "onehot"}, {"bn", "onehot", "adversarial"}]  # one step each


LEARNT = [0.3, 5, 5, 0.1, 5, 5, 5, 0.2, 5, 5, 5, 0.4]
BEST = [3, 7, 0, 11]  # the rows of the least losses, least first


def all_visited(full):
    full.sampler.priorities.visited(torch.arange(12), 1.0, torch.tensor(LEARNT))


@pytest.mark.parametrize(("renew", "number"), [(0.25, 2), (0.5, 4), (0.01, 1), (0.4375, 4)])
def test_renewal_replaces_what_the_student_knows_best(full, renew, number):
    all_visited(full)
    full.config.renew = renew
    before, made = full.pool.images.clone(), images(8, 9)
    full.renew(made, torch.zeros(len(made), 4), 4, draw())
    changed = {row for row in range(12) if not torch.equal(full.pool.images[row], before[row])}
    assert changed == set(BEST[:number]) == set(torch.nonzero(full.pool.rounds == 4).flatten().tolist())
    assert set(torch.nonzero(full.sampler.priorities.delta.isnan()).flatten().tolist()) == changed
    stored = (made * 255).round().byte()
    entered = [next(i for i, one in enumerate(stored) if torch.equal(one, full.pool.images[row])) for row in sorted(changed)]
    assert len(set(entered)) == number  # each image once
    assert torch.equal(full.labels, full.teacher(full.pool.read(torch.arange(12))).argmax(1))
    assert len(full.pool) == 12


def test_a_renewal_of_all_takes_the_whole_batch(full):
    all_visited(full)
    full.config.renew = 1.0
    made = images(8, 9)
    full.renew(made, torch.zeros(len(made), 4), 4, draw())
    renewed = full.pool.images[full.pool.rounds == 4].flatten(1).tolist()
    assert sorted(renewed) == sorted((made * 255).round().byte().flatten(1).tolist())
    assert set(BEST) <= set(torch.nonzero(full.pool.rounds == 4).flatten().tolist())


def test_images_that_the_student_has_not_seen_are_kept(full):
    full.sampler.priorities.visited(torch.arange(12), 1.0, torch.arange(1.0, 13))
    full.sampler.priorities.forget(torch.arange(4))
    full.renew(images(8, 9), torch.zeros(8, 4), 4, draw())
    assert torch.nonzero(full.pool.rounds == 4).flatten().tolist() == [4, 5, 6, 7]


def test_what_enters_is_drawn_by_phi(full, monkeypatch):
    made, counts = images(8, 9), torch.zeros(8)
    chance = torch.tensor([4.0, 2, 1, 1, 0, 0, 0, 0])
    full.config.renew = 0.125
    monkeypatch.setattr(full, "phi", lambda teacher_logits, labels: chance)
    monkeypatch.setattr(full, "put", lambda places, entered, latents, index: counts.add_((made == entered).all((1, 2, 3))))
    for seed in range(200):
        full.renew(made, torch.zeros(len(made), 4), 1, draw(seed))
    assert counts.sum() == 200
    assert torch.allclose(counts / 200, chance / 8, atol=0.1)


@pytest.mark.parametrize(("renew", "number"), [(0.25, 2), (1.0, 8)])
def test_each_round_renews_a_share_of_a_batch(full, renew, number):
    full.config.renew = renew
    for index in (2, 3):
        full.round(index)
        assert (full.pool.rounds == index).sum() == number and len(full.pool) == 12


def test_all_of_a_batch_enters_until_the_buffer_is_full(teacher):
    made = method(teacher, n=20)
    for index in range(3):
        made.round(index)
    assert len(made.pool) == 20 and made.pool.rounds.tolist() == [2] * 4 + [0] * 4 + [1] * 8 + [2] * 4
    made.round(3)
    assert (made.pool.rounds == 3).sum() == 4


def test_all_of_a_batch_enters_as_long_as_the_student_does_not_train(teacher):
    made = method(teacher, warmup=3)
    for index in range(4):
        made.round(index)
    # 12 places: round 2 replaced the oldest, and round 3, the first of the student, half a batch of what has no priority yet.
    assert (made.pool.rounds == 3).sum() == 4 and (made.pool.rounds == 0).sum() == 0


@pytest.mark.parametrize("priority", [True, False])
def test_the_student_draws_by_priority_and_leaves_its_losses(full, teacher, priority):
    made = full if priority else method(teacher, priority=False)
    made.pool.add(images(12), 0)
    priorities = made.sampler.priorities
    priorities.visited(torch.arange(12), 1.0, torch.full((12,), 1e-9))
    priorities.visited(torch.tensor([5]), 1.0, torch.tensor([1e6]))
    before = priorities.delta.clone()
    made.config.steps_s = 2
    made.train_student(2, draw())
    changed = torch.nonzero(priorities.delta != before).flatten().tolist()
    assert changed == [5] if priority else len(changed) > 3


def test_the_effective_number_of_images():
    count = ssd_kd.effective_number
    assert count(torch.ones(8)) == 8 and count(torch.tensor([5.0, 0, 0])) == 1
    assert count(torch.tensor([1.0, 1, 2])).item() == pytest.approx(16 / 6)


def test_a_round_says_on_how_many_images_phi_rests(teacher):
    even, uneven = (method(teacher, diversity=0, gamma=gamma) for gamma in (0.0, 10.0))
    told = []
    for one in (even, uneven):
        for index in range(one.config.warmup + 1):
            figures = one.round(index)
        told.append(figures["effective"])
        assert set(figures) == {"loss", "agreement", "effective"}
    assert told[0] == pytest.approx(even.config.batch) and told[0] > told[1] >= 1


def test_the_student_is_given_the_weights_of_what_was_drawn(full, monkeypatch):
    """And its losses times these weights are the priorities afterwards, those of the last visit."""
    priorities, given = full.sampler.priorities, []
    priorities.visited(torch.arange(12), 1.0, torch.arange(1.0, 13))
    drawn, draw_rows, step = [], priorities.draw, full.student.step

    def draws(*arguments):
        drawn.append(draw_rows(*arguments))
        return drawn[-1]

    def steps(images, progress, rng, weights=None, answer=None):
        given.append((weights, step(images, progress, rng, weights, answer)))
        return given[-1][1]

    monkeypatch.setattr(priorities, "draw", draws)
    monkeypatch.setattr(full.student, "step", steps)
    full.config.steps_s = 3
    full.train_student(2, draw())
    expected = torch.arange(1.0, 13)
    for (rows, weights), (used, losses) in zip(drawn, given, strict=True):
        assert torch.equal(weights, used) and weights.std() > 0.01
        expected[rows] = weights * losses
    close(priorities.delta, expected)


def test_the_student_draws_from_the_filled_places_only(teacher):
    made = method(teacher, n=40)
    made.put(made.pool.places(5), images(5), None, 0)
    made.sampler.priorities.visited(torch.arange(5), 1.0, torch.ones(5))
    rows, _ = made.sampler.draw(100, draw())
    assert set(rows.tolist()) == set(range(5))


def test_the_effective_number_of_a_round_is_the_mean_over_the_steps_of_its_batch(teacher, monkeypatch):
    trained, numbers = method(teacher, steps=3), iter((7.0, 1.0, 1.0, 2.0, 4.0, 6.0))
    monkeypatch.setattr(ssd_kd, "effective_number", lambda phi: torch.tensor(next(numbers)))
    trained.round(0)
    assert trained.round(1)["effective"] == 4


def test_the_rate_of_the_student_ends_at_a_thousandth_of_its_peak(teacher):
    student = method(teacher, lr_s=0.2).student
    assert [student.lr(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.1001, 0.0002])
