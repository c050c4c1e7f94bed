"""Data-free knowledge distillation as a pipeline with cached stages."""

import gc
import os
import sys

if os.name == "nt":
    print("error: dfkd runs on Linux and macOS; on Windows install it inside WSL (wsl --install)", file=sys.stderr)
    sys.exit(2)

if any(argument.startswith(f"{__name__}.") for argument in sys.orig_argv[1:3]):  # python -m dfkd_steps.STEP
    # What torch makes on import, a million objects, stays: looking for garbage there takes a quarter of the import's time.
    gc.disable()  # until ``runtime.commands.guarded``

# When each module was last changed, before any of them is loaded: ``pipeline.fingerprint`` compares.
AT_START = {
    os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_mtime_ns
    for folder, _, names in os.walk(os.path.dirname(__file__))
    for name in names
    if name.endswith(".py")
}
