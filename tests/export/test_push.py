"""A folder goes to the hub: to a local stand-in of its HTTP interface, by the real huggingface_hub."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from automerge.errors import ExportError
from automerge.export import push as module
from automerge.export.push import push, upload_of

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own


class Hub:
    """What arrived. Weights come over LFS, small files inside the commit."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.refuse = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, body: object, status: int = 200) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def do_GET(self) -> None:
                self.body()
                self.answer({"id": "owner/merge", "sha": "0" * 40, "siblings": [], "private": True})

            def do_PUT(self) -> None:
                hub.blobs[self.path.rsplit("/", 1)[1]] = self.body()
                self.answer({})

            def do_POST(self) -> None:
                data = self.body()
                hub.tokens.add(self.headers.get("Authorization", ""))
                if hub.refuse:
                    self.answer({"error": "you may not"}, 403)
                elif self.path == "/api/repos/create":
                    hub.made.append(json.loads(data))
                    self.answer({"url": f"{hub.url}/owner/merge"})
                elif "/preupload/" in self.path:
                    asked = json.loads(data)["files"]
                    mode = {True: "lfs", False: "regular"}
                    told = [
                        {
                            "path": f["path"],
                            "uploadMode": mode[f["path"].endswith("safetensors")],
                            "shouldIgnore": False,
                        }
                        for f in asked
                    ]
                    self.answer({"files": told})
                elif self.path.endswith("/info/lfs/objects/batch"):
                    objects = json.loads(data)["objects"]
                    for each in objects:
                        each["actions"] = {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}
                    self.answer({"transfer": "basic", "objects": objects})
                elif "/commit/" in self.path:
                    for line in data.splitlines():
                        entry = json.loads(line)
                        value = entry["value"]
                        if entry["key"] == "file":
                            hub.files[value["path"]] = base64.b64decode(value["content"])
                        elif entry["key"] == "lfsFile":
                            hub.files[value["path"]] = hub.blobs[value["oid"]]
                    self.answer(
                        {
                            "commitUrl": f"{hub.url}/owner/merge/commit/{'1' * 40}",
                            "commitOid": "1" * 40,
                            "hookOutput": "",
                            "success": True,
                        }
                    )
                else:
                    self.answer({})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.url)
    api = module.HfApi
    monkeypatch.setattr(module, "HfApi", lambda: api(endpoint=made.url, token="hf_canary"))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my-merge"
    made.mkdir()
    (made / "model.safetensors").write_bytes(bytes(range(256)) * 9)
    (made / "README.md").write_text("# my-merge\n")
    (made / "config.json").write_text("{}")
    return made


def test_every_file_arrives_and_the_repository_is_private(hub: Hub, folder: Path) -> None:
    address = push(folder, upload_of(folder, "owner/merge", private=True))
    assert address.startswith(hub.url) and "owner/merge" in address
    made = hub.made[0]
    assert (made["name"], made["organization"], made["visibility"]) == ("merge", "owner", "private")
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(hub.blobs) == {hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
    assert hub.tokens == {"Bearer hf_canary"}


def test_what_would_go_is_said(folder: Path) -> None:
    upload = upload_of(folder, "owner/merge", private=False)
    assert upload.files == {"README.md": 11, "config.json": 2, "model.safetensors": 2304} and not upload.private


@pytest.mark.parametrize("repo", ["owner/merge", "a/b/c"])
def test_a_refusal_is_one_clear_error_without_the_token(hub: Hub, folder: Path, repo: str) -> None:
    hub.refuse = True
    with pytest.raises(ExportError, match="not pushed") as caught:
        push(folder, upload_of(folder, repo, private=True))
    assert "hf_canary" not in str(caught.value) and (folder / "config.json").exists()
