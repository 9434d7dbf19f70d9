"""What a model's repository on the Hugging Face hub holds, and which of its files a model needs."""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from blixt.llm.errors import DownloadError, MissingPackageError
from blixt.llm.weights.convert import SIDECARS
from blixt.llm.weights.find import INDEX, SINGLE

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: In the repository; only files at its top are taken.
        size_bytes: Its size.
        sha256: Its hash where the hub knows it (large files), else "".
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        name: `organisation/model`.
        commit: Its hash.
        files: Those at its top, by name.
        endpoint: The hub's address.
        token: For private and gated repositories; None uses what `hf auth login` kept.
    """

    name: str
    commit: str
    files: Mapping[str, RemoteFile]
    endpoint: str
    token: str | None

    def url(self, file: str) -> str:
        """The address of a file."""
        return str(hub_package().hf_hub_url(self.name, file, revision=self.commit, endpoint=self.endpoint))

    def headers(self) -> dict[str, str]:
        """What to send with a request: who asks, and no compression, so that bytes can be counted."""
        headers = cast("dict[str, str]", hub_package().utils.build_hf_headers(token=self.token))
        return {**headers, "Accept-Encoding": "identity"}


def hub_package() -> Any:
    """The `huggingface_hub` package.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import huggingface_hub

        for part in ("errors", "file_download", "utils"):
            import_module(f"huggingface_hub.{part}")  # they become its attributes
    except ImportError:
        raise MissingPackageError(
            "downloading a model needs the package huggingface_hub: pip install 'blixt[llm]'"
        ) from None
    return huggingface_hub


def open_repository(
    name: str, *, revision: str | None = None, token: str | None = None, endpoint: str | None = None
) -> Repository:
    """Ask the hub what a repository holds.

    Args:
        name: `organisation/model`.
        revision: A branch, tag or commit; None means the main branch.
        token: For private and gated repositories.
        endpoint: Another hub; None means HF_ENDPOINT or huggingface.co.

    Raises:
        DownloadError: There is no such repository or revision, or it may not be read, or nobody answers.
    """
    if _REPO.fullmatch(name) is None:
        raise DownloadError(f"{name!r} is not the name of a repository, such as HuggingFaceTB/SmolLM2-135M")
    hub = hub_package()
    with explained(name):
        api = hub.HfApi(endpoint=endpoint, token=token)
        commit = str(api.repo_info(name, revision=revision).sha)
        listed = [
            _remote(entry) for entry in api.list_repo_tree(name, revision=commit) if hasattr(entry, "size")
        ]
    return Repository(name, commit, {file.name: file for file in listed}, str(api.endpoint), token)


@contextmanager
def explained(name: str) -> Generator[None]:
    """Turn what the hub's client raises into one sentence.

    Args:
        name: The repository.

    Raises:
        DownloadError: In its place.
    """
    errors = hub_package().errors
    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name} is gated: accept its terms on its page, then give a token (--token or HF_TOKEN)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"there is no repository {name} on the hub, or it is private and needs a token "
            "(--token or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(
            f"{name} has no such revision: give a branch, tag or commit that exists"
        ) from None
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"the hub refused {name}: {str(error).splitlines()[0]}") from None
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{name} could not be downloaded: {error}") from None
    except Exception as error:
        if not _is_connection_error(error):
            raise
        raise DownloadError(f"the hub did not answer for {name}: {error or type(error).__name__}") from None


def needed_files(repository: Repository, read_index: Any, *, file: str | None = None) -> list[RemoteFile]:
    """The files that loading the model takes: configuration, tokenizer, and one form of the weights.

    Args:
        repository: What there is.
        read_index: Called with an index's name, gives its content (it is small).
        file: The one weights file to take, such as a GGUF's name; None decides.

    Raises:
        DownloadError: There are no weights, or several and none was chosen.
    """
    names = repository.files
    if file is not None:
        if file not in names:
            raise DownloadError(f"{repository.name} has no file {file}; it has {_some(names)}")
        chosen = [file]
    else:
        chosen = _weights(repository, read_index)
    small = [] if chosen[0].endswith(".gguf") else ["config.json", *SIDECARS]
    return [names[name] for name in [*small, *chosen] if name in names]


def _weights(repository: Repository, read_index: Any) -> list[str]:
    names = repository.files
    for single, index in ((SINGLE, INDEX), (_BIN, _BIN_INDEX)):
        if single in names:
            return [single]
        if index in names:
            shards = sorted(set(cast("dict[str, str]", json.loads(read_index(index))["weight_map"]).values()))
            if absent := [shard for shard in shards if shard not in names]:
                raise DownloadError(f"{repository.name} lacks {absent[0]}, which its {index} names")
            return [index, *shards]
    for suffix in (".safetensors", ".gguf"):
        found = [name for name in names if name.endswith(suffix)]
        if len(found) == 1:
            return found
        if found:
            raise DownloadError(
                f"{repository.name} has {len(found)} {suffix} files: choose one with --file, {_some(found)}"
            )
    raise DownloadError(f"{repository.name} has no weights at its top: neither safetensors, .bin nor GGUF")


def _remote(entry: Any) -> RemoteFile:
    return RemoteFile(str(entry.path), int(entry.size), str(entry.lfs.sha256) if entry.lfs else "")


def _some(names: Mapping[str, Any] | list[str]) -> str:
    shown = sorted(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _is_connection_error(error: Exception) -> bool:
    """Of whichever HTTP library the hub's client uses."""
    return any(
        base.__name__ in ("TransportError", "HTTPError", "RequestException") for base in type(error).__mro__
    )
