"""Search space files: what is read, what it becomes, and what each mistake is told. Refusals are data in cases/."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from automerge.config import (
    Bounds,
    GateRule,
    Groups,
    Margin,
    ParameterSpace,
    SearchConfig,
    find_shipped,
    load_search,
    locate,
    read_yaml,
    validate,
)
from automerge.errors import ConfigError
from automerge.evals.skill import load_skill

REPOSITORY = Path(__file__).parents[1]
REFUSED = json.loads((REPOSITORY / "tests" / "cases" / "config_refused.json").read_text(encoding="utf-8"))


def plain() -> dict[str, Any]:
    return {
        "name": "plain",
        "base": "owner/base",
        "sources": {"math": "owner/math", "code": "owner/code"},
        "method": "dare_linear",
        "parameters": {"weight": [0, 1]},
        "skills": {"sums": "sums", "prose": "prose"},
        "objective": ["sums"],
    }


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "space.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- reading -----------------------------------------------------------------------------------------------------


def test_yaml_1_2(tmp_path: Path) -> None:
    text = "a: 1e-3\nb: 1.5E+3\nc: 010\nd: 0o10\ne: yes\nf: [no, off]\ng: {on: true}\nh: 1%\n"
    read = {"a": 0.001, "b": 1500.0, "c": 10, "d": 8, "e": "yes", "f": ["no", "off"], "g": {"on": True}, "h": "1%"}
    assert read_yaml(written(tmp_path, text)) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 'line 3: not valid YAML: found duplicate key "a" with value "3"'),
        ("a:\n  {b: 1, b: 2}", 'line 2: not valid YAML: found duplicate key "b"'),
        ("- 1\n- 2", "expected a mapping of keys, got list"),
        ("", "the file is empty"),
        ("# nothing", "the file is empty"),
        ("a: {null: 1}", "expected a word as a key, got null"),
        ("true: 1", "expected a word as a key, got true"),
        ('a: "\\ud800"', "half a surrogate pair is no character"),
        ('"\\udc00": 1', "half a surrogate pair is no character"),
        ("text", "expected a mapping of keys, got str"),
        (b"a: \xff\xfe", "expected UTF-8 text: "),
        ("a: [1", "line 1: not valid YAML: expected ',' or ']'"),
        ("a: \tb", "line 1: not valid YAML: found character"),
        ("a: 1\n---\nb: 2", "line 2: not valid YAML: but found another document"),
        ("a: !!python/object:os.system x", "line 1: not valid YAML: could not determine a constructor"),
        ("? {a: b}\n: c", "line 1: not valid YAML: found unhashable key"),
        ("a:\n\tb: 1", "found character '\\t' that cannot start any token"),
        ("a: \x00", "not valid YAML: unacceptable character"),
        ("a: 2024-99-99", "not valid YAML: month must be in 1..12"),
        ("a: !!int x", "not valid YAML: invalid literal for int()"),
        ("a: &loop [*loop]", "an alias contains itself"),
    ],
)
def test_what_is_no_mapping_in_yaml(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert caught.value.where is not None and caught.value.where.startswith(str(path))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [("a:\n\tb: 1", "Indent with spaces"), ("a: 1".encode("utf-16"), "Save the file as UTF-8"), ("a: [1", None)],
)
def test_what_to_do_about_an_editors_habits(tmp_path: Path, text: str | bytes, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        read_yaml(written(tmp_path, text))
    assert (caught.value.hint or "").startswith(hint or "") and (hint is None) == (caught.value.hint is None)


def test_escaped_pairs_are_one_character(tmp_path: Path) -> None:
    """As json.dumps writes what lies beyond 16 bits."""
    assert read_yaml(written(tmp_path, json.dumps({"a": ["😀"], "😀": 1}))) == {"a": ["😀"], "😀": 1}


def test_variables_can_be_left_alone(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: ${HOME}"), variables=False) == {"a": "${HOME}"}


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read: Is a directory"):
        read_yaml(tmp_path)


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ROOT", "/models")
    monkeypatch.setenv("TEST_EMPTY", "")
    monkeypatch.delenv("TEST_UNSET", raising=False)
    text = """
    set: ${TEST_ROOT}/base
    twice: "${TEST_ROOT} and ${TEST_ROOT}"
    default: ${TEST_UNSET:-../here}/base
    empty: ${TEST_EMPTY:-there}
    nothing: "${TEST_UNSET:-}"
    over: ${TEST_ROOT:-ignored}
    deep: [{a: "${TEST_ROOT}"}]
    alone: $TEST_ROOT
    number: 3
    """
    assert read_yaml(written(tmp_path, text)) == {
        "set": "/models/base",
        "twice": "/models and /models",
        "default": "../here/base",
        "empty": "there",
        "nothing": "",
        "over": "/models",
        "deep": [{"a": "/models"}],
        "alone": "$TEST_ROOT",
        "number": 3,
    }


def test_a_variable_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_UNSET", raising=False)
    path = written(tmp_path, "a: {b: ['${TEST_UNSET}']}")
    with pytest.raises(ConfigError, match="the environment variable TEST_UNSET is not set") as caught:
        read_yaml(path)
    assert caught.value.where == f"{path}: a.b"
    assert caught.value.hint == "Set it, or write a default: ${TEST_UNSET:-…}"


# --- typed values ------------------------------------------------------------------------------------------------


def test_the_plain_config_is_good() -> None:
    config = validate(SearchConfig, plain(), "here")
    assert config.objective == {"sums": 1.0}
    assert (config.groups, config.modules, config.tokenizer, config.gates) == (
        Groups(kind="whole"),
        "together",
        "base",
        [],
    )
    assert (config.verdict.candidates, config.verdict.confidence, config.sampler.name) == (3, 0.95, "auto")


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: json.dumps(case.get("set", case.get("unset")))[:60])
def test_refused(case: dict[str, Any]) -> None:
    data = plain() | case.get("set", {})
    data.pop(case.get("unset"), None)
    with pytest.raises(ConfigError) as caught:
        validate(SearchConfig, data, "space.yaml")
    assert caught.value.where == "space.yaml"
    assert case["message"] in caught.value.message
    assert "Value error" not in caught.value.message and "\n" not in caught.value.message


def test_every_mistake_is_told_one_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(SearchConfig, plain() | {"seed": "x", "modules": "y"}, "space.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "space.yaml: "
    assert [line.split(":")[0] for line in lines[1:]] == ["  modules", "  seed"]


def test_an_unknown_key_hides_no_other_mistake_and_makes_none() -> None:
    data = plain() | {"metod": "linear", "groups": "whol", "gates": [{"skil": "sums", "min": 2}]}
    del data["method"]
    with pytest.raises(ConfigError) as caught:
        validate(SearchConfig, data, "space.yaml")
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    expected = ("unknown key 'metod' (did you mean 'method'?)", "groups: expected", "gates.0: unknown", "gates.0.min: ")
    assert len(lines) == len(expected), lines
    for said in expected:
        assert sum(line.startswith(said) for line in lines) == 1, (said, lines)


@pytest.mark.parametrize(
    ("written", "kind", "count"),
    [("whole", "whole", 1), ("layers", "layers", 1), ({"blocks": 4}, "blocks", 4), ({"knots": 2}, "knots", 2)],
)
def test_groups(written: Any, kind: str, count: int) -> None:
    groups = validate(Groups, written, "here")
    assert (groups.kind, groups.count) == (kind, count)
    assert Groups.model_validate(groups.model_dump()) == groups


@pytest.mark.parametrize(
    ("written", "value", "range_"),
    [
        (1, 1.0, None),
        (0.5, 0.5, None),
        ([0, 1], None, (0.0, 1.0)),
        ({"value": -1}, -1.0, None),
        ({"range": [0, 2]}, None, (0, 2)),
    ],
)
def test_bounds(written: Any, value: float | None, range_: tuple[float, float] | None) -> None:
    for model in (Bounds, ParameterSpace):
        found = validate(model, written, "here")
        assert (found.value, found.range) == (value, range_)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_bounds_are_finite(number: float) -> None:
    for data in ({"value": number}, [0.0, number]):
        with pytest.raises(ConfigError, match=r"expected a finite number|low must lie below high"):
            validate(ParameterSpace, data, "here")


def test_a_sources_own_bounds_come_first() -> None:
    space = validate(ParameterSpace, {"range": [0, 1], "sources": {"math": 0.5}}, "here")
    assert space.bounds("math") == Bounds(value=0.5)
    assert space.bounds("code") == Bounds(range=(0.0, 1.0))
    assert validate(ParameterSpace, {"sources": {"math": 0.5}}, "here").bounds("code") is None


@pytest.mark.parametrize(
    ("written", "of_half", "shown"),
    [("1%", 0.005, "1%"), (" 2.5 % ", 0.0125, "2.5%"), (0.02, 0.02, "0.02"), (0, 0.0, "0")],
)
def test_margin(written: Any, of_half: float, shown: str) -> None:
    margin = validate(Margin, written, "here")
    assert margin.of(0.5) == pytest.approx(of_half)
    assert str(margin) == shown


def test_gates_are_shown_in_words() -> None:
    rule = validate(GateRule, {"skill": "a", "no_worse_than": "base", "margin": "1%"}, "here")
    assert str(rule) == "a no worse than base (margin 1%)"
    assert str(validate(GateRule, {"skill": "a", "min": 0.6}, "here")) == "a ≥ 0.6"


def test_a_gate_that_was_kept_reads_the_same() -> None:
    for given in ({"skill": "a", "min": 0.6}, {"skill": "a", "no_worse_than": "base", "margin": "1%"}):
        rule = validate(GateRule, given, "here")
        assert validate(GateRule, rule.model_dump(), "kept") == rule


# --- finding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["search_spaces", "evals"])
def test_what_is_shipped_is_found_by_name(kind: str) -> None:
    names = [path.stem for path in (REPOSITORY / kind).glob("*.yaml")]
    assert names
    for name in names:
        found = find_shipped(kind, name)
        assert found.read_bytes() == (REPOSITORY / kind / f"{name}.yaml").read_bytes()


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"search_spaces/ has no 'smolm2' \(did you mean 'smollm2'\?\)") as caught:
        find_shipped("search_spaces", "smolm2")
    assert "zoo" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="no file of that name, and evals/ has no 'qqqq'") as caught:
        find_shipped("evals", "qqqq")
    assert "did you mean" not in caught.value.message and "gsm8k" in str(caught.value.hint)


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "search_spaces").glob("*.yaml")))
def test_every_shipped_search_space_loads(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AUTOMERGE_ZOO", "AUTOMERGE_SHARED", "AUTOMERGE_SMOLLM2"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = load_search(name)
    assert config.name == name and config.about
    kept = validate(SearchConfig, json.loads(config.model_dump_json()), "study.json")
    assert kept.model_copy(update={"folder": config.folder, "file": config.file}) == config
    assert config.folder == (REPOSITORY / "search_spaces").resolve()
    for model in (config.base, *config.sources.values()):
        assert Path(model).is_absolute() or re.fullmatch(r"[\w.-]+/[\w.-]+", model), model
    for skill, use in config.skills.items():
        assert load_skill(use, folder=config.folder, name=skill).scorer


def test_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = tmp_path / "spaces"
    (spaces / "models" / "math").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    written(
        spaces,
        "name: x\nbase: ../base\nsources: {math: models/math, code: owner/code, far: ./not-yet}\nmethod: linear\n"
        "parameters: {weight: [0, 1]}\nskills: {sums: sums}\nobjective: {sums: 1}\n",
    )
    monkeypatch.chdir(spaces)
    for use in ("space.yaml", str(spaces / "space.yaml"), os.path.relpath(spaces / "space.yaml")):
        config = load_search(use)
        assert config.folder == spaces.resolve()
        assert config.base == str((tmp_path / "base").resolve())
        assert config.sources == {
            "math": str((spaces / "models" / "math").resolve()),
            "code": "owner/code",
            "far": str((spaces / "not-yet").resolve()),
        }


def test_locate(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert locate("here", tmp_path) == str((tmp_path / "here").resolve())
    assert locate(str(tmp_path / "here"), Path("/elsewhere")) == str((tmp_path / "here").resolve())
    assert locate("owner/model", tmp_path) == "owner/model"
    assert locate("/not/there", tmp_path) == "/not/there"


def test_no_such_search_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for use in ("missing.yaml", "folder/missing", str(tmp_path / "missing.yml")):
        with pytest.raises(ConfigError, match="no such file") as caught:
            load_search(use)
        assert caught.value.where == use
    with pytest.raises(ConfigError, match="did you mean 'zoo'"):
        load_search("zooo")
