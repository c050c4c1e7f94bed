"""The rounds of model inversion (ADI, CMI, Fast, SSD-KD): what enters the pool, what the student sees of it and when."""

from types import SimpleNamespace

import pytest
import torch
from small_method import build
from small_net import CPU, classifier, close, convolutions, wrap

from dfkd_steps import synthesize
from dfkd_steps.methods import cmi
from dfkd_steps.methods.base import Batch
from dfkd_steps.methods.engines.image_pool import ImagePool
from dfkd_steps.storage import checkpoint
from dfkd_steps.storage.transfer_set import TransferSet

METHODS = ("adi", "cmi", "fast", "ssd-kd")


@pytest.fixture(scope="module")
def teacher():
    return wrap(convolutions(10), classes=10)


def stored(images):
    return (images * 255).round()


def spy_on_the_pool(monkeypatch):
    """A list that collects the images that are put into a pool, by round."""
    made, put = [], ImagePool.put

    def spied(self, places, images, index):
        made.append(images.detach().clone())
        put(self, places, images, index)

    monkeypatch.setattr(ImagePool, "put", spied)
    return made


@pytest.mark.parametrize("name", ["adi", "cmi", "fast"])
def test_the_newest_images_are_the_set_and_the_oldest_are_replaced(name, teacher, monkeypatch):
    made = spy_on_the_pool(monkeypatch)
    method = build(name, teacher, n=20, batch=8, steps=2)
    for index in range(4):
        method.round(index)
    # 32 images into 20 places: the fourth batch ends at place 12.
    assert method.pool.rounds.tolist() == [2] * 4 + [3] * 8 + [1] * 4 + [2] * 4
    expected = torch.zeros(20, 1, 8, 8)
    for place, image in enumerate(torch.cat(made)):
        expected[place % 20] = image
    found = torch.cat([method.batch(index).images for index in range(method.count())])
    assert torch.equal(stored(found), stored(expected)) and len(found) == 20


@pytest.mark.parametrize("name", METHODS)
def test_the_images_of_each_round_are_others(name, teacher, monkeypatch):
    made = spy_on_the_pool(monkeypatch)
    method = build(name, teacher, warmup=3)
    for index in range(3):
        method.round(index)
    assert len(torch.cat(made).flatten(1).unique(dim=0)) == 3 * method.config.batch


@pytest.mark.parametrize("name", METHODS)
def test_the_student_learns_after_the_warm_up_from_images_of_the_pool(name, teacher, monkeypatch):
    method, seen = build(name, teacher, warmup=2, steps_s=6, steps=2), []
    step = method.student.step

    def spied(images, *arguments, **how):
        seen.append(images)
        return step(images, *arguments, **how)

    monkeypatch.setattr(method.student, "step", spied)
    before = [one.detach().clone() for one in method.student.net.parameters()]
    for index in range(2):
        method.round(index)
        assert not seen and all(torch.equal(one, other) for one, other in zip(before, method.student.net.parameters()))
    method.round(2)
    assert [len(one) for one in seen] == [8] * 6
    assert not all(torch.equal(one, other) for one, other in zip(before, method.student.net.parameters()))
    shown = stored(torch.cat(seen)).flatten(1).unique(dim=0).tolist()
    held = stored(method.pool.read(torch.arange(16))).flatten(1).unique(dim=0).tolist()
    assert len(shown) > 8 and all(one in held for one in shown)


def test_cmi_starts_each_round_from_another_generator_and_the_seed_decides(teacher, monkeypatch):
    starts, refine = [], cmi.refine

    def spied(generator, latent, *arguments, **how):
        starts.append((generator.dense.weight.detach().clone(), latent.clone()))
        return refine(generator, latent, *arguments, **how)

    monkeypatch.setattr(cmi, "refine", spied)
    for _ in range(2):
        method = build("cmi", teacher, warmup=3)
        method.round(0)
        method.round(1)
    assert all(torch.equal(one, other) for one, other in zip(starts[0] + starts[1], starts[2] + starts[3]))
    assert not torch.equal(starts[0][0], starts[1][0]) and not torch.equal(starts[0][1], starts[1][1])


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_that_needs_the_student_moves_images_after_the_warm_up_only(name, monkeypatch):
    asked = classifier(seed=1)
    images = []
    for weight in (0.0, 5.0):
        changes = {"jsd": weight} if name == "adi" else {"adversarial": weight, "distance": "kl"}
        made = spy_on_the_pool(monkeypatch)
        method = build(name, asked, **changes, steps=3)
        for index in range(2):
            method.round(index)
        images.append(made)
    assert torch.equal(images[0][0], images[1][0]) and not torch.equal(images[0][1], images[1][1])


@pytest.mark.parametrize("name", METHODS)
def test_a_round_says_how_the_student_did_on_its_images(name, teacher, monkeypatch):
    method, seen = build(name, teacher, warmup=1, steps_s=3, steps=2), []
    step = method.student.step

    def spied(images, progress, rng, weights=None, answer=None):
        method.student.net.train()
        with torch.no_grad():
            agrees = method.student.net(images).argmax(1) == method.student.ask_teacher(images)[0].argmax(1)
        seen.append((step(images, progress, rng, weights, answer).mean(), 100 * agrees.float().mean()))

    monkeypatch.setattr(method.student, "step", spied)
    monkeypatch.setattr(method.sampler, "update", lambda *seen: None)
    assert method.round(0) is None
    for index in (1, 2):
        seen.clear()
        figures = method.round(index)
        loss, agreement = (torch.stack(values).mean().item() for values in zip(*seen))
        assert figures["loss"] == pytest.approx(loss, rel=1e-5) and figures["agreement"] == pytest.approx(agreement, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "figures"),
    [("fast", {"loss", "agreement"}), ("dfad", {"loss", "agreement", "generator"}), ("generative", {"generator"})],
)
def test_learning_curves_are_whole_after_an_interruption(name, figures, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)

    def made():
        return build(name, teacher, **({"rounds_each": 4, "steps": 2} if name == "generative" else {"rounds": 4}))

    def curves(path, method):
        return synthesize.train(method, range(method.rounds), "key", path)

    whole = curves(tmp_path / "whole", made())
    stopped = made()
    monkeypatch.setattr(stopped, "round", lambda index: {}["stopped"] if index == 3 else type(stopped).round(stopped, index))
    with pytest.raises(KeyError):
        curves(tmp_path / "cut", stopped)
    assert curves(tmp_path / "cut", made()) == whole
    assert curves(tmp_path / "cut", made()) == whole  # also where all rounds were done, and the images were not
    assert set(whole) == {"round", *figures}
    assert whole["round"] == ([2, 3, 4] if name == "fast" else [1, 2, 3, 4])  # fast warms up for a round
    assert all(len(values) == len(whole["round"]) for values in whole.values())


def test_long_learning_curves_are_evenly_thinned_and_keep_the_last_round():
    history = {}
    for number in range(1, 2501):
        synthesize.record(history, number, 2500, {"loss": 1 / number})
    assert history["round"] == [*range(5, 2501, 5)] and history["loss"][-1] == 0.0004
    others = {}
    for number in range(1, 1202):
        synthesize.record(others, number, 1201, {"loss": 1.0})
    assert others["round"] == [*range(3, 1201, 3), 1201]


def test_a_shard_counts_its_rounds_as_the_whole_set_does(tmp_path, monkeypatch):
    """Its learning curves are put together with those of the others, and must not depend on how many shards there are."""
    trained, events = [], []

    def round_of(index):
        trained.append(index)
        return {"loss": 1.0}

    method = SimpleNamespace(config=SimpleNamespace(method="x"), rounds=8, round=round_of, state=dict)
    monkeypatch.setattr(synthesize, "MOST_ROUNDS", 2)
    monkeypatch.setattr(synthesize.event_files, "add", lambda number, figures: events.append(number))
    history = synthesize.train(method, range(4, 8), "key", tmp_path / "state")
    assert (trained, events, history["round"]) == ([4, 5, 6, 7], [5, 6, 7, 8], [8])
    assert checkpoint.load(tmp_path / "state", "key")["rounds"] == 4, "images are made after it, which may be interrupted too"


def test_a_part_of_a_set_goes_on_where_it_was_and_keeps_what_its_batches_are(teacher, tmp_path):
    images, targets = torch.rand(4, 5, *teacher.description.image_shape), torch.rand(4, 5, 10).softmax(2)
    drawn, path = [], tmp_path / "set.h5"

    def batch(index):
        drawn.append(index)
        if drawn == [2, 3]:
            raise InterruptedError
        return Batch(images[index], targets[index], index + 7)

    method = SimpleNamespace(
        config=SimpleNamespace(method="x", image_type="float16"), teacher=teacher, answering=teacher, device=CPU, batch=batch,
        has_targets=True, rows=lambda index: range(5), rounds_for=lambda batches: range(0),
    )  # fmt: skip
    job = SimpleNamespace(config=method.config)
    with pytest.raises(InterruptedError):
        synthesize.fill(job, method, range(2, 4), path, "key")
    writer, history = synthesize.fill(job, method, range(2, 4), path, "key")
    assert (drawn, history) == ([2, 3, 3], {})
    writer.finish({}, {})
    with TransferSet(path) as found:
        stored = torch.from_numpy(found.read("images"))
        assert torch.equal(stored, images[2:].flatten(0, 1).half())
        assert found.read("round").tolist() == [9] * 5 + [10] * 5
        close(torch.from_numpy(found.read("targets")), targets[2:].flatten(0, 1))
        with torch.no_grad():
            close(torch.from_numpy(found.read("logits")), teacher(stored.float()), rtol=1e-4, atol=1e-4)
        assert (found.read("logits").argmax(1) == found.read("labels")).all()


def test_the_log_says_how_large_each_loss_was(teacher, tmp_path, capsys):
    """So that a weight that is nothing beside another one is seen: DeepInversion's 10 of CIFAR-10 with EfficientNet-lite0."""
    seen = []
    method = build("deepinversion", teacher, n=16, batch=8, steps=2, bn=0.5, tv=0.25)
    terms = method.objective.terms
    method.objective.terms = lambda outputs: seen.append(terms(outputs)) or seen[-1]
    synthesize.fill(SimpleNamespace(config=method.config), method, range(2), tmp_path / "set.h5", "key")
    values = ", ".join(f"{name} {seen[-1][name].item():.3g}" for name in ("onehot", "bn", "tv"))
    assert len(seen) == 4 and f"\nweighted losses of the last step: {values}\n" in f"\n{capsys.readouterr().err}"
    drawn = build("noise", teacher, n=8, batch=8)
    synthesize.fill(SimpleNamespace(config=drawn.config), drawn, range(1), tmp_path / "other.h5", "key")
    assert "losses" not in capsys.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_the_student_is_looked_through_in_eval_mode(name, teacher, monkeypatch):
    weights = {"jsd": 1.0} if name == "adi" else {"adversarial": 1.0}
    method, modes = build(name, teacher, warmup=0, steps=2, **weights), []
    forward = method.objective.forward

    def spied(images, targets=None, student=None):
        modes.append(student.training)
        return forward(images, targets, student)

    monkeypatch.setattr(method.objective, "forward", spied)
    method.round(0)
    assert modes and not any(modes)
