"""A function of the user's own code by its name, package.module:function, as seen from the working directory."""

import importlib
import os
import sys

from .errors import UserError, let_through, one_line


def load(name: str, what: str = "factory"):
    """The function ``name``; raises UserError, which begins with ``what``, where there is none."""
    package, _, function = name.partition(":")
    if not package or not function:
        raise UserError(f"{what}: {name!r} is not of the form package.module:function; write it that way")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return call(name, what, lambda: getattr(importlib.import_module(package), function))


def call(name: str, what: str, work):
    """``work()``, which runs the user's code: whatever that raises is the user's to correct, and becomes a UserError, but not
    an error of the system."""
    try:
        return work()
    except (Exception, SystemExit) as error:  # a script ends the process that imports it
        if not isinstance(error, PermissionError):  # their code may open the wrong file
            let_through(error)
        raise UserError(
            f"{what}: {name!r} failed: {type(error).__name__}: {one_line(error, 140)}; correct it, or the name"
        ) from None
