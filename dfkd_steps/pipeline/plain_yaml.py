"""YAML files of plain values: numbers, words and lists of them, each read as a person reads it."""

import re
from pathlib import Path

import yaml

from ..runtime.errors import UserError, one_line

MAX_FILE_BYTES, MAX_DEPTH = 1 << 16, 8


def read_mapping(path, limit: int = MAX_FILE_BYTES) -> dict:
    """The content of a YAML file of plain values; raises UserError that lists what is not plain, with its line."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is not a regular file' if path.exists() else 'no such file'}; give a YAML file")
    try:
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise UserError(f"{path}: is larger than {limit} bytes, so it is not a config; write lines like 'key: value'")
        faults, content = _parse(raw.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; fix its permissions") from None
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = one_line(str(error).replace('in "<unicode string>", ', ""), 200)
        raise UserError(f"{path}: is not readable YAML: {why}; fix the file") from None
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))
    return content


def _parse(text):
    """Faults and content of a YAML text. Plain values only: what looks like one value and is read as another is a fault."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:  # PyYAML takes minutes for a few thousand brackets
            return [f"line {event.start_mark.line + 1}: is nested too deeply; a value is a number, a word or a list of them"], {}
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            return [f"line {event.start_mark.line + 1}: holds an anchor, alias or tag (&, * or !); write the value out"], {}
    root, faults = yaml.compose(text, yaml.SafeLoader), []
    if not isinstance(root, yaml.MappingNode):
        return ["is not a mapping of keys to values; write lines like 'key: value'"], {}
    keys = [node.value for node, _ in root.value]
    for number, (node, value) in enumerate(root.value):
        line = f"line {node.start_mark.line + 1}"
        if node.tag != "tag:yaml.org,2002:str":
            key = quoted(node.value) if isinstance(node, yaml.ScalarNode) else "that is a list"
            faults.append(f"{line}: the key {key} is not a name; write lines like 'key: value'")
        elif node.value in keys[:number]:
            faults.append(f"{line}: {named(node.value)} is given twice; give it once")
        for entry in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if isinstance(entry, yaml.ScalarNode) and (fault := _misread(entry)):
                faults.append(f"{line}: {named(node.value)}: {quoted(entry.value)} {fault}")
    return faults, {} if faults else yaml.safe_load(text)


def _misread(node) -> str | None:
    """Why a scalar would not be read as a person reads it, with the remedy."""
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if (kind == "int" and not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", node.value)) or (kind == "float" and ":" in node.value):
        return "would be parsed as octal, hexadecimal or base 60; write a plain decimal number"
    if kind == "bool" and node.value not in ("true", "false"):
        return "would be parsed as a boolean; write true or false, or put text in quotes"
    return "is an interpolation; write the value itself" if kind == "str" and "${" in node.value else None


def quoted(value) -> str:
    """A value or key as it may stand in a message: one line, not too long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def named(key) -> str:
    return key if re.fullmatch(r"[\w.-]{1,60}", key) else quoted(key)
