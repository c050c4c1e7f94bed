"""A spec's resolved config: the dataclass of its kind, overridden by its YAML file (and that file's base), then by the spec.

Dataclasses are closed (an unknown key is an error), typed and ranged. Each group but ``student`` has a key that says
of which kind it is; the kind names the dataclass.
"""

import dataclasses
import functools
import re
import typing
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..methods import registry as method_registry
from ..runtime.errors import UserError, suggest
from ..schemas import fields, groups
from . import spec
from .plain_yaml import named, quoted, read_mapping

PARAMS = Path("params")
OWN_DATASET = "own"  # as the source of a transfer set: the data set of its own path
KIND_KEY = {"dataset": "source", "teacher": "kind", "transfer": "method", "balance": "mode"}


def kinds(group: str) -> list[str]:
    """The known kinds of a group, sorted."""
    return sorted(method_registry.REGISTRY) if group == "transfer" else sorted(groups.KINDS[group])


def schema(group: str, kind: str = "") -> type:
    """The dataclass of a group's kind."""
    if group == "transfer":
        return method_registry.config_class(kind)
    return groups.KINDS[group][kind]


def load(group: str, text: str, params: Path = PARAMS) -> Any:
    """The typed config of a spec; raises UserError that lists every bad key with its place, value and remedy."""
    return _load(group, str(spec.parse(group, text)), str(params))


def kind_of(group: str, name: str, params: Path = PARAMS) -> str:
    """The kind that a YAML file names, for lists; '' where it names none. Does not check the file's other keys."""
    return str(_merged(_layers(group, name, str(params))).get(KIND_KEY.get(group), ""))


def names(group: str, params: Path = PARAMS) -> list[str]:
    """The names of a group's YAML files, in whatever folder below params/<group>/ they lie; sorted, without shared bases."""
    return sorted(name for name in _files(group, params) if not name.startswith("_"))


def path_of(group: str, name: str, params: Path = PARAMS) -> Path:
    """The YAML file of a name; raises UserError where there is none, or more than one."""
    paths = _files(group, params).get(name, [])
    if len(paths) > 1:
        raise UserError(f"{group}: {name} names {len(paths)} files, {' and '.join(map(str, paths))}; rename all but one")
    if not paths:
        raise UserError(f"{group}: no file {Path(params) / group / name}.yaml; {suggest(name, names(group, params))}")
    return paths[0]


def origins(group: str, text: str, params: Path = PARAMS) -> dict[str, str]:
    """Where each value of ``load`` comes from: 'default', 'base NAME', 'YAML' or 'spec'."""
    parsed = spec.parse(group, text)
    by_field = dict.fromkeys((item.name for item in dataclasses.fields(load(group, text, params))), "default")
    for origin, _, content in _layers(group, parsed.name, str(params)):
        by_field |= dict.fromkeys(content, origin)
    return by_field | dict.fromkeys(dict(parsed.overrides), "spec")


def _files(group, params) -> dict[str, list[Path]]:
    """The YAML files of a group by name, over all its folders; hidden files and folders (of editors) do not count.

    UserError where there is no params/: an empty list would say that no file has been written yet.
    """
    if not Path(params).is_dir():
        raise UserError(f"{params}: no such folder; run this in a checkout of dfkd")
    top, files = Path(params) / group, {}
    for path in sorted(top.rglob("*.yaml")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(top).parts):
            files.setdefault(path.stem, []).append(path)
    return files


@functools.cache
def _layers(group, name, params) -> list[tuple[str, Path, dict]]:
    """Origin, path and content of the files behind a name, without the key ``base``: its base, if it has one, then itself."""
    path = path_of(group, name, params)
    content = read_mapping(path)
    if "base" not in content:
        return [("YAML", path, content)]
    base = content.pop("base")
    known = sorted(_files(group, params).keys() - {name})
    if base not in known:
        raise UserError(f"{path}: base: {quoted(base)} is unknown in params/{group}; {suggest(str(base), known)}")
    base_path = path_of(group, base, params)
    inherited = read_mapping(base_path)
    if "base" in inherited:
        raise UserError(f"{path}: base: {base} has a base itself, {inherited['base']!r}; name that one, or write the values out")
    key = KIND_KEY.get(group)
    if key in content and content[key] != inherited.get(key, content[key]):
        kind, other = quoted(content[key]), quoted(inherited[key])
        raise UserError(f"{path}: {key} is {kind}, but {other} in its base {base}; choose a base with that {key}, or none")
    return [(f"base {base}", base_path, inherited), ("YAML", path, content)]


def _merged(layers) -> dict:
    return {key: value for _, _, content in layers for key, value in content.items()}


def values_of(group: str, name: str, params=PARAMS) -> dict:
    """What the files behind a name give: those of its base, and its own."""
    return dict(_merged(_layers(group, name, str(params))))


def spec_of(group: str, preset: str, **values) -> str:
    """The spec of a preset with other values; those that it has anyway are left out, since an experiment has one spelling."""
    config = load(group, preset)
    other = {key: spelling(value) for key, value in values.items() if getattr(config, key) != value}
    return str(spec.Spec(group, preset, tuple(sorted(other.items()))))


@functools.cache
def _load(group, text, params):
    parsed = spec.parse(group, text)
    if parsed.name.startswith("_"):
        raise UserError(f"{group}: {parsed.name} is a shared base, not a config; use the name of a file that has it as its base")
    layers = _layers(group, parsed.name, params)
    path = layers[-1][1]
    cls = _class(group, path, _merged(layers), dict(parsed.overrides))
    known = {item.name: item for item in dataclasses.fields(cls)}
    config, faults = OmegaConf.structured(cls), []
    for _, place, content in layers:
        for key, value in content.items():
            _set(config, known, key, value, str(place), faults)
    where = f"{group} {text!r}"
    for key, value in parsed.overrides:
        _override(config, known, parsed, key, value, where, faults)
    for key in known:
        if OmegaConf.is_missing(config, key) and not any(f": {key}: " in fault for fault in faults):
            remedy = f"add a line '{key}: ...', or write {parsed.name}+{key}=..."
            faults.append(f"{path}: {key} is missing ({known[key].metadata['doc']}); {remedy}")
    if faults:
        raise UserError("\n".join(faults))
    resolved = OmegaConf.to_object(config)
    check = getattr(resolved, "check", None)
    if problem := check() if check else None:
        raise UserError(f"{where}: {problem}")
    for source in (name for name in reads(resolved) if name != OWN_DATASET):
        try:
            _load("dataset", source, params)
        except UserError as error:
            raise UserError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None
    return resolved


def _override(config, known, parsed, key, value, where, faults):
    """Set one value of a spec; one experiment has one spelling, so neither another form of a value nor a value that is set
    anyway is accepted.
    """  # fmt: skip
    before = len(faults)
    old = None if key not in known or OmegaConf.is_missing(config, key) else config[key]
    if OmegaConf.is_list(old):
        faults.append(f"{where}: {key} is a list, which a spec cannot express; set it in a file params/{parsed.group}/NAME.yaml")
        return
    _set(config, known, key, _typed(known.get(key), value), where, faults)
    if len(faults) > before:
        return
    if (right := spelling(config[key])) != value:
        faults.append(f"{where}: write {key}={right}, not {key}={value} (one spelling for one experiment)")
    elif config[key] == old:
        faults.append(f"{where}: {key} is {value} already; write {str(parsed.without(key))!r} (one spelling for one experiment)")


def _class(group, path, content, overrides):
    key = KIND_KEY.get(group)
    if key is None:
        return schema(group)
    if key in overrides:
        raise UserError(f"{group}: {key} cannot be overridden in a spec; write a params/{group}/NAME.yaml with its own {key}")
    if key not in content:
        raise UserError(f"{path}: {key} is missing; add a line '{key}: ...', one of {', '.join(kinds(group))}")
    if content[key] not in kinds(group):
        raise UserError(f"{path}: {key}: {quoted(content[key])} is unknown; {suggest(str(content[key]), kinds(group))}")
    return schema(group, content[key])


def _typed(item, text):
    """The text of an override as YAML would give it: a bool where the field is one."""
    return {"true": True, "false": False}.get(text, text) if item is not None and item.type is bool else text


def _set(config, known, key, value, where, faults):
    if key not in known:
        faults.append(f"{where}: {named(key)}: unknown key; {suggest(key, sorted(known))}")
        return
    try:
        if not _acceptable(known[key].type, value):
            raise ValueError
        OmegaConf.update(config, key, value)
        container: Any = OmegaConf.to_container(config)
        problem = fields.fault(known[key], container[key])
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError):
        faults.append(f"{where}: {key}: {quoted(value)} is not {_named(known[key].type)}; {_remedy(known[key], value)}")
        return
    if problem:
        faults.append(f"{where}: {key}: {quoted(value)} {problem}; {_remedy(known[key], value)}")


def _acceptable(kind, value) -> bool:
    """May OmegaConf try to convert the value? It would take 1 for true, 12 for '12', and '???' for 'missing'."""
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_acceptable(typing.get_args(kind)[0], entry) for entry in value)
    if kind in (bool, str):
        return isinstance(value, kind) and value != MISSING
    # A number as text: from a spec, and from YAML where it is 1e-3, which YAML 1.1 takes for text.
    return isinstance(value, (int, float)) or (isinstance(value, str) and re.fullmatch(r"[-+0-9.eEainfINF]+", value) is not None)


def _named(kind) -> str:
    if typing.get_origin(kind) is list:
        return f"a list of {({int: 'integers', str: 'strings'}).get(typing.get_args(kind)[0], 'numbers')}"
    return {int: "an integer", float: "a number", bool: "a boolean", str: "text"}[kind]


def _remedy(item, value):
    if (known := fields.known(item, value)) is not None:
        return suggest(str(value), known)
    if typing.get_origin(item.type) is list:
        example = {int: "[0, 5]", str: "[cat, dog]"}.get(typing.get_args(item.type)[0], "[1.0, 0.5]")
        remedy = f"give {_named(item.type)}, like {example}"
    else:
        remedy = {bool: "give true or false", str: "put it in quotes"}.get(item.type) or f"give {_named(item.type)}"
    limits = fields.span(item)
    return remedy + (f" ({limits})" if limits else "")


def spelling(value) -> str:
    """The one canonical spelling of a value in a spec: 20 not 20.0, 0.1 not .1, 1e-5 not 0.00001, true not True."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        value = value or 0.0  # not -0.0
        mantissa, _, exponent = repr(value).partition("e")
        mantissa = mantissa.removesuffix(".0")
        return mantissa if not exponent else f"{mantissa}e{int(exponent)}"
    return str(value)


def reads(config) -> list[str]:
    """The specs of data sets that a transfer config reads (arbitrary transfer sets only; empty when data-free)."""
    named = [getattr(config, item.name) for item in dataclasses.fields(config) if item.metadata.get("reads") == "dataset"]
    return [name for name in named if name]
