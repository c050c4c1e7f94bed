"""TensorBoard event files of a step, where DFKD_TENSORBOARD names a folder for them. In no key: no result depends on them."""

import os
from pathlib import Path

from .errors import UserError, one_line

FOLDER = "DFKD_TENSORBOARD"
job = {"place": Path(), "writer": None}


def begin(place):
    """The figures that follow are those of the artefact at ``place``. Raises UserError where they are asked for and the package
    tensorboard, which writes them, is missing."""
    job.update(place=Path(place), writer=None)
    if os.environ.get(FOLDER):
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            fault = f"needs the package tensorboard ({one_line(error, 80)})"
            raise UserError(f"{FOLDER}: {fault}; run pip install 'dfkd[tensorboard]', or unset it") from None


def add(number: int, figures: dict):
    """The figures of round or epoch ``number``, by name, as soon as they are known. Those from ``number`` on that an interrupted
    run left are hidden."""
    if not (folder := os.environ.get(FOLDER)):
        return
    if job["writer"] is None:
        from torch.utils.tensorboard import SummaryWriter

        job["writer"] = SummaryWriter(Path(folder, *job["place"].with_suffix("").parts[-6:]), purge_step=number, flush_secs=20)
    for name, value in figures.items():
        job["writer"].add_scalar(name, value, number)
    job["writer"].flush()
