"""The wheel has what the package needs, and the pages say what the code says."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from automerge import __version__, errors
from automerge.config import EngineConfig, SamplerConfig, SearchConfig, VerdictConfig, find_shipped, validate
from automerge.evals import Skill, scorers
from automerge.evals.scorers.instructions import KINDS as KINDS_OF_INSTRUCTIONS
from automerge.evals.skill import ItemCounts, SamplingConfig
from automerge.merge import get_method, method_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    needed = {name_of(text) for text in PROJECT["dependencies"]}
    extras = {name_of(text) for group in PROJECT["optional-dependencies"].values() for text in group}
    explained = dict(re.findall(r"^- `([a-z0-9._-]+)`: (.+)$", page, re.MULTILINE))
    assert set(explained) == needed | extras
    assert all(len(reason) > 15 for reason in explained.values())


def test_every_import_is_a_dependency() -> None:
    own = {"ruamel.yaml": "ruamel", "huggingface-hub": "huggingface_hub", "lm-eval": "lm_eval"}
    own["optuna-dashboard"] = "optuna_dashboard"
    extras = PROJECT["optional-dependencies"]
    needed = PROJECT["dependencies"] + [text for name, group in extras.items() if name != "test" for text in group]
    declared = {own.get(name_of(text), name_of(text)) for text in needed} | {"automerge"}
    declared |= {"pydantic_core", "tokenizers"}  # parts of pydantic and transformers, which pin them
    found = set()
    for path in (ROOT / "automerge").rglob("*.py"):
        found |= set(re.findall(r"^ *(?:from|import) ([a-z_0-9]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert found - set(sys.stdlib_module_names) <= declared


def test_the_command_line_page_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / target).exists(), target


def example(page: str) -> dict[str, Any]:
    """The page's first block of YAML."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: dict[str, Any] = YAML(typ="safe").load(text.split("```yaml\n")[1].split("```")[0])
    return found


def test_the_pages_examples_are_valid_and_have_every_key() -> None:
    space = example("search-spaces.md")
    config = validate(SearchConfig, space, "search-spaces.md")
    method = get_method(config.method)
    assert set(config.parameters) == {parameter.name for parameter in method.parameters}
    assert set(space) == set(SearchConfig.model_fields) - {"folder", "file", "objectives"}
    assert config.engine == EngineConfig() and config.sampler == SamplerConfig() and config.verdict == VerdictConfig()
    engine = example("engine.md")["engine"]
    assert validate(EngineConfig, engine, "engine.md") == EngineConfig() and set(engine) == set(
        EngineConfig.model_fields
    )
    skill = example("skills.md")
    read = validate(Skill, skill, "skills.md")
    assert set(skill) == set(Skill.model_fields) - {"path", "turns", "source", "licence", "gold"}
    assert (read.sampling, read.items, read.block) == (
        SamplingConfig(),
        ItemCounts(),
        Skill.model_fields["block"].default,
    )


KINDS = ["exact", "contains", "numeric", "choice", "regex", "constraints", "code", "likelihood", "lm_eval", "judge"]


def test_the_pages_tables_have_every_method_parameter_and_scorer() -> None:
    merging = (ROOT / "docs" / "merge.md").read_text(encoding="utf-8")
    assert set(method_names()) <= set(re.findall(r"[a-z_]+", merging))
    skills = (ROOT / "docs" / "skills.md").read_text(encoding="utf-8")
    table = next(block for block in skills.split("\n\n") if block.startswith("| type | score |"))
    assert re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE) == KINDS
    assert scorers.names() == sorted(KINDS)
    assert set(KINDS_OF_INSTRUCTIONS) <= set(re.findall(r"`([a-z_]+)`", skills))


def test_every_error_names_a_page_that_is_there() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    for kind in kinds:
        assert kind is errors.AutomergeError or errors.find_page(kind.page), kind


@pytest.mark.parametrize("kind", ["search_spaces", "evals"])
def test_files_are_found_by_name(kind: str) -> None:
    files = sorted((ROOT / kind).glob("*.yaml"))
    assert files
    assert [find_shipped(kind, path.stem).name for path in files] == [path.name for path in files]


def build_through_the_sdist(folder: Path) -> Path:
    """The wheel of the sdist, as pip builds it where it finds no wheel."""
    pip, environment = [sys.executable, "-m", "pip"], {**os.environ, "PYTHONPATH": str(folder / "tools")}

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        if "No matching distribution found for hatchling" in done.stderr:
            pytest.skip("building fetches hatchling, and there is no network")
        assert done.returncode == 0, done.stdout + done.stderr

    run(*pip, "install", "--target", str(folder / "tools"), "hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder))
    (sdist,) = folder.glob("*.tar.gz")
    run(*pip, "wheel", str(sdist), "--no-deps", "--no-build-isolation", "-w", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_has_the_files_and_finds_them(tmp_path: Path) -> None:
    wheel = build_through_the_sdist(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    for kind in ("search_spaces", "evals"):
        wanted = {f"automerge/shipped/{kind}/{path.name}" for path in (ROOT / kind).glob("*.yaml")}
        assert wanted and wanted <= names
    pages = {f"automerge/shipped/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert pages and pages <= names
    assert {f"automerge/{p.relative_to(ROOT / 'automerge')}" for p in (ROOT / "automerge").rglob("*.py")} <= names
    assert "automerge/py.typed" in names and wheel.name.startswith(f"automerge-{__version__}-")
    assert not any(name.startswith(("tests/", "docs/", "results/")) for name in names)
    assert not any(name.startswith("automerge/shipped/") and name.endswith(".py") for name in names)

    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'unpacked')!r})\n"
        "from automerge.config import find_shipped, load_search\n"
        "print(find_shipped('search_spaces', 'zoo')); print(find_shipped('evals', 'gsm8k'))\n"
        "print(load_search('zoo').name)\n"
        "from automerge.errors import SkillError, find_page; print(find_page(SkillError.page))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": "", "AUTOMERGE_ZOO": "/zoo"},
        capture_output=True,
        text=True,
        check=True,
    )
    shipped = tmp_path / "unpacked" / "automerge" / "shipped"
    found = [str(shipped / "search_spaces/zoo.yaml"), str(shipped / "evals/gsm8k.yaml"), "zoo"]
    assert done.stdout.split() == [*found, str(shipped / "docs/skills.md")]


@pytest.mark.parametrize("command", ["merge", "trials"])
def test_a_command_imports_only_what_it_needs(command: str) -> None:
    """Seconds of a newcomer's first impression: transformers, scipy and numba wait until something needs them."""
    code = (
        "import sys; from automerge.cli import make_app; make_app([sys.argv[1]])\n"
        "print([name for name in ('transformers', 'scipy', 'numba', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
