"""Every command on a real small world: what it prints, what it leaves behind, how it exits."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from automerge.evals.store import AnswerStore
from automerge.recipe import read_recipe
from tests.cli.world import SOURCES, Done, make_world, run
from tests.tiny import lora_of

Command = Callable[..., Done]
COMMANDS = (
    "search",
    "check",
    "trials",
    "show",
    "export",
    "verify",
    "eval",
    "compare",
    "gate",
    "reweigh",
    "score",
    "merge",
)
BASELINES = ["base", *SOURCES, "plain_average", "task_arithmetic", "dare_0.5", "dare_0.9"]


@dataclass(frozen=True)
class Study:
    """A finished search: its config, its folder and what it printed."""

    config: Path
    out: Path
    done: Done


@pytest.fixture(scope="session")
def promoted(cli_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Every proposal lies near the teacher, and every baseline outside the search space."""
    folder = tmp_path_factory.mktemp("promoted")
    config = make_world(folder, cli_models, low=0.45, high=0.75)
    return Study(config, folder / "out", run("search", config, "--budget", 12, "--out", folder / "out", cwd=folder))


@pytest.fixture(scope="session")
def rejected(cli_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The base wrote the answers: no merge can keep the gate. Asked with --json, under results/."""
    folder = tmp_path_factory.mktemp("rejected")
    config = make_world(folder, cli_models, items="base")
    done = run("search", config, "--budget", 10, "--json", cwd=folder)
    return Study(config, folder / "results" / "world", done)


# --- search ------------------------------------------------------------------------------------------------------


def test_search_promotes_the_teachers_neighbour(promoted: Study) -> None:
    done = promoted.done
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    told = [line for line in lines if re.match(r"\[\d+/12\]", line)]
    assert [line.split("] ")[1].split(":")[0] for line in told] == [*BASELINES, *(f"trial {n}" for n in range(4))]
    assert "\x1b" not in done.out
    assert any(line.startswith("PROMOTED") for line in lines)
    assert f"automerge export --out {promoted.out} " in " ".join(done.out.split())
    verdict = json.loads((promoted.out / "verdict.json").read_text())
    winner = next(row for row in verdict["rows"] if row["name"] == verdict["winner"])
    assert all(
        winner["objective"]["estimate"] > row["objective"]["estimate"]
        for row in verdict["rows"]
        if row["name"] in BASELINES
    )


def test_search_json_is_one_object_and_rejection_exits_3(rejected: Study) -> None:
    done = rejected.done
    assert done.code == 3
    assert done.json["outcome"] == "REJECTED"
    assert done.json["winner"] is None
    assert len(done.out.splitlines()) == 1
    assert "[10/10]" in done.err  # the lines go where they do no harm
    assert json.loads((rejected.out / "verdict.json").read_text()).items() <= done.json.items()


def test_the_same_command_again_tells_the_same(promoted: Study, automerge: Command) -> None:
    again = automerge("search", promoted.config, "--budget", 12, "--out", promoted.out)
    assert again.code == 0
    assert again.out.count("; restored;") == 12
    verdict = next(line for line in promoted.done.out.splitlines() if line.startswith("PROMOTED"))
    assert verdict in again.out.splitlines()


def test_search_with_study_storage_and_seed(config: Path, automerge: Command, tmp_path: Path) -> None:
    database = tmp_path / "elsewhere.db"
    arguments = ("--study", "mine", "--storage", f"sqlite:///{database}")
    done = automerge("search", config, "--budget", 8, *arguments, "--seed", 5, "--json")
    assert done.code == 3
    assert done.json["folder"] == "results/mine"
    assert database.exists() and not Path("results/mine/study.db").exists()
    listed = automerge("trials", *arguments, "--json").json
    assert {row["label"] for row in listed} == set(BASELINES)
    shown = automerge("show", "dare_0.5", *arguments, "--json").json
    assert shown["recipe"]["seed"] == 5


# --- trials and show ---------------------------------------------------------------------------------------------


def test_a_gate_with_a_least_score(config: Path, automerge: Command) -> None:
    config.write_text(config.read_text().replace("no_worse_than: base, margin: 5%", "min: 0.05"))
    assert automerge("check", config).code == 0
    done = automerge("search", config, "--budget", 9, "--out", "out", "--json")
    assert done.code in (0, 3) and done.json["outcome"], done
    for command in (["trials"], ["show", "base"], ["report"], ["reweigh", "--weights", "say=1"]):
        assert automerge(*command, "--out", "out").code == 0
    assert automerge("export", "exported", "--trial", "base", "--out", "out").code == 0


def test_trials(promoted: Study, automerge: Command) -> None:
    done = automerge("trials", "--out", promoted.out)
    assert (done.code, done.err) == (0, "")
    assert all(label in done.out for label in (*BASELINES, "trial 3", "PROMOTED"))


def test_trials_json(promoted: Study, automerge: Command) -> None:
    rows = automerge("trials", "--out", promoted.out, "--json").json
    assert [row["label"] for row in rows] == [*BASELINES, *(f"trial {n}" for n in range(4))]
    assert [row["number"] for row in rows] == [None] * 8 + [0, 1, 2, 3]
    assert all(row["state"] == "complete" and re.fullmatch(r"[0-9a-f]{32}", row["checksum"]) for row in rows)
    for row in rows:
        assert row["value"] == pytest.approx((row["skills"]["recall"] + 2 * row["skills"]["say"]) / 3)
        assert set(row["params"]) == ({f"weight.{name}" for name in SOURCES} if row["number"] is not None else set())
        assert all(0.45 <= value <= 0.75 for value in row["params"].values())
    assert not next(row for row in rows if row["label"] == "dare_0.9")["feasible"]


def test_reweigh_ranks_by_other_weights_and_asks_nothing(promoted: Study, automerge: Command) -> None:
    done = automerge("reweigh", "--weights", "recall=1", "--out", promoted.out, "--json")
    ranked = done.json["ranked"]
    rows = automerge("trials", "--out", promoted.out, "--json").json
    scores = {row["label"]: row["skills"]["recall"] for row in rows if row["state"] == "complete" and row["feasible"]}
    assert {entry["label"]: entry["value"] for entry in ranked} == pytest.approx(scores)
    assert [entry["value"] for entry in ranked] == sorted(scores.values(), reverse=True)
    shown = automerge("reweigh", "--weights", "recall=1,say=3", "--out", promoted.out)
    assert shown.code == 0 and "export --trial" in shown.out and "[" in shown.out


@pytest.mark.parametrize(
    ("weights", "said"), [("nosuch=1", "no skill 'nosuch'"), ("recall=x", "recall=NUMBER"), ("recall=-1", "above 0")]
)
def test_reweigh_refuses_weights_that_are_none(promoted: Study, automerge: Command, weights: str, said: str) -> None:
    assert said in automerge("reweigh", "--weights", weights, "--out", promoted.out).message


def test_the_newest_study_is_found(rejected: Study, automerge: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rejected.out.parent.parent)
    assert "REJECTED" in automerge("trials").out
    assert automerge("trials", "--study", "world").code == 0


def test_show(promoted: Study, automerge: Command) -> None:
    done = automerge("show", 2, "--out", promoted.out, "--answers", 2)
    assert (done.code, done.err) == (0, "")
    row = next(r for r in automerge("trials", "--out", promoted.out, "--json").json if r["number"] == 2)
    assert row["checksum"] in done.out
    assert all(f"{row['params'][f'weight.{name}']:.3f}" in done.out for name in SOURCES)
    assert all(skill in done.out for skill in ("recall", "say"))
    assert len(set(re.findall(r"\bq\d+\b", done.out))) <= 4  # two answers a skill


@pytest.mark.parametrize("trial", ["3", "base", "trial 3"])
def test_show_json(promoted: Study, automerge: Command, trial: str) -> None:
    shown = automerge("show", trial, "--out", promoted.out, "--json").json
    assert shown["label"] == ("base" if trial == "base" else "trial 3")
    assert {ref["name"] for ref in shown["recipe"]["sources"]} == set(SOURCES)
    answers = {skill: {a["item"]: a["score"] for a in asked} for skill, asked in shown["answers"].items()}
    rows = {json.loads(line)["id"] for line in (promoted.config.parent / "teacher.jsonl").read_text().splitlines()}
    assert all(set(asked) <= rows and len(asked) >= 12 for asked in answers.values())
    assert set(answers["recall"].values()) <= {0.0, 1.0}
    kept = shown["answers"]["recall"]
    assert all(
        a["prompt"] and a["tokens"] > 0 and (a["score"] == 1 or a["detail"].startswith("expected")) for a in kept
    )


def test_show_of_the_answers_that_eval_kept(config: Path, cli_models: Path, automerge: Command) -> None:
    models = [str(cli_models / "base"), str(cli_models / "math")]
    skill = config.parent / "recall.yaml"
    assert automerge("eval", *models, "--skills", skill, "--answers", "kept.db").code == 0
    shown = automerge("show", "kept.db", "--json").json
    assert sorted(model["names"] for model in shown) == [[name] for name in models]
    for model in shown:
        asked = model["answers"]["recall"]
        assert len(asked) == 42 and all(one["prompt"] and one["score"] in (0.0, 1.0) for one in asked)
    text = automerge("show", "kept.db", "--answers", 1)
    assert (text.code, text.err) == (0, "")
    assert all(f"{model['names'][0]}, weights {model['checksum']}" in text.out for model in shown)
    assert text.out.count("recall: 42 answers, 0 unscored") == 2
    AnswerStore(Path("empty.db")).close()
    assert "no answers are kept here" in automerge("show", "empty.db").message
    Path("text.db").write_text("no database at all")
    assert "not a sound answer store" in automerge("show", "text.db").message


# --- export and merge --------------------------------------------------------------------------------------------


def test_export_of_what_was_promoted(promoted: Study, automerge: Command) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = automerge("export", "--out", promoted.out, "--json", "merged")
    assert done.code == 0
    verdict = json.loads((promoted.out / "verdict.json").read_text())
    rows = {row["label"]: row for row in automerge("trials", "--out", promoted.out, "--json").json}
    assert done.json["trial"] == verdict["winner"]
    assert done.json["checksum"] == rows[verdict["winner"]]["checksum"]

    tokenizer = AutoTokenizer.from_pretrained("merged")
    model = AutoModelForCausalLM.from_pretrained("merged")
    shown = automerge("show", rows[verdict["winner"]]["number"], "--out", promoted.out, "--json").json
    items = {r["id"]: r for r in map(json.loads, (promoted.config.parent / "teacher.jsonl").read_text().splitlines())}
    for asked in shown["answers"]["recall"][:8]:  # the model gives the answers that were scored
        ids = tokenizer(items[asked["item"]]["prompt"], return_tensors="pt").input_ids
        with torch.inference_mode():
            tokens = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
        assert tokenizer.decode(tokens, skip_special_tokens=True) == asked["answer"]

    card = Path("merged/README.md").read_text()
    assert "PROMOTED" in card and done.json["checksum"] in card
    recipe = read_recipe(Path("merged/recipe.json"))
    again = automerge("merge", "merged/recipe.json", "again", "--json")
    assert again.json["checksum"] == done.json["checksum"]
    assert Path("again/model.safetensors").read_bytes() == Path("merged/model.safetensors").read_bytes()
    assert read_recipe(Path("again/recipe.json")) == recipe

    about = json.loads(Path("merged/provenance.json").read_text())
    assert (about["candidate"], about["verdict"]) == (verdict["winner"], "PROMOTED")
    assert {model["name"] for model in about["models"]} == {"base", *SOURCES} and about["made_with"][0]["torch"]
    verified = automerge("verify", "merged", "--json")
    assert (verified.code, verified.json["checksum"], verified.json["recorded"]) == (0, done.json["checksum"], True)


def test_export_of_models_that_were_moved(
    promoted: Study, cli_models: Path, automerge: Command, tmp_path: Path
) -> None:
    """study.json has where they were when the study last ran, its trials' recipes where they were then."""
    moved = shutil.copytree(cli_models, tmp_path / "moved")
    study = shutil.copytree(promoted.out, tmp_path / "study")
    about = study / "study.json"
    about.write_text(about.read_text().replace(f'"path": "{cli_models}/', f'"path": "{moved}/'))
    assert automerge("export", "--out", study, "merged").code == 0
    recipe = read_recipe(Path("merged/recipe.json"))
    assert {ref.path for ref in (recipe.base, *recipe.sources)} == {f"{moved}/{name}" for name in ("base", *SOURCES)}
    assert automerge("verify", "merged").code == 0


def test_verify_names_what_differs(promoted: Study, automerge: Command) -> None:
    assert automerge("export", "--out", promoted.out, "merged").code == 0
    assert "are what the folder holds" in automerge("verify", "merged").out
    weights = Path("merged/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-2] + b"\0\1")
    done = automerge("verify", "merged")
    assert done.code == 1 and "provenance.json records checksum" in done.message
    wrong = automerge("verify", "merged", "--model", "base").message
    assert "expected NAME=PATH, got 'base'" in wrong


def test_export_of_any_trial_or_baseline(rejected: Study, automerge: Command) -> None:
    rows = {row["label"]: row for row in automerge("trials", "--out", rejected.out, "--json").json}
    number = max(row["number"] for row in rows.values() if row["number"] is not None)
    done = automerge("export", "--out", rejected.out, "--trial", number, "deep/merged")
    assert done.code == 0 and "as scored" in done.out
    assert rows[f"trial {number}"]["checksum"] in Path("deep/merged/README.md").read_text()
    done = automerge("export", "--out", rejected.out, "--trial", "plain_average", "average", "--json")
    assert done.json["checksum"] == rows["plain_average"]["checksum"]


def test_export_of_a_study_that_promoted_nothing(rejected: Study, automerge: Command) -> None:
    done = automerge("export", "--out", rejected.out, "merged")
    assert (done.code, done.out) == (3, "")
    assert "REJECTED" in done.err and "--trial N" in done.err
    assert not Path("merged").exists()


def test_export_keeps_what_is_there(promoted: Study, automerge: Command) -> None:
    Path("merged").mkdir()
    Path("merged/mine.txt").write_text("mine")
    done = automerge("export", "--out", promoted.out, "merged")
    assert done.code == 1 and "exists already, and is not an empty folder" in done.message
    assert [path.name for path in Path().rglob("*")] == ["merged", "mine.txt"]


def test_merge_prints_a_line(promoted: Study, automerge: Command) -> None:
    assert automerge("export", "--out", promoted.out, "merged").code == 0
    done = automerge("merge", "merged/recipe.json", "again")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"again: [\d.]+ MB in [\d.]+ s, checksum [0-9a-f]{32}", " ".join(done.out.split()))


# --- eval and check ----------------------------------------------------------------------------------------------


def test_eval_of_two_models(config: Path, cli_models: Path, automerge: Command) -> None:
    models = [cli_models / "base", cli_models / "math"]
    skills = [config.parent / "recall.yaml", config.parent / "say.yaml"]
    done = automerge("eval", *models, "--skills", f"{skills[0]},{skills[1]}", "--json", "--answers", "kept.db")
    first, second = done.json
    assert [first["model"], second["model"]] == [str(path) for path in models]
    assert set(first["skills"]) == set(second["skills"]) == {"recall", "say"}
    for skill, ahead in second["minus_first"].items():
        expected = second["skills"][skill]["estimate"] - first["skills"][skill]["estimate"]
        assert ahead["estimate"] == pytest.approx(expected)
        assert ahead["low"] <= ahead["estimate"] <= ahead["high"]
        assert ahead["n"] == 42
    assert first["minus_first"] == {}
    assert Path("kept.db").exists()

    table = automerge("eval", *models, "--skills", skills[0], "--skills", skills[1], "--half", "search")
    assert (table.code, table.err) == (0, "")
    assert "n = 12" in table.out and f"{second['skills']['say']['estimate']:.4f}" not in table.out  # another half


def test_eval_scores_as_the_search_did(promoted: Study, cli_models: Path, automerge: Command) -> None:
    skill = promoted.config.parent / "say.yaml"
    found = automerge("eval", cli_models / "coding", "--skills", skill, "--half", "search", "--json").json
    row = next(r for r in automerge("trials", "--out", promoted.out, "--json").json if r["label"] == "coding")
    assert found[0]["skills"]["say"]["estimate"] == pytest.approx(row["skills"]["say"], rel=1e-5)


def test_eval_of_an_adapter(config: Path, cli_models: Path, automerge: Command, tmp_path: Path) -> None:
    adapter = lora_of(cli_models / "base", tmp_path / "adapter", seed=4, scale=0.3)
    skill = config.parent / "say.yaml"
    done = automerge("eval", cli_models / "base", adapter, "--base", cli_models / "base", "--skills", skill, "--json")
    base, adapted = done.json
    assert adapted["minus_first"]["say"]["estimate"] != 0.0
    assert adapted["skills"]["say"]["n"] == base["skills"]["say"]["n"] == 42
    done = automerge("eval", adapter, "--skills", skill)
    assert done.code == 1 and "the base is an adapter" in done.message


def test_compare_pair_by_pair(config: Path, cli_models: Path, automerge: Command) -> None:
    models = [str(cli_models / name) for name in ("base", "math", "coding")]
    skills = f"{config.parent / 'recall.yaml'},{config.parent / 'say.yaml'}"
    found = automerge("compare", *models, "--skills", skills, "--items", 2, "--json").json
    assert [(pair["a"], pair["b"]) for pair in found] == [
        (models[0], models[1]),
        (models[0], models[2]),
        (models[1], models[2]),
    ]
    means = {row["model"]: row["skills"] for row in automerge("eval", *models, "--skills", skills, "--json").json}
    for pair in found:
        for skill, i in pair["differences"].items():
            apart = means[pair["a"]][skill]["estimate"] - means[pair["b"]][skill]["estimate"]
            assert i["estimate"] == pytest.approx(apart) and i["low"] <= i["estimate"] <= i["high"]
        gaps = [abs(item["scores"][0] - item["scores"][1]) for item in pair["items"]]
        assert len(gaps) == 2 and gaps == sorted(gaps, reverse=True) and gaps[0] > 0
        assert all(item["prompt"] and len(item["answers"]) == 2 for item in pair["items"])
    table = automerge("compare", *models[:2], "--skills", skills)
    assert (table.code, table.err) == (0, "")
    assert "no difference shown" in table.out or "is better" in table.out
    for given in (models[:1], [models[0], models[0]]):
        assert "two different models or more" in automerge("compare", *given, "--skills", skills).message
    for command in (["eval"], ["compare", models[1]], ["gate", "--against", models[1]]):
        assert "no skill is named" in automerge(*command, models[0], "--skills", ",").message
        assert "two skills are called" in automerge(*command, models[0], "--skills", f"{skills},{skills}").message
    started = automerge("eval", models[0], "/no/such/model", "--skills", skills)
    assert started.code == 1 and "/no/such/model" in started.err


def test_gate_says_yes_or_no_by_its_exit_code(config: Path, cli_models: Path, automerge: Command) -> None:
    base, skill = cli_models / "base", config.parent / "say.yaml"
    same = automerge("gate", base, "--against", base, "--skills", skill, "--margin", "1%", "--json")
    assert same.code == 3 and not same.json["met"]  # 42 equal scores do not show that others would differ so little
    (told,) = same.json["gates"]
    assert told["high"] > 0.0 and told["confidence"] == pytest.approx(0.9)  # all of what eval and compare tell
    assert told["estimate"] == 0.0 and told["low"] < told["bound"] < 0 and told["n"] == 42 < told["items_needed"]
    wide = automerge("gate", base, "--against", base, "--skills", skill, "--margin", 0.3, "--json")
    assert wide.code == 0 and wide.json["met"]
    shown = automerge("gate", cli_models / "math", "--against", base, "--skills", skill)
    assert shown.code in (0, 3) and ("passes" in shown.out or "does not pass" in shown.out)
    assert "expected a margin" in automerge("gate", base, "--against", base, "--skills", skill, "--margin", "x").message
    few = skill.with_name("few.yaml")
    few.write_text(re.sub("^items: .*$", "items: {search: 4, held_out: 4}", skill.read_text(), flags=re.M))
    refused = automerge("gate", cli_models / "base", "--against", base, "--skills", few)
    assert refused.code == 1 and "a gate needs at least 10 items, got 4 in the half held_out" in refused.message


def test_check(config: Path, automerge: Command) -> None:
    done = automerge("check", config)
    assert (done.code, done.err) == (0, "")
    assert all(word in done.out for word in (*SOURCES, "recall", "say", "memory", "time", "say no worse than base"))
    assert not Path("results").exists()


def test_check_of_mixtures(config: Path, automerge: Command) -> None:
    dense = automerge("check", config, "--json").json["estimate"]["memory_bytes"]
    experts = {name: {"positive_prompts": [f"a prompt for {name}"]} for name in ("math", "coding", "writing")}
    mixture = {"experts": experts, "num_experts": [2, 3], "experts_per_token": 1}
    config.write_text(config.read_text() + f"mixture: {json.dumps(mixture)}\n")
    told = " ".join(automerge("check", config).out.split())
    assert "MixtralForCausalLM: 2 or 3 experts of math, coding, writing (4 sets), 1 a token; router: hidden" in told
    found = automerge("check", config, "--json").json
    assert found["mixture"]["sets"] == 4 and found["parameters"] == 4
    assert found["estimate"]["memory_bytes"] > dense


def test_check_json(config: Path, automerge: Command) -> None:
    found = automerge("check", config, "--budget", 30, "--json").json
    assert (found["study"], found["method"], found["parameters"], found["layers"]) == ("world", "task_arithmetic", 3, 2)
    assert set(found["models"]) == {"base", *SOURCES}
    assert found["skills"]["say"]["search"] == 12 and found["skills"]["say"]["held_out"] == 42
    assert found["estimate"]["total_seconds"] > 30 * found["estimate"]["trial_seconds"] > 0


# --- usage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(automerge: Command, command: str) -> None:
    done = automerge(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert re.match(rf"\s*Usage: .* {command} \[OPTIONS\]", done.out) and "--json" in done.out


def test_help_lists_every_command(automerge: Command) -> None:
    done = automerge("--help")
    assert done.code == 0
    assert all(re.search(rf"^  {command} +\S", done.out, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serch"], "No such command 'serch'"),
        (["search", "--bugdet", "5"], "No such option"),
        (["search", "missing.yaml", "--budget", "0"], "expected trials such as 50, or time such as 45m, got '0'"),
        (["search", "missing.yaml", "--budget", "many"], "got 'many'"),
        (["search", "missing.yaml", "--budget", "10w"], "got '10w'"),
        (["search", "missing.yaml", "--budget", "-3"], "got '-3'"),
        (["search", "--seed", "x"], "Invalid value for '--seed'"),
        (["search", "--seed", "-1"], "Invalid value for '--seed'"),
        (["eval", "model", "--skills", "x", "--seed", "-1"], "Invalid value for '--seed'"),
        (["merge", "recipe.json", "out", "--seed", "-1"], "Invalid value for '--seed'"),
        (["show", "1", "--answers", "-1"], "Invalid value for '--answers'"),
        (["report", "-o", "."], "expected a file, got the folder ."),
        (["export", "out", "--push-to-hub", "name"], "expected OWNER/NAME, got 'name'"),
        (["check", "--budget", "0"], "Invalid value for '--budget'"),
        (["show"], "Missing argument"),
        (["export"], "Missing argument 'out'"),
        (["eval", "model"], "Missing option '--skills'"),
        (["eval", "model", "--skills", "x", "--half", "both"], "Invalid value for '--half'"),
        (["merge", "recipe.json"], "Missing argument"),
    ],
)
def test_usage_errors_exit_2(automerge: Command, arguments: list[str], said: str) -> None:
    done = automerge(*arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.message and "Traceback" not in done.err
    assert list(Path().iterdir()) == []


def test_a_traceback_with_debug_only(tmp_path: Path) -> None:
    plain = run("trials", "--out", "nowhere", cwd=tmp_path)
    assert plain.code == 1 and "Traceback" not in plain.err and "StudyError" in plain.err
    debug = run("--debug", "trials", "--out", "nowhere", cwd=tmp_path)
    assert debug.code == 1 and "Traceback" in debug.err and "automerge.errors.StudyError" in debug.err


def test_version(automerge: Command) -> None:
    done = automerge("--version")
    assert done.code == 0 and re.fullmatch(r"automerge \d+\.\d+\.\d+\S*\n", done.out)
