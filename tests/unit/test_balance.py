"""Balancing against a set whose histogram is known, with a teacher whose answers are known."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from dfkd_steps import balance
from dfkd_steps.balancing import resampling, selection
from dfkd_steps.models.classifier import Classifier, Description
from dfkd_steps.pipeline.job import Job
from dfkd_steps.schemas import groups
from dfkd_steps.storage.transfer_set import Layout, TransferSet, Writer
from dfkd_steps.storage.verify import verify_transfer_set

CPU, SHAPE, K = torch.device("cpu"), (1, 8, 8), 4
COUNTS = (300, 90, 10, 0)


class Brightness(nn.Module):
    """Class k where the mean brightness is nearest to (0.2, 0.4, 0.6, 0.8)[k]."""

    def forward(self, images):
        return -200 * (images.mean((1, 2, 3))[:, None] - torch.tensor([0.2, 0.4, 0.6, 0.8])) ** 2


@pytest.fixture
def teacher():
    description = Description("arch", "none", tuple("abcd"), SHAPE, (0.0,), (1.0,))
    return Classifier(Brightness(), description).eval()


@pytest.fixture
def transfer(tmp_path, teacher):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(K), COUNTS))
    level = np.array([51, 102, 153, 204])[labels]
    images = np.clip(level[:, None, None, None] + rng.integers(-15, 16, (len(labels), *SHAPE)), 0, 255).astype(np.uint8)
    logits = resampling.predict(teacher, images, CPU)
    assert np.array_equal(logits.argmax(1), labels)
    writer = Writer(tmp_path / "set.h5", "key", Layout(SHAPE, K), 400)
    for start in range(0, 400, 50):
        part = slice(start, start + 50)
        targets = selection.softmax(logits[part]).astype(np.float32)
        writer.append(images=images[part], logits=logits[part], labels=labels[part], targets=targets, round=np.zeros(50))
    writer.finish({}, {"label": "test"})
    with TransferSet(tmp_path / "set.h5") as opened:
        yield opened


def run(tmp_path, transfer, teacher, config, weights=False):
    layout = transfer.layout
    if weights:
        layout = balance.replace(layout, weights=True)
    if config.mode == "equal":
        layout = balance.replace(layout, source=True)
    start = functools.partial(Writer, tmp_path / "out.h5", "key", layout, resume=False)
    writer, told = balance.MODES[config.mode](config, teacher, transfer, start, CPU)
    writer.finish({}, {"label": "test", **told})
    assert verify_transfer_set(tmp_path / "out.h5") == []
    with TransferSet(tmp_path / "out.h5") as made:
        fields = {name: made.read(name) for name, _, _ in made.layout.fields()}
    logits = resampling.predict(teacher, fields["images"], CPU)
    assert np.allclose(logits, fields["logits"], atol=1e-4), "the stored logits are not the teacher's on the stored images"
    return fields, np.bincount(fields["labels"], minlength=K).tolist(), told


def test_equal_fills_cuts_and_covers(tmp_path, transfer, teacher):
    fields, counts, told = run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal"))
    assert counts == [100] * 4  # N/K, the class that was never predicted among them
    assert told["pushed"] == 100 and told["resampled"] == 10 + 90
    flat = {image.tobytes() for image in transfer.read("images")}
    kept = [image.tobytes() in flat for image in fields["images"]]
    assert sum(kept) == 100 + 90 + 10  # what was there is kept as it was; the rest are new images, not repetitions
    assert len({image.tobytes() for image in fields["images"]}) == 400
    source, before = fields["source"], transfer.read("labels")
    assert np.array_equal(fields["images"][kept], transfer.read("images", source[kept]))
    # A class has its copies from its own samples, and the class that was never predicted from the likeliest of all.
    there = fields["labels"] < 3
    assert np.array_equal(before[source[there]], fields["labels"][there]) and len(set(source[fields["labels"] == 2])) == 10
    assert sorted(source[~there]) == sorted(selection.likeliest(transfer, [3], 100)[0])


def test_equal_with_n_given(tmp_path, transfer, teacher):
    _, counts, told = run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal", per_class=250))
    assert counts == [250] * 4 and told["per_class"] == 250


def test_equal_without_resampling_takes_the_rarest(tmp_path, transfer, teacher):
    config = groups.EqualBalance(mode="equal", deficit="short", push_steps=0)
    _, counts, told = run(tmp_path, transfer, teacher, config)
    assert counts == [10, 10, 10, 0] and told["resampled"] == 0


def test_equal_without_resampling_keeps_what_was_pushed(tmp_path, transfer, teacher):
    """No more than that is known before, and less than there was room for."""
    config = groups.EqualBalance(mode="equal", deficit="short", per_class=1500)
    fields, counts, told = run(tmp_path, transfer, teacher, config)
    assert counts == [*COUNTS[:3], told["pushed"]] and 0 < told["pushed"] < 1024
    assert [path.name for path in tmp_path.iterdir() if "next" in path.name] == []
    assert np.array_equal(fields["images"][:400], transfer.read("images"))


def test_surplus_confident_keeps_the_surest(tmp_path, transfer, teacher):
    sure, *_ = run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal", surplus="confident", per_class=20))
    drawn, *_ = run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal", surplus="random", per_class=20))
    confidence = selection.confidence(transfer)[transfer.read("labels") == 0]
    least = np.sort(confidence)[-20]
    assert selection.softmax(sure["logits"][sure["labels"] == 0]).max(1).min() == pytest.approx(least)
    assert selection.softmax(drawn["logits"][drawn["labels"] == 0]).max(1).min() < least


def test_seed_decides_the_random_choice(tmp_path, transfer, teacher):
    made = [run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal", seed=seed))[0]["images"] for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_the_seed_decides_what_is_left_out(tmp_path, transfer, teacher):
    configs = [groups.EqualBalance(mode="equal", deficit="short", push_steps=0, seed=seed) for seed in (0, 1)]
    first, second = (run(tmp_path, transfer, teacher, config)[0] for config in configs)
    assert first["labels"].shape == second["labels"].shape == (30,) and not np.array_equal(first["images"], second["images"])


def test_the_target_of_a_copy_is_what_the_teacher_says_of_it(tmp_path, transfer, teacher):
    fields, *_ = run(tmp_path, transfer, teacher, groups.EqualBalance(mode="equal"))
    assert np.allclose(fields["targets"], selection.softmax(fields["logits"]), atol=1e-5)


def test_a_sample_is_pushed_until_the_teacher_is_sure(transfer, teacher):
    """To a probability of 0.9, and no further than a step beyond."""
    rows = np.flatnonzero(transfer.read("labels") == 2)[:5]
    resampler = resampling.Resampler(groups.EqualBalance(mode="equal", push_lr=0.005, push_steps=100), teacher, transfer, CPU)
    _, logits = resampler.push(rows, np.full(5, 3))
    sure = selection.softmax(logits)[:, 3]
    assert sure.min() > 0.88 and sure.max() < 0.95


@pytest.mark.parametrize(
    ("config", "after", "more"),
    [
        (groups.NoBalance(), [300, 90, 10, 0], {}),
        (groups.EqualBalance(deficit="short", push_steps=0), [10, 10, 10, 0], {"per_class": 10}),
        (groups.ConfidenceBalance(threshold=0.9), [300, 90, 0, 0], {}),
    ],
)
def test_a_set_tells_its_classes_before_and_after(tmp_path, transfer, teacher, monkeypatch, capsys, config, after, more):
    monkeypatch.setattr(balance.network_file, "load_frozen", lambda path, device: teacher)
    monkeypatch.setattr(balance, "confidence", lambda *_: np.where(transfer.read("labels") == 2, 0.8, 0.9))
    (tmp_path / "balanced").mkdir()
    out = tmp_path / "balanced/transfer_set.h5"
    balance.run(Job("balance", out, ["teacher", tmp_path / "set.h5"], config, "b", {}))
    expected = {
        "histogram_before": list(COUNTS),
        "histogram_after": after,
        "classes": list("abcd"),
        "balance": config.mode,
        **more,
    }
    with TransferSet(out) as balanced:
        assert {name: balanced.metadata[name] for name in expected} == expected
        assert ("source" in balanced) == (config.mode == "equal")  # by which copies of a sample are held out together
        if "source" in balanced:
            assert np.array_equal(balanced.read("images"), transfer.read("images", balanced.read("source")))
    uncovered = ", ".join(name for name, count in zip("abcd", after) if not count)
    assert f"balance: 400 -> {sum(after)} samples, uncovered: {uncovered}, " in capsys.readouterr().err


def test_the_log_names_a_few_classes():
    assert balance.spelled([]) == "none" and balance.spelled(list("abc")) == "a, b, c"
    assert balance.spelled([f"c{place}" for place in range(994)]) == f"994 classes ({', '.join(f'c{n}' for n in range(10))}, ...)"


def test_confidence(tmp_path, transfer, teacher):
    threshold = float(np.median(selection.confidence(transfer)))
    fields, *_ = run(tmp_path, transfer, teacher, groups.ConfidenceBalance(mode="confidence", threshold=threshold))
    assert len(fields["labels"]) == 200 and selection.softmax(fields["logits"]).max(1).min() >= threshold


def test_none_is_a_copy(tmp_path, transfer, teacher):
    fields, *_ = run(tmp_path, transfer, teacher, groups.NoBalance(mode="none"))
    assert all(np.array_equal(fields[name], transfer.read(name)) for name in fields)


@pytest.mark.parametrize("chunk", [1024, 30])
def test_weight_gives_each_class_the_same_mass(tmp_path, transfer, teacher, monkeypatch, chunk):
    monkeypatch.setattr(selection, "CHUNK", chunk)
    fields, *_ = run(tmp_path, transfer, teacher, groups.WeightBalance(mode="weight"), weights=True)
    mass = [fields["weights"][fields["labels"] == label].sum() for label in range(3)]
    assert np.allclose(mass, 400 / 3) and fields["weights"].mean() == pytest.approx(1)


def test_softmax_does_not_overflow():
    assert selection.softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_what_was_not_pushed_far_enough_is_no_sample_of_the_class(tmp_path, transfer, teacher):
    config = groups.EqualBalance(mode="equal", push_steps=1, push_lr=1e-4)
    _, counts, told = run(tmp_path, transfer, teacher, config)
    assert told["pushed"] == 0 and counts[3] == 0


@pytest.mark.parametrize("chunk", [1024, 30])
def test_the_likeliest_samples_of_a_class(transfer, monkeypatch, chunk):
    monkeypatch.setattr(selection, "CHUNK", chunk)
    probability = selection.softmax(transfer.read("logits"))
    found = selection.likeliest(transfer, np.array([2, 0]), 15)
    for label, rows in zip((2, 0), found):
        assert len(set(rows.tolist())) == 15
        assert np.allclose(probability[rows, label], np.sort(probability[:, label])[::-1][:15])


def test_classes_that_are_never_predicted_are_pushed_together(transfer, teacher, monkeypatch):
    """In passes of 8 images and not of a class, with the result that each class alone has."""
    monkeypatch.setattr(selection.memory, "VALUES", 8 * 64)
    monkeypatch.setattr(selection, "CHUNK", 100)
    passes, plain = [], resampling.Resampler.push
    monkeypatch.setattr(
        resampling.Resampler, "push", lambda self, rows, targets: passes.append(targets.tolist()) or plain(self, rows, targets)
    )
    resampler = resampling.Resampler(groups.EqualBalance(mode="equal"), teacher, transfer, CPU)
    together = list(resampler.pushed(np.array([0, 2, 3]), 6))
    assert passes == [[0] * 6 + [2] * 2, [2] * 4 + [3] * 4, [3] * 2]
    assert [len(images) for images, *_ in together] == [6, 6, 6]
    for label, (images, logits, rows) in zip((0, 2, 3), together):
        alone = next(resampler.pushed(np.array([label]), 6))
        assert np.array_equal(images, alone[0]) and np.array_equal(rows, alone[2]) and (logits.argmax(1) == label).all()
        assert set(rows) <= set(selection.likeliest(transfer, [label], 6)[0])
    assert list(resampler.pushed(np.array([], int), 6)) == []


def test_samples_are_pushed_in_passes_that_memory_allows(transfer, teacher, monkeypatch):
    """With the result of one pass: nothing is drawn, and no image counts for another."""
    resampler, rows, targets = resampling.Resampler(groups.EqualBalance(mode="equal"), teacher, transfer, CPU), np.arange(10), 3
    whole = resampler.push(rows, np.full(10, targets))
    sizes, plain = [], teacher.forward
    monkeypatch.setattr(resampling.memory, "moved", lambda shape: 4)
    monkeypatch.setattr(teacher, "forward", lambda images: sizes.append(len(images)) or plain(images))
    parts = resampler.push(rows, np.full(10, targets))
    assert sizes[:3] == [4, 4, 2] and all(np.allclose(one, other, atol=1e-4) for one, other in zip(whole, parts))


def test_a_pass_with_gradients_has_a_part_of_the_images_of_one_without(monkeypatch):
    from dfkd_steps.runtime import memory

    monkeypatch.setenv("DFKD_MEMORY", "4")
    assert 0 < 4 * memory.moved((3, 64, 64)) < memory.passed((3, 64, 64)) and memory.moved((3, 4000, 4000)) == 1


def counting_pool(transfer):
    """A pool that holds the first sample of a set five times, and a list of how many were drawn of it each time."""
    asked = []

    def pool(positions):
        asked.append(len(positions))
        rows = np.zeros(len(positions), int)
        return transfer.read("images", rows), transfer.read("logits", rows), rows

    pool.size = 5
    return pool, asked


def test_a_round_of_drawing_again_has_room_for_many_missing(transfer, teacher, monkeypatch):
    """Twice as many candidates as are missing and some more, also where these are more than are handled at once."""
    monkeypatch.setattr(selection, "CHUNK", 16)
    pool, asked = counting_pool(transfer)
    resampler = resampling.Resampler(groups.EqualBalance(mode="equal", rounds=1), teacher, transfer, CPU)
    wrong = int(np.argmin(resampling.predict(teacher, transfer.read("images", [0]), CPU)))
    list(resampler.draw(pool, wrong, 40))
    assert asked == [16] * 6 + [16, 16, 8]


def test_a_round_of_drawing_again_has_as_many_candidates_at_any_size_of_images(transfer, teacher, monkeypatch):
    """In pieces where images are large; none of these is right, so that copies fill the class after the rounds."""
    pool, asked = counting_pool(transfer)
    monkeypatch.setattr(selection.memory, "VALUES", 8 * 64)
    resampler = resampling.Resampler(groups.EqualBalance(mode="equal", rounds=2), teacher, transfer, CPU)
    wrong = int(np.argmin(resampling.predict(teacher, transfer.read("images", [0]), CPU)))
    drawn = list(resampler.draw(pool, wrong, 11))
    assert asked == 2 * [8, 8, 8, 8, 6] + [8, 3] and sum(len(fields["labels"]) for fields in drawn) == 11


def test_a_copy_names_the_sample_that_it_is_of(transfer, teacher, monkeypatch):
    """Also where some of the candidates are not of the class: here every second one, which is black."""

    def half_black(name, images, rng):
        images[::2] = 0.0
        return images

    monkeypatch.setattr(resampling.views, "view", half_black)
    resampler = resampling.Resampler(groups.EqualBalance(mode="equal"), teacher, transfer, CPU)
    pool = resampling.Members(transfer, np.flatnonzero(transfer.read("labels") == 1))
    drawn = list(resampler.draw(pool, 1, 40))
    assert sum(len(fields["labels"]) for fields in drawn) == 40
    assert all(np.array_equal(fields["images"], transfer.read("images", fields["source"])) for fields in drawn)
