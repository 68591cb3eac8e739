"""`init`: finds the base, says how far the others moved, and writes a config that a search takes."""

import itertools
import shutil
from pathlib import Path

import pytest

from automerge.config import load_search
from automerge.merge.family import short_names
from tests.cli.world import Done
from tests.tiny import tiny_llama


def test_the_base_is_found_in_any_order(cli_models: Path, automerge, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    names = ("base", "math", "coding", "writing")
    for number, order in enumerate(itertools.permutations(names, 4)):
        if number % 5:
            continue
        done: Done = automerge(
            "init", *(cli_models / name for name in order), "-o", tmp_path / f"{number}.yaml", "--json"
        )
        assert done.code == 0, done.message
        assert Path(done.json["base"]).name == "base"
        assert set(done.json["sources"]) == {"math", "coding", "writing"}
        assert all(0 < source["moved"] < 1 for source in done.json["sources"].values())


def test_what_it_writes_is_a_config_that_check_takes(cli_models: Path, config: Path, automerge) -> None:  # type: ignore[no-untyped-def]
    here = Path("automerge.yaml")
    done: Done = automerge("init", cli_models / "base", cli_models / "math", cli_models / "writing")
    assert done.code == 0 and "automerge check" in done.out and here.exists()
    written = load_search(str(here))
    assert set(written.skills) == {"math", "instructions"} and written.gates
    assert written.objective == {"math": 1.0}
    text = here.read_text()
    assert text.count("#") > 8  # commented
    items = config.parent / "recall.yaml", config.parent / "teacher.jsonl"
    skill = f"{{use: {items[0]}, data: {{path: {items[1]}}}}}"
    here.write_text(
        text.replace("math: gsm8k", f"math: {skill}").replace("instructions: constraints", f"instructions: {skill}")
    )
    assert automerge("check", here).code == 0


def test_which_of_two_checkpoints_is_the_base_is_said_to_be_assumed(cli_models: Path, automerge) -> None:  # type: ignore[no-untyped-def]
    math, writing = cli_models / "math", cli_models / "writing"
    done: Done = automerge("init", math, writing)
    assert "is taken for the base, for it was named first" in " ".join(done.out.split())
    assert "# assumed: it was named first" in Path("automerge.yaml").read_text()
    told: Done = automerge("init", math, writing, "--base", math, "-o", "told.yaml")
    assert "is taken for the base" not in told.out and "assumed" not in Path("told.yaml").read_text()


def test_it_overwrites_nothing(cli_models: Path, automerge) -> None:  # type: ignore[no-untyped-def]
    Path("automerge.yaml").write_text("mine")
    done: Done = automerge("init", cli_models / "base", cli_models / "math")
    assert done.code == 1 and "there is a file of that name" in done.message
    assert Path("automerge.yaml").read_text() == "mine"


def test_sources_are_named_after_their_models_not_their_revisions() -> None:
    given = ["org/math@main", "other/code@main", "./runs/chat/", "/data/@home/base"]
    assert list(short_names(given)) == ["math", "code", "chat", "base-model"]
    assert list(short_names(["a/x@v1", "b/x@v2"])) == ["x-1", "x-2"]


def test_where_it_cannot_write_it_says_so(cli_models: Path, automerge, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done: Done = automerge("init", cli_models / "base", cli_models / "math", "-o", tmp_path / "none" / "x.yaml")
    assert done.code == 1 and "cannot be written: No such file or directory" in done.message and "-o" in done.message


def test_a_model_of_another_shape_is_refused_by_name(cli_models: Path, automerge, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tiny_llama(tmp_path / "other", seed=9, hidden=48)
    done: Done = automerge(
        "init", cli_models / "base", cli_models / "math", tmp_path / "other", "--base", cli_models / "base"
    )
    assert done.code == 1 and "other" in done.message
    assert not Path("automerge.yaml").exists()


@pytest.mark.parametrize(("models", "said"), [(["base"], "nothing to merge"), (["base", "base"], "named twice")])
def test_too_little_is_refused(cli_models: Path, automerge, models: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    done: Done = automerge("init", *(cli_models / name for name in models))
    assert done.code == 1 and said in done.message


def test_a_source_that_equals_the_base_is_remarked(cli_models: Path, automerge, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(cli_models / "base", tmp_path / "copy")
    done: Done = automerge("init", tmp_path / "copy", cli_models / "math", "--base", cli_models / "base")
    assert done.code == 0 and "copy: equals the base" in done.out


def test_a_folder_that_is_no_model(automerge) -> None:  # type: ignore[no-untyped-def]
    done: Done = automerge("init", ".")
    assert done.code == 1 and "config.json is missing" in done.message
