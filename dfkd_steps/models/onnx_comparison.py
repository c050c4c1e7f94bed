"""Does an imported ONNX network compute what onnxruntime computes?"""

import torch

from ..runtime import progress
from ..runtime.errors import UserError, let_through, one_line
from .onnx_operators import OPERATORS

TOLERANCE = 1e-3  # of the largest logit
HALF_TOLERANCE = 1e-2  # of a file whose weights have 16 bits: onnxruntime rounds to them after each layer
INPUTS = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64}  # of other element types than float32
SAMPLES = 4  # random images that outputs are compared on


def compare(imported, net, model) -> int:
    """The number of its classes; raises UserError unless the network gives for random images what onnxruntime gives."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise UserError(
            f"{imported.path}: onnxruntime, which the comparison needs, is not installed; run pip install 'dfkd[onnx]'"
        ) from None
    number = imported.batch if imported.batch and imported.batch > 1 else SAMPLES
    images = torch.rand(number, *imported.description.image_shape, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (imported.description.mean, imported.description.std))
    images = (images - mean) / std
    reference, refused = _tried(lambda: _by_onnxruntime(imported, model, images))
    mine, fault = _tried(lambda: net(images))
    if fault is not None and (refused is not None or imported.batch):
        fixed = f" (it was exported for batches of {imported.batch})" if imported.batch else ""
        raise imported.error(f"does not accept {number} images{fixed}; export it with a dynamic batch ({one_line(fault)})")
    if fault is not None:
        raise imported.error(
            f"runs in onnxruntime, but not here ({one_line(fault, 120)}); give the network's weights and a factory instead of "
            "the ONNX file"
        )
    if refused is not None:
        raise imported.error(f"does not run in onnxruntime: {one_line(refused)}; export it again")
    classes = mine.shape[1] if mine.ndim > 1 else 0
    if imported.maps_last:
        mine = mine.permute(0, 2, 3, 1)
    if imported.one_pixel:
        mine = mine[:, :, None, None]
    if imported.normalised:
        mine = OPERATORS[imported.normalised[0]]([mine], imported.normalised[3])
    difference = (reference - mine).abs().max().item() if reference.shape == mine.shape else float("inf")
    tolerance = HALF_TOLERANCE if imported.half else TOLERANCE
    if not difference <= tolerance * max(1.0, reference.abs().max().item()):
        raise imported.error(
            f"gives different outputs here than in onnxruntime (largest difference {difference:.3g}); export it again"
        )
    progress.say(f"{imported.path}: outputs differ from onnxruntime's by at most {difference:.2g} on {number} random images")
    return classes


def _tried(compute):
    """What ``compute`` returns, or None and what it raised: of torch for a shape that an operator does not take, of onnxruntime
    one of its own errors, which share no class."""
    try:
        with torch.no_grad():
            return compute(), None
    except Exception as error:
        let_through(error)
        return None, error


def _by_onnxruntime(imported, model, images):
    """The output of the file for images (N,C,H,W), as float32; it takes them in the layout, the batches and the element type that
    it was exported for."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    takes = session.get_inputs()[0]
    given = (
        (images.permute(0, 2, 3, 1) if imported.channels_last else images).to(INPUTS.get(takes.type, torch.float32)).contiguous()
    )
    parts = given.split(imported.batch or len(images))
    return torch.cat([torch.from_numpy(session.run(None, {takes.name: part.numpy()})[0]).float() for part in parts])
