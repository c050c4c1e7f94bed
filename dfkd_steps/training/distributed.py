"""Several processes at one training, started by torchrun: each takes its part of every batch, gradients are added up.

Every process draws the same random numbers and makes the same batches, so that a step is that of one process but for the
order in which floating-point numbers are added, and for BatchNorm, which sees a part of the batch on CPUs.
"""

import contextlib
import os

import torch
import torch.distributed as dist
from torch import nn


def rank() -> int:
    """The number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextlib.contextmanager
def group(device):
    """Join the other processes, inside the block; nothing where torchrun did not start this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def leading(context, others):
    """Enter ``context`` in the first process alone. It yields what the context does, the rest ``others``; all of them
    None where that is None."""
    if size() == 1:
        with context as given:
            yield given
        return
    with context if rank() == 0 else contextlib.nullcontext(others) as given:
        told = [given is None]
        dist.broadcast_object_list(told)
        yield None if told[0] else given


def part(values):
    """This process's part of a batch (N,...), or None for None."""
    return values if values is None or size() == 1 else values[rank() :: size()]


def whole(values, number: int):
    """A batch (number,) from the parts of all processes."""
    if size() == 1:
        return values
    made = torch.zeros(number, dtype=values.dtype, device=values.device)
    made[rank() :: size()] = values
    dist.all_reduce(made)
    return made


def add(values):
    """The sum of a tensor over all processes, in place."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def add_gradients(parameters):
    """The sum of all processes' gradients, in place and in one message."""
    if size() == 1:
        return
    gradients = [one.grad for one in parameters if one.grad is not None]
    flat = torch.cat([one.flatten() for one in gradients])
    dist.all_reduce(flat)
    for one, summed in zip(gradients, flat.split([one.numel() for one in gradients])):
        one.copy_(summed.view_as(one))


def synchronised(net: nn.Module, device) -> nn.Module:
    """The network with BatchNorm over the whole batch where that can be had: several processes, on GPUs."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(net) if size() > 1 and device.type == "cuda" else net
