"""Data-free knowledge distillation as a pipeline with cached stages."""

import os

__version__ = "0.1.0"
# When each module was last changed, before any of them is loaded: ``pipeline.fingerprint`` compares.
AT_START = {
    os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_mtime_ns
    for folder, _, names in os.walk(os.path.dirname(__file__))
    for name in names
    if name.endswith(".py")
}
