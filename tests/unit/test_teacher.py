"""Training a teacher: its loss by hand, and which images it is shown."""

import dataclasses

import numpy as np
import pytest
import torch
from small_net import CPU, close, wrap
from torch import nn

from dfkd_steps import teacher
from dfkd_steps.runtime.errors import UserError
from dfkd_steps.schemas import groups
from dfkd_steps.storage import dataset_file

NUMBER, SHAPE, CLASSES = 40, (1, 8, 8), 3
CONFIG = groups.TrainTeacher(arch="none", epochs=1, batch=NUMBER)


@pytest.fixture
def dataset(tmp_path):
    """Images that are brighter on the right, each with a level of its own."""
    images = (np.arange(NUMBER)[:, None, None, None] + 100 + 10 * np.arange(8)).astype(np.uint8) * np.ones(SHAPE, np.uint8)
    labels = np.arange(NUMBER) % CLASSES
    dataset_file.write(tmp_path / "dataset.h5", "k", {}, "abc", dict(zip(dataset_file.FIELDS, (images, labels) * 2)))
    return dataset_file.open_dataset(tmp_path / "dataset.h5")


@pytest.fixture
def first_step(dataset, monkeypatch):
    """A function of a config's fields: the network, the images of its first step, and the loss."""
    net = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)), SHAPE, CLASSES)
    images, losses = [], []
    net.register_forward_pre_hook(lambda module, inputs: images.append(inputs[0]))
    monkeypatch.setattr(teacher, "new_classifier", lambda *_: net)

    def fit(net, config, steps, loss_of, *rest):
        losses.extend(loss_of(torch.Generator().manual_seed(0), 0))
        return []

    monkeypatch.setattr(teacher.loop, "fit", fit)

    def step(**fields):
        images.clear()
        losses.clear()
        teacher.train(dataclasses.replace(CONFIG, **fields), dataset, None, "k", CPU)
        return net, images[0], losses[0]

    return step


def test_one_image_is_too_few(tmp_path, monkeypatch):
    """BatchNorm has no statistics of one, where a network pools to a pixel."""
    monkeypatch.setattr(teacher, "new_classifier", lambda *_: wrap(nn.Flatten(), SHAPE, CLASSES))
    arrays = (np.zeros((1, *SHAPE), np.uint8), np.zeros(1, int))
    dataset_file.write(tmp_path / "one.h5", "k", {}, "abc", dict(zip(dataset_file.FIELDS, arrays * 2)))
    with pytest.raises(UserError, match=r"one.h5: has one image for training, which is too few; give two or more"):
        teacher.train(CONFIG, dataset_file.open_dataset(tmp_path / "one.h5"), None, "k", CPU)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_loss_by_hand(first_step, dataset, share):
    """The target has ``share`` of it spread over all classes."""
    net, _, loss = first_step(label_smoothing=share)
    images, labels = map(torch.from_numpy, dataset.read("train"))
    log_p = net(images.float() / 255).log_softmax(1)
    by_hand = (1 - share) * log_p[torch.arange(NUMBER), labels.long()] + share * log_p.mean(1)
    close(loss, -by_hand.mean())


def test_images_are_mirrored_shifted_and_cut_where_it_says_so(first_step, dataset):
    every = torch.from_numpy(dataset.read("train")[0]).float() / 255
    _, plain, _ = first_step()
    close(plain[plain[:, 0, 0, 0].argsort()], every)
    _, mirrored, _ = first_step(flip=True)
    falling = mirrored[:, 0, 0, 0] > mirrored[:, 0, 0, -1]
    assert 10 < falling.sum() < 30 and (mirrored > 0).all()
    _, shifted, _ = first_step(crop=2)
    columns = (shifted[:, 0] == 0).all(1).sum(1)  # black ones, which came in from the sides
    assert set(columns.tolist()) == {0, 1, 2} and (shifted[:, 0].diff(dim=2) < 0).sum(2).max() <= 1
    _, cut, _ = first_step(cutout=3)
    blank = (cut[:, 0] == 0).sum((1, 2))
    assert blank.min() >= 4 and blank.max() == 9
