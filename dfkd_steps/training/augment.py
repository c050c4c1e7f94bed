"""Augmentation in batches: images (N,C,H,W) and a random generator on their device in, images out.

``views`` composes the named augmentations of these.
"""

import math

import torch
import torch.nn.functional as F


def shift(images, most: tuple[int, int], rng):
    """Each image moved by its own random whole number of pixels, up to ``most`` (rows, columns) each way; zeros come in."""
    return crop(images, draw_shift(len(images), most, rng), most) if any(most) else images


def draw_shift(number: int, most: tuple[int, int], rng):
    """Uniform offsets (2,N), downwards and to the right, from 0 (``most`` pixels up or left) to 2 * ``most`` of that axis."""
    drawn = [torch.randint(0, 2 * side + 1, (number, 1), generator=rng, device=rng.device) for side in most]
    return torch.stack(drawn)[..., 0]


def crop(images, offsets, most: tuple[int, int], flipped=None):
    """The windows of images (N,C,H,W), padded by ``most`` (rows, columns) zeros on each side, at offsets (2,N) from 0 to
    2 * ``most``; those that are ``flipped`` (N, bool) mirrored left to right afterwards."""
    number, _, height, width = images.shape
    padded = F.pad(images, (most[1], most[1], most[0], most[0]))
    columns = torch.arange(width, device=images.device)
    if flipped is not None:
        columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + columns
    sample = torch.arange(number, device=images.device)[:, None, None]
    # Indexing with the channels last moves whole pixels and leaves the batch in the channels_last layout.
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(images, rng, axis: int = 3):
    """Each image mirrored with probability 1/2 along ``axis`` (3 = left to right, 2 = top to bottom)."""
    return torch.where(draw_flip(len(images), rng)[:, None, None, None], images.flip(axis), images)


def draw_flip(number: int, rng):
    """True (N) with probability 1/2."""
    return torch.rand(number, 1, 1, 1, generator=rng, device=rng.device)[:, 0, 0, 0] < 0.5


def cutout(images, side: int, rng):
    """A square of ``side`` pixels at a random centre of each image set to zero (arXiv 1708.04552)."""
    if not side:
        return images
    number, _, height, width = images.shape
    centre = torch.rand(2, number, 1, generator=rng, device=images.device)

    def inside(size, place):
        offset = torch.arange(size, device=images.device) - (place * size).floor() + side // 2
        return (offset >= 0) & (offset < side)

    rows, columns = inside(height, centre[0]), inside(width, centre[1])
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def affine(images, rng, *, degrees: float, scale: tuple[float, float], move: float, share: float = 1.0):
    """Each image, with probability ``share``, rotated (uniform to +-degrees), scaled and moved (share of each side)."""
    number, device = len(images), images.device

    def uniform(low, high):
        return low + (high - low) * torch.rand(number, generator=rng, device=device)

    angle = uniform(-math.radians(degrees), math.radians(degrees))
    size = uniform(*scale)
    shift_x = uniform(-2 * move, 2 * move)  # the grid's side is 2
    shift_y = uniform(-2 * move, 2 * move)
    keep = torch.rand(number, generator=rng, device=device) >= share
    angle, shift_x, shift_y = (torch.where(keep, 0.0, value) for value in (angle, shift_x, shift_y))
    size = torch.where(keep, 1.0, size)
    cos = torch.cos(angle) / size
    sin = torch.sin(angle) / size
    # The grid goes from -1 to 1 along both axes, however long they are: an angle between pixels is none between its units.
    aspect = images.shape[2] / images.shape[3]
    theta = torch.stack([torch.stack([cos, -sin * aspect, shift_x], 1), torch.stack([sin / aspect, cos, shift_y], 1)], 1)
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


def resized_crop(images, rng, *, area=(0.25, 1.0), ratio=(3 / 4, 4 / 3), together=False):
    """A random part of each image (N,C,H,W), of a share ``area`` and a side ratio ``ratio``, at the size of the whole; half of
    them mirrored. The defaults are those of CMI's local view. together: one part for all images, mirrored or not."""
    return show_part(images, draw_part(1 if together else len(images), rng, area=area, ratio=ratio))


def draw_part(number: int, rng, *, area, ratio=(3 / 4, 4 / 3)):
    """Random parts of images: width and height as shares of the image's, the centre from -1 to 1 across and down, and 1 where
    it is mirrored, else 0. -> (N,5)."""

    def uniform(low, high):
        return low + (high - low) * torch.rand(number, generator=rng, device=rng.device)

    share, oblong = uniform(*area), uniform(math.log(ratio[0]), math.log(ratio[1])).exp()
    width, height = (share * oblong).sqrt().clamp(max=1), (share / oblong).sqrt().clamp(max=1)
    across, down = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    return torch.stack([width, height, across, down, draw_flip(number, rng).float()], 1)


def show_part(images, drawn):
    """The parts of images (N,C,H,W) that ``draw_part`` drew, (N,5) or one for all (1,5), at the size of the whole."""
    width, height, across, down, mirrored = drawn.T
    zero = torch.zeros_like(width)
    theta = torch.stack([torch.stack(row, 1) for row in ((width, zero, across), (zero, height, down))], 1)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    scaled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return torch.where(mirrored[:, None, None, None] > 0, scaled.flip(3), scaled)


def noise(images, rng, *, std: float, share: float = 0.5):
    """Gaussian noise added to a share of the images; clipped to [0,1]."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) < share
    added = torch.randn(images.shape, generator=rng, device=images.device) * std
    return torch.where(chosen, images + added, images).clamp(0, 1)


def salt_and_pepper(images, rng, *, density: float, share: float = 0.5):
    """A share of the images has ``density`` of its pixels set to 0 or 1, half each, all channels alike."""
    number, _, height, width = images.shape
    chosen = torch.rand(number, 1, 1, 1, generator=rng, device=images.device) < share
    draw = torch.rand(number, 1, height, width, generator=rng, device=images.device)
    images = images.masked_fill(chosen & (draw < density / 2), 0)
    return images.masked_fill(chosen & (draw > 1 - density / 2), 1)


def random_window_mask(images, rng, *, least: float, share: float = 0.5):
    """A share of the images is masked but for one random rectangle, sides at least ``least`` of the image's; the rest is black.

    Synthetic images are full of structure up to their edges, natural ones are not: so the student sees parts on black.
    """
    number, _, *sides = images.shape
    device = images.device
    keep = torch.rand(number, 1, 1, generator=rng, device=device) >= share
    inside = []
    for side in sides:
        centre = torch.rand(number, 1, generator=rng, device=device)
        extent = least + (1 - least) * torch.rand(number, 1, generator=rng, device=device)
        inside.append(((torch.arange(side, device=device) + 0.5) / side - centre).abs() < extent / 2)
    return images * (keep | (inside[0][:, :, None] & inside[1][:, None, :]))[:, None]


def blur(images, rng):
    """A third of the images smoothed by the 3x3 binomial filter, a third twice, a third left; zeros beyond the edges."""
    times = torch.randint(0, 3, (len(images), 1, 1, 1), generator=rng, device=images.device)
    for done in range(2):
        # By sums of shifted images: a depthwise convolution of one channel takes three to four times as long on a CPU.
        padded = F.pad(images, (1, 1, 1, 1))
        rows = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
        smooth = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
        images = torch.where(times > done, smooth, images)
    return images


def random_threshold(images, rng, *, share: float = 0.5):
    """A share of the images becomes blobs: blurred, then put through a sigmoid of random steepness at a random threshold, and
    stretched to [0,1].

    Synthetic images are grey and full of texture; an image of a thing has plain areas and edges. The threshold lies half a
    standard deviation below to one and a half above the image's mean, so most of an image goes dark.
    """
    number, device = len(images), images.device

    def uniform(low, high):
        return low + (high - low) * torch.rand(number, 1, 1, 1, generator=rng, device=device)

    smooth = blur(images, rng)
    spread, mean = torch.std_mean(smooth, (1, 2, 3), keepdim=True)
    spread = spread + 1e-3  # an image of one colour has none
    blobs = torch.sigmoid(10 ** uniform(0, 1.3) * ((smooth - mean) / spread - uniform(-0.5, 1.5)))
    low = blobs.amin((1, 2, 3), keepdim=True)
    high = blobs.amax((1, 2, 3), keepdim=True)
    blobs = (blobs - low) / (high - low + 1e-6)
    return torch.where(uniform(0, 1) < share, blobs, images)


def mixup(images, rng, *, share: float = 1.0):
    """A share of the images becomes sums with others of the batch, in parts drawn uniformly (arXiv 1710.09412, alpha 1)."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) < share
    part = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device)
    return torch.where(chosen, part * images + (1 - part) * images[_partners(images, rng)], images)


def cutmix(images, rng):
    """In each image a random rectangle, of a share of the area drawn uniformly, is another's (arXiv 1905.04899)."""
    number, _, *sides = images.shape
    extent = torch.rand(number, 1, generator=rng, device=images.device).sqrt()
    inside = []
    for side in sides:
        centre = torch.rand(number, 1, generator=rng, device=images.device)
        inside.append(((torch.arange(side, device=images.device) + 0.5) / side - centre).abs() < extent / 2)
    return torch.where((inside[0][:, :, None] & inside[1][:, None, :])[:, None], images[_partners(images, rng)], images)


def _partners(images, rng):
    return torch.randperm(len(images), generator=rng, device=images.device)
