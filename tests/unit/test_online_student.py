"""The online student of a method: one step by hand, the schedule, resumption, and what it leaves untouched."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from small_net import CPU, classifier, close

from dfkd_steps.methods.engines.online_student import OnlineStudent
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas.transfer.fast import FastConfig
from dfkd_steps.schemas.transfer.options.model_inversion import InversionOptions
from dfkd_steps.training import losses, views


def config(**fields):
    values = {"student": "resnet8", "tau": 4.0, "lr_s": 0.1, "view_s": "none", "weight_decay_s": 0.0}
    return InversionOptions(method="some", **{**values, **fields})


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def weights_of(made):
    return torch.cat([one.detach().flatten() for one in made.net.parameters()])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_teacher_and_student_see_the_same_mixture(kind, teacher, images):
    made, seen = OnlineStudent(config(mix_s=kind), teacher, CPU), []
    made.teacher = lambda given: seen.append(given) or teacher(given)
    made.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    made.step(images, 0.0, torch.Generator().manual_seed(5))
    mixed = views.mix(kind, images, torch.Generator().manual_seed(5))
    assert not torch.equal(mixed, images) and len(seen) == 2 and all(torch.equal(one, mixed) for one in seen)


def test_mixtures_are_not_stored():
    fault = FastConfig(method="fast", views_kept=4, mix_s="cutmix").check()
    assert fault == "views_kept: mixed views differ in every step; set mix_s: none, or views_kept: 0"


def by_hand(start, teacher, images, each_of, factors=None):
    """Gradients of the mean loss at the weights that a student starts from."""
    net = start.net.train()
    each = each_of(net(images), teacher(images))
    gradients = torch.autograd.grad((each if factors is None else each * factors).mean(), list(net.parameters()))
    net.eval()
    return each.detach(), torch.cat([one.flatten() for one in gradients])


def kd(student, teacher):
    p = F.softmax(teacher / 4, 1)
    return 16 * (p * (p.log() - F.log_softmax(student / 4, 1))).sum(1)


@pytest.mark.parametrize(
    ("kind", "each_of"), [("kd", kd), ("kd-mean", lambda s, t: kd(s, t) / 10), ("l1", lambda s, t: (s - t).abs().mean(1))]
)
@pytest.mark.parametrize("factors", [None, torch.tensor([0.0, 1, 2, 0.5, 1, 3])])
def test_one_step_of_sgd(teacher, images, kind, each_of, factors):
    made = OnlineStudent(config(loss_s=kind, lr_s=0.1), teacher, CPU)
    before, progress = weights_of(made), 0.25
    each, gradient = by_hand(OnlineStudent(config(), teacher, CPU), teacher, images, each_of, factors)
    told = made.step(images, progress, None, factors)
    close(told, each)  # the losses as they are, not weighted
    assert not told.requires_grad and not made.net.training
    lr = 0.05 * (1 + 0.5**0.5)  # half a cosine, a quarter of the way
    close(weights_of(made), before - lr * gradient, rtol=1e-4, atol=1e-6)


def test_sgd_is_that_of_the_public_codes(teacher, images):
    """Momentum without Nesterov, and decay on BatchNorm and biases too."""
    made, start = OnlineStudent(config(weight_decay_s=0.1), teacher, CPU), OnlineStudent(config(), teacher, CPU)
    before = weights_of(made)
    _, first = by_hand(start, teacher, images, kd)
    made.step(images, 0.0, None)
    close(weights_of(made), before - 0.1 * (first + 0.1 * before), rtol=1e-4, atol=1e-6)
    middle = weights_of(made)
    start.net.load_state_dict(made.net.state_dict())
    _, second = by_hand(start, teacher, images, kd)
    made.step(images, 0.0, None)
    velocity = 0.9 * (first + 0.1 * before) + second + 0.1 * middle
    close(weights_of(made), middle - 0.1 * velocity, rtol=1e-4, atol=1e-6)


def test_figures_are_means_over_the_steps_of_a_round(teacher, images):
    made, told, agreed = OnlineStudent(config(lr_s=0.01), teacher, CPU), [], []
    for _ in range(2):
        for _step in range(3):
            net = OnlineStudent(config(), teacher, CPU).net.train()
            net.load_state_dict(made.net.state_dict())
            agreed.append((net(images).argmax(1) == teacher(images).argmax(1)).float().mean())
            told.append(made.step(images, 0.0, None).mean())
        found = made.figures()
        close(torch.tensor(found["loss"]), torch.stack(told[-3:]).mean())
        close(torch.tensor(found["agreement"]), 100 * torch.stack(agreed[-3:]).mean())


RATES = {
    ("cosine", 0.0): (0.2, 0.1, 0.0293),
    ("cosine", 0.1): (0.2, 0.11, 0.0464),
    ("constant", 0.0): (0.2, 0.2, 0.2),
    ("drops-20-40", 0.0): (0.2, 0.002, 0.002),
    ("drops-40-80", 0.0): (0.2, 0.02, 0.02),
}


@pytest.mark.parametrize(("schedule", "floor"), RATES)
def test_the_schedule_and_its_floor(teacher, schedule, floor):
    made = OnlineStudent(config(lr_s=0.2), teacher, CPU, schedule, floor)
    assert [made.lr(progress) for progress in (0.0, 0.5, 0.75)] == pytest.approx(RATES[schedule, floor], abs=1e-4)


@pytest.mark.parametrize("attention", [0.0, 50.0])
def test_an_answer_of_the_teacher_serves_several_steps(teacher, images, attention):
    made, other = (OnlineStudent(config(attention_s=attention), teacher, CPU) for _ in range(2))
    asked = []
    handle = made.teacher.register_forward_hook(lambda *_: asked.append(0))
    answer = made.ask_teacher(images)
    for _ in range(3):
        made.step(images, 0.0, None, answer=answer)
    handle.remove()
    for _ in range(3):
        other.step(images, 0.0, None)
    assert len(asked) == 1 and torch.equal(weights_of(made), weights_of(other))


def test_attention_is_added_to_what_the_student_minimises(teacher, images):
    made, factors = OnlineStudent(config(attention_s=50.0, lr_s=0.1), teacher, CPU), torch.tensor([0.0, 1, 2, 0.5, 1, 3])
    before, start = weights_of(made), OnlineStudent(config(), teacher, CPU)

    def stages(classifier, images):
        net = classifier.net
        found = [F.relu(net.bn1(net.conv1((images - classifier.mean) / classifier.std)))]
        for layer in (net.layer1, net.layer2, net.layer3):
            found.append(layer(found[-1]))
        return found[1:], net.linear(found[-1].mean((2, 3)))

    start.net.train()
    (own, answered), (others, asked) = stages(start.net, images), stages(teacher, images)
    each = kd(answered, asked)
    whole = each + 50 * sum(losses.attention(one, other) for one, other in zip(own, others))
    gradients = torch.autograd.grad((whole * factors).mean(), list(start.net.parameters()))
    close(made.step(images, 0.0, None, factors), each.detach())  # what it says is the divergence
    gradient = torch.cat([one.flatten() for one in gradients])
    close(weights_of(made), before - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    plain = by_hand(OnlineStudent(config(), teacher, CPU), teacher, images, kd, factors)[1]
    assert (gradient - plain).norm() > 0.01 * gradient.norm()


def test_attention_needs_maps_of_one_size():
    shape = (1, 28, 28)
    asked = classifier("lenet5-half", shape, seed=1)
    asked.net[0].padding, asked.net[3].padding, asked.net[1] = (5, 5), (3, 3), torch.nn.MaxPool2d(2)
    asked.net[4] = torch.nn.AdaptiveMaxPool2d(5)
    made = OnlineStudent(config(attention_s=1.0), asked, CPU)
    with pytest.raises(
        UserError, match="some: attention_s: resnet8 and the teacher have no feature maps of equal size; set attention_s: 0"
    ):
        made.step(torch.rand(2, *shape), 0.0, None)


def test_clip_bounds_the_gradient(teacher, images):
    made = OnlineStudent(config(lr_s=1.0, clip_s=0.001), teacher, CPU)
    before = weights_of(made)
    made.step(images, 0.0, None)
    assert (weights_of(made) - before).norm().item() == pytest.approx(0.001, rel=1e-3)


def test_it_learns_from_batches_in_train_mode_and_is_asked_in_eval_mode(teacher, images):
    made = OnlineStudent(config(), teacher, CPU)
    statistics = made.net.net.bn1.running_mean.clone()
    made.step(images, 0.0, None)
    assert not torch.equal(made.net.net.bn1.running_mean, statistics) and not made.net.training
    lost = [made.step(images, 0.5, None).mean() for _ in range(20)]
    assert lost[-1] < 0.7 * lost[0]
    assert not teacher.training and all(one.grad is None for one in teacher.parameters())


def test_the_seed_decides_where_it_starts(teacher):
    torch.manual_seed(9)
    before, one = torch.get_rng_state(), weights_of(OnlineStudent(config(), teacher, CPU))
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(weights_of(OnlineStudent(config(), teacher, CPU)), one)
    other = config()
    other.seed = 1
    assert not torch.equal(weights_of(OnlineStudent(other, teacher, CPU)), one)


@pytest.mark.parametrize(
    ("arch", "kind"), [("resnet8", "sgd"), ("resnet8", "adam"), ("resnet8", "soap"), ("alexnet-half", "adam")]
)
def test_resumes_to_the_bit(arch, kind):
    """With dropout too: what is dropped must not depend on what else the process drew."""
    shape = (1, 16, 16)
    asked, images = classifier(shape=shape, seed=1), torch.rand(4, *shape)

    def fresh():
        made = OnlineStudent(SimpleNamespace(**{**vars(config(optimizer_s=kind, lr_s=0.01)), "student": arch}), asked, CPU)
        torch.rand(3)
        return made

    whole, part, resumed = fresh(), fresh(), fresh()
    told = [whole.step(images, step / 4, None) for step in range(4)]
    again = [part.step(images, step / 4, None) for step in range(2)]
    resumed.restore(part.state())
    again += [resumed.step(images, step / 4, None) for step in (2, 3)]
    assert all(torch.equal(a, b) for a, b in zip(told, again))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    if arch == "alexnet-half":  # each step drops other units
        still = fresh()
        still.config.lr_s = 1e-30
        assert not torch.equal(still.step(images, 0.0, None), still.step(images, 0.0, None))


def test_frozen_reaches_the_images_and_not_the_weights(teacher, images):
    made = OnlineStudent(config(), teacher, CPU)
    with made.frozen() as student:
        loss = losses.kd(student(images.requires_grad_()), teacher(images), 1.0)
    loss.backward()
    assert images.grad.abs().max() > 0 and all(one.grad is None for one in made.net.parameters())
    assert all(one.requires_grad for one in made.net.parameters())
    with pytest.raises(KeyError), made.frozen():
        raise KeyError
    assert all(one.requires_grad for one in made.net.parameters())


def test_a_student_that_is_looked_through_in_train_mode(teacher, images):
    made, other = (OnlineStudent(config(), teacher, CPU) for _ in range(2))
    before = made.net.net.bn1.running_mean.clone()
    with made.frozen("train") as student:
        found = student(images)
        assert all(not one.requires_grad for one in student.parameters())
    close(found, other.net.train()(images))  # the statistics are those of the batch
    assert not torch.equal(made.net.net.bn1.running_mean, before)
    assert not made.net.training and all(one.requires_grad for one in made.net.parameters())


def test_what_dropout_drops_in_a_student_that_is_looked_through_is_its_own_affair():
    shape = (1, 16, 16)
    asked, images, answers = classifier(shape=shape, seed=1), torch.rand(4, *shape), []
    for drawn in (0, 3):
        made = OnlineStudent(SimpleNamespace(**{**vars(config()), "student": "alexnet-half"}), asked, CPU)
        torch.rand(drawn)
        with made.frozen("train") as student:
            answers.append(student(images))
    with made.frozen() as student:
        assert torch.equal(*answers) and not torch.allclose(student(images), answers[0])


def test_a_step_drops_other_units_than_the_look_before_it():
    shape = (1, 16, 16)
    student = OnlineStudent(
        SimpleNamespace(**{**vars(config()), "student": "alexnet-half"}), classifier(shape=shape, seed=1), CPU
    )
    images, answers = torch.rand(4, *shape), []
    student.net.register_forward_hook(lambda module, inputs, output: answers.append(output.detach()))
    with student.frozen("train") as net:
        net(images)
    student.step(images, 0.0, None)
    assert len(answers) == 2 and not torch.allclose(*answers)


def test_a_student_that_does_not_take_the_images(teacher):
    with pytest.raises(UserError, match=r"lenet5: image shape \(1, 8, 8\) does not fit"):
        OnlineStudent(SimpleNamespace(**{**vars(config()), "student": "lenet5-half"}), teacher, CPU)
