"""Model: named, numbered, immutable sets of files, with who made them and how good they are."""

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from blixt.client.client import Client, default_client
from blixt.client.errors import ProtocolError, SourceError
from blixt.client.files import local_files, sha256_of, upload_chunks
from blixt.client.http import escape_path
from blixt.client.read import read_version
from blixt.client.resource import Resource
from blixt.client.types import ModelVersion

Version = int | str
"""A version's number, or `"latest"`."""


class Model(Resource):
    """A model and its versions.

    Example:
        >>> from blixt import Model
        >>> Model.upload("gpt", "out/", metrics={"val_loss": 1.9})   # doctest: +SKIP
        >>> Model.get("gpt").download("latest", "gpt/")              # doctest: +SKIP
        PosixPath('gpt')
    """

    kind = "model"
    plural = "models"

    @classmethod
    def create(cls, name: str, *, description: str = "", client: Client | None = None) -> Self:
        """Create a model without versions; raises Conflict when the name is taken."""
        client = client or default_client()
        return cls(client, client.create_object(cls.plural, name, {"description": description}))

    @classmethod
    def upload(
        cls,
        name: str,
        source: str | os.PathLike[str],
        *,
        metrics: Mapping[str, Any] | None = None,
        on_bytes: Callable[[int], None] | None = None,
        client: Client | None = None,
    ) -> ModelVersion:
        """Store a folder (or a file) as a new version; the model is created when there is none.

        Args:
            name: The model's name.
            source: The folder; each file in it becomes a file of the version.
            metrics: How good it is, such as `{"val_loss": 1.9}`.
            on_bytes: Called with the size of each piece that was sent.
            client: The connection; the default one when not given.
        """
        client = client or default_client()
        root = Path(source).expanduser()
        files = [(file, relative or file.name) for file, relative in local_files(root)]
        if not files:
            raise SourceError(f"The folder {str(root)!r} is empty.", "A version needs at least one file.")
        path = client.path("models", name, "versions")
        begun = client.http.json("POST", path, body={"id": uuid.uuid4().hex})
        path = f"{path}/{begun['version']}"
        for file, relative in files:
            client.http.put_content(f"{path}/files/{escape_path(relative)}", upload_chunks(file, on_bytes))
        body = {"metrics": dict(metrics)} if metrics else {}
        return read_version(client.http.json("POST", path + "/commit", body=body))

    def versions(self) -> list[ModelVersion]:
        """Its versions, the oldest first."""
        found = self.client.http.json("GET", self._path("versions"))["items"]
        return sorted(map(read_version, found), key=lambda version: version.version)

    def version(self, version: Version = "latest") -> ModelVersion:
        """One version with its files."""
        return read_version(self.client.http.json("GET", self._path("versions", str(version))))

    def download(
        self,
        version: Version = "latest",
        dest: str | os.PathLike[str] | None = None,
        *,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Path:
        """Fetch a version; every file is checked against its recorded SHA-256.

        Args:
            version: Its number, or `"latest"`.
            dest: The folder to write to; `NAME-vN` in the working directory when not given.
            on_bytes: Called with the size of each file that came.

        Returns:
            The folder.
        """
        found = self.version(version)
        folder = Path(dest).expanduser() if dest is not None else Path(f"{self.name}-v{found.version}")
        for file in found.files:
            if ".." in PurePosixPath(file.path).parts or file.path.startswith("/"):
                raise ProtocolError(f"The version lists the file {file.path!r}, outside its folder.")
            target = folder / file.path
            path = self._path("versions", str(found.version), "files") + "/" + escape_path(file.path)
            size_bytes = self.client.download_to(path, target)
            if sha256_of(target) != file.sha256:
                target.unlink()
                raise ProtocolError(f"{file.path} arrived damaged.", "Download it again.")
            if on_bytes:
                on_bytes(size_bytes)
        return folder
