"""Files are written whole or not at all, and the cache lies where it is told to."""

from pathlib import Path

import pytest

from automerge.files import cache_folder, whole_file, write_whole


def test_the_cache_lies_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    for nothing in ("", None):
        monkeypatch.setenv("AUTOMERGE_CACHE", nothing) if nothing is not None else monkeypatch.delenv("AUTOMERGE_CACHE")
        assert cache_folder().name == "automerge"


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "one")
    write_whole(tmp_path / "a.json", "two")
    assert (tmp_path / "a.json").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "one")
    with pytest.raises(ValueError, match="half way"), whole_file(tmp_path / "a.json") as part:
        part.write_text("tw")
        raise ValueError("half way")
    assert (tmp_path / "a.json").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("where", ["none/b.json", "a.json/b.json"])
def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, where: str) -> None:
    write_whole(tmp_path / "a.json", "one")
    with pytest.raises(OSError):
        write_whole(tmp_path / where, "two")
