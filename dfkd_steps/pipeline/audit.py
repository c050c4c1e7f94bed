"""Check whether every artefact matches its path, params/ and the current code.

    dfkd audit [-v] [PATH...]     folders, or artefacts and everything they are made from (default: results)

Each artefact carries the key it was made with: config, code and the keys of its inputs. Neither driver's bookkeeping
is used, so the audit also finds what the drivers miss: a value that was changed and changed back, files from
another checkout, files copied by hand. Prints one line per stale, damaged or foreign artefact, and then exits with 1.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

from ..runtime import disk
from ..runtime.commands import expanded
from ..runtime.errors import UserError, require_file
from ..storage import atomic, exported, network_metadata
from . import external, graph, keys, recorded, shards, spec

HISTORY = "history.csv"
REPORT_KEY = re.compile('<meta name="dfkd-key" content="([0-9a-f]+)"')
NETWORKS = ("teacher", "distill")
CLOCK_TOLERANCE = 60  # seconds that the clock of a file server may be ahead
OUTPUTS = {step.output for step in graph.STEPS.values()}


def outputs(path) -> list[Path]:
    """The files that appear with the artefact at ``path``: itself, and a network's history or what an export vouches for."""
    path = Path(path)
    step = graph.step_of(path)
    return [path, *([path.with_name(HISTORY)] if step in NETWORKS else exported.paths(path) if step == "export" else [])]


def fault(path) -> str | None:
    """Why an existing artefact is not current, or None where it is."""
    try:
        expected, step = keys.expected_key(str(path)), graph.step_of(path)
        if step in NETWORKS:
            content = network_metadata.read_metadata(path)
        else:
            content = atomic.read_json(path) if step == "export" else {"key": atomic.key_of(path)}
    except UserError as error:
        return str(error).splitlines()[0].removeprefix(f"{path}: ")
    if content.get("key") != expected:
        files = keys.recipe(graph.step_of(path), spec.of_path(path), path)["files"]
        gone = [f"; {name} is missing" for name, digest in files.items() if digest == external.MISSING]
        return f"was made with a different config, code or input{''.join(gone)}; make it again"
    if step == "export":
        return next(exported.faults(path, content, external.digest), None)
    history = outputs(path)[1:]
    if history and not history[0].is_file():
        return f"its {HISTORY} is missing; make it again"
    if history and hashlib.sha256(history[0].read_bytes()).hexdigest() != content.get("history_sha256"):
        return f"its {HISTORY} was changed or belongs to another network; make it again"
    return None


def differences(path) -> list[str]:
    """Each value, module, file and input in which the making of an artefact differs from how it would be made now."""
    try:
        old_recipe = recorded.provenance(path)
        now = keys.recipe(graph.step_of(path), spec.of_path(path), path)
        now |= {"inputs": {graph.name_of(source): keys.expected_key(str(source)) for source in graph.inputs_of(path)}}
    except UserError:
        return []  # its fault says so
    lines = []
    for part, say in SAY.items():
        old, new = old_recipe.get(part, {}), now[part]
        names = sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
        lines += [say(name, old.get(name), new.get(name)) for name in names]
    return lines


def _of_code(name, old, new) -> str:
    what = "changed" if old and new else "is used now" if new else "is no longer used"
    return f"code: {name.replace('.', '/')}.py {what}"


def _of_file(name, old, new) -> str:
    what = {None: "is no longer used", external.MISSING: "is missing"}.get(new, "has changed" if old else "is used now")
    return f"file: {name} {what}"


# One line for a difference: (name, value or hash when it was made, the one now); None = was or is not there.
SAY = {
    "config": lambda name, old, new: f"config: {name}: {json.dumps(old)} -> {json.dumps(new)}",
    "code": _of_code,
    "chosen": lambda name, old, new: f"code: registered for {name}: {old} -> {new}",
    "files": _of_file,
    "inputs": lambda name, old, new: f"input: {name} differs (key {str(old)[:8]} -> {str(new)[:8]})",
}


def to_make(targets, stale) -> set[str]:
    """Which of the targets, and of what they are made from, a driver makes: what is missing or stale. A file that is there and
    current needs none of its inputs, even where they are gone."""
    needed, todo = set(), list(map(str, targets))
    while todo:
        path = todo.pop()
        if path not in needed and (path in stale or not os.path.exists(path)):
            needed.add(path)
            todo += map(str, graph.inputs_of(path))
    return needed


def refuse_gone(paths):
    """Raise UserError where a file is gone that one of these artefacts is to be made from: a driver deletes what it makes again
    before the step can say so."""
    gone = [(name, path) for path in sorted(paths) for name in keys.gone(path)]
    if gone:
        raise UserError("\n".join(
            f"{name}: does not exist, but {path} is to be made from it; put it back, or correct its path in params/"
            for name, path in gone
        ))  # fmt: skip


def lineage(paths) -> list[str]:
    """The artefacts at ``paths`` and all they are made from, each after its inputs."""
    ordered = {}

    def visit(path):
        if path not in ordered:
            for source in graph.inputs_of(path):
                visit(str(source))
            ordered[path] = None

    for path in paths:
        visit(str(path))
    return list(ordered)


def walk(folder):
    """Every artefact in a folder, by path; other files, and what is kept hidden beside artefacts, are passed by.

    Symbolic links to folders are followed, since a data set's folder may lie on another disk.
    """
    for here, _, names in disk.walk(folder):
        for name in sorted(OUTPUTS.intersection(names)):
            try:
                graph.step_of(os.path.join(here, name))
            except UserError:
                continue
            yield os.path.join(here, name)


def stale(paths) -> dict[str, str]:
    """Path and fault of each artefact of ``paths`` that exists and is not current."""
    faults = {str(path): fault(path) for path in paths if os.path.lexists(path)}
    return {path: why for path, why in faults.items() if why}


def stale_shards(folder) -> dict[str, str]:
    """Path and fault of each shard in a folder of results that is none of its transfer set as that would be made now."""
    faults, output = {}, graph.STEPS["synthesize"].output
    for place in sorted(Path(folder).glob(f"*/*/*/{shards.FOLDER}")):
        out = place.with_name(output)
        try:
            key = keys.expected_key(str(out))
        except UserError:  # of a spec that params/ no longer knows
            continue
        stale = [shards.path_of(out, *which) for which in shards.beside(out) if not shards.is_made(out, key, *which)]
        faults |= {str(path): "is a shard made with a different config, code or input" for path in stale}
    return faults


def report_fault(page, metrics) -> str | None:
    """Why an existing report is not the one over these metrics, or None where it is."""
    require_file(page)
    match = REPORT_KEY.search(Path(page).read_text(errors="replace"))
    if not match:
        return "was not written by dfkd (no key); make it again"
    expected = keys.report_key({path: keys.expected_key(path) for path in metrics})
    return None if match[1] == expected else "was made from different metrics or code; make it again"


def to_remake(folder, report, metrics) -> tuple[dict[str, str], set[str]]:
    """What a driver that goes by modification times has to know of a folder and a report; changes no file.

    Path and reason of each file that is not current or is made from one that is not; and the current files that are newer
    than something current made from them: a driver, a copy or a download makes files in any order. ``report`` are the
    files of the report over ``metrics``, its page first. Raises UserError where a file may not be read, since it may be whole,
    or is dated in the future: Snakemake would refuse what is made from it, after the hours that it took.
    """
    order = list(graph.STEPS)
    paths = sorted(walk(folder), key=lambda path: order.index(graph.step_of(path)))
    _refuse_unreadable(paths)
    _refuse_future(paths)
    faults, newer = stale(paths), set()

    def compare(files, inputs):
        if remade := next((source for source in inputs if source in faults), None):
            faults.setdefault(files[0], f"is made from {remade}")
        elif files[0] not in faults:
            oldest = min(min(_times(file)) for file in files if os.path.exists(file))
            newer.update(source for source in inputs if os.path.exists(source) and max(_times(source)) > oldest)

    for path in paths:
        if path not in faults:  # of a spec that params/ no longer knows nobody can say what it was made from
            compare([path, *map(str, outputs(path)[1:])], list(map(str, graph.inputs_of(path))))
    faults |= stale_shards(folder)
    if os.path.exists(report[0]):
        if why := report_fault(report[0], metrics):
            faults[report[0]] = why
        compare(report, metrics)
    return faults, newer


def _times(path) -> list[float]:
    """Modification times of a file and, where it is a symbolic link, of the link."""
    return [os.stat(path).st_mtime, os.lstat(path).st_mtime]


def _refuse_unreadable(paths):
    faults = []
    for path in filter(os.path.isfile, paths):
        try:
            require_file(path)
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))


def _refuse_future(paths):
    dates = {path: max(_times(path)) for path in paths}
    late = {path: date for path, date in dates.items() if date > time.time() + CLOCK_TOLERANCE}
    if late:
        remedy = "correct the clock if it is wrong, then touch the file"
        raise UserError("\n".join(f"{path}: is dated {time.ctime(date)}, in the future; {remedy}" for path, date in late.items()))


def main(argv=None) -> int:
    """The command; returns the exit code: 0 = all current, 1 = some are not. Raises UserError for bad arguments."""
    parser = argparse.ArgumentParser(prog="dfkd audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", metavar="PATH", nargs="*", default=["results"], help="folders or artefacts (default: results)")
    parser.add_argument("-v", "--verbose", action="store_true", help="also print which value, module, file or input differs")
    given = parser.parse_args(expanded(sys.argv[1:] if argv is None else argv))
    artefacts = _artefacts(given.paths)
    faults = stale(artefacts)
    for path, why in faults.items():
        print(f"{path}: {why}")
        for line in differences(path) if given.verbose else []:
            print(f"  {line}")
    print(f"{len(artefacts) - len(faults)} artefacts are current, {len(faults)} are not", file=sys.stderr)
    return 1 if faults else 0


def _artefacts(paths) -> list[str]:
    artefacts = {}
    for path in paths:
        if os.path.isdir(path):
            inside = list(walk(path))
            if not inside and Path(path).name != "results":
                raise UserError(f"{path}: contains no artefact; give results or a path in it")
            artefacts.update(dict.fromkeys(inside))
        elif os.path.exists(path):
            artefacts.update(dict.fromkeys(artefact for artefact in lineage([path]) if os.path.exists(artefact)))
        else:
            raise UserError(f"{path}: no such file or folder; give results or a path in it")
    return list(artefacts)
