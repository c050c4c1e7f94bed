"""A method in a loop of your own: rounds until the student inside agrees with the teacher often enough.

python examples/own_loop.py results/mnist-5k/lenet5+epochs=40/teacher.safetensors OUT.safetensors [AGREEMENT [ROUNDS]]

AGREEMENT: percent of the images of a round (default 90). ROUNDS: no more than these (default 50).
"""

import sys
from pathlib import Path

import torch

from dfkd_steps.methods import registry
from dfkd_steps.storage import network_file


def main(path: str, out: str, agreement: float = 90.0, rounds: int = 50):
    """Write the student inside as a safetensors file, and print how the rounds went."""
    teacher = network_file.load_frozen(path)
    method_class = registry.load("dfad")
    config = method_class.Config(method="dfad", student="lenet5-half", rounds=rounds, turns=20, train_batch=64, width=16, n=640)
    method = method_class(config, teacher, [], torch.device("cpu"))
    for index in range(method.rounds):
        figures = method.round(index)
        print(f"round {index + 1}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        if figures["agreement"] >= agreement:
            break
    Path(out).write_bytes(network_file.to_bytes(method.networks()["student"]))
    print(f"wrote {out}; network_file.load reads it, and dfkd evaluate")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:3], *(kind(text) for kind, text in zip((float, int), sys.argv[3:])))
