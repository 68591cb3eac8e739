"""The model card of an exported merge: what was merged, how it was found, what was proven."""

from huggingface_hub import ModelCardData

from automerge.gate.verdict import Verdict
from automerge.merge.sources.locate import hub_id
from automerge.merge.sparse.rows import ROWS
from automerge.recipe import Recipe
from automerge.report.licences import Licences
from automerge.report.tables import gate_lines, markdown
from automerge.study.records import Record

_TEMPLATE = """---
{metadata}
---
# {title}

A merge of {sources} over {base}, found by automerge {version}.

| | |
|---|---|
| method | {method} |
| base | {base} (`{base_digest}`) |
{source_rows}
{sparse_rows}| weights checksum | `{checksum}` |
| recipe | `{recipe_hash}`, in `recipe.json`; for mergekit in `mergekit_config.yml`, where it can express it |
| mask seed | {seed} |

{verdict}

## Scores on search items

Of the items the search chose by, so they flatter: the held-out items above do not.

{search}

## Licences

{licences}

## Verify

With automerge installed from its source; the package of that name on PyPI is another project.

```sh
automerge verify {title} --model {base}=… # merges the sources again, and compares every tensor
```
"""


def model_card(
    title: str,
    label: str,
    recipe: Recipe,
    record: Record,
    verdict: Verdict | None,
    version: str,
    held: Licences,
    parameters: tuple[int, int] | None = None,
) -> str:
    """The README.md of an export, with the hub's metadata. `label` is the candidate's, as the verdict names it; `held`
    are the licences of base and sources; `parameters` are a mixture's, in all and for a token."""
    return _TEMPLATE.format(
        metadata=_metadata(recipe, held),
        licences=_licences(held),
        title=title,
        sources=", ".join(ref.name for ref in recipe.sources),
        base=recipe.base.name,
        base_digest=recipe.base.digest[:16],
        method=recipe.method,
        source_rows="\n".join(f"| source {ref.name} | `{ref.digest[:16]}` |" for ref in recipe.sources),
        sparse_rows=_sparse_rows(recipe, parameters),
        checksum=record.checksum,
        recipe_hash=recipe.hash[:16],
        seed=recipe.seed,
        version=version,
        verdict=_verdict(label, verdict),
        search="\n".join(
            f"- {name}: {skill.mean:.4f} over {skill.n} items" for name, skill in sorted(record.skills.items())
        ),
    )


def _sparse_rows(recipe: Recipe, parameters: tuple[int, int] | None) -> str:
    """What a mixture of experts is, in the card's table."""
    mixture = recipe.mixture
    if mixture is None or parameters is None:
        return ""
    total, active = parameters
    lines = [
        f"| experts | {', '.join(mixture.experts)}; a token passes {mixture.per_token} of them |",
        *([f"| shared expert | {mixture.shared} |"] if mixture.shared else []),
        f"| router | temperature {mixture.temperature:.4g}; its rows, `{ROWS}`, came of prompts |",
        f"| parameters | {total:,} in all, {active:,} of them for a token |",
    ]
    return "".join(f"{line}\n" for line in lines)


def _metadata(recipe: Recipe, held: Licences) -> str:
    """Front matter. Models that lie in a folder have no address to name."""
    hub = [address for ref in (recipe.base, *recipe.sources) if (address := hub_id(ref.path))]
    about = ModelCardData(
        base_model=hub or None,
        library_name="transformers",
        license=held.merged or "other",
        license_name=None if held.merged else "see-below",
        pipeline_tag="text-generation",
        tags=["merge", "moe", "automerge"] if recipe.mixture else ["merge", "automerge"],
    )
    return str(about.to_yaml())


def _licences(held: Licences) -> str:
    rows = "\n".join(f"- {name}: {licence}" for name, licence in held.stated.items())
    if held.merged:
        return f"All of them: {held.merged}."
    if held.conflict:
        return f"**They differ.** Whoever passes this merge on answers to each of them:\n\n{rows}"
    return f"Not every model states one; find out before you pass this merge on:\n\n{rows}"


def _verdict(label: str, verdict: Verdict | None) -> str:
    if verdict is None:
        return "## Verdict\n\nNone: this merge was exported before the study's verdict on held-out items."
    judged = next((j for j in verdict.judged if j.name == label), None)
    if judged is None:
        outcome = f"{label} was not among the candidates tried on held-out items."
    else:
        outcome = "\n".join(
            [f"**{judged.outcome}**: {judged.reason}.", "", *(f"- {x}" for x in gate_lines(judged.gates))]
        )
    use = f"\n\nHeld-out items used {verdict.use} times by this study." if verdict.use > 1 else ""
    return f"## Verdict on held-out items\n\n{outcome}{use}\n\n{markdown(verdict)}"
