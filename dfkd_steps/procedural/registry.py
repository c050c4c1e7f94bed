"""The kinds of images drawn here: name -> module and function, imported when asked for."""

import importlib

REGISTRY = {
    "uniform": "noise",
    "gaussian": "noise",
    "smooth": "noise",
    "leaves": "textures",
    "fractals": "textures",
    "strokes": "strokes",
    "glyphs": "glyphs",
    "objects": "objects",
    "scenes": "scenes",
}
NOISE = tuple(kind for kind, module in REGISTRY.items() if module == "noise")
PROCEDURAL = tuple(kind for kind, module in REGISTRY.items() if module != "noise")


def module_of(kind: str) -> str:
    """The module (below dfkd_steps) that draws a kind."""
    return f"procedural.{REGISTRY[kind]}"


def load(kind: str):
    """The function of a kind: (number, like, rng) -> images."""
    return getattr(importlib.import_module(f"dfkd_steps.{module_of(kind)}"), kind)
