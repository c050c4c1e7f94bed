"""A spec's resolved config: the dataclass of its kind, overridden by its YAML file, overridden by the spec.

Dataclasses are closed (an unknown key is an error), typed and ranged. Each group but ``student`` has a key that says
of which kind it is; the kind names the dataclass. A method's dataclass stands in the method's own file.
"""

import dataclasses
import difflib
import functools
import json
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from . import fields, groups, methods, spec
from .errors import UserError

PARAMS = Path("params")
KIND_KEY = {"dataset": "source", "teacher": "kind", "transfer": "method", "balance": "mode"}


def kinds(group: str) -> list[str]:
    """The known kinds of a group, sorted."""
    return sorted(methods.REGISTRY) if group == "transfer" else sorted(groups.KINDS[group])


def schema(group: str, kind: str | None = None) -> type:
    """The dataclass of a group's kind."""
    if group == "transfer":
        return methods.load(kind).Config
    return groups.KINDS[group][kind or ""]


def load(group: str, text: str, params: Path = PARAMS):
    """The typed config of a spec; raises UserError that lists every bad key with its place, value and remedy."""
    return _load(group, text, str(params))


def canonical(group: str, text: str, params: Path = PARAMS) -> str:
    """The resolved config as one line of JSON: equal if and only if the experiment is equal."""
    return _canonical(group, text, str(params))


@functools.lru_cache(maxsize=None)
def _canonical(group, text, params):
    return json.dumps(dataclasses.asdict(_load(group, text, params)), sort_keys=True)


@functools.lru_cache(maxsize=None)
def _read(group, name, params):
    path = Path(params) / group / f"{name}.yaml"
    if not path.is_file():
        have = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UserError(f"{group}: no file {path}; {_suggest(name, have)}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is not readable YAML: {_one_line(error)}; mend the file") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path}: holds no mapping of names to values; write lines like 'key: value'")
    return path, content


@functools.lru_cache(maxsize=None)
def _load(group, text, params):
    parsed = spec.parse(group, text)
    path, content = _read(group, parsed.name, params)
    cls = _class(group, path, content, dict(parsed.overrides))
    known = {item.name: item for item in dataclasses.fields(cls)}
    config, faults = OmegaConf.structured(cls), []
    for key, value in content.items():
        _set(config, known, key, value, str(path), faults)
    for key, value in parsed.overrides:
        where = f"{group} {text!r}"
        before = len(faults)
        if key in known and OmegaConf.is_list(config[key]):
            faults.append(f"{where}: {key} is a list, which a spec cannot spell; set it in a file params/{group}/NAME.yaml")
        else:
            _set(config, known, key, value, where, faults)
        if len(faults) == before and (right := spelling(config[key])) != value:
            faults.append(f"{where}: write {key}={right}, not {key}={value} (one spelling for one experiment)")
    for key in known:
        if OmegaConf.is_missing(config, key):
            faults.append(f"{path}: {key} is missing ({known[key].metadata['doc']}); add a line '{key}: ...'")
    if not faults:
        made = OmegaConf.to_object(config)
        check = getattr(made, "check", None)
        problem = check() if check else None
        if problem is None:
            return made
        faults.append(f"{group} {text!r}: {problem}")
    raise UserError("\n".join(faults))


def _class(group, path, content, overrides):
    key = KIND_KEY.get(group)
    if key is None:
        return schema(group)
    if key in overrides:
        raise UserError(f"{group}: {key} cannot be overridden in a spec; write a file params/{group}/NAME.yaml with its own {key}")
    if key not in content:
        raise UserError(f"{path}: {key} is missing; add a line '{key}: ...', one of {', '.join(kinds(group))}")
    if content[key] not in kinds(group):
        raise UserError(f"{path}: {key}: {content[key]!r} is unknown; {_suggest(str(content[key]), kinds(group))}")
    return schema(group, content[key])


def _set(config, known, key, value, where, faults):
    if key not in known:
        faults.append(f"{where}: {key}: unknown key; {_suggest(key, sorted(known))}")
        return
    kind = getattr(known[key].type, "__name__", str(known[key].type))
    if isinstance(value, str) and kind in ("float", "int"):
        value = value.strip()
    try:
        if value is None or (kind == "str" and not isinstance(value, (str, int, float))):
            raise ValueError
        OmegaConf.update(config, key, value)
        problem = fields.fault(known[key], OmegaConf.to_container(config)[key])
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError):
        faults.append(f"{where}: {key}: {value!r} is no {kind}; give {_wanted(known[key], kind)}")
        return
    if problem:
        faults.append(f"{where}: {key}: {value!r} {problem}")


def _wanted(item, kind):
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a name"}
    limits = fields.span(item)
    return names.get(kind, f"a value of type {kind}") + (f" ({limits})" if limits else "")


def spelling(value) -> str:
    """The one canonical spelling of a value in a spec: 20 not 20.0, 0.1 not .1, 1e-5 not 0.00001, true not True."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, _, exponent = repr(value).partition("e")
        mantissa = mantissa.removesuffix(".0")
        return mantissa if not exponent else f"{mantissa}e{int(exponent)}"
    return str(value)


def _suggest(name, have):
    if not have:
        return "there is none yet"
    close = difflib.get_close_matches(name, have, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(have)}"


def _one_line(error):
    return " ".join(str(error).split())[:200]


def reads(config) -> list[str]:
    """The specs of data sets that a transfer config reads (arbitrary transfer sets only; empty when data-free)."""
    return [getattr(config, item.name) for item in dataclasses.fields(config) if item.metadata.get("reads") == "dataset"]
