"""Step export: a student as files for other programs, checked against the student, and a model card. Reads nothing of the data.

python -m dfkd_steps.export results/.../export.json STUDENT TEACHER TRANSFER_SET

Into the folder export/ beside export.json, which holds their checksums and what was measured.
"""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_bytes

from .models import hooks, onnx_file
from .pipeline import keys, params, spec
from .pipeline.job import run_step
from .reporting import model_card
from .runtime import latency, progress
from .runtime.errors import UserError
from .storage import atomic, exported, network_file
from .storage.image_format import to_unit
from .storage.transfer_set import TransferSet
from .training import probes
from .training.predict import batches

CALIBRATION, HELD_OUT = 500, 1000  # images of the transfer set at most, none in both
MAPS_HELD_OUT, MAPS_EACH = 100, 10  # of segmentation, whose logits are those of each pixel: held out, and of each kind of probe
TOLERANCE = 1e-3  # of logits, as a share of the largest
# Name of an agreement -> the two networks.
BESIDE = {
    "student_teacher": ("torch", "teacher"),
    "int8_teacher": ("int8", "teacher"),
    "int8_student": ("int8", "torch"),
    "onnx_student": ("onnx", "torch"),
}


def run(job):
    """Make export.json and the files that it vouches for."""
    started = time.monotonic()
    student_path, teacher_path, set_path = job.inputs
    onnx_file.require("onnx", "onnxscript", "onnxruntime")
    with atomic.exclusive(job.out, job.key) as partial:
        if partial is None:
            progress.say(f"{job.out}: already exists")
            return
        # On the CPU, where its ONNX file is run too.
        student, teacher = (network_file.load_frozen(path) for path in (student_path, teacher_path))
        learnt_from = keys.chosen_code(params.load("transfer", spec.of_path(job.out)["transfer"]))[0]
        each = MAPS_EACH if teacher.description.dense else probes.PER_KIND
        with TransferSet(set_path) as transfer:
            transfer.require_fit(teacher.description)
            calibrating, held_out = divide(transfer)
            about, number = transfer.metadata, len(transfer)
            described = student.description
            rows = onnx_file.at_once(described.image_shape, described.num_classes if described.dense else 0)
            contents = formats(student, parts(transfer, calibrating, rows))
            networks = {
                "teacher": teacher,
                "torch": student,
                "onnx": onnx_file.OnnxClassifier(contents["student.onnx"]),
                "int8": onnx_file.OnnxClassifier(contents["student-int8.onnx"]),
            }
            measured = {"transfer set, held out": compare(networks, parts(transfer, held_out, rows))}
        measured["probe images"] = compare(networks, together(probes.draw(teacher.description, learnt_from, each), rows))
        refuse_difference(student_path, measured)
        card = {
            "specs": list(spec.of_path(job.out).values()),
            "classes": list(student.description.classes),
            "task": student.description.task,
            "image_shape": list(student.description.image_shape),
            "opset": onnx_file.OPSET,
            "calibration_images": len(calibrating),
            "networks": {"teacher": size(teacher, teacher_path), "student": size(student, student_path)},
            "transfer_set": {"samples": number, "label": about.get("label", "unknown")},
            "measured": measured,
        }
        contents["README.md"] = model_card.render(card, {name: len(content) for name, content in contents.items()}).encode()
        files = {name: exported.entry(content) for name, content in contents.items()}
        for path in exported.paths(job.out):
            path.parent.mkdir(exist_ok=True)
            atomic.write(path, contents[path.name])
        # Last: where it is, what it vouches for is there.
        about = {"key": job.key, "kind": "export", "provenance": [job.provenance(torch.device("cpu"))]}
        atomic.write_json(job.out, card | {"files": files} | about)
    # To the log alone: an artefact holds no durations, or its bytes would differ from run to run.
    times = {name: latency.milliseconds(net, student.description.image_shape) for name, net in networks.items()}
    latencies = ", ".join(f"{name} {value:.3f}" for name, value in times.items())
    progress.say(f"export: milliseconds per image, batches of 1: {latencies}")
    progress.say(f"export: {len(files)} files, {time.monotonic() - started:.1f} s")


def divide(transfer: TransferSet) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images to calibrate with, and of others to compare networks on; sorted, each evenly spread over the set.

    Raises UserError for a set of fewer than two samples.
    """
    if len(transfer) < 2:
        raise UserError(f"{transfer.path}: has {len(transfer)} samples, too few to calibrate int8 with; make a larger set")
    order = np.random.default_rng(0).permutation(len(transfer))
    number = min(CALIBRATION, len(order) // 2)
    others = MAPS_HELD_OUT if transfer.layout.dense else HELD_OUT
    return np.sort(order[:number]), np.sort(order[number : number + others])


def parts(transfer: TransferSet, rows, at_once: int) -> Iterator[np.ndarray]:
    """The images in some rows of a set, ``at_once`` at a time; (n,C,H,W) float32 in [0,1]."""
    return (to_unit(transfer.read("images", some)) for some in batches(rows, at_once))


def together(drawn, at_once: int) -> Iterator[np.ndarray]:
    """The images of all kinds, ``at_once`` at a time, so that some parts are of two kinds; (n,C,H,W) float32 in [0,1]."""
    left = None
    for _, images in drawn:
        images = images.numpy() if left is None else np.concatenate([left, images.numpy()])
        whole = len(images) - len(images) % at_once
        yield from map(to_unit, batches(images[:whole], at_once))
        left = images[whole:].copy()
        del images  # before the next kind is drawn
    yield from map(to_unit, batches(left, at_once))


def formats(student, calibrating: Iterable[np.ndarray]) -> dict[str, bytes]:
    """Name -> content of each format; int8 is calibrated with images, parts (n,C,H,W) in [0,1]."""
    described = student.description
    program = onnx_file.program_of(student)
    onnx = onnx_file.onnx_bytes(program, described)
    weights = network_file.tensors_of(student.net, {})
    normalisation = {"arch": described.name, "mean": list(described.mean), "std": list(described.std)}
    return {
        "student.onnx": onnx,
        "student-int8.onnx": onnx_file.int8_bytes(onnx, calibrating, described),
        "state_dict.safetensors": save_bytes(weights, {"normalisation": json.dumps(normalisation)}),
        "student.pt2": onnx_file.program_bytes(program),
    }


def compare(networks: dict, images: Iterable[np.ndarray]) -> dict:
    """The networks' answers on images, parts (n,C,H,W) in [0,1]: agreement in percent of images, of segmentation of pixels;
    largest logit of torch, and largest difference of ONNX and torch logits.
    """
    right, number, answered, logit, difference = dict.fromkeys(BESIDE, 0), 0, 0, [], []
    for part in images:
        part = torch.from_numpy(np.ascontiguousarray(part))
        number += len(part)
        with torch.inference_mode():  # no more than one part's: logits of segmentation are many times their images
            logits = {name: network(part) for name, network in networks.items()}
        answers = {name: values.argmax(1) for name, values in logits.items()}
        answered += answers["torch"].numel()
        for name, (first, second) in BESIDE.items():
            right[name] += (answers[first] == answers[second]).sum().item()
        logit.append(logits["torch"].abs().max())
        difference.append((logits["onnx"] - logits["torch"]).abs().max())
    return {
        "images": number,
        **{name: round(100 * same / answered, 4) for name, same in right.items()},
        "largest_logit": round(torch.stack(logit).max().item(), 6),  # not Python's max, which may lose NaN
        "largest_difference": float(f"{torch.stack(difference).max().item():.3g}"),
    }


def refuse_difference(path, measured: dict):
    """Raise UserError where the ONNX file does not compute what the student does."""
    for images, figures in measured.items():
        if not figures["largest_difference"] <= TOLERANCE * max(1.0, figures["largest_logit"]):
            raise UserError(
                f"{path}: its ONNX form differs by {figures['largest_difference']} in a logit ({images}); export another student"
            )


def size(network, path) -> dict:
    """What a network costs: parameters, multiply-accumulates of one image, bytes of its file."""
    described = network.description
    return {
        "name": described.name,
        "parameters": hooks.parameters(network.net),
        "macs": hooks.macs(network.net, described.image_shape),
        "bytes": Path(path).stat().st_size,
    }


if __name__ == "__main__":
    run_step("export", run, uses_gpu=False)
