"""From what the user wrote to a folder: a local path, or a hub id `owner/name[@revision]`. It opens no weights."""

import os
import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from automerge.errors import SourceError

PATTERNS = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "README.md"]
# of subfolders nothing but chat templates: they may hold other models
IGNORED = ["tokenizer*/*", *(f"*/{pattern}" for pattern in PATTERNS if pattern != "*.jinja")]
_HUB_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def locate(model: str) -> Path:
    """The folder that holds the model, downloaded if need be. Raises SourceError where there is none."""
    folder = Path(os.path.expanduser(model))
    if model and os.path.isdir(folder):
        return folder
    if model and os.path.exists(folder):
        raise SourceError("expected a folder, got a file", where=model, hint="Name the folder that holds it.")
    found = _HUB_ID.fullmatch(model)
    if found is None:
        hint = "Give a local folder, or a hub id as owner/name or owner/name@revision."
        raise SourceError("no such folder", where=model or "model", hint=hint)
    return _download(model, found["repo"], found["revision"])


def hub_id(model: str) -> str | None:
    """owner/name of a model that was named by its hub id, without the revision; None for a folder."""
    found = _HUB_ID.fullmatch(model)
    return found["repo"] if found and not os.path.exists(model) else None


def _download(model: str, repo: str, revision: str | None) -> Path:
    try:
        path = huggingface_hub.snapshot_download(
            repo, revision=revision, allow_patterns=PATTERNS, ignore_patterns=IGNORED
        )
    except LocalEntryNotFoundError as error:
        hint = "Check the spelling; for a hub model, check the network or HF_HUB_OFFLINE."
        raise SourceError("no such folder, and not in the local hub cache", where=model, hint=hint) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "Check the spelling, and that you may read it (hf auth login)."
        raise SourceError(f"no such folder, and the hub says: {reason}", where=model, hint=hint) from error
    return Path(path)
