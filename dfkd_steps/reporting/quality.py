"""The measure that says how good a run is."""

# What says how good a run is: the accuracy, or, without test images, how far the student answers as its teacher.
ACCURACIES, WITHOUT_LABELS = ("top1", "miou"), ("probe_balanced", "probe_miou")


def quality(metrics: dict) -> str:
    """The first of ``ACCURACIES`` and ``WITHOUT_LABELS`` that there is; top-1 where none is."""
    return next((name for name in (*ACCURACIES, *WITHOUT_LABELS) if name in metrics), ACCURACIES[0])
