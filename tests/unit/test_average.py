"""The moving average of a generator (MAD): its weights by hand, and that the student learns its images beside the generator's."""

import copy

import pytest
import torch
from small_method import build, rng
from small_net import classifier, close


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def test_the_average_moves_a_share_of_the_way_after_each_generator_step(teacher):
    method = build("dfq", teacher, average_g=0.75, lr_g=0.05, steps_g=1)
    training = method.generator
    by_hand = [one.detach().clone() for one in training.net.parameters()]
    for step in range(3):
        training.steps(method.student, 0.0, rng(step))
        by_hand = [0.75 * old + 0.25 * now.detach() for old, now in zip(by_hand, training.net.parameters())]
    for kept, wanted, now in zip(training.average.parameters(), by_hand, training.net.parameters()):
        close(kept, wanted, rtol=1e-3, atol=1e-5)
        assert not kept.requires_grad and kept.shape == now.shape
    assert any(not torch.equal(kept, now) for kept, now in zip(training.average.parameters(), training.net.parameters()))
    for kept, now in zip(training.average.buffers(), training.net.buffers()):
        assert torch.equal(kept, now)


@pytest.mark.parametrize("images_s", ["new", "before", "after"])
@pytest.mark.parametrize("mode_g", ["train", "eval"])
def test_the_student_learns_images_of_both(teacher, images_s, mode_g, monkeypatch):
    method, seen = build("dfq", teacher, average_g=0.9, lr_g=0.1, images_s=images_s, mode_g=mode_g, steps_s=2, turns=1), []
    step = method.student.step
    monkeypatch.setattr(method.student, "step", lambda images, *given, **how: seen.append(images) or step(images, *given, **how))
    drawn, latent = [], method.generator.latent
    monkeypatch.setattr(method.generator, "latent", lambda rng: drawn.append(latent(rng)) or drawn[-1])
    average = None
    move = method.generator._move_average

    def moved():
        nonlocal average
        move()
        average = copy.deepcopy(method.generator.average).train(mode_g == "train")

    monkeypatch.setattr(method.generator, "_move_average", moved)
    method.round(0)
    assert [len(one) for one in seen] == [32, 32]
    assert torch.equal(seen[0], seen[1]) == (images_s != "new")
    with torch.no_grad():
        close(seen[0][16:], average(drawn[2] if images_s == "new" else drawn[1]), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(seen[0][:16], seen[0][16:])


def test_there_is_none_by_default(teacher):
    method = build("dfq", teacher)
    images = torch.rand(4, 1, 8, 8)
    assert method.generator.average is None and method.generator.beside(images, rng()) is images


def test_its_state(teacher):
    method, other = (build("dfq", teacher, average_g=0.5, lr_g=0.05) for _ in range(2))
    method.round(0)
    other.restore(method.state())
    for kept, wanted in zip(other.generator.average.parameters(), method.generator.average.parameters()):
        assert torch.equal(kept, wanted)
