"""The fingerprint of a step's code: what changes it, what does not, and which modules it covers."""

import importlib
import shutil
from pathlib import Path

import pytest

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models import registry as model_registry
from dfkd_steps.pipeline import fingerprint, graph, keys

PACKAGE = Path(fingerprint.__file__).parent
STEPS = [*graph.STEPS, "report"]


def forget():
    for cached in (fingerprint._tree, fingerprint.modules, fingerprint.fingerprint):
        cached.cache_clear()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package that the fingerprint is taken of: a function (module, change of its text) -> None."""
    here = tmp_path / "dfkd_steps"
    shutil.copytree(PACKAGE, here, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "HERE", here)
    forget()

    def edit(module, change):
        path = here.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        before = path.read_text() if path.exists() else ""
        path.parent.mkdir(exist_ok=True)
        path.write_text(change(before))
        assert path.read_text() != before
        forget()

    yield edit
    forget()


def append(text):
    return lambda before: before + text


def prints(*roots_of_each):
    return {roots: fingerprint.fingerprint(*roots) for roots in roots_of_each}


SYNTHESIZE = {name: ("synthesize", method_registry.module_of(name)) for name in method_registry.REGISTRY}


def test_comments_docstrings_and_layout_count_for_nothing(copy):
    before = prints(*((step,) for step in STEPS), *SYNTHESIZE.values())
    for module in ("synthesize", "transfer_set", "runtime", "methods.zskd", "networks"):
        copy(module, lambda text: "# a comment\n\n\n" + text.replace('"""', '"""Changed. ', 1) + "\n\n# the end\n")
        copy(module, lambda text: text.replace("\ndef ", "\n\n\n# another comment\ndef  "))
    assert prints(*before) == before


def test_a_changed_constant_counts(copy):
    before = fingerprint.fingerprint("synthesize")
    copy("transfer_set", lambda text: text.replace("* 255)", "* 254)"))
    assert fingerprint.fingerprint("synthesize") != before


def test_a_method_counts_for_itself_alone(copy):
    before = prints(*SYNTHESIZE.values())
    copy("methods.zskd", append("\nSOMETHING = 1\n"))
    after = prints(*SYNTHESIZE.values())
    assert [name for name, roots in SYNTHESIZE.items() if after[roots] != before[roots]] == ["zskd"]
    copy("methods.base", append("\nSOMETHING = 1\n"))
    assert all(fingerprint.fingerprint(*roots) != after[roots] for roots in SYNTHESIZE.values())


def test_an_architecture_counts_for_itself_alone(copy):
    lenet, resnet = ("teacher", model_registry.module_of("lenet5")), ("teacher", model_registry.module_of("resnet20"))
    before = prints(lenet, resnet)
    copy(model_registry.module_of("resnet20"), append("\nSOMETHING = 1\n"))
    after = prints(lenet, resnet)
    assert after[lenet] == before[lenet] and after[resnet] != before[resnet]


def test_neutral_modules_count_for_nothing(copy):
    before = prints(*((step,) for step in STEPS), *SYNTHESIZE.values())
    for module in fingerprint.NEUTRAL:
        assert fingerprint._file(module), module
        copy(module, append("\nSOMETHING = 1\n"))
    assert prints(*before) == before


def test_all_forms_of_import_are_followed(copy):
    for name in ("one", "two", "three", "four", "five", "package.inner"):
        copy(name, lambda text: f"{text}\nVALUE = 1\n")
    copy("package", lambda text: text + "from . import inner\n")
    early = "from . import one, errors\nfrom .two import VALUE\nimport dfkd_steps.three\nimport os.path\n"
    late = (
        "\ndef late():\n    from dfkd_steps import four\n    from .package import inner\n    from dfkd_steps.five import VALUE\n"
    )
    copy("root", lambda text: early + late)
    assert fingerprint.modules("root") == ("five", "four", "one", "package", "package.inner", "root", "three", "two")
    copy(
        "package.inner",
        lambda text: text + "from .. import six\nfrom ..seven import VALUE\nfrom . import beside\nfrom .beside import VALUE\n",
    )
    for name in ("six", "seven", "package.beside"):
        copy(name, lambda text: f"{text}\nVALUE = 1\n")
    assert {"six", "seven", "package.beside"} <= set(fingerprint.modules("root"))


def test_a_package_counts_when_a_module_in_it_is_imported(copy):
    copy("package.inner", lambda text: "VALUE = 1\n")
    copy("package", lambda text: "VALUE = 1\n")
    copy("root", lambda text: "from .package.inner import VALUE\n")
    assert fingerprint.modules("root") == ("package", "package.inner", "root")


def test_circles_end(copy):
    copy("one", lambda text: "from . import two\n")
    copy("two", lambda text: "from . import one\n")
    assert fingerprint.modules("one") == ("one", "two")


def test_strings_that_are_no_docstrings_count(copy):
    copy("root", lambda text: 'VALUE = "a"\n')
    before = fingerprint.fingerprint("root")
    copy("root", lambda text: 'VALUE = "b"\n')
    assert fingerprint.fingerprint("root") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = 1", "x = 1.0"), ("x = None", "x = []"), ("x = ''", "x = None"), ("x = 0", "x = False"), ("x = b'a'", "x = 'a'"),
     ("f(a)", "f(*a)"), ("f(a=1)", "f(b=1)"), ("def f(a): return a", "def f(a): return"),
     ("x = a[1:]", "x = a[:1]"), ("x = {**a}", "x = {None: a}"),
     ("def f(*, a): pass", "def f(a): pass"), ("x = f'{a}'", "x = f'{a!r}'")],
)  # fmt: skip
def test_different_code_differs(copy, one, other):
    copy("root", lambda text: one)
    before = fingerprint.fingerprint("root")
    copy("root", lambda text: other)
    assert fingerprint.fingerprint("root") != before


def test_what_each_step_rests_on():
    rests = {step: set(fingerprint.modules(step)) for step in STEPS}
    assert all(step in rests[step] for step in STEPS)
    assert all("runtime" in rests[step] for step in graph.STEPS)
    assert {"networks", "data", "transfer_set", "journal"} <= rests["synthesize"]
    assert {"networks", "data", "training"} <= rests["teacher"]
    assert {"networks", "transfer_set", "training", "losses", "augment"} <= rests["distill"]
    assert {"networks", "data"} <= rests["evaluate"] and "data" in rests["dataset"]
    assert not any(module.startswith(("methods", "models")) for step in graph.STEPS for module in rests[step])
    assert "synthesize" not in rests["teacher"] | rests["distill"] | rests["evaluate"]
    assert {"methods.base", "methods.zskd", "losses"} <= set(fingerprint.modules("synthesize", "methods.zskd"))


def test_registered_modules_exist_and_are_found_by_spec():
    for path in method_registry.REGISTRY.values():
        assert importlib.util.find_spec(path) and fingerprint._file(path.split(".", 1)[1])
    for name in model_registry.REGISTRY:
        assert fingerprint._file(model_registry.module_of(name)), name


def test_the_code_of_a_spec(monkeypatch):
    monkeypatch.chdir(PACKAGE.parent)
    zskd, noise = (keys.code_of("synthesize", {"transfer": name}) for name in ("zskd", "noise"))
    assert zskd != noise and zskd == keys.code_of("synthesize", {"transfer": "zskd+seed=1"})
    assert keys.code_of("evaluate", {}) == fingerprint.fingerprint("evaluate")


def test_the_arguments_of_an_architecture_are_code_too(monkeypatch):
    monkeypatch.chdir(PACKAGE.parent)
    before = keys.code_of("teacher", {"teacher": "lenet5"})
    monkeypatch.setitem(model_registry.REGISTRY, "lenet5", ("lenet", {"width": 0.25}))
    keys.group_code.cache_clear()
    assert keys.code_of("teacher", {"teacher": "lenet5"}) != before
    keys.group_code.cache_clear()
