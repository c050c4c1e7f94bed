"""The key of an artefact: a hash of its config, the code of its step and the keys of its inputs."""

import dataclasses
import functools
import hashlib
import json

from ..methods import registry as method_registry
from . import fingerprint, params, spec
from .graph import STEPS, inputs_of, step_of


def own_config(step: str, specs: dict[str, str]) -> str:
    """The resolved config that the step itself reads, as canonical JSON ('' for evaluate)."""
    group = STEPS[step].group
    return params.canonical(group, specs[group]) if group else ""


@functools.cache
def group_code(group: str, text: str) -> tuple[tuple[str, ...], str]:
    """What only this spec's config makes a step run: modules (a method, an architecture, a drawer), and their arguments."""
    config = params.load(group, text)
    modules = [method_registry.module_of(config.method)] if group == "transfer" else []
    arguments = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        for one in (value if isinstance(value, list) else [value]) if item.metadata["code"] else []:
            if one != "":
                named = item.metadata["code"](one)
                module, argument = (named, "") if isinstance(named, str) else named
                modules.append(module)
                arguments.append(argument)
    return tuple(modules), "".join(arguments)


def code_of(step: str, specs: dict[str, str]) -> str:
    """Fingerprint of the code that makes this step's output for these specs."""
    group = STEPS[step].group
    own, salt = group_code(group, specs[group]) if group else ((), "")
    return fingerprint.fingerprint(step, *own, salt=salt)


def recipe(step: str, specs: dict[str, str]) -> dict:
    """What the key of an artefact has besides its inputs: the code of its step, and its config."""
    config = own_config(step, specs)
    return {"code": code_of(step, specs), "config": json.loads(config) if config else {}}


def make_key(step: str, specs: dict[str, str], input_keys) -> str:
    """The key of an artefact: its config, its code, the keys of its inputs."""
    digest = hashlib.sha256(code_of(step, specs).encode())
    digest.update(own_config(step, specs).encode())
    for key in input_keys:
        digest.update(key.encode())
    return digest.hexdigest()[:20]


@functools.cache
def expected_key(path: str) -> str:
    """The key that the artefact at ``path`` has to carry, from params/ and the code alone."""
    return make_key(step_of(path), spec.of_path(path), [expected_key(str(one)) for one in inputs_of(path)])


@functools.cache
def report_code() -> str:
    """Fingerprint of the code that makes the report, its templates included."""
    digest = hashlib.sha256(fingerprint.fingerprint("report").encode())
    for template in sorted(fingerprint.HERE.joinpath("reporting").glob("*.j2")):
        digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def report_key(keys: dict[str, str]) -> str:
    """The key of a report, from the path and key of each metrics.json it is made from."""
    digest = hashlib.sha256(report_code().encode())
    for path, key in sorted(keys.items()):
        digest.update(f"{path}\0{key}\0".encode())
    return digest.hexdigest()[:20]
