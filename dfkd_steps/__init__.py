"""Data-free knowledge distillation as a pipeline with cached stages."""

from importlib.metadata import version

__version__ = version("dfkd")
