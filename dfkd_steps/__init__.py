"""Data-free knowledge distillation as a pipeline with cached stages."""

__version__ = "0.1.0"
