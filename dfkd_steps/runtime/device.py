"""Device, threads, determinism: what a process is set to before it computes."""

import contextlib
import ctypes
import functools
import inspect
import os

import torch

from . import gpu, memory, progress
from .errors import UserError
from .threads import thread_count

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MOST_COMPILED = 256  # variants of a class of networks, of which a run has several, in several modes


def setup_process(uses_gpu: bool = True):
    """Fix what bytes depend on: number of threads (DFKD_THREADS, default 1), deterministic algorithms, one free GPU. What
    computes on the CPU alone neither waits for a GPU nor holds one.

    DFKD_DETERMINISTIC=0 lets a GPU take the fastest algorithms, found by trying them; runs then differ by rounding.
    """
    deterministic = _switch("DFKD_DETERMINISTIC", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if uses_gpu:
        gpu.claim()
    torch.set_num_threads(thread_count())
    # use_deterministic_algorithms(True, warn_only=True), without its import of the compiler, five seconds of each step.
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and nothing here reads such memory
    torch.backends.cudnn.benchmark = not deterministic
    keep_memory()
    leave_compiler_out()
    memory.bound(uses_gpu)


def keep_memory():
    """Memory that a tensor leaves stays with the process, where the C library can be told so (glibc).

    Else each feature map of a CPU is handed back to the system and asked for again in every step, and its pages are cleared
    again: a tenth to a quarter of the time of a teacher's pass.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that older releases take


def leave_compiler_out():
    """Keep torch's compiler out of steps that compile nothing: importing it takes as long as all the rest of torch.

    Optimizers import it for the sake of calls inside a compiled graph, of which there are none here. Where another release of
    torch is made otherwise, the compiler is imported and nothing else changes.
    """
    for kind in (torch.optim.SGD, torch.optim.Adam):
        kind.step = torch.no_grad()(inspect.unwrap(kind.step))
    optimizer = torch.optim.Optimizer
    call_plainly(optimizer.add_param_group, optimizer.state_dict, optimizer.load_state_dict, optimizer.zero_grad)


def call_plainly(*functions):
    """Let functions that torch keeps out of compiled graphs be called as they are, without an import of its compiler."""
    for plain in map(inspect.unwrap, functions):
        plain.__dynamo_disable = plain  # where torch looks for its own answer


def select_device() -> torch.device:
    """The GPU (CUDA, or Apple's by mps) if there is one, else the CPU; DFKD_DEVICE overrides."""
    given = os.environ.get("DFKD_DEVICE")
    if not given:
        given = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    with contextlib.suppress(RuntimeError, AssertionError):
        device = torch.empty(0, device=given).device
        if device.type in ("cpu", "cuda", "mps"):  # the kinds that the steps are written for
            return device
    raise UserError(f"DFKD_DEVICE: {given!r} is not a device of this machine; set cpu, cuda or mps, or unset it")


def compiled(net):
    """The network, its calls compiled by ``torch.compile`` where DFKD_COMPILE is 1 or graphs: in place, so that weights and names
    stay.

    For networks whose calls fill a loop, not for one with hooks that come and go. Costs a minute at the start and makes steps on
    a GPU faster; no gain on a CPU (docs/scaling.md). Rounding, and so bytes, differ from those without. With graphs, a GPU
    replays CUDA graphs, for inputs of fixed shapes: what such a network returns is overwritten after ``next_step``.
    """
    if not compiles():
        return net
    import torch._dynamo  # which takes as long as all the rest of torch

    torch._dynamo.config.recompile_limit = MOST_COMPILED
    if captures_graphs():
        net.compile(mode="reduce-overhead", dynamic=False)
    else:
        net.compile()
    return net


def compiles() -> bool:
    """Whether ``compiled`` compiles."""
    return _compile_mode() != "0"


def captures_graphs() -> bool:
    """Whether loops are to be written for CUDA graphs; on a CPU the same networks are compiled, without such graphs."""
    return _compile_mode() == "graphs"


def next_step():
    """Say that a step of a loop has ended: from here on what compiled networks returned in it may be overwritten."""
    if captures_graphs():
        torch.compiler.cudagraph_mark_step_begin()


def kept(tensor):
    """A tensor that a compiled network returned, for use after ``next_step``."""
    return tensor.clone() if captures_graphs() else tensor


def _compile_mode() -> str:
    return _choice("DFKD_COMPILE", "0", ("0", "1", "graphs"))


def _switch(name: str, default: str) -> bool:
    """An environment variable that is 0 or 1."""
    return _choice(name, default, ("0", "1")) == "1"


def _choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """An environment variable with one of some values."""
    given = os.environ.get(name) or default
    if given not in choices:
        values = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise UserError(f"{name}: {given!r} must be {values}; unset it for its default, {default}")
    return given


def device_name(where) -> str:
    """The device's kind, for provenance."""
    where = torch.device(where)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


def settings(where) -> dict:
    """What bytes depend on beside config, code and inputs, for provenance: the device's kind, threads, compiler, bf16,
    deterministic algorithms, GiB of memory."""
    where = torch.device(where)
    return {
        "device": device_name(where),
        "threads": thread_count(),
        "compile": {"0": False, "1": True}.get(mode := _compile_mode(), mode),
        "bf16": has_bf16(where.type),
        "deterministic": _switch("DFKD_DETERMINISTIC", "1"),
        "memory": memory.given() or memory.DEFAULT,
    }


def autocast(where, precision: str):
    """Autocast to bf16 where ``precision`` is 'bf16' and the device has instructions for it, else no change: a CPU that
    emulates them takes ten times as long as in fp32.
    """
    kind = torch.device(where).type
    enabled = precision == "bf16" and has_bf16(kind)
    if precision == "bf16" and not enabled:
        _say_fp32(kind)
    return torch.autocast(kind, torch.bfloat16, enabled=enabled)


@functools.cache
def has_bf16(kind: str) -> bool:
    """Whether a kind of device computes in bf16 without emulating it."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if kind == "cpu" else {}
    instructions = [present for name, present in capabilities.items() if "bf16" in name]
    return any(instructions) or not instructions  # not known: as configured


@functools.cache
def _say_fp32(kind: str):
    progress.say(f"precision: this {kind} has no bf16 instructions; computing in fp32")
