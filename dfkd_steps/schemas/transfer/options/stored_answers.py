"""The config fields of stored answers of the teacher (``engines.stored_answers``)."""

import typing
from dataclasses import dataclass

from ...choices import REPEATABLE
from ...fields import opt


@dataclass
class StoredAnswerOptions:
    """The fields of stored answers."""

    if typing.TYPE_CHECKING:  # of the online student
        view_s: str
        mix_s: str
        attention_s: float

    views_kept: int = opt(
        0, "views of each pool image to store the teacher's logits for (0 = evaluate the teacher in every step)", lo=0, hi=256
    )
    fresh: float = opt(0.25, "share of a student batch that gets new views, which replace stored ones", lo=0, hi=1)

    def fault_of_views(self):
        """Why the views of a student cannot be kept, or None."""
        if not self.views_kept:
            return None
        if self.view_s not in REPEATABLE:
            return (
                f"views_kept: '{self.view_s}' views cannot be stored; set view_s to one of {', '.join(REPEATABLE)}, or "
                "views_kept: 0"
            )
        if self.mix_s != "none":
            return "views_kept: mixed views differ in every step; set mix_s: none, or views_kept: 0"
        if getattr(self, "exchange", 0):
            return "views_kept: images that exchange channels differ in every step; set exchange: 0, or views_kept: 0"
        return "views_kept: feature maps are not stored; set attention_s: 0, or views_kept: 0" if self.attention_s else None
