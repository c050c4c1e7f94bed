"""The config fields of an inverter that starts from labels (``engines.label_inversion``)."""

from dataclasses import dataclass

from ...fields import opt

EMBEDDINGS = ("orthogonal", "one-hot")  # engines.label_embeddings draws them


@dataclass
class LabelInverterOptions:
    """The fields of an inverter that starts from labels."""

    steps: int = opt(30, "steps on the generator and the noisy layers per batch (40 for CIFAR-100)", lo=1)
    lr_g: float = opt(4e-3, "learning rate of the generator and the noisy layers (Adam)", above=0, hi=10)
    latent: int = opt(1000, "outputs of a noisy layer, the inputs of the generator", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    life: int = opt(
        10, "rounds after which the generator is reinitialised; the first round with a student also reinitialises it", lo=1
    )
    embedding: str = opt("orthogonal", "class vectors, if there is no embedding_file", choices=EMBEDDINGS)
    embedding_file: str = opt(
        "", "an .npy or .npz file with a vector per class, e.g. of a text encoder ('' = none); with it the set is prior-based",
        external="file",
    )  # fmt: skip
    ema: float = opt(
        0.9, "decay of the moving average of BatchNorm statistics that is matched (0 = this batch only)", lo=0, hi=0.999
    )
