"""The transformers engine serves exactly what the merge computes and the export writes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge.config import EngineConfig
from automerge.engine import transformers as module
from automerge.engine.start import start_engine
from automerge.engine.transformers import TransformersEngine
from automerge.errors import EngineError, MergeError, SkillError
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import Merge, Models, open_models
from automerge.merge.sparse.rows import rows_ref, write_rows
from automerge.recipe import Group, Mixture, Recipe, make_recipe
from automerge.records import Prompt, Sampling
from tests.merge.helpers import edit_json, recipe_of
from tests.peers.pico import MIXTURES, pico_base, pico_fine_tune
from tests.tiny import CHAT_TEMPLATE, fine_tune_of, lora_of, tiny_llama, tiny_tokenizer

TEXTS = ("one two three", "1+1=", "z", "a longer text than the others, by far")
TAILS = ("4", " and so on", "yes", "12")
MakeFamily = Callable[..., Models]


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> MakeFamily:
    """A base, two fine-tunes (`talker` with a template of its own) and an adapter; made once an argument."""
    made: dict[Any, Models] = {}

    def make(dtype: torch.dtype = torch.float32, tied: bool = False) -> Models:
        if (dtype, tied) not in made:
            root: Path = tmp_path_factory.mktemp("served")
            base = tiny_llama(root / "base", seed=7, dtype=dtype, tied=tied)
            full = fine_tune_of(base, root / "full", 1, scale=1.0)
            talker = fine_tune_of(base, root / "talker", 2, scale=1.0)
            tiny_tokenizer(talker, chat_template="talk! " + CHAT_TEMPLATE)
            adapter = lora_of(base, root / "adapter", 3)
            sources = {"full": str(full), "talker": str(talker), "adapter": str(adapter)}
            made[dtype, tied] = open_models(str(base), sources)
        return made[dtype, tied]

    return make


@pytest.fixture
def models(make_family: MakeFamily) -> Models:
    return make_family()


@pytest.fixture
def served(models: Models) -> TransformersEngine:
    """Weights are applied, and `full` weighs so much that answers are not those of the base."""
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    engine.apply(recipe(models))
    return engine


def recipe(models: Models, *, dtype: str = "float32", tokenizer: str = "base") -> Recipe:
    weights = ({"full": 0.7, "talker": 0.3, "adapter": 1.0}, {"full": 0.2, "talker": 0.9, "adapter": -0.5})
    groups = tuple(
        Group((layer, layer + 1), "all", {"weight": values, "drop": {"full": 0.5, "talker": 0.0, "adapter": 0.1}})
        for layer, values in enumerate(weights)
    )
    return recipe_of(models, "dare_linear", groups=groups, dtype=dtype, seed=5, tokenizer=tokenizer)


def prompts(engine: TransformersEngine) -> list[Prompt]:
    return [engine.encode(text) for text in TEXTS]


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("stored", "merged", "serves"),
    [
        (torch.float32, "float32", "auto"),
        (torch.float32, "bfloat16", "auto"),
        (torch.bfloat16, "bfloat16", "auto"),
        (torch.bfloat16, "bfloat16", "bfloat16"),
        (torch.bfloat16, "float32", "float32"),
    ],
)
def test_the_module_holds_the_merge_to_the_bit(
    make_family: MakeFamily, tied: bool, stored: torch.dtype, merged: str, serves: Any
) -> None:
    models = make_family(stored, tied)
    engine = TransformersEngine(models, EngineConfig(device="cpu", dtype=serves))
    merge = Merge(recipe(models, dtype=merged), models)
    wanted = dict(merge.tensors())
    applied = engine.apply(merge.recipe)
    assert (applied.checksum, applied.bytes) == (merge.checksum, merge.bytes)
    held = dict(engine._model.named_parameters(remove_duplicate=False))
    assert ("lm_head.weight" in wanted) == (not tied)
    assert held.keys() == wanted.keys() | {"lm_head.weight"}
    bits = torch.int16 if merged == "bfloat16" else torch.int32
    for name, tensor in wanted.items():
        assert torch.equal(held[name].to(tensor.dtype).view(bits), tensor.view(bits))
        assert torch.equal(held[name].float(), tensor.float())
    if tied:
        assert held["lm_head.weight"].data_ptr() == held["model.embed_tokens.weight"].data_ptr()


def test_a_second_merge_leaves_nothing_of_the_first(models: Models, served: TransformersEngine) -> None:
    fresh = TransformersEngine(models, EngineConfig(device="cpu"))
    plain = recipe_of(models, "linear", {"weight": {"full": 1.0, "talker": 0.0, "adapter": 0.0}})
    assert served.apply(plain).checksum == fresh.apply(plain).checksum
    for one, other in zip(served._model.parameters(), fresh._model.parameters(), strict=True):
        assert torch.equal(one, other)
    few = Sampling(max_tokens=8)
    assert served.generate(prompts(served), few) == fresh.generate(prompts(fresh), few)


# --- what ships is what was scored -------------------------------------------------------------------------------


@pytest.fixture(params=[(torch.float32, "float32", False), (torch.bfloat16, "bfloat16", True)], ids=["fp32", "bf16"])
def shipped(
    request: pytest.FixtureRequest, make_family: MakeFamily, tmp_path: Path
) -> tuple[TransformersEngine, Any, Any]:
    """An engine with a merge applied; transformers' own model and tokenizer from that merge's export."""
    stored, merged, tied = request.param
    models = make_family(stored, tied)
    engine = TransformersEngine(models, EngineConfig(device="cpu", dtype=merged))
    checksum = engine.apply(recipe(models, dtype=merged)).checksum
    write_checkpoint(recipe(models, dtype=merged), models, tmp_path / "out", expected_checksum=checksum)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=merged)
    return engine, model.eval(), AutoTokenizer.from_pretrained(tmp_path / "out")


def test_greedy_tokens_one_at_a_time_are_the_exports(shipped: tuple[TransformersEngine, Any, Any]) -> None:
    engine, model, tokenizer = shipped
    answers = set()
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt").input_ids
        (prompt,) = [engine.encode(text)]
        assert list(prompt.token_ids) == ids[0].tolist()
        with torch.inference_mode():
            tokens = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
        (answer,) = engine.generate([prompt], Sampling(max_tokens=20))
        assert answer.text == tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.tokens == len(tokens)
        answers.add(answer.text)
    assert len(answers) > 1


def test_log_likelihoods_one_at_a_time_are_the_exports(shipped: tuple[TransformersEngine, Any, Any]) -> None:
    """Taken from all of the logits, without padding, mask or a cut to the last positions."""
    engine, model, tokenizer = shipped
    for text, tail in zip(TEXTS, TAILS, strict=True):
        head = tokenizer(text).input_ids
        ids = head + tokenizer(tail, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0].float()
        wanted = [
            float(logits[position - 1, ids[position]] - logits[position - 1].logsumexp(0))
            for position in range(len(head), len(ids))
        ]
        (found,) = engine.loglikelihood([engine.encode(text)], [tail])
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-5)


def test_logits_are_the_exports_to_the_bit(shipped: tuple[TransformersEngine, Any, Any]) -> None:
    engine, model, tokenizer = shipped
    ids = tokenizer(TEXTS[3], return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(engine._model(ids).logits, model(ids).logits)


# --- batches -----------------------------------------------------------------------------------------------------


def test_log_likelihoods_do_not_depend_on_the_batch(served: TransformersEngine) -> None:
    asked = prompts(served)
    together = served.loglikelihood(asked, TAILS)
    for prompt, tail, found in zip(asked, TAILS, together, strict=True):
        (alone,) = served.loglikelihood([prompt], [tail])
        assert found.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-4)
    assert len({result.token_logprobs for result in together}) == len(TAILS)


def test_padding_moves_no_position(served: TransformersEngine) -> None:
    """Llama's positions are relative, so its answers would not tell; those of other models would."""
    given: list[dict[str, torch.Tensor]] = []
    served._model.register_forward_pre_hook(lambda _, __, kwargs: given.append(kwargs), with_kwargs=True)
    served.loglikelihood(prompts(served), TAILS)
    ((mask, positions),) = [(call["attention_mask"], call["position_ids"]) for call in given]
    assert mask.min() == 0
    for row, places in zip(mask.bool(), positions, strict=True):
        assert places[row].tolist() == list(range(int(row.sum())))


@pytest.mark.parametrize("batch_tokens", [1, 40, 64, 16384])
def test_a_batch_is_bounded(models: Models, served: TransformersEngine, batch_tokens: int) -> None:
    engine = TransformersEngine(models, EngineConfig(device="cpu", batch_tokens=batch_tokens))
    engine.apply(recipe(models))
    shapes: list[torch.Size] = []
    engine._model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    found = engine.loglikelihood(prompts(engine), TAILS)
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert all(rows == 1 or rows * length <= batch_tokens for rows, length in shapes)
    assert (len(shapes) == 1) == (batch_tokens == 16384)
    for one, other in zip(found, served.loglikelihood(prompts(served), TAILS), strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)
    assert [a.text for a in engine.generate(prompts(engine), Sampling(max_tokens=8))] == [
        a.text for a in served.generate(prompts(served), Sampling(max_tokens=8))
    ]


def test_logits_are_bounded_too(served: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = served.loglikelihood(prompts(served), TAILS)
    rows: list[int] = []
    served._model.register_forward_pre_hook(
        lambda _, __, given: rows.append(given["input_ids"].shape[0]), with_kwargs=True
    )
    monkeypatch.setattr(module, "LOGIT_BYTES", 1)
    found = served.loglikelihood(prompts(served), TAILS)
    assert rows == [1] * len(TEXTS)
    for one, other in zip(found, wanted, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


def test_an_end_token_ends_one_answer_and_not_its_neighbours(models: Models, tmp_path: Path) -> None:
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    engine.apply(recipe(models))
    free = engine.generate(prompts(engine), Sampling(max_tokens=12))
    letter = free[0].text[4]
    folder = shutil.copytree(models.base.folder, tmp_path / "base")
    edit_json(folder / "generation_config.json", eos_token_id=[2, engine.encode(letter).token_ids[-1]])
    ending = open_models(str(folder), {ref.name: ref.path for ref in models.source_refs})
    engine = TransformersEngine(ending, EngineConfig(device="cpu"))
    engine.apply(recipe(ending))
    found = engine.generate(prompts(engine), Sampling(max_tokens=12))
    for before, after in zip(free, found, strict=True):
        text, at, _ = before.text.partition(letter)
        assert after.text == text
        assert after.finish == ("stop" if at else before.finish)
    assert found[0].tokens <= 5
    assert max(answer.tokens for answer in found) > found[0].tokens


# --- chat --------------------------------------------------------------------------------------------------------

TURNS = [{"role": "user", "content": "one two"}]


def test_the_chat_template_is_that_of_the_recipes_tokenizer(models: Models, served: TransformersEngine) -> None:
    assert served.render(TURNS).text == "user: one two\nassistant: "
    served.apply(recipe(models, tokenizer="talker"))
    assert served.render(TURNS).text == "talk! user: one two\nassistant: "
    served.apply(recipe(models, tokenizer="adapter"))  # has no tokenizer: the base's
    assert served.render(TURNS).text == "user: one two\nassistant: "


def test_a_template_adds_its_own_special_tokens(served: TransformersEngine) -> None:
    begin = served.encode("").token_ids
    assert begin == (1,)
    rendered = served.render(TURNS)
    assert begin + rendered.token_ids == served.encode(rendered.text).token_ids


def bare(folder: Path, template: str | None) -> TransformersEngine:
    base = tiny_llama(folder / "base", chat_template=template)
    models = open_models(str(base), {"x": str(fine_tune_of(base, folder / "x", 1))})
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    engine.apply(recipe_of(models, "linear"))
    return engine


def test_no_chat_template(tmp_path: Path) -> None:
    with pytest.raises(SkillError, match="the model's tokenizer has no chat template\nSet `chat: false`"):
        bare(tmp_path, None).render(TURNS)


def test_a_chat_template_that_refuses(tmp_path: Path) -> None:
    engine = bare(tmp_path, "{{ raise_exception('no system turn, please') }}")
    with pytest.raises(SkillError, match="chat template refuses the skill's turns: no system turn, please"):
        engine.render(TURNS)


# --- sampling ----------------------------------------------------------------------------------------------------

WARM = Sampling(max_tokens=12, temperature=1.0, top_p=0.9, seed=3)


def test_sampled_answers_are_the_same_twice_whoever_asks_beside(served: TransformersEngine) -> None:
    asked = prompts(served)
    found = served.generate(asked, WARM)
    assert served.generate(asked, WARM) == found
    assert served.generate(asked[::-1], WARM) == found[::-1]
    assert [served.generate([prompt], WARM)[0] for prompt in asked] == found
    assert found != served.generate(asked, Sampling(max_tokens=12))
    assert found != served.generate(asked, Sampling(max_tokens=12, temperature=1.0, top_p=0.9, seed=4))


@pytest.mark.parametrize("sampling", [WARM, Sampling(max_tokens=4)], ids=["sampled", "greedy"])
def test_the_global_generator_is_left_alone(served: TransformersEngine, sampling: Sampling) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = served.generate(prompts(served), sampling)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert served.generate(prompts(served), sampling) == first


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long(served: TransformersEngine) -> None:
    fits, long = served.encode("a" * 245), served.encode("b" * 246)
    assert len(served.generate([fits], Sampling(max_tokens=10))) == 1
    message = "a prompt of 247 tokens and 10 more exceed the context of 256: 'bbb"
    with pytest.raises(EngineError, match=message) as caught:
        served.generate([fits, long], Sampling(max_tokens=10))
    assert caught.value.hint == "Drop the item, or lower sampling.max_tokens."
    with pytest.raises(EngineError, match=message):
        served.loglikelihood([fits, long], ["1234567890", "1234567890"])


def test_each_prompt_is_held_to_its_own_continuation(served: TransformersEngine) -> None:
    found = served.loglikelihood([served.encode("a" * 250), served.encode("b")], ["c", "d" * 50])
    assert [len(result.token_logprobs) for result in found] == [1, 50]


def edited(models: Models, folder: Path, **config: object) -> Models:
    base = shutil.copytree(models.base.folder, folder / "base")
    edit_json(base / "config.json", **config)
    return open_models(str(base), {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"attention_bias": True},  # fewer layers or tokens than it promises are found when it is opened
            "the checkpoint lacks 8 parameters of the model, the first: model.layers.0.self_attn.q_proj.bias",
        ),
        (
            {"num_hidden_layers": 1},
            "the model has no parameter for 9 tensors of the checkpoint, the first: model.layers.1.input_layernorm",
        ),
        (
            {"model_type": "nonesuch"},
            "the model cannot be loaded: The checkpoint you are trying to load has model type",
        ),
        ({"vocab_size": 63}, "the model cannot be loaded: "),
        ({"num_attention_heads": 3}, "the model cannot be loaded: "),
    ],
)
def test_a_config_that_does_not_fit_its_weights(
    models: Models, tmp_path: Path, config: dict[str, object], message: str
) -> None:
    odd = edited(models, tmp_path, **config)
    with pytest.raises(EngineError) as caught:
        TransformersEngine(odd, EngineConfig(device="cpu"))
    assert message in caught.value.message and "\n" not in caught.value.message
    assert caught.value.where == str(tmp_path / "base")


def test_no_tokenizer(models: Models, tmp_path: Path) -> None:
    base = shutil.copytree(models.base.folder, tmp_path / "base")
    for path in base.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(EngineError, match="the tokenizer cannot be loaded: ") as caught:
        TransformersEngine(open_models(str(base), {}), EngineConfig(device="cpu"))
    assert caught.value.where == str(base)


@pytest.mark.parametrize("device", ["nonsense", "cuda:77", "cpu:x"])
def test_a_device_that_is_not_there(models: Models, device: str) -> None:
    with pytest.raises(EngineError, match=f"^engine.device: device '{device}' cannot be used: ") as caught:
        TransformersEngine(models, EngineConfig(device=device))
    assert len(caught.value.message) < 300


def test_a_merge_that_fails_before_it_starts_serves_nothing(models: Models, served: TransformersEngine) -> None:
    with pytest.raises(MergeError, match="the sum of the weights is to be divided by, and is 0"):
        served.apply(recipe_of(models, "linear", {"weight": dict.fromkeys(models.sources, 0.0)}))
    with pytest.raises(EngineError, match="no weights are applied: call apply first, and again after one that failed"):
        served.generate(prompts(served), Sampling())


# --- starting ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_says_what_may_change_an_answer(make_family: MakeFamily) -> None:
    models = make_family(torch.bfloat16)
    configs = [EngineConfig(device="cpu"), EngineConfig(device="cpu", dtype="bfloat16")]
    configs.append(EngineConfig(device="cpu", batch_tokens=99))
    found = [start_engine(models, config).fingerprint for config in configs]
    assert len(set(found)) == 3
    assert f"torch {torch.__version__}" in found[0] and "cpu, float32, batch 16384" in found[0]
    assert "cpu, bfloat16" in found[1] and "batch 99" in found[2]


def test_an_engine_that_would_round_the_merge_again_is_refused(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "base", seed=0)
    fine_tune_of(tmp_path / "base", tmp_path / "one", seed=1)
    models = open_models(str(tmp_path / "base"), {"one": str(tmp_path / "one")})
    engine = TransformersEngine(models, EngineConfig(dtype="bfloat16"))
    whole = (Group((0, models.n_layers), "all", {"weight": {"one": 1.0}}),)
    recipe = make_recipe(
        method="linear",
        base=models.base_ref,
        sources=models.source_refs,
        groups=whole,
        options={},
        dtype="float32",
        seed=0,
    )
    with pytest.raises(EngineError, match="float32, which bfloat16 cannot hold"):
        engine.apply(recipe)


@pytest.mark.parametrize("architecture", sorted(MIXTURES))
def test_experts_are_merged_into_where_they_are_stacked(architecture: str, tmp_path: Path) -> None:
    base = pico_base(tmp_path / "base", architecture)
    tuned = pico_fine_tune(base, tmp_path / "far", 1, 2.0)
    models = open_models(str(base), {"far": str(tuned)})
    recipe = recipe_of(models, "dare_linear", {"weight": {"far": 0.7}, "drop": {"far": 0.3}})
    engine = TransformersEngine(models, EngineConfig.model_validate({"dtype": "float32"}))
    applied = engine.apply(recipe)
    write_checkpoint(recipe, models, tmp_path / "out", expected_checksum=applied.checksum)
    shipped = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    held = dict(engine._model.named_parameters())
    for name, parameter in shipped.named_parameters():
        assert torch.equal(parameter, held[name]), name


def test_dense_and_sparse_models_by_turns(models: Models, tmp_path: Path) -> None:
    """A mixture is served as its export is; another of the same shape goes into the same module; and back."""
    names = ["full", "talker", "adapter"]
    generator = torch.Generator().manual_seed(0)
    write_rows(tmp_path / "rows.st", {name: torch.randn(models.n_layers, 32, generator=generator) for name in names})
    dense = recipe(models)
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    prompts = [engine.encode(text) for text in TEXTS]
    module_before: object = None
    engine.apply(dense)
    first = engine.loglikelihood(prompts, TAILS)
    for experts, temperature in ((("full", "adapter"), 0.5), (("adapter", "talker"), 2.0)):
        mixture = Mixture("mixtral", experts, 1, rows_ref(tmp_path / "rows.st"), temperature)
        sparse = replace(dense, mixture=mixture)
        applied = engine.apply(sparse)
        assert module_before in (None, engine._model)
        module_before = engine._model
        out = tmp_path / experts[0]
        write_checkpoint(sparse, models, out, expected_checksum=applied.checksum)
        alone = TransformersEngine(open_models(str(out), {"itself": str(out)}), EngineConfig(device="cpu"))
        alone.apply(recipe_of(alone._models, "linear", {"weight": {"itself": 1.0}}))
        found, wanted = (one.loglikelihood(prompts, TAILS) for one in (engine, alone))
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.token_logprobs == pytest.approx(theirs.token_logprobs, abs=1e-4)
        assert found != first
    engine.apply(dense)
    assert engine.loglikelihood(prompts, TAILS) == first
