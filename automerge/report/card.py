"""The model card of an exported merge: what was merged, how it was found, what was proven."""

from automerge.gate.verdict import Verdict
from automerge.recipe import Recipe
from automerge.report.tables import gate_lines, markdown
from automerge.study.records import Record

_TEMPLATE = """---
library_name: transformers
tags: [merge, automerge]
---
# {title}

A merge of {sources} over {base}, found by [automerge](https://pypi.org/project/automerge/) {version}.

| | |
|---|---|
| method | {method} |
| base | {base} (`{base_digest}`) |
{source_rows}
| weights checksum | `{checksum}` |
| recipe | `{recipe_hash}`, in `recipe.json`; for mergekit in `mergekit_config.yml`, where it can express it |
| mask seed | {seed} |

{verdict}

## Scores on search items

{search}
"""


def model_card(title: str, label: str, recipe: Recipe, record: Record, verdict: Verdict | None, version: str) -> str:
    """The README.md of an export. `label` is the candidate's, as the verdict names it."""
    return _TEMPLATE.format(
        title=title,
        sources=", ".join(ref.name for ref in recipe.sources),
        base=recipe.base.name,
        base_digest=recipe.base.digest[:16],
        method=recipe.method,
        source_rows="\n".join(f"| source {ref.name} | `{ref.digest[:16]}` |" for ref in recipe.sources),
        checksum=record.checksum,
        recipe_hash=recipe.hash[:16],
        seed=recipe.seed,
        version=version,
        verdict=_verdict(label, verdict),
        search="\n".join(
            f"- {name}: {skill.mean:.4f} over {skill.n} items" for name, skill in sorted(record.skills.items())
        ),
    )


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
