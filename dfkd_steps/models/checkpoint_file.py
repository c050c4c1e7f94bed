"""The weights in a file, read without running any code of it; what is none is told apart and named."""

import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..runtime import disk, progress
from ..runtime.errors import UserError, one_line, reading, similar

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
SAVE = "torch.save(net.state_dict(), FILE)"


def read_weights(path: Path, sha256: str = "") -> dict[str, torch.Tensor]:
    """The weights in a .safetensors file, or in a PyTorch checkpoint read without running any code of it.

    They may lie under ``state_dict`` or the like, and their names may start with ``module.``.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; set checkpoint: to a file (relative to the working directory)")
    if fault := _foreign(path):
        raise UserError(f"{path}: {fault}")
    require_sha256(path, sha256)
    with reading(path, "is not a readable checkpoint", "fetch it again"):
        content = _of_safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    for _ in WRAPPERS:  # no deeper: a dictionary can hold itself
        inner = next((key for key in WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)), None)
        if averaged := next((key for key in (f"{inner}_ema", "ema") if inner and key in content), None):
            progress.say(
                f"{path}: WARNING: {inner} is read, the averaged weights under {averaged} are not; if those were evaluated, save "
                "them alone"
            )
        content = content[inner] if inner else content
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        keys = [one_line(key, 40) for key in content] if isinstance(content, dict) else []
        held = f", but {similar('state_dict', keys)}" if keys else ""
        wrapped = f"a dictionary of tensors, perhaps under {', '.join(WRAPPERS)}"
        raise UserError(f"{path}: holds no weights ({wrapped}){held}; save net.state_dict()")
    content = {str(key): value for key, value in content.items()}
    for key, value in content.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise UserError(f"{path}: {key[:60]!r} is sparse, quantised, complex or without values; save it as a plain tensor")
    while prefix := next((start for start in PREFIXES if all(key.startswith(start) for key in content)), ""):
        content = {key.removeprefix(prefix): value for key, value in content.items()}
    return content


def _of_safetensors(path):
    """The tensors of a file, but of a network of ours for what it was before it was cut, and on its way."""
    return {name: value for name, value in load_file(path).items() if not name.startswith(("whole/", "snapshot/"))}


def _unpickled(path):
    """A PyTorch checkpoint; no code of it runs, and it takes no more memory than its own size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise UserError(f"{path}: is compressed, which torch.save never does; unpack it and save it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        fault = (
            f"contains pickled code ({named[1]}), which is refused"
            if named
            else "is damaged, or contains pickled code, which is refused"
        )
        raise UserError(f"{path}: {fault}; save the weights alone: {SAVE}, or ONNX") from None


def _foreign(path) -> str | None:
    """What a file is that holds a network in another form, and how to save it for here; None for what may be a checkpoint."""
    with open(path, "rb") as file:
        start = file.read(64)
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and start[1:2] < b"\x20" and path.suffix not in (".pth", ".pt")):
        return "is an ONNX file; give its name the ending .onnx, and remove arch and factory"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return "is HDF5 (from Keras?), which is not supported; convert it to ONNX with tf2onnx and give that file"
    if start[4:8] == b"TFL3":
        return "is a TFLite file, which is not supported; convert it to ONNX with tf2onnx and give that file"
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()[:10_000]}
    except Exception:
        return None  # torch says what is wrong with it
    if "constants.pkl" in names:
        weights = "torch.save(torch.jit.load(FILE).state_dict(), OUT)"
        return (
            f"is TorchScript, which contains code and is never run; save its weights ({weights}) and give arch or factory, or "
            "export ONNX"
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        # torch.export.load unpickles weights, constants and inputs with weights_only=False where the file says so.
        weights = "torch.save(torch.export.load(FILE).state_dict, OUT)"
        return (
            "is an exported program, and reading one can run code that is pickled in it; if you trust it, save its weights "
            f"({weights}) and give arch or factory, or export ONNX"
        )
    return None


def require_sha256(path, sha256: str):
    """Raise UserError where a file's sha256 is not the given one, if one is given."""
    if not sha256:
        return
    if (digest := disk.sha256_of(path)) != sha256.lower():
        raise UserError(f"{path}: its sha256 is {digest}, expected {sha256}; fetch the right file or change sha256:")
