"""NAYER: labels in blocks of all classes, noisy layers drawn anew, lives of the generator, embeddings of a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_method import build, rng
from small_net import classifier, close
from test_origin import metadata

from dfkd_steps.methods.engines import label_embeddings, label_inversion
from dfkd_steps.pipeline import external, keys, params
from dfkd_steps.runtime.errors import UserError

PARAMS = Path(__file__).parents[2] / "params"


@pytest.fixture(scope="module")
def teacher():
    return classifier(seed=1)


def weights(net):
    return torch.cat([value.detach().flatten() for value in net.parameters()])


def test_labels_are_all_classes_in_turn_and_random_ones_at_the_end():
    drawn = label_inversion.balanced_targets(23, 10, rng())
    assert drawn[:20].tolist() == [*range(10), *range(10)] and len(drawn) == 23 and drawn.max() < 10
    ends = {tuple(label_inversion.balanced_targets(23, 10, rng(seed))[20:].tolist()) for seed in range(5)}
    assert len(ends) == 5
    assert len(label_inversion.balanced_targets(7, 10, rng())) == 7


def test_each_block_of_all_classes_has_a_noisy_layer_of_its_own(teacher, monkeypatch):
    """The images of one step are those before any: the embeddings through BatchNorm and N(0, 1), by hand."""
    inverter = build("nayer", teacher, batch=23, steps=1, n=23).inverter
    labels, taken = label_inversion.balanced_targets(23, 10, rng()), []
    forward = inverter.generator.forward
    monkeypatch.setattr(inverter.generator, "forward", lambda latent: taken.append(latent.detach()) or forward(latent))
    images = inverter.invert(lambda images: images.mean(), labels, rng(5))
    rows = inverter.embeddings[labels]
    rows = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    noisy = torch.randn(3, 512, 4, generator=rng(5))
    wanted = torch.cat([rows[:10] @ noisy[0], rows[10:20] @ noisy[1], rows[20:] @ noisy[2]])
    close(taken[0], wanted, rtol=1e-3, atol=1e-3)
    assert images.shape == (23, 1, 8, 8)
    again = inverter.invert(lambda images: images.mean(), labels, rng(6))
    assert not torch.allclose(taken[0], taken[1], atol=0.1) and not torch.equal(images, again)


def test_all_that_makes_a_batch_learns_and_the_generator_is_kept(teacher):
    inverter = build("nayer", teacher, steps=3).inverter
    before, norm = weights(inverter.generator), weights(inverter.norm)
    losses, labels = [], label_inversion.balanced_targets(16, 10, rng())

    def loss_of(images):
        losses.append(((images - 0.9) ** 2).mean())
        return losses[-1]

    inverter.invert(loss_of, labels, rng(5))
    assert losses[-1] < losses[0]
    assert not torch.equal(weights(inverter.generator), before) and not torch.equal(weights(inverter.norm), norm)
    inverter.generator.requires_grad_(False)
    inverter.norm.requires_grad_(False)
    losses.clear()
    inverter.invert(loss_of, labels, rng(5))  # the noisy layers alone
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("life", "anew"), [(10, [3, 10, 13, 20]), (4, [3, 4, 7, 8, 11, 12, 15, 16, 19, 20])])
def test_the_generator_starts_anew_at_the_end_of_a_life_and_with_the_student(teacher, life, anew):
    inverter, seen = build("nayer", teacher, warmup=3, life=life, rounds=21).inverter, []
    for index in range(21):
        before = weights(inverter.generator)
        inverter.begin_round(index)
        seen += [] if torch.equal(weights(inverter.generator), before) else [index]
    assert seen == anew


def test_the_batchnorm_of_the_embeddings_starts_anew_with_the_generator(teacher):
    inverter = build("nayer", teacher, warmup=3).inverter
    for parameter in inverter.norm.parameters():
        torch.nn.init.constant_(parameter, 2.0)
    inverter.begin_round(2)
    assert (weights(inverter.norm) == 2).all()
    inverter.begin_round(3)
    assert (inverter.norm.weight == 1).all() and not inverter.norm.bias.any()


def test_rounds_without_a_student_make_more_batches_and_the_pool_holds_them_all(teacher):
    method = build("nayer", teacher, n=88, rounds=4, warmup=2, batches=2, batches_warmup=3)
    method.config.n = 80
    assert method.config.check() is None
    method.config.n = 81
    assert "81 is more than the 80 images of 4 rounds" in method.config.check()
    for index in range(3):
        method.round(index)
    assert len(method.pool) == 8 * (3 + 3 + 2)
    assert method.pool.rounds[: len(method.pool)].tolist() == [0] * 24 + [1] * 24 + [2] * 16


def test_the_student_is_in_the_loss_from_its_first_round_on(teacher, monkeypatch):
    method, seen = build("nayer", teacher, warmup=2, steps=1, batches=1), []
    forward = method.objective.forward
    monkeypatch.setattr(method.objective, "forward", lambda *given: seen.append(given[2] is not None) or forward(*given))
    for index in range(4):
        method.round(index)
    assert seen == [False, False, True, True]


def test_statistics_are_averaged_over_the_batches(teacher):
    method = build("nayer", teacher, warmup=3)
    method.round(0)
    first = [mean.clone() for mean, _ in method.objective.averages]
    method.round(1)
    assert first and not any(torch.equal(one, two) for one, (two, _) in zip(first, method.objective.averages))


def test_drawn_embeddings():
    orthogonal = label_embeddings.build("orthogonal", "", 10, rng())
    assert orthogonal.shape == (10, 512)
    close(orthogonal @ orthogonal.T, torch.eye(10), atol=1e-5)
    assert not torch.equal(orthogonal, label_embeddings.build("orthogonal", "", 10, rng(1)))
    assert label_embeddings.build("orthogonal", "", 600, rng()).shape == (600, 600)
    close(label_embeddings.build("one-hot", "", 10, rng()), torch.eye(10))


def test_embeddings_of_a_file_and_what_is_none(tmp_path):
    rows = np.random.default_rng(0).normal(size=(10, 6))
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", words=rows.astype(np.float32))
    for name in ("a.npy", "a.npz"):
        close(label_embeddings.build("one-hot", str(tmp_path / name), 10, rng()), torch.from_numpy(rows).float())
    np.save(tmp_path / "few.npy", rows[:9])
    np.save(tmp_path / "nan.npy", rows * np.nan)
    np.save(tmp_path / "objects.npy", np.array([None] * 10))
    np.savez(tmp_path / "two.npz", a=rows, b=rows)
    (tmp_path / "text.npy").write_text("cat, dog")
    told = {"few.npy": r"shape \(9, 6\)", "nan.npy": "not finite", "objects.npy": "damaged", "two.npz": "contains 2 arrays",
            "text.npy": "damaged", "none.npy": "no such file"}  # fmt: skip
    for name, why in told.items():
        with pytest.raises(UserError, match=why) as caught:
            label_embeddings.build("one-hot", str(tmp_path / name), 10, rng())
        assert "\n" not in str(caught.value) and name in str(caught.value)


def test_the_content_of_a_file_counts_and_the_set_is_not_of_the_teacher_alone(tmp_path, monkeypatch, teacher):
    monkeypatch.chdir(tmp_path)
    text, found = "nayer-100+embedding_file=a.npy+student=resnet8", []
    for size in (5, 6):
        np.save("a.npy", np.eye(10)[:, :size])
        found.append(keys.files(params.load("transfer", text, PARAMS))["a.npy"])
    assert found[0] != found[1] and external.MISSING not in found
    about = metadata(teacher, text)
    assert (about["origin"], about["label"]) == ("prior-based", "nayer from label embeddings")


def test_no_preset_cuts_a_life_short():
    """A warm-up that is no multiple of ``life`` restarts the generator twice in each span of ``life`` rounds."""
    configs = {path.stem: params.load("transfer", path.stem) for path in (PARAMS / "transfer/nayer").glob("*.yaml")}
    assert len(configs) > 5 and not {name: config.warmup for name, config in configs.items() if config.warmup % config.life}
