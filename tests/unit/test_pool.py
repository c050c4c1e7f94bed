"""The pool of images: places, rounding, state."""

import torch

from dfkd_steps.methods.engines.image_pool import ImagePool
from dfkd_steps.methods.engines.samplers import UniformSampler
from dfkd_steps.storage import checkpoint

SHAPE = (1, 2, 2)


def flat(*levels):
    """Images of one level each, in units of 1/255."""
    return torch.tensor(levels, dtype=torch.float32)[:, None, None, None].expand(-1, *SHAPE) / 255


def levels(pool):
    return pool.images[:, 0, 0, 0].tolist()


def test_places_are_filled_in_order_and_then_the_oldest_replaced():
    pool = ImagePool(5, SHAPE, "cpu")
    assert pool.capacity == 5 and len(pool) == 0
    pool.add(flat(10, 11, 12), 0)
    assert len(pool) == 3 and levels(pool) == [10, 11, 12, 0, 0]
    assert pool.places(4).tolist() == [3, 4, 0, 1]
    pool.add(flat(20, 21, 22, 23), 1)
    assert len(pool) == 5 and levels(pool) == [22, 23, 12, 20, 21] and pool.rounds.tolist() == [1, 1, 0, 1, 1]
    pool.add(flat(30, 31), 2)
    assert levels(pool) == [22, 23, 30, 31, 21] and pool.rounds.tolist() == [1, 1, 2, 2, 1]


def test_given_places():
    pool = ImagePool(4, SHAPE, "cpu")
    pool.add(flat(1, 2, 3, 4), 0)
    pool.put(torch.tensor([3, 1]), flat(9, 8), 7)
    assert levels(pool) == [1, 8, 3, 9] and pool.rounds.tolist() == [0, 7, 0, 7] and len(pool) == 4


def test_images_are_rounded_and_clipped():
    pool = ImagePool(6, SHAPE, "cpu")
    pool.add(flat(0.4, 0.6, 99.7, -20, 300, 255).requires_grad_(), 0)
    assert levels(pool) == [0, 1, 100, 0, 255, 255]
    read = pool.read(torch.tensor([2, 5, 2]))
    assert read.dtype == torch.float32 and torch.equal(read, flat(100, 255, 100)) and not read.requires_grad
    assert read.is_contiguous(memory_format=torch.channels_last)


def test_draws_are_of_what_is_filled_and_even():
    pool = ImagePool(100, SHAPE, "cpu")
    pool.add(flat(1, 2, 3, 4), 0)
    sampler = UniformSampler(pool)

    def draw(number, seed):
        rows, weights = sampler.draw(number, torch.Generator().manual_seed(seed))
        assert weights is None
        return rows

    counts = draw(4000, 0).bincount(minlength=4)
    assert len(counts) == 4 and (counts - 1000).abs().max() < 120
    assert torch.equal(draw(9, 1), draw(9, 1))


def test_a_restored_pool_goes_on_where_the_other_was():
    for made in (2, 7):  # before it is full, and after
        pool, other = ImagePool(5, SHAPE, "cpu"), ImagePool(5, SHAPE, "cpu")
        for number in range(made):
            pool.add(flat(number + 1), number)
        state = pool.state()
        other.restore(state)
        pool.add(flat(50, 51), 9)
        assert levels(other) != levels(pool)  # which was restored to places of its own
        other.add(flat(50, 51), 9)
        assert levels(other) == levels(pool) and torch.equal(other.rounds, pool.rounds)
        assert len(other) == len(pool) and torch.equal(other.places(3), pool.places(3))


def test_a_checkpoint_holds_no_copy_of_the_pool_and_no_empty_place(tmp_path):
    """The pool may be most of what memory holds; a copy of it ended each run when the pool was half full."""
    pool = ImagePool(1000, (3, 16, 16), "cpu")
    pool.add(torch.rand(10, 3, 16, 16), 0)
    state = pool.state()
    assert state["images"].data_ptr() == pool.images.data_ptr() and state["rounds"].data_ptr() == pool.rounds.data_ptr()
    checkpoint.save(tmp_path / "x", "key", state=state)
    assert (tmp_path / "x").stat().st_size < 3 * 10 * 3 * 16 * 16
    other = ImagePool(1000, (3, 16, 16), "cpu")
    other.restore(checkpoint.load(tmp_path / "x", "key")["state"])
    assert torch.equal(other.images, pool.images) and torch.equal(other.rounds, pool.rounds) and len(other) == 10
