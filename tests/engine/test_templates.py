"""Templates in their limited process: what honest ones give, and how those that loop, allocate or escape end."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from automerge.engine.dialogue import Dialogue
from automerge.engine.templates import client, host
from automerge.engine.templates.client import TemplateFailure, compile_skill, render_chat, render_skill
from automerge.errors import SkillError
from tests.tiny import tiny_tokenizer

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
TURNS = [{"role": "system", "content": "<b>"}, {"role": "user", "content": "ä & 'b'"}]
CHAT = [
    "{% for m in messages %}{{ m.role }}: {{ m['content'] | tojson }}\n{% endfor %}{{ bos_token }}",
    "{%- for m in messages %}\n  {% if loop.last %}{% break %}{% endif %}\n{{ m.content }}\n{% endfor %}",
    "{% generation %}{{ messages[1].content | upper }}{% endgeneration %}{{ unknown }}|{{ tools is none }}",
    "{% if add_generation_prompt %}assistant: {% endif %}{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process of these tests is allowed one second, and is theirs alone."""
    start = client._START.replace("main()", "import automerge.engine.templates.host as h; h.CPU_SECONDS = 1; main()")
    client._child.end()
    monkeypatch.setattr(client, "_START", start)
    yield
    client._child.end()


@pytest.mark.parametrize("template", CHAT)
def test_chat_templates_give_what_transformers_gives(tmp_path: Path, template: str) -> None:
    folder = tiny_tokenizer(tmp_path, chat_template=template)
    reference = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        TURNS, tokenize=False, add_generation_prompt=True
    )
    assert Dialogue(str(folder)).render(TURNS).text == reference


def test_the_date_is_pinned(tmp_path: Path) -> None:
    assert render_chat("{{ strftime_now('%d %b %Y') }}", {}) == "26 Jul 2024"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, r"more than \d s of CPU time"),
        ("{{ 10 ** (10 ** 9) + n }}", "of CPU time"),
        ("{{ 'x' * 10 ** 10 }}", "more than 512 MiB of memory"),
        ("{{ 'x' * n * 10 ** 10 }}", "more than 512 MiB of memory"),
        ("{{ 'x' * (5 * 10 ** 6) }}", "gives 5,000,000 characters"),
    ],
)
def test_what_takes_too_much_is_ended(template: str, said: str) -> None:
    began = time.monotonic()
    found = render_skill([("{{ n }}", {"n": 1}), (template, {"n": 1}), ("{{ n }}", {"n": 2})])
    assert found[0] == "1" and isinstance(found[1], TemplateFailure) and found[1].kind == "limit"
    with pytest.raises(TemplateFailure, match=said):
        raise found[1]
    assert time.monotonic() - began < client.WALL_SECONDS
    assert render_skill([("{{ n }}", {"n": 3})]) == ["3"], "and the next one is rendered as if nothing had been"


def test_compiling_is_limited_too() -> None:
    with pytest.raises(TemplateFailure, match="of CPU time"):
        compile_skill("{% set a = 10 ** (10 ** 9) %}")
    with pytest.raises(TemplateFailure, match="line 2: No filter named 'nope'"):
        compile_skill("\n{{ a | nope }}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, "the model's chat template takes more than"),
        ("{{ raise_exception('roles must alternate') }}", "refuses the skill's turns: roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__'"),
        ("{{ messages[9].content }}", "the model's chat template failed"),
        ("{% nope %}", "the model's chat template failed: line 1"),
    ],
)
def test_a_bad_chat_template_is_named(tmp_path: Path, template: str, said: str) -> None:
    folder = tiny_tokenizer(tmp_path, chat_template=template)
    with pytest.raises(SkillError) as caught:
        Dialogue(str(folder)).render(TURNS)
    assert said in caught.value.message and str(folder) in caught.value.message


def test_one_process_for_all_and_none_is_left() -> None:
    code = (
        "import time; from automerge.engine.templates import client\n"
        "client.render_skill([('{{ n }}', {'n': 1})]); first = client._child._process.pid\n"
        "client.render_chat('{{ n }}', {'n': 1}); assert client._child._process.pid == first\n"
        "print(first, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_died_between_two_templates_is_replaced() -> None:
    assert render_skill([("a", {})]) == ["a"]
    process = client._child._process
    assert process is not None
    process.kill()
    process.wait()
    assert render_skill([("b", {})]) == ["b"]


def test_replies_are_plain_json() -> None:
    assert host.reply("skill", "{{ n }}", {"n": "\u00e9"}) == b'{"text": "\\u00e9"}'
    assert b"surrogates not allowed" in host.reply("skill", "{{ n }}", {"n": "\ud800"})
