"""The key of an artefact: a hash of its recipe (code, config, files that the config names) and the keys of its inputs."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from pathlib import Path

from ..methods import registry as method_registry
from ..runtime.errors import UserError
from . import external, fingerprint, params, recorded, spec
from .graph import STEPS, inputs_of, step_of


def recipe(step: str, specs: dict[str, str], path=None) -> dict:
    """All that the bytes of a step's output are made by, beside its inputs and the machine; can be written as JSON.

    ``code``: module -> hash; ``chosen``: field -> what registries hold for its value; ``config``: the resolved config, empty
    for evaluate; ``files``: name -> sha256 of what the config names outside, or 'missing'.

    A file that is gone counts as the one that the artefact at ``path`` says it was made from, without ``path`` as the one that
    all artefacts of this spec below results/ name: nothing says that it was another, and whoever gets an artefact from a
    colleague or keeps it after a clean-up need not have the file.
    """
    group = STEPS[step].group
    text = specs[group] if group else ""
    now = _recipe(step, text)
    if external.MISSING not in now["files"].values():
        return now
    above = ["*"] * (STEPS[step].depth - 1)
    paths = [path] if path else sorted(Path("results").glob("/".join([*above, text, STEPS[step].output])))
    return {**now, "files": _as_recorded(now, paths)}


def _as_recorded(now: dict, paths) -> dict[str, str]:
    """The files of a recipe, those that are gone as artefacts of the same config name them; unchanged where these differ."""
    named, config = [], json.loads(json.dumps(now["config"]))
    for path in paths:
        with contextlib.suppress(UserError):  # it is gone or damaged
            then = recorded.provenance(path)
            if then.get("config") == config and then.get("files") not in named:
                named.append(then.get("files"))
    there = {name: digest for name, digest in now["files"].items() if digest != external.MISSING}
    return {**named[0], **there} if len(named) == 1 else now["files"]


def gone(path) -> list[str]:
    """The files that a config names and that are not there, of the artefact at ``path``."""
    group = STEPS[step_of(path)].group
    named = _outside(params.load(group, spec.of_path(path)[group])) if group else ()
    return [name for name, place, _ in named if external.digest(place) == external.MISSING]


@functools.cache
def _recipe(step, text):
    group = STEPS[step].group
    if group is None:
        return {"code": fingerprint.hashes(step), "chosen": {}, "config": {}, "files": {}}
    config = params.load(group, text)
    modules, chosen = chosen_code(config)
    code = fingerprint.hashes(step, *modules)
    return {"code": code, "chosen": chosen, "config": dataclasses.asdict(config), "files": files(config)}


def chosen_code(config) -> tuple[list[str], dict[str, list[str]]]:
    """The modules that only this config makes a step run (a method, an architecture), and field -> entries of registries."""
    modules, chosen = [], {}
    if method := getattr(config, "method", None):
        modules.append(method_registry.module_of(method))
        chosen["method"] = [str(method_registry.REGISTRY[method])]
    for item, values in _declared(config, "code"):
        for named in map(item.metadata["code"], values):
            module, entry = (named, "") if isinstance(named, str) else named
            modules.append(module)
            if entry:
                chosen.setdefault(item.name, []).append(entry)
    return modules, chosen


def files(config) -> dict[str, str]:
    """Name (``external.paths_of``) -> sha256 of the content of all that a config names outside this package.

    A file that is gone counts as the one that the config pins by ``sha256``, if it does: a clone needs no checkpoint where the
    teacher is there.
    """
    digests = {}
    for name, path, kind in _outside(config):
        digests[name] = external.digest(path)
        if digests[name] == external.MISSING and kind == "file":
            digests[name] = getattr(config, "sha256", "").lower() or external.MISSING
    return digests


def _outside(config):
    """Name, place and kind of each file or folder outside this package that a config names."""
    for item, values in _declared(config, "external"):
        kind = item.metadata["external"]
        yield from ((name, path, kind) for value in values for name, path in external.paths_of(kind, value).items())


def _declared(config, name: str):
    """The fields of a config whose declaration has ``name``, with their values, as a list and without empty ones."""
    for item in dataclasses.fields(config):
        if item.metadata[name]:
            value = getattr(config, item.name)
            yield item, [entry for entry in (value if isinstance(value, list) else [value]) if entry != ""]


def key_from(recipe: dict, input_keys) -> str:
    """The key of an artefact: a hash of its recipe and the keys of its inputs."""
    content = json.dumps([recipe, list(input_keys)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]


@functools.cache
def expected_key(path: str) -> str:
    """The key that the artefact at ``path`` has to carry, from params/, the code and the files that the config names."""
    step, inputs = step_of(path), [expected_key(str(source)) for source in inputs_of(path)]
    return key_from(recipe(step, spec.of_path(path), path), inputs)


def report_recipe() -> dict:
    """The code that makes the report, its templates included."""
    templates = sorted(fingerprint.HERE.joinpath("reporting").glob("*.j2"))
    return {"code": fingerprint.hashes("report"), "files": {path.name: external.digest(path) for path in templates}}


def report_key(keys: dict[str, str]) -> str:
    """The key of a report, from the path and key of each metrics.json it is made from."""
    return key_from(report_recipe(), [f"{path} {key}" for path, key in sorted(keys.items())])
