"""Alternating training: steps, rates, modes, images and seeds of a turn, each by watching the parts."""

import pytest
import torch
from small_method import build
from small_net import classifier

from dfkd_steps.methods.engines import alternating, schedules

GAMES = ("dafl", "dfad", "dfq", "zskt")
TINY = {"turns": 2, "steps_s": 3, "train_batch": 4, "width": 2}


@pytest.fixture(scope="module")
def teacher():
    return classifier()


def watched(owner, name, monkeypatch):
    """A list that collects the arguments of each call of ``owner.name``."""
    calls, plain = [], getattr(owner, name)

    def call(*arguments, **how):
        calls.append(arguments)
        return plain(*arguments, **how)

    monkeypatch.setattr(owner, name, call)
    return calls


# Shares of the peak at the beginning of each of four turns.
SHARES = {
    "constant": [1, 1, 1, 1],
    "cosine": [1, 0.853553, 0.5, 0.146447],
    "drops-20-40": [1, 0.1, 0.01, 0.01],
    "drops-33-67": [1, 1, 0.1, 0.01],
    "drops-40-80": [1, 1, 0.1, 0.1],
}


@pytest.mark.parametrize("schedule", SHARES)
def test_rates_go_down_over_all_rounds_by_their_schedule(schedule, teacher, monkeypatch):
    how = {"schedule_g": schedule, "schedule_s": schedule, "steps_s": 1, "rounds": 2, "turns": 2}
    method = build("dfad", teacher, **{**TINY, **how}, lr_g=0.01, lr_s=0.1)
    seen = {"g": [], "s": []}
    for key, part in (("g", method.generator), ("s", method.student)):
        step = part.optimizer.step

        def spied(*arguments, key=key, part=part, step=step, **how):
            seen[key].append(part.optimizer.param_groups[0]["lr"])
            return step(*arguments, **how)

        monkeypatch.setattr(part.optimizer, "step", spied)
    method.round(0)
    method.round(1)
    assert seen["g"] == pytest.approx([0.01 * one for one in SHARES[schedule]], rel=1e-4)
    assert seen["s"] == pytest.approx([0.1 * one for one in SHARES[schedule]], rel=1e-4)


@pytest.mark.parametrize(("steps_g", "steps_s"), [(1, 3), (3, 1), (2, 2)])
def test_as_many_steps_of_each_side_as_it_says(steps_g, steps_s, teacher, monkeypatch):
    method = build("dfq", teacher, **{**TINY, "steps_s": steps_s}, steps_g=steps_g)
    generator, student = (watched(part.optimizer, "step", monkeypatch) for part in (method.generator, method.student))
    method.round(0)
    assert (len(generator), len(student)) == (2 * steps_g, 2 * steps_s)


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_the_gradient_of_the_generator_is_clipped_where_it_says(clip, teacher, monkeypatch):
    method = build("zskt", teacher, **TINY, clip_g=clip)
    norms, step = [], method.generator.optimizer.step

    def spied(*arguments, **how):
        norms.append(torch.stack([one.grad.norm() for one in method.generator.net.parameters()]).norm().item())
        return step(*arguments, **how)

    monkeypatch.setattr(method.generator.optimizer, "step", spied)
    method.round(0)
    assert all(one <= 1.01e-3 for one in norms) if clip else min(norms) > 2e-3


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_adam_of_the_generator_has_the_decay_that_it_says(beta, teacher):
    method = build("dafl", teacher, **TINY, beta_g=beta)
    assert method.generator.optimizer.param_groups[0]["betas"] == (beta, 0.999)


@pytest.mark.parametrize("name", GAMES)
def test_the_student_is_looked_through_in_the_mode_of_the_method(name, teacher, monkeypatch):
    method = build(name, teacher, **TINY)
    modes = watched(method.student, "frozen", monkeypatch)
    method.round(0)
    assert modes == [(method.config.mode_s if name != "dafl" else "eval",)] * 2


def test_both_sides_see_their_own_views(teacher, monkeypatch):
    seen = watched(alternating.views, "view", monkeypatch)
    build("dfad", teacher, **{**TINY, "view": "shift", "view_s": "mild", "steps_s": 2}).round(0)
    assert [name for name, *_ in seen] == ["shift", "mild", "mild"] * 2


@pytest.mark.parametrize("images_s", ["new", "before", "after"])
def test_which_images_the_student_sees(images_s, teacher, monkeypatch):
    method = build("zskt", teacher, **{**TINY, "turns": 1}, images_s=images_s, mode_g="train", lr_g=0.1)
    seen, asked, drawn = [], [], watched(method.generator.net, "draw", monkeypatch)
    forward, step = method.objective.forward, method.student.step

    def objective(images, *arguments):
        asked.append(images.detach().clone())
        return forward(images, *arguments)

    def student(images, *arguments, **how):
        seen.append(images.clone())
        return step(images, *arguments, **how)

    monkeypatch.setattr(method.objective, "forward", objective)
    monkeypatch.setattr(method.student, "step", student)
    monkeypatch.setattr(method, "collect", lambda *arguments: None)
    method.round(0)
    same = [torch.equal(one, asked[0]) for one in seen]
    assert len(seen) == 3 and same == [images_s == "before"] * 3
    assert len(torch.stack(seen).flatten(1).unique(dim=0)) == (3 if images_s == "new" else 1)
    assert len(drawn) == (4 if images_s == "new" else 1)


@pytest.mark.parametrize(
    ("images_s", "view_s", "times"), [("after", "none", 1), ("before", "none", 1), ("new", "none", 3), ("after", "shift", 3)]
)
def test_the_teacher_is_asked_again_only_where_the_images_are_others(images_s, view_s, times, teacher, monkeypatch):
    method = build("zskt", teacher, **{**TINY, "turns": 1, "view_s": view_s}, images_s=images_s)
    asked = []
    handle = teacher.register_forward_hook(lambda *_: asked.append(0))
    method.round(0)
    handle.remove()
    assert len(asked) == 1 + times  # and once in the generator's loss


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_images_of_the_student_are_drawn_in_the_mode_that_it_says(mode, teacher, monkeypatch):
    method = build("dafl", teacher, **TINY, mode_g=mode)
    modes = []
    method.generator.net.register_forward_hook(lambda net, *_: modes.append((torch.is_grad_enabled(), net.training)))
    method.round(0)
    assert {training for learns, training in modes if learns} == {True}
    assert {training for learns, training in modes if not learns} == {mode == "train"}


def test_each_round_draws_other_latent_vectors(teacher, monkeypatch):
    method = build("dafl", teacher, **{**TINY, "turns": 1, "rounds": 2})
    draw, drawn = method.generator.net.draw, []
    monkeypatch.setattr(method.generator.net, "draw", lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1])
    method.round(0)
    first = len(drawn)
    method.round(1)
    assert not torch.equal(drawn[0][0], drawn[first][0])


def test_the_figure_of_the_generator_is_the_mean_over_the_turns(teacher, monkeypatch):
    method, losses = build("dafl", teacher, **TINY), []
    steps = method.generator.steps

    def spied(*arguments):
        losses.append(steps(*arguments))
        return losses[-1]

    monkeypatch.setattr(method.generator, "steps", spied)
    figures = method.round(0)
    assert len(losses) == 2 and figures["generator"] == pytest.approx(sum(loss.item() for loss, *_ in losses) / 2, rel=1e-5)


def test_the_seed_decides_the_generator(teacher):
    weights = [build("dfq", teacher, **TINY, seed=seed).generator.net.dense.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_all_images_that_are_kept_are_of_latent_vectors_of_their_own(teacher, monkeypatch):
    """Two batches in each of two rounds."""
    method = build("dafl", teacher, **{**TINY, "rounds": 2, "n": 16}, collect=1.0, images_s="before")
    asked = watched(method.generator, "images_for_student", monkeypatch)
    for index in range(2):
        method.round(index)
    assert [len(latent) for (latent,) in asked] == [4] * 4
    assert len(torch.cat([latent for (latent,) in asked]).unique(dim=0)) == 16


@pytest.mark.parametrize(
    ("schedule", "places"), [("drops-20-40", (0.2, 0.4)), ("drops-33-67", (1 / 3, 2 / 3)), ("drops-40-80", (0.4, 0.8))]
)
def test_rates_drop_where_the_papers_drop_them(schedule, places):
    for number, place in enumerate(places):
        assert schedules.rate(schedule, 3.0, place - 1e-6) == pytest.approx(3 * 0.1**number)
        assert schedules.rate(schedule, 3.0, place) == pytest.approx(3 * 0.1 ** (number + 1))
