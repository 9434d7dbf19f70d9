"""Carrying a job's source, a deployment's model and a job's result, over the same HTTP API as everybody.

Each transfer can be repeated after a crash at any point: downloads are complete or invisible (a marker file
comes last), an upload names its version by an id, so a second one joins the first.
These functions block; the agent runs them in a thread.
"""

import fcntl
import hashlib
import http.client
import io
import json
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from blixt.cloud.agent.channel import RemoteError
from blixt.cloud.json_object import json_object

TIMEOUT_S = 60
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Api:
    """The server as one workload sees it."""

    url: str
    token: str
    teamspace: str

    def open(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        size: int = 0,
        type: str = "application/octet-stream",
    ) -> Any:
        """Send one request and return the open response.

        Raises:
            RemoteError: The server refused, with its sentence.
        """
        request = urllib.request.Request(
            f"{self.url}/api/v1/teamspaces/{self.teamspace}/{path}",
            data=body,
            method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": type},
        )
        if body is not None:
            request.add_header("Content-Length", str(size))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise RemoteError(_sentence(error), f"http_{error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise RemoteError(f"The server could not be reached: {error}", "unreachable") from error

    def json(self, method: str, path: str, value: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one JSON request and return the JSON answer."""
        body = None if value is None else json.dumps(value).encode()
        with self.open(method, path, body, len(body or b""), "application/json") as response:
            answer = json_object(response.read())
        if answer is None:
            raise RemoteError(f"The server answered {path} with something that is not an object.")
        return answer


def fetch_source(api: Api, home: Path, blob: str) -> None:
    """Unpack a source archive (tar or zip, by its content) into home, once."""
    marker = home / ".blixt" / "source"
    with _locked(home / ".blixt" / "source.lock"):
        if marker.exists() and marker.read_text() == blob:
            return
        archive = home / ".blixt" / "source.archive"
        with api.open("GET", f"blobs/{blob}") as response, open(archive, "wb") as out:
            shutil.copyfileobj(response, out, COPY_BYTES)
        _unpack(archive, home)
        archive.unlink()
        marker.write_text(blob)


def fetch_model(api: Api, home: Path, name: str, version: str) -> dict[str, str]:
    """Download a model version into home, once; returns its folder and its number."""
    found = api.json("GET", f"models/{name}/versions/{version}")
    number = str(found["version"])
    folder = home / ".blixt" / "models" / name / number
    with _locked(home / ".blixt" / "models.lock"):
        if not (folder / ".complete").exists():
            for file in found["files"]:
                _download(api, f"models/{name}/versions/{number}/files/", folder, file)
            (folder / ".complete").touch()
    return {"folder": str(folder), "version": number}


def upload_model(api: Api, folder: Path, name: str, id: str, job: str) -> dict[str, Any]:
    """Make a folder's files a new version of a model; the same id never makes a second one.

    Raises:
        RemoteError: The folder is empty, or the server refused.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise RemoteError("The command ended well but left nothing in BLIXT_MODEL_OUT.", "empty")
    version = api.json("POST", f"models/{name}/versions", {"id": id, "job": job, "metadata": {}})
    number = int(version["version"])
    if version["state"] != "ready":
        for path in files:
            relative = urllib.parse.quote(path.relative_to(folder).as_posix())
            with open(path, "rb") as body:
                size = path.stat().st_size
                api.open("PUT", f"models/{name}/versions/{number}/files/{relative}", body, size).close()
        metrics = _metrics(folder / "metrics.json")
        api.json("POST", f"models/{name}/versions/{number}/commit", {"metrics": metrics})
    return {"version": number}


def _download(api: Api, prefix: str, folder: Path, file: dict[str, Any]) -> None:
    target = folder / file["path"]
    if not target.resolve().is_relative_to(folder.resolve()):
        raise RemoteError(f"The model's file {file['path']!r} would leave its folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    digest = hashlib.sha256()
    with api.open("GET", prefix + urllib.parse.quote(file["path"])) as response, open(part, "wb") as out:
        while piece := response.read(COPY_BYTES):
            digest.update(piece)
            out.write(piece)
    if digest.hexdigest() != file["sha256"]:
        raise RemoteError(f"The model's file {file['path']!r} arrived damaged.", "damaged")
    part.rename(target)


def _unpack(archive: Path, home: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(home)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(home, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        raise RemoteError(f"The source archive cannot be unpacked: {error}", "damaged") from error


def _metrics(file: Path) -> dict[str, Any]:
    try:
        return json_object(file.read_bytes()) or {}
    except OSError:
        return {}


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"The server answered {error.code} to {error.url}."


def _locked(file: Path) -> io.TextIOWrapper:
    """Replicas share a home: one downloads, the others wait. The lock goes when the file is closed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = file.open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
