"""The fingerprint of a step's code: which edits make which artefacts stale."""

import json
import shutil
import subprocess
import sys

import pytest

from dfkd_steps.methods import registry as method_registry
from dfkd_steps.models import registry as model_registry
from dfkd_steps.pipeline import fingerprint, graph, keys, params, remembered
from dfkd_steps.runtime.errors import UserError

PACKAGE = fingerprint.HERE
STEPS = [*graph.STEPS, "report"]
# Specs by a short name: what the table of staleness is about. Their YAML files are written here, each as small as can be.
SPECS = {
    "data": ("dataset", "source: mnist-5k"),
    "maps": ("dataset", "source: drawn-shapes"),
    "trained": ("teacher", "kind: train\narch: lenet5"),
    "imported": ("teacher", "kind: import\narch: resnet20\ncheckpoint: none.pth"),
    "library": ("teacher", "kind: library\nname: resnet18"),
    "noise": ("synthesize", "method: noise"),
    "strokes": ("synthesize", "method: procedural\nkind: strokes"),
    "glyphs": ("synthesize", "method: procedural\nkind: glyphs"),
    "zskd": ("synthesize", "method: zskd"),
    "zskd-glyphs": ("synthesize", "method: zskd\nstart: glyphs"),
    "deepinversion": ("synthesize", "method: deepinversion"),
    "adi": ("synthesize", "method: adi\nstudent: lenet5-half"),
    "ssd-kd": ("synthesize", "method: ssd-kd\nstudent: lenet5-half"),
    "dfq": ("synthesize", "method: dfq\nstudent: lenet5-half"),
    "real": ("synthesize", "method: dataset\nsource: data"),
    "balanced": ("balance", "mode: equal"),
    "student": ("distill", "arch: lenet5-half"),
    "metrics": ("evaluate", None),
}
SETS = {name for name, (step, _) in SPECS.items() if step == "synthesize"}
TRAINING_SETS = {"zskd", "zskd-glyphs", "deepinversion", "adi", "ssd-kd", "dfq"}  # those that optimise something
TEACHERS = {"trained", "imported", "library"}
# Edited module -> what becomes stale by it alone (what is made from that follows by its inputs' keys).
STALE = {
    "training.views": {*TRAINING_SETS, "balanced", "student"},
    "training.augment": {*TRAINING_SETS, "balanced", "student", *TEACHERS},
    "models.generator_architectures": {"ssd-kd", "dfq", "student"},
    "models.fused_convolutions": {"adi", "ssd-kd", "dfq", "student"},
    "models.cast": {"zskd", "zskd-glyphs", "deepinversion", "adi", "ssd-kd", "dfq", "student"},
    "reporting.metrics": set(),
    "training.losses": {"deepinversion", "adi", "ssd-kd", "dfq", "student"},
    "training.student_losses": {"adi", "ssd-kd", "dfq", "student"},
    "methods.engines.model_inversion": {"adi", "ssd-kd"},
    "methods.engines.generator_inversion": {"ssd-kd"},
    "methods.engines.image_losses": {"deepinversion", "adi", "ssd-kd", "dfq"},
    "training.probes": {"metrics"},
    "training.metrics": {"metrics"},
    "procedural.glyphs": {"glyphs", "zskd-glyphs", "metrics"},
    "procedural.strokes": {"strokes", "metrics"},
    "procedural.noise": {"noise", "zskd", "metrics"},
    "methods.zskd": {"zskd", "zskd-glyphs"},
    "schemas.transfer.zskd": {"zskd", "zskd-glyphs"},
    "schemas.transfer.ssd_kd": {"ssd-kd"},
    "schemas.transfer.options.soft_targets": {"zskd", "zskd-glyphs"},
    "schemas.transfer.options.model_inversion": {"adi", "ssd-kd"},
    "schemas.transfer.options.alternating": {"dfq"},
    "schemas.transfer.base": SETS,
    "methods.noise": {"noise"},
    "methods.dataset": {"real"},
    "methods.ssd_kd": {"ssd-kd"},
    "methods.base": SETS,
    "models.lenet": {"trained", "adi", "ssd-kd", "dfq", "student"},
    "models.resnet_cifar": {"imported"},
    "models.pretrained": {"imported", "library"},
    "models.library": {"imported", "library"},
    "models.classifier": {*SPECS} - {"data", "maps"},
    "datasets.readers": {"data", "maps"},
    "datasets.card": {"data", "maps"},
    "datasets.label_maps": {"maps"},
    "training.segmentation_metrics": {"metrics"},
    "balance": {"balanced"},
    "balancing.selection": {"balanced"},
    "balancing.resampling": {"balanced"},
    "teacher": TEACHERS,
    "storage.checkpoint": set(),
    "storage.atomic": set(),
    "pipeline.keys": set(),
    "schemas.choices": set(),
    "schemas.student": set(),
    "schemas.groups": set(),
    "schemas.student_losses": set(),
    "runtime.factory": {"imported", "library", "adi", "ssd-kd", "dfq", "student"},
    "runtime.errors": set(),
    "runtime.event_files": set(),
    "runtime.progress": set(),
    "runtime.gpu": set(),
}


def forget():
    for cached in (
        fingerprint.imports_of,
        fingerprint.modules,
        fingerprint._read,
        keys._recipe,
        params._load,
        params._layers,
    ):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache folder for all tests here, and not the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


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


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """A function that gives the recipe of every spec of ``SPECS``, by name."""
    monkeypatch.chdir(tmp_path)
    for name, (step, content) in SPECS.items():
        if group := graph.STEPS[step].group:
            path = tmp_path / f"params/{group}/{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return lambda: {name: keys.recipe(step, {graph.STEPS[step].group: name}) for name, (step, _) in SPECS.items()}


UNEDITED = {}


def unedited(recipes):
    """The recipes before any edit: the same for every copy, so found once."""
    return UNEDITED or UNEDITED.update(recipes()) or UNEDITED


def stale(before, after) -> set[str]:
    """The names whose recipes differ."""
    return {name for name in before if before[name] != after[name]}


def append(text):
    return lambda before: before + text


def prints(*roots_of_each):
    return {roots: fingerprint.hashes(*roots) for roots in roots_of_each}


SYNTHESIZE = {name: ("synthesize", method_registry.module_of(name)) for name in method_registry.REGISTRY}


def test_comments_docstrings_and_layout_count_for_nothing(copy):
    before = prints(*((step,) for step in STEPS), *SYNTHESIZE.values())
    for module in ("synthesize", "storage.transfer_set", "runtime.device", "methods.zskd", "storage.network_file"):
        copy(module, lambda text: "# a comment\n\n\n" + text.replace('"""', '"""Changed. ', 1) + "\n\n# the end\n")
        copy(module, lambda text: text.replace("\ndef ", "\n\n\n# another comment\ndef  "))
    assert prints(*before) == before


def test_a_changed_constant_counts(copy):
    before = fingerprint.hashes("synthesize")
    copy("storage.image_format", lambda text: text.replace("255", "254"))
    assert fingerprint.hashes("synthesize") != before


@pytest.mark.parametrize("module", STALE)
def test_what_an_edit_makes_stale(copy, recipes, module):
    before = unedited(recipes)
    assert fingerprint._file(module)
    copy(module, append("\nSOMETHING = 1\n"))
    assert stale(before, recipes()) == STALE[module]


def test_a_new_view_leaves_teachers_alone(copy, recipes):
    before = unedited(recipes)
    copy("training.views", lambda text: text.replace("VIEWS = {", 'VIEWS = {\n    "new": lambda images, rng: images,'))
    assert stale(before, recipes()).isdisjoint(TEACHERS | {"data", "metrics", "noise", "glyphs"})


@pytest.mark.parametrize("module", ["models.registry", "methods.registry", "procedural.registry"])
def test_a_new_entry_of_a_registry_makes_nothing_stale_and_its_functions_count(copy, recipes, module):
    before = unedited(recipes)
    copy(module, lambda text: text.replace("REGISTRY = {", 'REGISTRY = {\n    "new": ("new", {}),'))
    assert stale(before, recipes()) == set()
    copy(module, append("\nSOMETHING = 1\n"))
    assert stale(before, recipes()) >= {"models.registry": TEACHERS | {"student"}}.get(module, {"zskd", "noise"})


# ------------------------------------------------------------------------------------- what is remembered
def test_what_is_remembered_is_what_is_read(monkeypatch):
    everything = sorted({root for roots in SYNTHESIZE.values() for root in roots} | {*STEPS})
    forget()
    fingerprint.hashes(*everything)
    remembered.entries.cache_clear()
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_tree", lambda source: pytest.fail("was not remembered"))
        known = fingerprint.hashes(*everything)
    forget()
    fingerprint._reader.cache_clear()
    monkeypatch.setitem(fingerprint.AT_START, fingerprint.__file__, 0)  # this code is no longer that of its file
    assert fingerprint._reader() == b"" and fingerprint.hashes(*everything) == known
    fingerprint._reader.cache_clear()
    forget()


def test_equal_files_in_two_places_are_two_modules(copy):
    for name in ("one", "package.one"):
        copy(name, lambda text: "from . import two\n")
    for name in ("two", "package.two", "package"):
        copy(name, lambda text: "VALUE = 1\n")
    assert fingerprint.imports_of("one") == {"two"}
    assert fingerprint.imports_of("package.one") == {"package", "package.two"}


def test_old_entries_go(copy, monkeypatch):
    monkeypatch.setattr(fingerprint, "MOST", 3)
    monkeypatch.setattr(fingerprint, "REMEMBERED", "few")
    for number in range(5):
        copy("one", lambda text, number=number: f"VALUE = {number}\n")
        fingerprint.hashes("one")
    assert len(remembered.entries("few")) == len(json.loads(remembered.path_of("few").read_text())) == 3


def test_neutral_modules_exist():
    for module in fingerprint.NEUTRAL:
        assert fingerprint._file(module) or fingerprint.HERE.joinpath(module).is_dir(), module


def test_all_forms_of_import_are_followed(copy):
    for name in ("one", "two", "three", "four", "five", "package.inner"):
        copy(name, lambda text: f"{text}\nVALUE = 1\n")
    copy("package", lambda text: text + "from . import inner\n")
    early = "from . import one\nfrom .two import VALUE\nimport dfkd_steps.three\nimport os.path\n"
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
    before = fingerprint.hashes("root")
    copy("root", lambda text: 'VALUE = "b"\n')
    assert fingerprint.hashes("root") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = 1", "x = 1.0"), ("x = None", "x = []"), ("x = ''", "x = None"), ("x = 0", "x = False"), ("x = b'a'", "x = 'a'"),
     ("f(a)", "f(*a)"), ("f(a=1)", "f(b=1)"), ("def f(a): return a", "def f(a): return"),
     ("x = a[1:]", "x = a[:1]"), ("x = {**a}", "x = {None: a}"),
     ("def f(*, a): pass", "def f(a): pass"), ("x = f'{a}'", "x = f'{a!r}'")],
)  # fmt: skip
def test_different_code_differs(copy, one, other):
    copy("root", lambda text: one)
    before = fingerprint.hashes("root")
    copy("root", lambda text: other)
    assert fingerprint.hashes("root") != before


def test_registered_modules_exist():
    for name in method_registry.REGISTRY:
        assert fingerprint._file(method_registry.module_of(name)), name
    for name in model_registry.REGISTRY:
        assert fingerprint._file(model_registry.module_of(name)), name


def test_no_step_rests_on_another():
    for step in graph.STEPS:
        assert {*graph.STEPS} & {*fingerprint.modules(step)} == {step}
        assert not any(module.startswith(("methods.zskd", "models.lenet")) for module in fingerprint.modules(step))


def test_the_entry_of_a_registry_is_in_the_recipe(recipes, monkeypatch):
    before = recipes()
    monkeypatch.setitem(model_registry.REGISTRY, "lenet5", ("lenet", {"width": 0.25}))
    forget()
    assert stale(before, recipes()) == {"trained"}
    forget()


# ------------------------------------------------------------------------------------- code that changes under way
def test_code_that_was_changed_since_the_start_is_refused(monkeypatch):
    path = str(fingerprint.HERE / "training/loop.py")
    fingerprint.refuse_changed(fingerprint.modules("distill"))
    monkeypatch.setitem(fingerprint.AT_START, path, 0)
    with pytest.raises(UserError, match=r"loop\.py: was changed while this step started; run it again"):
        fingerprint.refuse_changed(fingerprint.modules("distill"))
    fingerprint.refuse_changed(fingerprint.modules("dataset"))


def test_a_step_whose_code_is_changed_while_it_starts_ends(tmp_path):
    """The module is edited between its import and the fingerprint: code and key would part."""
    shutil.copytree(PACKAGE, tmp_path / "dfkd_steps", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "params", tmp_path / "params")
    program = """
import os, runpy, sys
import dfkd_steps.storage.hdf5 as loaded
with open(loaded.__file__, "a") as file:
    file.write("\\nSOMETHING = 1\\n")
os.utime(loaded.__file__)
sys.argv = ["dataset", "results/mnist-5k/dataset.h5"]
runpy.run_module("dfkd_steps.dataset", run_name="__main__")
"""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "DFKD_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "hdf5.py: was changed while this step started; run it again" in done.stderr
    assert not list(tmp_path.glob("results/**/*.h5"))
