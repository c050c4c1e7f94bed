"""The resolved config: each fault is one line with place, value and remedy, all faults of a file at once."""

import dataclasses

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfkd_steps.pipeline import params as config
from dfkd_steps.runtime.errors import UserError

TEACHER = {"kind": "train", "arch": "lenet5"}


@pytest.fixture
def write(tmp_path):
    """A function that writes a file of a group and returns (group, name, folder) for config.load."""
    numbers = iter(range(10**6))

    def writer(content, group="teacher"):
        name = f"a{next(numbers)}"
        (tmp_path / group).mkdir(exist_ok=True)
        raw = (
            content if isinstance(content, bytes) else (content if isinstance(content, str) else yaml.safe_dump(content)).encode()
        )
        (tmp_path / group / f"{name}.yaml").write_bytes(raw)
        return group, name, tmp_path

    return writer


def faults(group, text, params) -> list[str]:
    with pytest.raises(UserError) as caught:
        config.load(group, text, params)
    lines = str(caught.value).split("\n")
    assert all(line.strip() and len(line) < 700 for line in lines)
    return lines


def test_defaults_yaml_spec_in_this_order(write):
    group, name, params = write({**TEACHER, "epochs": 3, "lr": 0.5})
    made = config.load(group, f"{name}+epochs=4", params)
    assert (made.batch, made.lr, made.epochs) == (128, 0.5, 4)
    origins = config.origins(group, f"{name}+epochs=4", params)
    assert (origins["batch"], origins["lr"], origins["epochs"]) == ("default", "YAML", "spec")


def test_numbers_as_yaml_1_1_mistakes_them(write):
    made = config.load(*write("kind: train\narch: lenet5\nlr: 1e-3\nclip: 2\nepochs: 1_000\n"))
    assert (made.lr, made.clip, made.epochs) == (0.001, 2.0, 1000)
    assert isinstance(made.clip, float)


def test_canonical_is_equal_for_equal_experiments(write):
    group, one, params = write({**TEACHER, "lr": 0.1, "epochs": 20})
    _, other, _ = write({"arch": "lenet5", "kind": "train"})
    assert config.load(group, one, params) == config.load(group, other, params)
    assert config.load(group, f"{one}+seed=1", params) != config.load(group, other, params)


WRONG = {
    "lr: abc": "'abc' is not a number",
    "lr: true": "true|True is not a number",
    "lr: .nan": "nan is not a finite number",
    "lr: inf": "'inf' is not a finite number",
    "lr: -.inf": "-inf is not a finite number",
    "lr: [1.0]": "is not a number",
    "lr: {a: 1}": "is not a number",
    "lr:": "None is not a number",
    "lr: ???": "is not a number",
    "lr: 2020-01-01": "is not a number",
    "lr: 0": "must be above 0",
    "lr: 101": "is above 100, the maximum",
    "lr: 1:30.5": "base 60",
    "epochs: 1.0": "1.0 is not an integer",
    "epochs: 1e2": "'1e2' is not an integer",
    "epochs: true": "is not an integer",
    "epochs: '1_000'": "is not an integer",
    "epochs: 010": "octal",
    "epochs: 0x10": "hexadecimal",
    "epochs: 1:30": "base 60",
    "epochs: 0": "is below 1, the minimum",
    "flip: 1": "1 is not a boolean; give true or false",
    "flip: '1'": "'1' is not a boolean",
    "flip: 'true'": "'true' is not a boolean",
    "flip: on": "would be parsed as a boolean",
    "optimizer: 3": "3 is not text",
    "optimizer: no": "would be parsed as a boolean",
    "optimizer: adm": "'adm' is unknown; did you mean adam",
    "optimizer: 'a\\nb'": "is unknown",
    "epohcs: 3": "epohcs: unknown key; did you mean epochs",
    '"a\\nb": 3': "unknown key",
    "3: 4": "the key '3' is not a name",
    "on: 4": "the key 'on' is not a name",
    "? [a]\n: 3": "is not a name",
    "<<: {lr: 1.0}": "is not a name",
    "lr: 0.1\nlr: 0.2": "line 4: lr is given twice",
    "lr: ${oc.env:HOME}": "is an interpolation",
    "optimizer: ${oc.env:HOME}": "is an interpolation",
    "optimizer: a${batch}": "is an interpolation",
    "lr: &x 0.1": "anchor",
    "lr: !!float 3": "tag",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_one_fault_with_its_place(write, line, monkeypatch):
    monkeypatch.setenv("HOME", "/secret-place")
    group, name, params = write(f"kind: train\narch: lenet5\n{line}\n")
    (found,) = faults(group, name, params)
    assert found.startswith(f"{params}/teacher/{name}.yaml: ")
    assert any(part in found for part in WRONG[line].split("|"))
    assert "secret" not in found


BROKEN = {
    "": "not a mapping", "# only a comment": "not a mapping", "[1]": "not a mapping", "- a": "not a mapping",
    "hello": "not a mapping",
    "a: [": "not readable YAML", "a:\n\tb: 1": "not readable YAML", "a: 1\n---\nb: 1": "not readable YAML",
    "a: &x [*x]": "anchor", "a: &x {b: *x}": "anchor", "a: !!python/object/apply:os.system [ls]": "tag",
    "a: 2020-99-99": "not readable YAML", "seed: " + "9" * 5000: "not readable YAML", "[" * 9000: "too deep",
    "{" * 9000: "too deep", "a: " + "[" * 20 + "]" * 20: "too deep",
    b"\xff\xfe\x00": "not readable YAML", b"a: \x00": "not readable YAML", "a" * 70000: "is larger than",
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:20]))
def test_a_file_that_is_no_yaml_mapping(write, content):
    (found,) = faults(*write(content))
    assert BROKEN[content] in found and ".yaml: " in found


def test_laughs_are_refused_before_they_grow(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "anchor" in faults(*write("\n".join(lines)))[0]


def test_all_faults_of_a_file_at_once(write):
    found = faults(*write("kind: train\nepohcs: 3\nlr: -1\nbatch: x\nflip: 7\n"))
    assert [line.split(".yaml: ")[1].split()[0].rstrip(":") for line in found] == ["epohcs", "lr", "batch", "flip", "arch"]
    assert "arch is missing" in found[-1]


def test_faults_of_file_and_spec_together(write):
    group, name, params = write({**TEACHER, "lr": -1})
    found = faults(group, f"{name}+batch=0+epohcs=3", params)
    assert len(found) == 3
    assert found[0].startswith(str(params)) and found[1].startswith("teacher 'a0+batch=0+epohcs=3': batch")


@pytest.mark.parametrize(
    ("override", "told"),
    [("lr=.1", "write lr=0.1"), ("lr=0.10", "write lr=0.1"), ("lr=1e-2", "write lr=0.01"), ("lr=0.00001", "write lr=1e-5"),
     ("lr=20.0", "write lr=20"), ("clip=-0", "write clip=0"), ("seed=007", "write seed=7"), ("seed=-1", "is below 0"),
     ("epochs=1e2", "is not an integer"), ("epochs=1_0", "is not an integer"), ("flip=1", "give true or false"),
     ("flip=True", "give true or false"), ("lr=nan", "finite"), ("lr=inf", "finite"), ("x=1", "unknown key"),
     ("arch=lenet", "did you mean lenet5"), ("kind=import", "cannot be overridden")],
)  # fmt: skip
def test_overrides(write, override, told):
    group, name, params = write(TEACHER)
    (found,) = faults(group, f"{name}+{override}", params)
    assert told in found


def test_the_spelling_that_is_asked_for_is_taken(write):
    group, name, params = write(TEACHER)
    made = config.load(group, f"{name}+arch=lenet5-half+flip=true+lr=1e-5+seed=7", params)
    assert (made.lr, made.flip, made.seed, made.arch) == (1e-5, True, 7, "lenet5-half")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_spelling_of_a_float_reads_back_as_itself(value):
    text = config.spelling(value)
    assert float(text) == value and config.spelling(float(text)) == text and "+" not in text


def test_a_list_in_a_spec(write):
    group, name, params = write({"method": "zskd"}, "transfer")
    assert "a list, which a spec cannot express" in faults(group, f"{name}+betas=1", params)[0]
    assert config.load(*write({"method": "zskd", "betas": [1, 0.5]}, "transfer")).betas == [1.0, 0.5]


NO_LIST = "is not a list of numbers"


@pytest.mark.parametrize(
    ("betas", "told"),
    [(0.5, NO_LIST), ([], "is empty"), ([0.5, "x"], NO_LIST), ([0.5, True], NO_LIST),
     ([[1.0]], NO_LIST),
     ([1.0, 0], "must be above 0"), ([None], NO_LIST), (["???"], NO_LIST), ({"a": 1}, NO_LIST)],
)  # fmt: skip
def test_lists(write, betas, told):
    (found,) = faults(*write({"method": "zskd", "betas": betas}, "transfer"))
    assert told in found


def test_kinds(write):
    assert "kind is missing" in faults(*write({"arch": "lenet5"}))[0]
    assert "did you mean train" in faults(*write({"kind": "trian"}))[0]
    assert "known: import, library, train" in faults(*write({"kind": ["train"]}))[0]
    assert "'zskd2' is unknown; did you mean zskd" in faults(*write({"method": "zskd2"}, "transfer"))[0]


def test_a_rule_between_fields(write):
    given = {"kind": "import", "checkpoint": "x"}
    assert "exactly one of arch and factory" in faults(*write(given))[0]
    assert "mean has 1 values and std 0" in faults(*write({**given, "arch": "lenet5", "mean": [0.5]}))[0]
    onnx = {**given, "checkpoint": "x.onnx"}
    for more in ({"arch": "lenet5"}, {"factory": "mine:net"}):
        assert "an ONNX file defines the network itself; remove arch and factory" in faults(*write({**onnx, **more}))[0]
    assert "mean has 0 values and std 1" in faults(*write({**onnx, "std": [0.5]}))[0]
    assert config.load(*write(onnx)).check() is None


def test_the_data_set_a_transfer_set_is_taken_from_is_checked(write):
    for source, told in (("../x", "is not NAME"), ("nix", "no file"), ("a+b=1+a=2", "out of order")):
        assert told in faults(*write({"method": "dataset", "source": source}, "transfer"))[0]


def test_missing_file_lists_the_known(write):
    _, name, params = write(TEACHER)
    (found,) = faults("teacher", "aa0", params)
    assert f"no file {params}/teacher/aa0.yaml; did you mean {name}?" in found
    assert "none exists yet" in faults("student", "x", params)[0]


def base(params, group="teacher", **files):
    for name, content in files.items():
        path = params / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def test_a_base_is_overridden_by_the_file_and_the_spec(tmp_path):
    base(tmp_path, _shared={**TEACHER, "epochs": 3, "lr": 0.5, "batch": 7}, one={"base": "_shared", "lr": 0.2})
    resolved = config.load("teacher", "one+batch=8", tmp_path)
    assert (resolved.epochs, resolved.lr, resolved.batch, resolved.arch) == (3, 0.2, 8, "lenet5")
    origins = config.origins("teacher", "one+batch=8", tmp_path)
    assert [origins[key] for key in ("epochs", "lr", "batch", "seed")] == ["base _shared", "YAML", "spec", "default"]
    assert config.kind_of("teacher", "one", tmp_path) == "train" and config.names("teacher", tmp_path) == ["one"]
    assert "_shared is a shared base" in faults("teacher", "_shared", tmp_path)[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"base": "_shard"}, "one.yaml: base: '_shard' is unknown in params/teacher; did you mean _shared?"),
        ({"base": ["_shared"]}, "base: ['_shared'] is unknown"),
        ({"base": "one"}, "base: 'one' is unknown"),
        ({"base": "second"}, "base: second has a base itself, '_shared'"),
        ({"base": "_shared", "kind": "import"}, "kind is 'import', but 'train' in its base _shared"),
        ({"base": "_wrong"}, "_wrong.yaml: epohcs: unknown key"),
    ],
)
def test_faults_of_a_base(tmp_path, content, told):
    base(tmp_path, _shared=TEACHER, second={"base": "_shared"}, _wrong={**TEACHER, "epohcs": 1}, one=content)
    (found,) = faults("teacher", "one", tmp_path)
    assert told in found


def test_files_are_found_in_folders_and_have_one_name(tmp_path):
    base(tmp_path, **{"a/one": TEACHER, ".hidden/one": TEACHER, "a/b/other": TEACHER})
    assert config.names("teacher", tmp_path) == ["one", "other"]
    assert config.load("teacher", "other", tmp_path) == config.load("teacher", "one", tmp_path)
    config._layers.cache_clear()
    config._load.cache_clear()
    base(tmp_path, one=TEACHER)
    (found,) = faults("teacher", "one", tmp_path)
    assert f"{tmp_path}/teacher/a/one.yaml and {tmp_path}/teacher/one.yaml; rename" in found


def test_a_value_that_is_set_anyway_is_another_spelling(write):
    group, name, params = write({**TEACHER, "seed": 1, "label_smoothing": 0.1})
    for override in ("seed=1", "label_smoothing=0.1", "epochs=20"):
        (found,) = faults(group, f"{name}+{override}+lr=0.3" if override < "lr" else f"{name}+lr=0.3+{override}", params)
        assert f"already; write '{name}+lr=0.3'" in found
    assert config.load(group, f"{name}+seed=0", params).seed == 0


def test_a_folder_is_no_file(write):
    _, _, params = write(TEACHER)
    (params / "teacher" / "folder.yaml").mkdir()
    assert "no file" in faults("teacher", "folder", params)[0]


def test_unhashable_specs_are_user_errors():
    for text in (["a"], {"a": 1}, None, 3):
        with pytest.raises(UserError, match="is not a spec"):
            config.load("teacher", text)


def check_fuzz(group, text, params):
    try:
        made, lines = config.load(group, text, params), None
    except UserError as error:
        made, lines = None, str(error).split("\n")
    if lines is None:
        assert dataclasses.is_dataclass(made)
    else:
        assert all(line.strip() and len(line.splitlines()) == 1 and len(line) < 1000 for line in lines)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.binary(max_size=4))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=5
)
KEYS = (
    st.sampled_from(["lr", "epochs", "flip", "optimizer", "arch", "seed", "kind"])
    | st.text(max_size=8)
    | st.integers()
    | st.booleans()
)
RELAXED = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_mapping_loads_or_gives_lines(write, content):
    check_fuzz(*write({"kind": "train", "arch": "lenet5", **content}))


@RELAXED
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80), st.text("ab:&*!{}[]-?<>|%@`'\"\n\t #,0.1e$~=", max_size=60)))
def test_any_file_loads_or_gives_lines(write, content):
    check_fuzz(*write(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")))


@RELAXED
@given(
    st.lists(
        st.tuples(st.sampled_from(["lr", "epochs", "flip", "arch", "x", "kind", ""]), st.text("01.e-+=aftrun_", max_size=8)),
        max_size=3,
    )
)
def test_any_spec_loads_or_gives_lines(write, overrides):
    group, name, params = write(TEACHER)
    check_fuzz(group, "+".join([name, *(f"{key}={value}" for key, value in overrides)]), params)
