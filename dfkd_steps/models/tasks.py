"""The tasks that a network can be for. A segmentation network gives a logit for each class and pixel, a label map is uint8."""

import argparse

CLASSIFICATION, SEGMENTATION = "classification", "segmentation"
TASKS = (CLASSIFICATION, SEGMENTATION)
VOID = 255  # in a label map: no class, in no loss and no metric
MOST_CLASSES = 254  # of a segmentation task: a byte a pixel, without VOID


def void_label(text: str) -> int:
    """The value of an option ``--void``, as argparse asks for it."""
    if not text.isdecimal() or int(text) > VOID:
        raise argparse.ArgumentTypeError(f"{text!r} is no label of a mask; give one from 0 to {VOID}, and store void as {VOID}")
    return int(text)
