"""Does an imported ONNX network compute what onnxruntime computes?"""

import torch

from ..runtime import progress
from ..runtime.errors import UserError, one_line
from .onnx_operators import OPERATORS

TOLERANCE = 1e-3  # of the largest logit
SAMPLES = 4  # random images that outputs are compared on


def compare(imported, net, model):
    """Raise UserError unless the network gives for a batch of random images what onnxruntime gives."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{imported.path}: onnxruntime, which the comparison needs, is not installed; run pip install 'dfkd[onnx]'"
        ) from None
    number = imported.batch if imported.batch and imported.batch > 1 else SAMPLES
    images = torch.rand(number, *imported.description.image_shape, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (imported.description.mean, imported.description.std))
    images = (images - mean) / std
    try:
        with torch.no_grad():
            mine = net(images)
    except Exception as error:  # whatever an operator raises for a shape that it does not take
        fixed = f" (it was exported for batches of {imported.batch})" if imported.batch else ""
        raise imported.error(
            f"does not accept {number} images{fixed}; export it with a dynamic batch ({one_line(error)})"
        ) from None
    if imported.maps_last:
        mine = mine.permute(0, 2, 3, 1)
    if imported.normalised:
        mine = OPERATORS[imported.normalised[0]]([mine], imported.normalised[3])
    given = (images.permute(0, 2, 3, 1) if imported.channels_last else images).contiguous()
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        name, parts = session.get_inputs()[0].name, given.split(imported.batch or number)
        reference = torch.cat([torch.from_numpy(session.run(None, {name: part.numpy()})[0]).float() for part in parts])
    except Exception as error:  # of onnxruntime's own, which share no class
        raise imported.error(f"does not run in onnxruntime either: {one_line(error)}; export it again") from None
    difference = (reference - mine).abs().max().item() if reference.shape == mine.shape else float("inf")
    if not difference <= TOLERANCE * max(1.0, reference.abs().max().item()):
        raise imported.error(
            f"gives different outputs here than in onnxruntime (largest difference {difference:.3g}); export it again"
        )
    progress.say(f"{imported.path}: outputs differ from onnxruntime's by at most {difference:.2g} on {number} random images")
