"""The resolved config behind a spec or a path, field by field; for `dfkd spec`."""

import dataclasses

from ..pipeline import estimate, graph, keys, params, spec
from ..runtime.errors import UserError, suggest
from ..schemas import fields
from . import config_reference
from .listing import table


def show(group: str | None, text: str):
    """Print the config of a spec of ``group`` (None = the one group that has its name), or of each spec of an artefact's path."""
    if "/" in text:
        step = graph.step_of(text)
        key, specs = keys.expected_key(text), spec.of_path(text)
        print(f"made by the step {step}; its key is {key}")
        if str(takes := estimate.of_path(text)):
            print(f"takes {takes}")
        root, steps = spec.root_of(text), [name for name, step in graph.STEPS.items() if step.depth <= len(specs)]
        artefacts = {graph.STEPS[name].group: graph.path_of(name, specs, root) for name in steps}
        for name, value in specs.items():
            print()
            show_config(name, value, artefacts[name])
        return
    if group is not None and group not in spec.GROUPS:
        raise UserError(f"group: {group!r} is unknown; known: {', '.join(spec.GROUPS)}")
    show_config(group or find_group(text), text)


def find_group(text: str) -> str:
    """The one group that has a file of this name."""
    name = spec.parse("spec", text).name
    groups = [group for group in spec.GROUPS if name in params.names(group)]
    if len(groups) == 1:
        return groups[0]
    if groups:
        raise UserError(f"spec: {name!r} exists in {', '.join(groups)}; write dfkd spec {groups[0]} {text}")
    known = sorted({known for group in spec.GROUPS for known in params.names(group)})
    raise UserError(f"spec: no file params/*/{name}.yaml; {suggest(name, known)} (dfkd list)")


def show_config(group: str, text: str, path=None):
    """Print the fields of a spec's resolved config, and what its job takes: to make the artefact at ``path``; else for a set and
    images of which no more is known than the config says."""
    config, origins = params.load(group, text), params.origins(group, text)
    rows = []
    for item in dataclasses.fields(config):
        allowed, choices = fields.span(item), fields.choices(item)
        if choices and len(allowed) > 40:
            allowed = f"one of {len(choices)}"
        kind, value = config_reference.type_name(item.type), config_reference.yaml_text(getattr(config, item.name))
        rows.append((item.name, kind, value, origins[item.name], allowed, item.metadata["doc"]))
    if path:
        task, takes = estimate.task_of(path), estimate.of_path(path)
    else:
        task = estimate.declared(config) if group == "dataset" else estimate.CIFAR
        takes = estimate.of_config(group, config, task)
    if fault := estimate.excess(takes):
        raise UserError(f"{group} {text!r}: {fault}")
    print(f"{group}: {text}")
    if str(takes):
        # Of a set of unknown size an epoch is one step.
        least = "at least " if takes.steps and not path and group in ("teacher", "student") else ""
        print(f"takes {least}{takes}, for images of {'x'.join(map(str, task.image_shape))} and {task.classes} classes")
    table(rows, ("KEY", "TYPE", "VALUE", "FROM", "ALLOWED", "MEANING"))
