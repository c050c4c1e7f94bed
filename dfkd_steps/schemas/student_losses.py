"""The losses that a student may learn by: name -> module below ``training``, function, further arguments of it; or
factory.MODULE.FUNCTION, a function of the user's. ``training.student_losses`` says what such a function takes and gives.
"""

import json

from ..models import names

REGISTRY = {
    "kd": ("losses", "kd_each", {}),
    "kd-mean": ("losses", "kd_mean_each", {}),
    "l1": ("losses", "l1_each", {}),
}
CALLS = "training.student_losses"  # the module that builds a loss by its name


class Losses:
    """The names that a loss may have, as ``choices`` of a field: lists ours, and holds factories too."""

    def __iter__(self):
        return iter(REGISTRY)

    def __len__(self):
        return len(REGISTRY)

    def __contains__(self, name):
        return name in REGISTRY or (names.split(name)[0] == names.FACTORY and name in names.Networks())

    def like(self, name: str) -> list[str]:
        """What to list for a wrong name."""
        return [*self, "factory.MODULE.FUNCTION"]


def code_of(name: str) -> str | tuple[str, str]:
    """The module that computes a loss, with its entry in the table; of a factory the one that calls it."""
    return (f"training.{REGISTRY[name][0]}", json.dumps(REGISTRY[name], sort_keys=True)) if name in REGISTRY else CALLS
