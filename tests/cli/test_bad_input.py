"""What a user can get wrong: one screen on stderr says what, where and what to do; exit 1; nothing is made."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from automerge.export.safetensors_stream import SafetensorsStream
from tests.cli.world import Done, environment, make_models, make_world, run
from tests.tiny import lora_of

Command = Callable[..., Done]
SCREEN = 24  # lines


@pytest.fixture
def refused(automerge: Command) -> Callable[..., str]:
    """Runs a command that must be refused; gives the message on one line."""

    def refuse(kind: str, *arguments: object) -> str:
        before = snapshot()
        done = automerge(*arguments)
        assert (done.code, done.out) == (1, ""), done
        lines = done.err.splitlines()
        assert lines[0].startswith(f"╭─ {kind} ─") and lines[-1].startswith("╰─"), done.err
        assert len(lines) <= SCREEN
        assert "Traceback" not in done.err and "This is a bug" not in done.err
        assert snapshot() == before
        return done.message

    return refuse


def snapshot() -> list[str]:
    """Every path below the current folder."""
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.fixture
def broken(tmp_path: Path, cli_models: Path) -> Path:
    """A world whose models are its own: they may be spoilt. The config's path."""
    shutil.copytree(cli_models, tmp_path / "models")
    return make_world(tmp_path / "world", tmp_path / "models")


@pytest.fixture(scope="session")
def studied(cli_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: world.yaml, and out/. Copy it before writing into it."""
    folder = tmp_path_factory.mktemp("studied")
    make_world(folder, cli_models, low=0.45, high=0.75)
    command = [sys.executable, "-m", "automerge", "search", "world.yaml", "--budget", "9", "--out", "out"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    return folder


@pytest.fixture
def study(studied: Path, tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(studied, tmp_path / "study"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def set_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def models_of(config: Path) -> Path:
    return config.parent.parent / "models"


def search(config: Path) -> tuple[object, ...]:
    return ("search", config, "--budget", 9)


# --- the config --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["search", "check"])
def test_an_unknown_key(config: Path, refused: Callable[..., str], command: str) -> None:
    edit(config, "objective:", "objectiv:")
    said = refused("ConfigError", command, config)
    assert f"{config} " in said and "unknown key 'objectiv' (did you mean 'objective'?)" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("range: [0.0, 1.2]", "rnge: [0, 1]", "parameters.weight: unknown key 'rnge' (did you mean 'range'?)"),
        ("range: [0.0, 1.2]", "range: [1.2, 0.0]", "low must lie below high"),
        ("  weight: {", "  weigth: {", "task_arithmetic has no parameter 'weigth' Did you mean weight?"),
        ("method: task_arithmetic", "method: task_aritmetic", "Did you mean task_arithmetic?"),
        ("no_worse_than: base", "no_worse_than: bse", "did you mean 'base'?"),
        ("{recall: 1,", "{recal: 1,", "did you mean 'recall'?"),
        ("use: recall.yaml", "use: gsm8", "did you mean 'gsm8k'?"),
        ("use: recall.yaml", "use: recal.yaml", "no such skill file"),
        ("name: world", "name: [", "not valid YAML"),
        ("margin: 5%", "margin: 5 %%", "margin"),
    ],
)
def test_other_mistakes_in_the_config(config: Path, refused: Callable[..., str], old: str, new: str, said: str) -> None:
    edit(config, old, new)
    assert said in refused("ConfigError", *search(config))


def test_an_unknown_scorer(config: Path, refused: Callable[..., str]) -> None:
    edit(config.parent / "recall.yaml", "type: exact", "type: exat")
    said = refused("ConfigError", *search(config))
    assert "unknown type 'exat' (did you mean 'exact'?)" in said and said.endswith("More: docs/skills.md")


def test_a_missing_config(refused: Callable[..., str]) -> None:
    assert "nothing.yaml no such file" in refused("ConfigError", "search", "nothing.yaml")
    assert "did you mean 'smollm2'?" in refused("ConfigError", "check", "smolm2")


def test_overrides_are_checked_too(config: Path, automerge: Command) -> None:
    for option, value, said in (("--engine", "vlm", "'vllm'"), ("--study", "../up", "letters, digits")):
        done = automerge(*search(config), option, value)
        assert done.code == 2 and option in done.err and said in done.err, done


def test_a_folder_or_a_file_that_is_not_there(config: Path, refused: Callable[..., str]) -> None:
    said = refused("ConfigError", "search", config.parent)
    assert "is a folder" in said and "world.yaml" in said
    said = refused("ConfigError", "search", config.parent / "word.yaml")
    assert "no such file (did you mean 'world.yaml'?)" in said and "smollm2" in said
    assert "./nope no such file" in refused("ConfigError", "search", "./nope")
    assert "nope no such folder" in refused("ExportError", "verify", "nope")
    Path("merged").mkdir()
    Path("merged/recipe.json").write_text("{}")
    assert "is a folder, not a recipe Name its recipe: merged/recipe.json" in refused(
        "ConfigError", "merge", "merged", "out"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("task_arithmetic", "task_aritmetic"), ("  weight: {", "  weigth: {"), ("[0.0, 1.2]", "[0.0, 1e9]")],
)
def test_what_no_method_knows_is_told_with_its_file(
    config: Path, refused: Callable[..., str], old: str, new: str
) -> None:
    edit(config, old, new)
    assert f"ConfigError {config}" in refused("ConfigError", "check", config)


@pytest.mark.parametrize(
    ("command", "page"),
    [
        (("search", "wrong.yaml"), "search-spaces.md"),
        (("moe", "wrong.yaml", "out"), "moe.md"),
        (("check", "wrong.yaml"), "moe.md"),
        (("merge", "none.json", "out"), "merge.md"),
        (("merge", "wrong.yaml", "out"), "mergekit.md"),
    ],
)
def test_the_page_is_that_of_what_the_file_is_for(
    refused: Callable[..., str], command: tuple[str, ...], page: str
) -> None:
    Path("wrong.yaml").write_text("experts: 1\n")
    assert refused("MergekitError" if page == "mergekit.md" else "ConfigError", *command).endswith(f"More: docs/{page}")


# --- the models --------------------------------------------------------------------------------------------------


def test_a_missing_model_folder(broken: Path, refused: Callable[..., str]) -> None:
    shutil.rmtree(models_of(broken) / "math")
    said = refused("SourceError", *search(broken))
    assert f"{models_of(broken) / 'math'} no such folder" in said


def reshape(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update({NORM: torch.ones(7)}), f"{NORM}: expected the base's shape [32], got [7]"),
        (lambda t: t.pop(NORM), f"{NORM} of the base is missing"),
        (lambda t: t.update({"extra": torch.ones(2)}), "extra is not in the base"),
        (lambda t: t[NORM].fill_(float("nan")), f"{NORM} holds NaN or infinity"),
        (lambda t: t.update({NORM: t[NORM].to(torch.int8)}), f"{NORM}: expected F32, BF16, F16, got I8"),
    ],
)
def test_a_source_that_does_not_fit(
    broken: Path, refused: Callable[..., str], change: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    reshape(models_of(broken) / "math", change)
    for command in ("check", "search"):
        told = refused("SourceError", command, broken)
        assert said in told and str(models_of(broken) / "math") in told


@pytest.mark.parametrize("source", ["base", "math"])
@pytest.mark.parametrize("kept", [0, 5, 4000, -1])
def test_truncated_safetensors(broken: Path, refused: Callable[..., str], source: str, kept: int) -> None:
    path = models_of(broken) / source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    said = refused("SourceError", *search(broken))
    assert f"{path} truncated or corrupt safetensors" in said and "Download or copy the file again." in said


def test_a_corrupt_safetensors_header(broken: Path, refused: Callable[..., str]) -> None:
    path = models_of(broken) / "math" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype"', b'"dtipe"', 1))
    assert f"{path} truncated or corrupt safetensors" in refused("SourceError", *search(broken))
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    assert f"{path} truncated or corrupt safetensors" in refused("SourceError", *search(broken))


def test_pickled_weights(broken: Path, refused: Callable[..., str]) -> None:
    folder = models_of(broken) / "math"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refused("SourceError", *search(broken))
    assert "only pickled weights (pytorch_model.bin), which are refused" in said and "safetensors copy" in said


@pytest.mark.parametrize("source", ["base", "math"])
def test_remote_code(broken: Path, refused: Callable[..., str], source: str) -> None:
    path = models_of(broken) / source / "config.json"
    set_json(path, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    said = refused("SourceError", *search(broken))
    assert f"{path} auto_map: this model needs remote code" in said and "never run" in said


def test_quantised_weights(broken: Path, refused: Callable[..., str]) -> None:
    path = models_of(broken) / "math" / "config.json"
    set_json(path, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised weights (gptq) cannot be merged" in refused("SourceError", *search(broken))


def test_config_json_that_is_none(broken: Path, refused: Callable[..., str]) -> None:
    path = models_of(broken) / "base" / "config.json"
    path.write_text("{")
    assert f"{path} cannot be read as JSON" in refused("SourceError", *search(broken))
    path.unlink()
    assert "config.json is missing" in refused("SourceError", *search(broken))


def test_an_adapter_of_another_base(broken: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    shutil.rmtree(models_of(broken) / "math")
    lora_of(models_of(broken) / "base", models_of(broken) / "math", seed=1, rank=4, r=8)
    assert "the adapter r=8, A [4, " in refused("SourceError", *search(broken))


def test_a_tokenizer_that_is_not_there(broken: Path, automerge: Command) -> None:
    for path in (models_of(broken) / "base").glob("tokenizer*"):
        path.unlink()
    done = automerge(*search(broken))
    assert (done.code, done.out) == (1, "")
    assert "EngineError" in done.err and "tokenizer" in done.message and "Traceback" not in done.err


# --- the items ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_an_empty_dataset(config: Path, refused: Callable[..., str], text: str) -> None:
    path = config.parent / "teacher.jsonl"
    path.write_text(text)
    if text == "[]":
        path = path.rename(path.with_suffix(".json"))
        edit(config, "teacher.jsonl", "teacher.json")
    assert f"{path} the dataset is empty" in refused("SkillError", *search(config))


def test_fewer_items_than_asked(config: Path, refused: Callable[..., str]) -> None:
    path = config.parent / "teacher.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    said = refused("SkillError", *search(config))
    assert "asked for 12 search and 42 held-out items, but there are 20" in said and "at most 20" in said


@pytest.mark.parametrize(
    ("counts", "said"),
    [("search: 12, held_out: 9", "say a verdict needs at least 10 held-out items, got 9"), ("search: 0", "got 0")],
)
def test_too_few_items_for_a_verdict(config: Path, refused: Callable[..., str], counts: str, said: str) -> None:
    edit(config.parent / "say.yaml", "search: 12, held_out: 42", counts)
    for command in ("check", "search"):
        assert said in refused("SkillError", command, config)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda row: row.pop("answer"), "needs a field that is not there: 'answer' is undefined; the row has: id,"),
        (lambda row: row.pop("prompt"), "needs a field that is not there: 'prompt' is undefined"),
        (lambda row: row.pop("id"), "no field 'id' (data.id); the row has: prompt, answer"),
        (lambda row: row.update(answer=None), "uses a value that is null; null here: answer"),
        (lambda row: row.update(answer=" "), "the target is empty"),
        (lambda row: row.update(id="q3"), "two rows have the id 'q3'"),
    ],
)
def test_a_bad_row(
    config: Path, refused: Callable[..., str], spoil: Callable[[dict[str, object]], object], said: str
) -> None:
    path = config.parent / "teacher.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    spoil(rows[6])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = refused("SkillError", *search(config))
    assert said in told and f": row 7 of {path}" in told


def test_items_that_are_no_json(config: Path, refused: Callable[..., str]) -> None:
    path = config.parent / "teacher.jsonl"
    path.write_text(path.read_text() + "{oops\n")
    assert f"{path}: line 55 not valid JSON" in refused("SkillError", *search(config))


# --- the output --------------------------------------------------------------------------------------------------


def test_an_unwritable_output(config: Path, study: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    said = refused("StudyError", *search(config), "--out", file / "out")
    assert f"{file / 'out'} cannot write there" in said and "--out" in said
    said = refused("ExportError", "export", "--out", study / "out", "--trial", "base", file / "merged")
    assert f"{file / 'merged'} cannot be written" in said
    assert file.read_text() == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output(config: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    assert "cannot write there" in refused("StudyError", *search(config), "--out", closed / "out")


def test_a_full_disk_on_export(study: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = SafetensorsStream.write

    def full(self: SafetensorsStream, name: str, tensor: torch.Tensor) -> None:
        if name == NORM:
            raise OSError(28, "No space left on device")
        real(self, name, tensor)

    monkeypatch.setattr(SafetensorsStream, "write", full)
    said = refused("ExportError", "export", "--out", study / "out", "--trial", "base", "merged")
    assert "merged the disk is full; nothing was kept" in said and "Free space" in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB: less than half a tiny model."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted only by root, where mounting is allowed")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)  # lazily: a test that fails may leave files open


def test_a_really_full_disk_on_export(study: Path, refused: Callable[..., str], small_disk: Path) -> None:
    said = refused("ExportError", "export", "--out", study / "out", "--trial", "base", small_disk / "merged")
    assert "the disk is full; nothing was kept" in said
    assert list(small_disk.iterdir()) == []


def test_a_really_full_disk_on_search(config: Path, small_disk: Path, tmp_path: Path) -> None:
    done = run(*search(config), "--out", small_disk, cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "StudyError" in done.err and "Traceback" not in done.err and "This is a bug" not in done.err
    assert str(small_disk) in done.message
    assert not (small_disk / "verdict.json").exists()


# --- the study ---------------------------------------------------------------------------------------------------


def test_a_study_of_another_config(study: Path, refused: Callable[..., str]) -> None:
    edit(study / "world.yaml", "[0.45, 0.75]", "[0.45, 0.8]")
    edit(study / "world.yaml", "{recall: 1, say: 2}", "{recall: 1, say: 3}")
    said = refused("StudyMismatch", "search", study / "world.yaml", "--budget", 9, "--out", study / "out")
    assert "config.parameters.weight.range: [0.45, 0.75] → [0.45, 0.8]" in said
    assert "config.objective.say: 2.0 → 3.0" in said
    assert "--study NAME" in said


def test_a_study_of_other_items_or_models(studied: Path, study: Path, refused: Callable[..., str]) -> None:
    again = ("search", study / "world.yaml", "--budget", 9, "--out", study / "out")
    edit(study / "teacher.jsonl", '"id": "q0"', '"id": "q00"')
    assert "skill.recall: " in refused("StudyMismatch", *again)
    edit(study / "teacher.jsonl", '"id": "q00"', '"id": "q0"')
    text = (study / "world.yaml").read_text()
    math = next(part for part in text.replace(",", " ").split() if part.endswith("/math"))
    edit(study / "world.yaml", math, math.replace("/math", "/coding"))
    assert "model.math: " in refused("StudyMismatch", *again)


def test_two_drivers_at_once(config: Path, study: Path, refused: Callable[..., str]) -> None:
    again = ("search", study / "world.yaml", "--budget", 12, "--out", study / "out")
    with FileLock(study / "out" / "study.lock"):
        said = refused("StudyBusy", *again)
    assert f"{study / 'out'} another automerge is searching in this study" in said


def test_a_trial_that_is_not_there(study: Path, refused: Callable[..., str]) -> None:
    for command in (("show", "99"), ("export", "--trial", "99", "merged")):
        said = refused("StudyError", *command, "--out", study / "out")
        assert "no trial or baseline '99'" in said and "Trials 0 to 0" in said and "plain_average" in said


def test_a_near_name_in_a_study(study: Path, automerge: Command, refused: Callable[..., str]) -> None:
    assert "(did you mean 'plain_average'?)" in refused("StudyError", "show", "plain_averag", "--out", study / "out")
    said = refused("ConfigError", "reweigh", "--weights", "recal=2", "--out", study / "out")
    assert "(did you mean 'recall'?)" in said and said.endswith("More: docs/study.md")
    for weights in ("recall", "recall=x", "recall=0"):
        done = automerge("reweigh", "--weights", weights, "--out", study / "out")
        assert done.code == 2 and "--weights" in done.err
    done = automerge("verify", study, "--model", "x")
    assert done.code == 2 and "--model" in done.err and "NAME=PATH" in done.err


def test_the_base_is_not_set_beside_itself(study: Path, automerge: Command) -> None:
    alone = automerge("show", "base", "--out", study / "out").out
    assert "base's answer" not in alone and sum(line.startswith(" base ") for line in alone.splitlines()) == 1
    assert "base's answer" in automerge("show", "plain_average", "--out", study / "out").out


def test_a_folder_that_is_no_study(refused: Callable[..., str]) -> None:
    Path("empty").mkdir()
    for command in (("trials",), ("show", "0"), ("export", "merged")):
        assert "empty no study in this folder" in refused("StudyError", *command, "--out", "empty")
    assert "no study in results/" in refused("StudyError", "trials")
    Path("empty/study.json").write_text("{oops")
    assert "empty no study in this folder" in refused("StudyError", "trials", "--out", "empty")
    Path("empty/study.json").write_text('{"study": "x"}')
    assert "empty" in refused("StudyError", "trials", "--out", "empty")


@pytest.mark.parametrize("spoil", ["noise", "empty", "truncated", "other"])
def test_a_corrupt_study_database(study: Path, refused: Callable[..., str], spoil: str) -> None:
    spoil_database(study / "out" / "study.db", spoil)
    again = ("search", study / "world.yaml", "--budget", 9, "--out", study / "out")
    for command in (again, ("trials", "--out", study / "out")):
        if command is again and spoil in ("empty", "other"):
            continue  # a new study is begun in an empty file
        assert "study.db" in refused("StudyError", *command)


@pytest.mark.parametrize("spoil", ["noise", "truncated", "other"])
def test_a_corrupt_answer_store(study: Path, refused: Callable[..., str], spoil: str) -> None:
    spoil_database(study / "out" / "answers.db", spoil)
    more = ("search", study / "world.yaml", "--budget", 10)
    for command in (more, ("show", "0")):
        assert "answers.db" in refused("StudyError", *command, "--out", study / "out")


def spoil_database(path: Path, how: str) -> None:
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    data = path.read_bytes()
    if how == "noise":
        path.write_bytes(b"noise" * (len(data) // 5))
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
        with sqlite3.connect(path) as database:
            if how == "other":
                database.execute("CREATE TABLE mine (x)")


def test_a_storage_in_no_folder(config: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("StudyError", *search(config), "--storage", f"sqlite:///{tmp_path}/none/a.db")
    assert "--storage" in said and "no such folder" in said and not (tmp_path / "none").exists()


def test_a_storage_that_is_none(config: Path, automerge: Command) -> None:
    for url in ("nonsense", "nosuch://x/y", "postgresql://me:secret@127.0.0.1:1/x"):
        done = automerge(*search(config), "--out", "out", "--storage", url)
        assert (done.code, done.out) == (1, ""), url
        assert "StudyError" in done.err and "the storage cannot be opened" in done.message
        assert "secret" not in done.err
        assert snapshot() == ["out", "out/study.lock"]


# --- recipes -----------------------------------------------------------------------------------------------------


def test_a_recipe_that_is_none(refused: Callable[..., str]) -> None:
    assert "nothing.json cannot read the recipe" in refused("ConfigError", "merge", "nothing.json", "merged")
    Path("recipe.json").write_text("{}")
    assert "recipe.json not a recipe: missing key 'format'" in refused("ConfigError", "merge", "recipe.json", "merged")


def test_a_recipe_whose_models_changed(tmp_path: Path, automerge: Command, refused: Callable[..., str]) -> None:
    models = make_models(tmp_path / "models")
    config = make_world(tmp_path / "world", models)
    assert automerge("search", config, "--budget", 2, "--out", tmp_path / "out").code == 3
    assert automerge("export", "--out", tmp_path / "out", "--trial", "base", "merged").code == 0
    reshape(models / "math", lambda t: t[NORM].mul_(2))
    said = refused("SourceError", "merge", "merged/recipe.json", "again")
    assert "math differs from the recipe's" in said
    assert "math differs from the recipe's" in refused(
        "SourceError", "export", "--out", tmp_path / "out", "--trial", "base", "again"
    )


# --- eval --------------------------------------------------------------------------------------------------------


def test_eval_of_nothing(config: Path, cli_models: Path, refused: Callable[..., str]) -> None:
    skill = config.parent / "say.yaml"
    assert "nowhere no such folder" in refused("SourceError", "eval", "nowhere", "--skills", skill)
    assert "nothing.yaml no such skill file" in refused(
        "ConfigError", "eval", cli_models / "base", "--skills", "nothing.yaml"
    )
    Path("kept.db").write_text("noise " * 1000)
    said = refused("StudyError", "eval", cli_models / "base", "--skills", skill, "--answers", "kept.db")
    assert "kept.db not a sound answer store" in said


@pytest.mark.parametrize("command", ["eval", "compare", "gate"])
def test_a_model_that_is_not_here_is_found_before_any_item(
    cli_models: Path, refused: Callable[..., str], command: str
) -> None:
    one = cli_models / "base"
    models = (one, "--against", "nowhere") if command == "gate" else (one, "nowhere")
    Path("far.yaml").write_text("data: {path: none.jsonl}\nprompt: x\nscorer: {type: exact}\n")
    assert "nowhere no such folder" in refused("SourceError", command, *models, "--skills", "far.yaml")


def test_answers_that_are_not_here_are_missed_before_any_item(refused: Callable[..., str]) -> None:
    Path("far.yaml").write_text("data: {path: none.jsonl}\nprompt: x\nscorer: {type: exact}\n")
    said = refused("SkillError", "score", "--skill", "far.yaml", "--answers", "nope.jsonl")
    assert "nope.jsonl cannot read the answers" in said
