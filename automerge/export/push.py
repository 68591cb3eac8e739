"""An exported folder to the hub: what would go, and the going."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils._validators import validate_repo_id

from automerge.errors import ExportError


@dataclass(frozen=True)
class Upload:
    """What goes where. `files`: path in the folder → bytes."""

    repo: str
    private: bool
    files: dict[str, int]


def is_repository(name: str) -> bool:
    """Whether the hub could have a repository of that name, its owner named."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def upload_of(folder: Path, repo: str, *, private: bool) -> Upload:
    """What `push` would send."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    return Upload(repo, private, files)


def push(folder: Path, upload: Upload) -> str:
    """Makes the repository, if it is not there, and sends the files in one commit; returns its address.

    A repository that is there keeps the visibility it has. Raises ExportError; the folder stays as it is.
    """
    api = HfApi()
    try:
        address = api.create_repo(upload.repo, private=upload.private, exist_ok=True)
        api.upload_folder(
            repo_id=upload.repo,
            folder_path=folder,
            allow_patterns=list(upload.files),
            commit_message=f"{folder.name}, merged by automerge",
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        hint = f"Check the name and `hf auth login`; {folder} is written, and can be pushed by `hf upload`."
        raise ExportError(f"not pushed: {reason}", where=upload.repo, hint=hint) from error
    return str(address)
