"""Data-free knowledge distillation as a pipeline with cached stages."""

import os
import sys

if os.name == "nt":
    print("error: dfkd runs on Linux and macOS; on Windows install it inside WSL (wsl --install)", file=sys.stderr)
    sys.exit(2)

# When each module was last changed, before any of them is loaded: ``pipeline.fingerprint`` compares.
AT_START = {
    os.path.join(folder, name): os.stat(os.path.join(folder, name)).st_mtime_ns
    for folder, _, names in os.walk(os.path.dirname(__file__))
    for name in names
    if name.endswith(".py")
}

WITHOUT_TORCH = ("cli", "new", "report", "resolve")  # commands that need it not at all, or late
for _argument in sys.orig_argv[1:3]:
    if _argument.startswith(f"{__name__}."):  # python -m dfkd_steps.STEP
        from .runtime import startup

        startup.prepare(_step := _argument.partition(".")[2], computes=_step not in WITHOUT_TORCH)
