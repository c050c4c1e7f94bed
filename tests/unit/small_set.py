"""A small transfer set, for the tests that write, read and damage one."""

import numpy as np

from dfkd_steps.storage.transfer_set import Layout, Writer

LAYOUT = Layout((1, 4, 4), 3)
BATCHES = 4


def batch(index, rows=8):
    """A batch with all fields of LAYOUT, a function of its number."""
    rng = np.random.default_rng(index)
    logits = rng.normal(size=(rows, 3)).astype(np.float32)
    targets = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return {"images": rng.integers(0, 256, (rows, 1, 4, 4), dtype=np.uint8), "logits": logits, "labels": logits.argmax(1),
            "targets": targets, "round": np.full(rows, index)}  # fmt: skip


def fill(path, key="k", total=8 * BATCHES):
    """Write the set, or go on with it; for a larger ``total``, less is written than there is room for."""
    writer = Writer(path, key, LAYOUT, total)
    for index in range(writer.batches, BATCHES):
        writer.append(**batch(index))
    writer.finish({"step": "synthesize"}, {"label": "test"})
