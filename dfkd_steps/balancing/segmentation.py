"""Balancing a transfer set for segmentation. N images, K classes; ``shares`` (N,K): what share of an image's pixels the teacher
calls by each class. Without torch, which the report need not load."""

import numpy as np


def shares(maps: np.ndarray, classes: int) -> np.ndarray:
    """Label maps (N,H,W) -> shares of pixels (N,K)."""
    flat = maps.reshape(len(maps), -1)
    places = np.arange(len(flat))[:, None] * classes + flat
    return np.bincount(places.ravel(), minlength=len(flat) * classes).reshape(len(flat), classes) / flat.shape[1]


def shares_of(transfer) -> np.ndarray:
    """``shares`` of a whole set, read in chunks."""
    classes = transfer.layout.num_classes
    return np.concatenate([shares(part["labels"], classes) for _, part in transfer.chunks("labels")])


LEAST = 0.002  # of the pixels of an image (86 of 240x180): with less of it, an image does not stand for a class


def dominant(shares: np.ndarray) -> np.ndarray:
    """The class (N) that stands out in each image: of which it has most beside what an image of the set has of it.

    By pixels alone it would be sky or road in every street scene, and an image with a rare sign would count for nothing. A few
    pixels alone, as at an edge, count for nothing either.
    """
    usual = shares.mean(0)
    return (np.where(shares < LEAST, 0, shares) / np.maximum(usual, 1e-12)).argmax(1)


def weights(shares: np.ndarray) -> np.ndarray:
    """Sampling weights (N), mean 1: the mean over an image's pixels of how rare their class is in the set, of the K' classes that
    occur w_i = sum_k s_ik / (K' mean_j s_jk). Shares of pixels come nearer to equal; equal ones would draw few images always.
    """
    usual = shares.mean(0)
    there = usual > 0
    return (shares[:, there] / usual[there]).sum(1) / there.sum()
