"""A GPU on a machine that has none: tensors that are on the device ``pretend`` by all that they say, and held by the CPU.

What a GPU refuses is refused: operations on tensors of two devices, a random number generator of the other one, numpy on a
tensor that is not the CPU's. Rounding, memory, streams and kernels are the CPU's, so nothing is learnt about those. It rests on
PyTorch's backends written in Python, which are experimental.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretend"
COPIES = ("aten::copy_", "aten::_to_copy")  # what takes tensors of two devices
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")  # rows: any

VALUES = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim")  # of values


def flat(given) -> list:
    """What is in nested lists, tuples and dicts; torch's own function for it, which knows more kinds, takes half of the time."""
    found = []
    for one in given.values() if isinstance(given, dict) else given:
        if isinstance(one, (list, tuple, dict)):
            found += flat(one)
        else:
            found.append(one)
    return found


def mapped(function, given):
    """The same lists, tuples and dicts with what a function makes of what is in them."""
    if isinstance(given, (list, tuple)):
        return type(given)([mapped(function, one) for one in given])
    if isinstance(given, dict):
        return {key: mapped(function, one) for key, one in given.items()}
    return function(given)


class OnDevice(torch.Tensor):
    """A tensor of the device; ``held`` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, device=f"{NAME}:0", **layout)

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"OnDevice({self.held})"

    def __reduce_ex__(self, protocol):
        return self.held.__reduce_ex__(protocol)  # torch.load(..., map_location="cpu") reads it so

    def tolist(self):
        return self.held.tolist()

    def numpy(self, *, force=False):
        raise TypeError(f"can't convert {NAME} device type tensor to numpy")

    def __array__(self, *given, **named):
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: no device {NAME} outside of Device()")


class Generator(torch.Generator):
    """A random number generator of the device that it is made for."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls)

    def __init__(self, device="cpu"):
        self.where = torch.device(device)

    @property
    def device(self):
        return self.where


class SameGenerator(TorchFunctionMode):
    """Refuses a random number generator that is not of the device that its numbers are for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if isinstance(rng := kwargs.get("generator"), torch.Generator):
            tensors = [one.device for one in flat((args, kwargs)) if isinstance(one, torch.Tensor)]
            given = kwargs.get("device") or next(iter(tensors), "cpu")
            if torch.device(given).type != rng.device.type:
                raise RuntimeError(f"{func.__name__}: a generator of {rng.device.type} for numbers of {given}")
        return func(*args, **kwargs)


class Device(TorchDispatchMode):
    """The device is there while this is entered; ``calls`` counts the operations on it, ``waits`` those that a program waits
    for: a number or a tensor that it reads or sends, and results whose size depends on values."""

    def __init__(self):
        super().__init__()
        self.calls, self.waits, self.generators = 0, 0, SameGenerator()

    def __enter__(self):
        # torch.tensor(..., device=NAME) makes a tensor on the CPU where no mode is called, then copies it where one is
        self.lifts, self.generator = torch._C._only_lift_cpu_tensors(), torch.Generator
        torch._C._set_only_lift_cpu_tensors(True)
        torch.Generator = Generator
        self.generators.__enter__()
        return super().__enter__()

    def __exit__(self, *raised):
        super().__exit__(*raised)
        self.generators.__exit__(*raised)
        torch._C._set_only_lift_cpu_tensors(self.lifts)
        torch.Generator = self.generator

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        among = flat((args, kwargs))
        given = kwargs.get("device")
        kind = torch.device(given).type if given is not None else NAME if any(map(is_held, among)) else "cpu"
        self.refuse(func, args, among)
        self.waits += waits(func._schema.name, args, kind)
        result = func(*mapped(inner, args), **mapped(inner, kwargs))
        if kind != NAME:
            return result
        self.calls += 1
        known = {id(one.held): one for one in among if is_held(one)}  # what is changed in place stays the same tensor

        def outer(one):
            return known[id(one)] if id(one) in known else OnDevice(one) if isinstance(one, torch.Tensor) else one

        return mapped(outer, result)

    def refuse(self, func, args, every):
        name = func._schema.name
        if name in COPIES:
            return
        among = flat((args[0], args[2:])) if name in INDEXED else every
        places = {is_held(one) for one in among if isinstance(one, torch.Tensor) and one.dim()}
        if len(places) > 1 or (name in INDEXED and not is_held(args[0]) and any(map(is_held, every))):
            raise RuntimeError(f"{func}: tensors of two devices")


def is_held(one) -> bool:
    return isinstance(one, OnDevice)


def waits(name: str, args, kind: str) -> bool:
    """Whether a program waits for an operation whose result is on a kind of device."""
    if name == "aten::copy_":
        return is_held(args[0]) != is_held(args[1])
    if name == "aten::_to_copy":
        return is_held(args[0]) != (kind == NAME)
    masks = name in INDEXED and any(one is not None and one.dtype == torch.bool for one in args[1])
    return (masks or name in VALUES) and is_held(args[0])


def inner(one):
    """What the CPU computes with."""
    return one.held if is_held(one) else torch.device("cpu") if isinstance(one, torch.device) else one


class Module(backend_registration._DummyBackendModule):
    """What PyTorch asks of a kind of device."""

    @staticmethod
    def get_amp_supported_dtype():
        return [torch.bfloat16, torch.float16]


backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
