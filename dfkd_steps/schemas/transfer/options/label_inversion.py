"""The config fields of an inverter that starts from labels (``engines.label_inversion``)."""

from dataclasses import dataclass

from ...fields import opt

EMBEDDINGS = ("orthogonal", "one-hot")  # engines.label_embeddings draws them


@dataclass
class LabelInverterOptions:
    """The fields of an inverter that starts from labels."""

    steps: int = opt(30, "steps on the generator and the noisy layers for a batch (40 for CIFAR-100)", lo=1)
    lr_g: float = opt(4e-3, "Adam step of the generator and the noisy layers", above=0, hi=10)
    latent: int = opt(1000, "outputs of a noisy layer, which the generator takes", lo=1, hi=65536)
    width: int = opt(128, "channels of the generator", lo=2, hi=65536)
    life: int = opt(10, "rounds after which the generator starts anew; it also does with the first student", lo=1)
    embedding: str = opt("orthogonal", "vectors of the classes, where no file gives them", choices=EMBEDDINGS)
    embedding_file: str = opt(
        "", "an .npy or .npz file with a vector for each class, as of a text encoder ('' = none); then the set is prior-based",
        external="file",
    )  # fmt: skip
    ema: float = opt(0.9, "share of the past in the BatchNorm statistics that are matched (0 = this batch alone)", lo=0, hi=0.999)
