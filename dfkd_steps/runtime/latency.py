"""How long one image takes on this machine."""

import statistics
import time

import torch


def milliseconds(network, image_shape, repeats: int = 30) -> float:
    """Median wall-clock milliseconds of ``network`` on one image (C,H,W), with the threads of this process."""
    image, times = torch.rand(1, *image_shape), []
    with torch.inference_mode():
        for _ in range(repeats + 5):
            started = time.perf_counter()
            network(image)
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[5:])  # the first passes allocate and choose kernels
