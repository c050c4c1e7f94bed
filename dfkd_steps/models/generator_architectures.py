"""What the generators of the publications are like, by name; ``generator`` builds them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """What tells the generator of one publication from that of another.

    eps: of BatchNorm, but for the first. head: 'sigmoid', or what the output passes before it is scaled by the data's std and
    moved by its mean: 'tanh-norm' = tanh and BatchNorm without scale and shift, 'tanh-scale' = tanh and BatchNorm with a
    learnt scale (and ``eps``), 'norm' = BatchNorm with scale and shift; or 'tanh' = tanh alone, from [-1,1] to [0,1]. first:
    channels of the first maps, in widths. rectify_first: leaky ReLU behind the first BatchNorm too. Biases before a BatchNorm
    change nothing but the optimiser's work; they are where the public code has them. glorot: its initialisation, instead of
    PyTorch's. dcgan: transposed convolutions 4x4 whose channels are halved down to half a width, instead of enlarging and a
    convolution; weights N(0, 0.02).
    """

    eps: float = 1e-5
    head: str = "sigmoid"
    first: int = 1
    rectify_first: bool = False
    dense_bias: bool = True
    conv_bias: bool = True
    glorot: bool = False
    dcgan: bool = False


# By publication, each as in its public code; the repositories and lines are in tests/unit/published.yaml.
ARCHITECTURES = {
    "cmi": Architecture(conv_bias=False),  # of Fast too
    "cmi-large": Architecture(first=2, conv_bias=False),  # of the games in CMI's comparison
    "dafl": Architecture(eps=0.8, head="tanh-norm"),
    "dfad": Architecture(head="tanh-norm"),
    "dfad-segmentation": Architecture(head="tanh", first=4, conv_bias=False, dcgan=True),
    "gdfd": Architecture(eps=0.8, head="tanh-scale", rectify_first=True, dense_bias=False, conv_bias=False, glorot=True),
    "zskt": Architecture(head="norm"),
}
