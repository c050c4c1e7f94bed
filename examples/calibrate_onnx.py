"""Quantise any ONNX classifier to int8 with the images of a transfer set, by onnxruntime.

python examples/calibrate_onnx.py MODEL.onnx results/.../transfer_set.h5 OUT.onnx [IMAGES]

The model takes images (N,C,H,W) in [0,1]. A ``TransferSet`` is a data set of torch too: NNCF takes a DataLoader over it.
"""

import sys

from onnxruntime import InferenceSession, quantization
from torch.utils.data import DataLoader, Subset

from dfkd_steps.storage.transfer_set import TransferSet


class Reader(quantization.CalibrationDataReader):
    """Batches of images under the name of the model's input."""

    def __init__(self, name: str, loader):
        self.name, self.batches = name, iter(loader)

    def get_next(self):
        """The next batch, or None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch[0].numpy()}


def main(model: str, transfer_set: str, out: str, images: int = 500):
    """Write the int8 model."""
    name = InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    with TransferSet(transfer_set) as transfer:
        loader = DataLoader(Subset(transfer, range(min(images, len(transfer)))), batch_size=64)
        quantization.quantize_static(model, out, Reader(name, loader), per_channel=True)
    print(f"wrote {out}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
