"""The grammar of specs and paths."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfkd_steps.pipeline import spec
from dfkd_steps.runtime.errors import UserError


def fault(text, group="transfer"):
    with pytest.raises(UserError) as caught:
        spec.parse(group, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", ["zskd", "a+b=1", "a+b=1+c=x", "mnist-5k", "a_b.c+lr=1e-5+seed=0", "a+b=-1"])
def test_a_spec_is_spelled_as_it_was_parsed(text):
    assert str(spec.parse("transfer", text)) == text


def test_parts():
    parsed = spec.parse("transfer", "zskd+seed=1+steps=500")
    assert (parsed.group, parsed.name, parsed.overrides) == ("transfer", "zskd", (("seed", "1"), ("steps", "500")))


@pytest.mark.parametrize(
    "text",
    ["", " ", "a b", "..", "a..b", "/a", "a/b", "../a", "a\n", "\na", "+a=1", "a+", "a+b", "a+b=", "a+=1", "a+b==1", "a++b=1",
     ".hidden", "-a", "é", "a+b=${x}", "a,b=1", "a+b=1,c=2", "a\0", "~", "a+b=../x", "a+b='1'"],
)  # fmt: skip
def test_what_breaks_the_grammar_is_shown_with_the_grammar(text):
    assert "NAME+key=value" in fault(text)
    assert repr(text) in fault(text)


def test_wrong_order_gives_the_right_spelling():
    assert "write 'zskd+seed=1+steps=5'" in fault("zskd+steps=5+seed=1")


def test_a_key_given_twice():
    assert "gives seed twice" in fault("zskd+seed=1+seed=2")


def test_length():
    assert str(spec.parse("transfer", "a" * spec.MAX_LENGTH)) == "a" * spec.MAX_LENGTH
    assert "has 49 characters, more than 48" in fault("a" * 49)
    assert "file params/transfer/" in fault("a" * 49)
    assert len(fault("a" * 10**6)) < 400


@pytest.mark.parametrize("text", [3, 3.0, None, True, ["a"], {"a": 1}, b"a"])
def test_what_is_no_text(text):
    assert f"is not a spec but a {type(text).__name__}" in fault(text)


def test_of_path_and_root():
    path = "/tmp/results/x/results/mnist/lenet5/zskd+n=5/none/half/metrics.json"
    assert spec.of_path(path) == {
        "dataset": "mnist",
        "teacher": "lenet5",
        "transfer": "zskd+n=5",
        "balance": "none",
        "student": "half",
    }
    assert str(spec.root_of(path)) == "/tmp/results/x/results"


@pytest.mark.parametrize("path", ["mnist/dataset.h5", "results/dataset.h5", "results/a/b/c/d/e/f/x.h5", "", "results"])
def test_paths_without_specs(path):
    with pytest.raises(UserError, match="results/"):
        spec.of_path(path)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("ab+=.-/_1 \n", max_size=60)))
def test_any_text_parses_or_is_one_line_of_complaint(text):
    try:
        parsed, told = spec.parse("student", text), None
    except UserError as error:
        parsed, told = None, str(error)
    if told is None:
        assert str(parsed) == text and "/" not in text and ".." not in text
    else:
        assert told.startswith("student: ") and len(told.splitlines()) == 1


@pytest.mark.parametrize("name", ["results", "_resolved", "results+seed=1"])
def test_names_of_folders_of_this_program(name):
    with pytest.raises(UserError, match=r"is the name of a folder that dfkd uses; give the file .* another name"):
        spec.parse("dataset", name)
