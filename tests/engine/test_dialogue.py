"""Generated tokens → answers: the text that they add to the prompt's, whatever a tokenizer does at a text's start."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from automerge.engine.dialogue import Dialogue
from automerge.records import Sampling
from tests.tiny import tiny_tokenizer

ANSWERS = ["    return x\n", " yes", "yes", "\n\n  a", "", "é €\U0001f600", "  "]
PROMPTS = ["def f(x):\n", "say yes: ", "x", "é"]


def llama() -> PreTrainedTokenizerBase:
    """As Llama 2's: a space before every text, which decoding takes off again; bytes for what it does not know."""
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁▁",
        "▁▁▁",
        "▁▁▁▁",
        *"returnyesxdf():",
    ]
    vocabulary: dict[str, int] = {}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    return LlamaTokenizer(vocab=vocabulary, merges=[("▁", "▁"), ("▁▁", "▁▁"), ("▁▁", "▁")])


def bytes_alone() -> PreTrainedTokenizerBase:
    """As GPT-2's, without merges: a token a byte."""
    core = Tokenizer(
        models.BPE({letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.fixture(scope="module", params=["llama", "bytes", "characters"])
def dialogue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dialogue:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "characters":
        tiny_tokenizer(folder)
    else:
        (llama() if request.param == "llama" else bytes_alone()).save_pretrained(folder)
    return Dialogue(str(folder))


def after(dialogue: Dialogue, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """The tokens of a prompt, and those that a model would generate to write the answer after it."""
    ids, whole = list(dialogue.encode(prompt).token_ids), list(dialogue.encode(prompt + answer).token_ids)
    if whole[: len(ids)] != ids:
        pytest.skip("no token ends between the two")
    return ids, whole[len(ids) :]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_what_it_adds_to_its_prompt(dialogue: Dialogue, prompt: str, answer: str) -> None:
    ids, row = after(dialogue, prompt, answer)
    known = dialogue.tokenizer.decode(dialogue.encode(prompt + answer).token_ids, skip_special_tokens=True)
    if known != prompt + answer:
        pytest.skip("the tokenizer cannot write this")
    assert dialogue.completion(ids, row, Sampling(max_tokens=9), frozenset(), 0).text == answer


def test_a_character_that_the_last_token_cuts_off_harms_nothing_before_it(dialogue: Dialogue) -> None:
    ids, row = after(dialogue, "x\n", "  ye€")
    found = dialogue.completion(ids, row[:-1], Sampling(max_tokens=9), frozenset(), 0).text
    assert found.startswith("  y")


def test_an_answer_after_nothing_readable_is_decoded_alone(dialogue: Dialogue) -> None:
    row = dialogue.tokens("yes")
    assert dialogue.completion([], row, Sampling(max_tokens=9), frozenset(), 0).text == dialogue.tokenizer.decode(row)


def test_stop_strings_and_ends_are_looked_for_in_the_answer_alone(dialogue: Dialogue) -> None:
    ids, row = after(dialogue, "x\n", " yes\nx")
    sampling = Sampling(max_tokens=9, stop=("x\n", "\nx"))
    assert dialogue.completion(ids, row, sampling, frozenset(), 0).text == " yes"
    ends = frozenset(row[-1:])
    found = dialogue.completion(ids, row, Sampling(max_tokens=9), ends, 0)
    assert (found.text, found.finish) == (" yes\n", "stop")
