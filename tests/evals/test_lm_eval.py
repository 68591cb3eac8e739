"""lm-eval's tasks through our engines: document by document the scores of lm-eval's own model on the same folder."""

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from automerge.config import EngineConfig, GateRule, validate
from automerge.engine.fake import FakeEngine
from automerge.errors import ConfigError, SkillError
from automerge.evals import AnswerStore, evaluate, load_skill, mean, prepare
from automerge.evals.loaded import LoadedSkill
from automerge.evals.serve import serve
from automerge.records import ItemResult
from automerge.study.estimate import gate_needs
from tests.evals.helpers import serving
from tests.tiny import tiny_llama

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of its many dependencies
]
CHOICES = ["red", "blue", "green sky", "a"]

TASKS = {
    # the likelihood of choices, some of them long; lm-eval lists acc first
    "colours": """
output_type: multiple_choice
doc_to_text: "{{q}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
num_fewshot: 2
fewshot_config: {sampler: first_n}
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    # generated text, cut at a stop string, through a filter
    "sums": """
output_type: generate_until
doc_to_text: "{{q}} ="
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["e", "\\n\\n"], max_gen_toks: 6, do_sample: false}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: letters, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    # the likelihood of a text longer than the model's context
    "prose": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks over one file, and a model to ask."""
    folder = tmp_path_factory.mktemp("lm_eval")
    rows = [
        {
            "q": f"What colour is {n}?",
            "choices": CHOICES[n % 2 :],
            "gold": n % 3,
            "answer": "abc"[n % 3],
            "text": f"a text of {n} words, " * (3 + 8 * (n % 3)),
        }
        for n in range(24)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    for name, text in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.json}}}}\n"
        (folder / f"{name}.yaml").write_text(f"{head}test_split: test\nfewshot_split: test\n{text.lstrip()}")
    (folder / "both.yaml").write_text("group: both\ntask: [colours, sums]\n")
    tiny_llama(folder / "model", seed=3)
    return folder


@pytest.fixture(scope="module")
def theirs(folder: Path) -> dict[str, Any]:
    """What lm-eval itself finds: its results and its samples."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        found: dict[str, Any] = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder / "model"), "dtype": "float32", "max_length": 255},
            tasks=list(TASKS),
            task_manager=TaskManager(include_path=str(folder)),
            device="cpu",
            batch_size=4,
            bootstrap_iters=0,
            log_samples=True,
        )
    return found


def skill(folder: Path, task: str, **changes: Any) -> LoadedSkill:
    plain = {"use": f"lm_eval:{task}", "items": {"search": 0}, "block": 5, **changes}
    plain["data"] = {"include": str(folder), **plain.get("data", {})}
    return prepare(load_skill(plain, folder=folder), 0)


def ours(folder: Path, loaded: LoadedSkill) -> list[ItemResult]:
    served = serve(str(folder / "model"), None, EngineConfig(name="transformers", dtype="float32"))
    try:
        return evaluate(served.engine, served.checksum, loaded, "held_out", AnswerStore())
    finally:
        served.engine.close()


def samples(theirs: dict[str, Any], task: str, filter_: str) -> dict[str, dict[str, Any]]:
    return {str(one["doc_id"]): one for one in theirs["samples"][task] if one["filter"] == filter_}


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_choices(folder: Path, theirs: dict[str, Any], metric: str) -> None:
    found = ours(folder, skill(folder, "colours", scorer={"metric": metric}))
    wanted = samples(theirs, "colours", "none")
    assert len(found) == len(wanted) == 24
    assert {one.item: one.score.value for one in found} == {key: one[metric] for key, one in wanted.items()}
    assert mean(found)[0] == pytest.approx(theirs["results"]["colours"][f"{metric},none"])


@pytest.mark.parametrize("filter_", ["whole", "letters"])
def test_generated_text(folder: Path, theirs: dict[str, Any], filter_: str) -> None:
    found = ours(folder, skill(folder, "sums", scorer={"filter": filter_}))
    wanted = samples(theirs, "sums", filter_)
    assert {one.item: one.answer for one in found} == {key: one["resps"][0][0] for key, one in wanted.items()}
    assert {one.item: one.score.value for one in found} == {key: one["exact_match"] for key, one in wanted.items()}
    assert sum(one.tokens for one in found) > 0


def test_a_text_longer_than_the_context(folder: Path, theirs: dict[str, Any]) -> None:
    """Our score of a text is 1 ÷ perplexity, so that it lies in [0, 1]."""
    found = ours(folder, skill(folder, "prose"))
    for one in found:
        total, words = samples(theirs, "prose", "none")[one.item]["word_perplexity"]
        assert one.score.value == pytest.approx(2.718281828459045 ** (total / words), rel=1e-4)


def test_answers_are_kept(folder: Path) -> None:
    """The same documents again ask nothing; another metric of the same requests neither."""
    engine, checksum = serving(FakeEngine())
    store = AnswerStore()
    first = evaluate(engine, checksum, skill(folder, "colours"), "held_out", store)
    asked = len(engine.calls)
    assert asked == 1 + 5, "five blocks of 24 documents"
    assert evaluate(engine, checksum, skill(folder, "colours"), "held_out", store) == first
    evaluate(engine, checksum, skill(folder, "colours", scorer={"metric": "acc_norm"}), "held_out", store)
    assert len(engine.calls) == asked


def test_a_gate_of_a_task_has_its_items_estimated(folder: Path) -> None:
    rule = validate(GateRule, {"skill": "colours", "no_worse_than": "base"}, "here")
    needs = gate_needs(rule, skill(folder, "colours"))
    assert needs.held_out == 24 < needs.needed


def test_halves_and_groups(folder: Path) -> None:
    loaded = skill(folder, "both", items={"search": 10, "held_out": 20})
    halves = [{item.id for item in loaded.half(which)} for which in ("search", "held_out")]
    assert [len(half) for half in halves] == [10, 20] and not halves[0] & halves[1]
    assert {identity.split("/")[0] for half in halves for identity in half} == {"colours", "sums"}
    engine, checksum = serving(FakeEngine(lambda recipe, prompt: "abc"))
    found = evaluate(engine, checksum, loaded, "held_out", AnswerStore())
    assert [one.item for one in found] == [item.id for item in loaded.half("held_out")]
    assert skill(folder, "colours").hash != skill(folder, "colours", data={"shots": 0}).hash


def test_a_chat_template_is_the_models(folder: Path) -> None:
    engine, checksum = serving(FakeEngine(lambda recipe, prompt: "abc"))
    found = evaluate(engine, checksum, skill(folder, "sums", chat=True), "held_out", AnswerStore())
    assert all(one.prompt.startswith("<user>") and one.prompt.endswith("<assistant>") for one in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use": "lm_eval:colour"}, "lm-eval has no task or group of this name"),
        ({"data": {"include": "/nowhere"}}, "no such folder of tasks: /nowhere"),
        ({"scorer": {"metric": "f1"}}, "no metric 'f1'; the task gives: acc, acc_norm"),
        ({"scorer": {"filter": "x"}}, "no filter 'x'; the task has: none"),
        ({"prompt": "x"}, "the task says what is asked"),
        ({"scorer": {"type": "exact"}}, "the task scores its answers"),
    ],
)
def test_what_cannot_be(folder: Path, changes: dict[str, Any], said: str) -> None:
    engine, checksum = serving(FakeEngine())
    with pytest.raises((SkillError, ConfigError), match=said):
        evaluate(engine, checksum, skill(folder, "colours", **changes), "held_out", AnswerStore())
