"""The tree: files at the top are commands, folders are libraries, imports run down the layers and in no circle."""

import ast
import os
import subprocess
import sys

import pytest

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.pipeline import fingerprint

# From the top down: a module imports from its own layer and from those below it. "" = the files at the top, the commands.
LAYERS = (
    "", "reporting", "pipeline", "methods", "balancing", "training", "storage", "datasets", "schemas", "models", "procedural",
    "runtime",
)  # fmt: skip
WITHIN_METHODS = ("methods", "engines", "base")  # from the top down; the registry is read from anywhere
MODULES = sorted(
    ".".join(path.relative_to(fingerprint.HERE).with_suffix("").parts)
    for path in fingerprint.HERE.rglob("*.py")
    if path.name != "__init__.py"
)


def layer(module: str) -> str:
    return module.split(".")[0] if "." in module else ""


def layer_within_methods(module: str) -> str:
    return "base" if module == "methods.base" else "engines" if module.startswith("methods.engines.") else "methods"


def imported(module: str) -> list[str]:
    """The modules (no packages) that a module imports, at its top or in a function."""
    return sorted(set(fingerprint.imports_of(module)) & set(MODULES))


def test_the_graph_is_seen():
    assert {"pipeline.job", "training.loop"} <= set(imported("teacher")) and len(MODULES) > 80
    assert {module.split(".")[0] for module in MODULES if "." in module} == set(LAYERS[1:])


def test_every_file_at_the_top_is_a_command():
    for module in MODULES:
        tree = ast.parse(fingerprint._file(module).read_text())
        runs = any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body)
        assert runs or layer(module) != "", f"{module}.py is no command: it belongs into a folder"


def test_packages_are_empty():
    """Whatever stands in them is loaded, and hashed, with every module of the folder."""
    for path in fingerprint.HERE.glob("*/**/__init__.py"):
        assert path.read_text() == "", path


def test_imports_run_down():
    upwards = [
        f"{module} -> {one}"
        for module in MODULES
        for one in imported(module)
        if LAYERS.index(layer(one)) < LAYERS.index(layer(module))
    ]
    assert upwards == []


def test_imports_run_down_within_methods():
    place = {name: number for number, name in enumerate(WITHIN_METHODS)}
    inside = [module for module in MODULES if layer(module) == "methods" and module != "methods.registry"]
    upwards = [
        f"{module} -> {one}"
        for module in inside
        for one in imported(module)
        if one in inside and place[layer_within_methods(one)] < place[layer_within_methods(module)]
    ]
    assert upwards == []


def test_no_circle():
    done = set()

    def visit(module, path):
        assert module not in path, f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for one in imported(module):
                visit(one, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


def test_the_config_of_a_method_rests_on_no_other_method():
    """Else a default changed in one made the sets of the other stale."""
    own = {f"schemas.transfer.{module}" for module, _ in method_registry.REGISTRY.values()}
    assert own < set(MODULES)
    for module in MODULES:
        assert not own & set(imported(module)) or module.startswith("methods."), module
        if module.startswith("methods.") and own & set(imported(module)):
            assert own & set(imported(module)) == {f"schemas.transfer.{module.removeprefix('methods.')}"}


# ---------------------------------------------------------------------------------------------- what names say
FEELINGS = {"asked", "told", "shown", "wanted", "made", "found", "one", "own"}  # not what a thing is
FOLDERS = ("dfkd_steps", "workflow", "benchmarks", "docs", "examples")


def bound(tree: ast.AST):
    """Line and name of whatever gets a name in a module: variables, attributes, parameters, functions, classes, imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store(), id=name) | ast.Attribute(ctx=ast.Store(), attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((node.lineno, alias.asname) for alias in names if alias.asname)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


def test_names_say_what_a_thing_is():
    root = fingerprint.HERE.parent
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    paths.append(root / "workflow/rules/common.smk")  # plain Python
    assert len(paths) > 150
    wrong = [
        f"{path.relative_to(root)}:{line}: {name}"
        for path in paths
        for line, name in bound(ast.parse(path.read_text("utf-8")))
        if name.strip("_").rstrip("0123456789").lower() in FEELINGS
    ]
    assert wrong == []


# ---------------------------------------------------------------------------------------------- what starts in no time
HEAVY = {"torch", "torchvision", "timm"}  # seconds to import
IMPORTS = "import sys, " + ", ".join(f"dfkd_steps.{module}" for module in MODULES if layer(module) in ("pipeline", "schemas"))
SNAKEMAKE = """
import sys
from pathlib import Path

for line in Path("ROOT/workflow/Snakefile").read_text().splitlines():
    if line.startswith("from dfkd_steps"):
        exec(line)
from dfkd_steps.pipeline import keys

presets = {params.kind_of("transfer", name): name for name in params.names("transfer")}
assert sorted(presets) == params.kinds("transfer")
for name in {**presets, "dataset": "dataset+source=own"}.values():
    params.load("transfer", name)
    keys.recipe("synthesize", {"transfer": name})
    graph.sources(name)
estimate.summary(sweep.finals(sweep.read(sweep.EXPERIMENT)))
audit.to_remake("results", ["report/index.html"], [])
"""
COMMANDS = """
import sys
from dfkd_steps import cli, resolve

lists = ("methods", "views", "fields", "datasets", "teachers", "transfers", "balance", "students")
for command in (["spec", "fast-5"], ["audit"], ["table"], *(["list", what] for what in lists)):
    assert cli.main(command) == 0, command
sys.argv = ["resolve"]
assert resolve.main() == 0
"""


@pytest.mark.parametrize("program", [IMPORTS, SNAKEMAKE, COMMANDS], ids=["imports", "snakemake", "commands"])
def test_nothing_before_a_job_imports_torch(program, tmp_path):
    """Configs, keys and what the drivers do with them: every start of a driver, and of a job on a cluster, would wait for it."""
    root = fingerprint.HERE.parent
    (tmp_path / "params").symlink_to(root / "params")
    (tmp_path / "results").mkdir()
    program = f"{program.replace('ROOT', str(root))}\nprint(sorted({HEAVY} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout.endswith("[]\n"), done.stdout[-200:] + done.stderr
