"""What an error line has to say, for tests of wrong uses."""

import re

REMEDY = re.compile(r"; \w|did you mean ")


def require_remedy(text: str):
    """One line, which begins with the place (a file, an option, a key or a step) and ends with what to do."""
    assert "\n" not in text and re.match(r"[^:\s][^:]*: ", text) and REMEDY.search(text), text
