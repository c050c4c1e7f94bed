"""Your teacher, no data: distil a student from drawn images alone, with dfkd as a library and without Snakemake.

python examples/your_teacher.py results/mnist-5k/lenet5+epochs=40/teacher.safetensors [STEPS [DRAWINGS]]

For a network of your own, replace the first line of ``main``: Classifier(net, Description(...)).eval() wraps any torch
module.
"""

import sys

import torch

from dfkd_steps.models.classifier import Classifier, build_architecture
from dfkd_steps.procedural.glyphs import glyphs
from dfkd_steps.storage import network_file
from dfkd_steps.training import losses


def main(path: str, steps: int = 1500, drawings: int = 10_000):
    """Draw glyphs, let the teacher answer, train a student half as wide, and print how often the two agree."""
    teacher = network_file.load_frozen(path)
    rng = torch.Generator().manual_seed(0)
    images = glyphs(drawings, teacher.description, rng)
    with torch.no_grad():
        answers = torch.cat([teacher(part) for part in images.split(500)])

    held_out = drawings // 10
    net = build_architecture("lenet5-half", teacher.description.num_classes, teacher.description.image_shape)
    student = Classifier(net, teacher.description).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(drawings - held_out, (128,), generator=rng)  # the last tenth is held out
        loss = losses.kd(student(images[rows]), answers[rows], tau=4.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        agreement = (student.eval()(images[-held_out:]).argmax(1) == answers[-held_out:].argmax(1)).float().mean()
    print(f"agreement on {held_out:,} held-out drawings: {100 * agreement:.1f} %")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
