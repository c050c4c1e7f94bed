"""The tree: files at the top are commands, folders are libraries, imports run down the layers and in no circle."""

import ast
import subprocess
import sys

import pytest

from dfkd_steps.pipeline import fingerprint

# From the top down: a module imports from its own layer and from those below it. "" = the files at the top, the commands.
LAYERS = (
    "", "reporting", "pipeline", "methods", "training", "storage", "datasets", "schemas", "models", "procedural", "runtime",
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


@pytest.mark.parametrize("folder", ["pipeline", "schemas"])
def test_config_and_keys_need_no_torch(folder):
    """It takes seconds to import; also what these modules import may not need it."""
    names = ", ".join(f"dfkd_steps.{module}" for module in MODULES if layer(module) == folder)
    program = f"import sys, {names}; print(sorted({{'torch', 'torchvision', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=fingerprint.HERE.parent)
    assert done.stdout == "[]\n", done.stderr
