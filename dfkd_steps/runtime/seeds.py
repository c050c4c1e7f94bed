"""Seeds, derived by hash from what a job is."""

import hashlib

import torch


def seed_of(*parts) -> int:
    """A 63-bit seed derived by hash from what the job is, e.g. ``seed_of("zskd", seed, batch_index)``."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_rng(where, *parts) -> torch.Generator:
    """A random generator on a device, seeded by ``seed_of(*parts)``."""
    return torch.Generator(device=where).manual_seed(seed_of(*parts))
