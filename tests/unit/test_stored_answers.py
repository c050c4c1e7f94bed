"""Stored answers: what is kept is what the teacher says of the view that is given, and it is renewed at the rate that is set."""

import pytest
import torch
from small_net import CPU, classifier

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.methods.engines.image_pool import ImagePool
from dfkd_steps.methods.engines.stored_answers import StoredAnswers
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import choices
from dfkd_steps.storage import checkpoint
from dfkd_steps.training import views
from dfkd_steps.training.kept_views import KeptViews, ViewsInTurn

SHAPE = (3, 16, 16)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images_of(number, seed):
    return torch.rand(number, *SHAPE, generator=rng(seed))


class Teacher:
    """Logits that no two different images share, and a count of the images that were passed."""

    def __init__(self):
        self.asked = 0
        self.matrix = torch.randn(3 * 16 * 16, 5, generator=rng(9)) / 16

    def __call__(self, images):
        self.asked += len(images)
        return images.flatten(1) @ self.matrix


def make(capacity=12, **options):
    pool, teacher = ImagePool(capacity, SHAPE, CPU), Teacher()
    return pool, teacher, StoredAnswers(pool, teacher, 5, **{"view": "flip-crop", "number": 3, "fresh": 0.0, **options})


def test_the_logits_are_those_of_the_views():
    for view in choices.REPEATABLE:
        for fresh in (0.0, 0.5, 1.0):
            pool, teacher, stored = make(view=view, fresh=fresh)
            pool.add(images_of(12, 1), 0)
            stored.refresh(rng(), 5)
            for step in range(4):
                images, logits = stored.batch(torch.randperm(12, generator=rng(step))[:8], rng(step))
                assert (logits - teacher(images)).abs().max() < 2e-3 * logits.abs().max()


def test_a_batch_holds_the_images_of_its_rows():
    pool, _, stored = make(view="none")
    pool.add(images_of(12, 1), 0)
    stored.refresh(rng(), 12)
    rows = torch.tensor([3, 3, 0, 11])
    assert torch.equal(stored.batch(rows, rng())[0], pool.read(rows))


def test_the_teacher_is_asked_once_for_each_view_of_a_new_image_and_then_for_the_fresh_share():
    pool, teacher, stored = make(capacity=10, number=4, fresh=0.25)
    pool.add(images_of(6, 1), 0)
    stored.refresh(rng(), 4)
    assert teacher.asked == 24
    stored.refresh(rng(), 4)
    assert teacher.asked == 24
    stored.batch(torch.arange(4), rng())
    assert teacher.asked == 25
    pool.add(images_of(4, 2), 1)
    stored.refresh(rng(), 4)
    assert teacher.asked == 25 + 16
    pool.put(torch.tensor([0]), images_of(1, 3), 2)
    stored.refresh(rng(), 4)
    assert teacher.asked == 25 + 16 + 4


def test_a_fresh_view_replaces_a_stored_one():
    pool, _, stored = make(number=2, fresh=0.5)
    pool.add(images_of(12, 1), 0)
    stored.refresh(rng(), 12)
    before = stored.kept.logits.clone()
    stored.batch(torch.arange(12), rng(1))
    changed = (stored.kept.logits != before).any(2)
    assert 1 <= changed.sum() <= 6 and not changed[6:].any()
    for step in range(40):
        stored.batch(torch.randperm(12, generator=rng(step)), rng(step))
    assert (stored.kept.logits != before).any(2).float().mean() > 0.9


def test_views_differ_between_slots_and_all_slots_are_taken():
    pool, _, stored = make(number=3)
    pool.add(images_of(12, 1), 0)
    stored.refresh(rng(), 12)
    assert len({tuple(one.flatten().tolist()) for one in stored.kept.parameters}) == 12
    assert (stored.kept.parameters[:, 0] != stored.kept.parameters[:, 1]).any()
    taken = {round(float(stored.batch(torch.tensor([0]), rng(step))[1].sum()), 3) for step in range(60)}
    assert taken == {round(float(one.float().sum()), 3) for one in stored.kept.logits[0]}


def test_resumes_to_the_bit():
    def pooled(**options):
        pool, _, stored = make(fresh=0.5, **options)
        pool.add(images_of(8, 1), 0)
        stored.refresh(rng(), 8)
        return stored

    whole, resumed = pooled(), pooled()
    for step in range(3):
        whole.batch(torch.arange(8), rng(step))
    resumed.restore(whole.state())
    rows = torch.arange(8).flip(0)
    assert all(torch.equal(a, b) for a, b in zip(whole.batch(rows, rng(7)), resumed.batch(rows, rng(7))))


@pytest.mark.parametrize("name", choices.REPEATABLE)
def test_a_view_is_what_its_parameters_repeat(name):
    images = images_of(30, 4)
    parameters = views.draw(name, images, rng(5))
    assert torch.equal(views.view(name, images, rng(5)), views.repeat(name, images, parameters))
    assert torch.equal(views.repeat(name, images[3:4], parameters[3:4])[0], views.repeat(name, images, parameters)[3])


def test_logits_that_float16_does_not_hold_are_refused():
    """As infinite ones they would make the loss no number, some epochs later, and blame the learning rate."""
    large = ViewsInTurn(KeptViews(4, 2, "none", lambda images: torch.full((len(images), 3), 7e4), 3, CPU))
    with pytest.raises(UserError, match="logits are too large to be kept in float16; set views_kept: 0"):
        large.batch(torch.arange(2), torch.rand(2, 1, 8, 8), torch.Generator())


def test_logits_that_float16_does_not_hold_are_still_known_after_later_ones():
    sizes = iter([1.0, 7e4, 2.0])
    kept = KeptViews(4, 1, "none", lambda images: torch.full((len(images), 3), next(sizes)), 3, CPU)
    renewed = (torch.arange(2), torch.zeros(2, dtype=torch.int64), torch.rand(2, 1, 8, 8), torch.Generator())
    kept.renew(*renewed)
    kept.require_finite()
    for _ in range(2):
        kept.renew(*renewed)
    with pytest.raises(UserError, match="logits are too large to be kept in float16"):
        kept.require_finite()


def test_a_sample_takes_new_views_until_it_has_all_and_then_these_in_turn():
    images, teacher, places = images_of(6, 1), Teacher(), torch.tensor([4, 1, 3])
    turns, draw = ViewsInTurn(KeptViews(6, 2, "resized-crop", teacher, 5, CPU)), rng()
    start = {name: value.clone() for name, value in turns.state().items()}
    shown = [turns.batch(places, images[places], draw) for _ in range(4)]
    assert teacher.asked == 2 * 3
    for seen, logits in shown:
        assert (logits - teacher(seen)).abs().max() < 2e-3 * logits.abs().max()
    for one, two, same in ((0, 1, False), (0, 2, True), (1, 3, True)):
        assert torch.equal(shown[one][0], shown[two][0]) == torch.equal(shown[one][1], shown[two][1]) == same
    before = teacher.asked
    turns.batch(torch.tensor([1, 0]), images[[1, 0]], draw)
    assert teacher.asked == before + 1  # of the one that was not drawn yet
    every = torch.arange(6)
    for _ in range(2):
        assert not turns.complete
        turns.batch(every, images, draw)
    before = teacher.asked
    assert before == 6 * 2 + len(shown) * len(places)  # all views of all, and what was asked above
    turns.batch(every, images, draw)
    assert teacher.asked == before and turns.complete
    turns.restore(start)
    turns.batch(every, images, draw)
    assert teacher.asked == before + 6


# ------------------------------------------------------------------------------------------- in the methods that have them
SMALL = {
    "n": 8, "batch": 8, "rounds": 4, "warmup": 1, "steps_s": 3, "batch_s": 8, "steps": 2, "student": "resnet8", "latent": 4,
    "width": 4, "views_kept": 2, "fresh": 0.5,
}  # fmt: skip


def method(name, **changes):
    cls = method_registry.load(name)
    known = {key: value for key, value in {**SMALL, **changes}.items() if key in cls.Config.__dataclass_fields__}
    return cls(cls.Config(method=name, **known), classifier(seed=1), [], CPU)


def weights_of(made):
    return torch.cat([one.detach().flatten() for one in made.student.net.parameters()])


@pytest.mark.parametrize("name", ["adi", "cmi", "fast", "ssd-kd"])
def test_a_method_resumes_with_them_to_the_bit(name, tmp_path):
    whole, part = method(name), method(name)
    for index in range(4):
        whole.round(index)
        part.round(index)
        checkpoint.save(tmp_path / "state", "key", state=part.state())
        part = method(name)
        part.restore(checkpoint.load(tmp_path / "state", "key")["state"])
    assert torch.equal(weights_of(whole), weights_of(part))


@pytest.mark.parametrize("name", ["adi", "cmi", "fast", "ssd-kd"])
def test_a_round_asks_the_teacher_about_new_views_alone(name):
    made, asked = method(name), []
    ask = made.student.ask_teacher
    made.student.ask_teacher = lambda images: asked.append(len(images)) or ask(images)
    made.round(0)
    assert not asked  # no student yet
    made.round(1)
    new = int((made.answers.rounds == 1).sum()) + int((made.answers.rounds == 0).sum())
    assert new == 8 and sum(asked) == 2 * 8 + 3 * 4  # two views of each image, and half of three batches


def test_a_round_says_that_float16_does_not_hold_the_logits_of_a_new_view():
    """And not that the learning rate is too large."""
    made = method("fast")
    made.round(0)
    refresh = made.answers.refresh

    def then_large(*args):
        refresh(*args)
        made.answers.kept.ask = lambda images: torch.full((len(images), 10), 7e4)

    made.answers.refresh = then_large
    with pytest.raises(UserError, match="logits are too large to be kept in float16"):
        made.round(1)


def test_a_student_learns_from_what_the_teacher_says_of_the_kept_views():
    made, shown = method("fast", fresh=0.0), []
    step = made.student.step

    def watched(images, progress, rng, weights, answer):
        shown.append((images, answer[0]))
        return step(images, progress, rng, weights, answer)

    made.student.step = watched
    for index in range(2):
        made.round(index)
    for images, logits in shown:
        assert (made.teacher(images) - logits).abs().max() < 5e-3 * logits.abs().max()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"view_s": "mild"},
            f"views_kept: 'mild' views cannot be stored; set view_s to one of {', '.join(choices.REPEATABLE)}, or views_kept: 0",
        ),
        ({"attention_s": 1.0}, "views_kept: feature maps are not stored; set attention_s: 0, or views_kept: 0"),
        ({"view_s": "mild", "views_kept": 0}, None),
    ],
)
def test_views_that_cannot_be_kept(fields, fault):
    config = method_registry.load("fast").Config(method="fast", **{**SMALL, **fields})
    assert config.check() == fault


def test_a_sample_that_is_twice_in_a_batch_leaves_no_view_empty():
    """An empty one would be shown as an image that the teacher answers with zeros."""
    images, teacher, draw = images_of(4, 1), Teacher(), rng()
    turns = ViewsInTurn(KeptViews(4, 3, "resized-crop", teacher, 5, CPU))
    for places in ([0, 0, 1, 2], [0, 1, 1, 3], [2, 2, 2, 3], [3, 1, 0, 0], [2, 3, 1, 0], [0, 1, 2, 3]):
        places = torch.tensor(places)
        shown, logits = turns.batch(places, images[places], draw)
        assert (logits - teacher(shown)).abs().max() < 2e-3 * logits.abs().max()
    assert turns.kept.logits.abs().sum(2).min() > 0
