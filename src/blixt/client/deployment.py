"""Deployment: a model or a command behind one address, with as many replicas as its traffic needs."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import httpx

from blixt.client.client import Client, default_client
from blixt.client.errors import ServerUnreachable, StateError, WaitTimeout, error_from
from blixt.client.http import escape
from blixt.client.logs import read_logs
from blixt.client.model import Model
from blixt.client.resource import Stateful
from blixt.client.types import LogLine, ObjectData


class Deployment(Stateful):
    """A service: requests wake it, traffic scales it, idleness puts it to sleep.

    Example:
        >>> from blixt import Deployment
        >>> chat = Deployment.create("chat", model="gpt")                        # doctest: +SKIP
        >>> import openai
        >>> api = openai.OpenAI(base_url=chat.openai_base_url, api_key=chat.api_key)   # doctest: +SKIP
    """

    kind = "deployment"
    plural = "deployments"

    @classmethod
    def create(
        cls,
        name: str,
        *,
        model: str | None = None,
        command: str | Sequence[str] | None = None,
        machine: str = "cpu-1",
        min_replicas: int = 0,
        max_replicas: int = 1,
        concurrency: int = 8,
        idle_timeout_s: int = 60,
        source: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        health_path: str = "/health",
        start_timeout_s: int = 120,
        public: bool = False,
        client: Client | None = None,
    ) -> Self:
        """Create a deployment; with `min_replicas=0` it sleeps until the first request.

        Args:
            name: Its name, part of its address.
            model: A Model of the teamspace, `name` or `name:version`.
            command: What to run instead of `blixt llm serve`; it must listen on 127.0.0.1:$PORT.
            machine: An offer's name, for each replica.
            min_replicas: Replicas that always run.
            max_replicas: Replicas under load.
            concurrency: Requests in flight that one replica should have.
            idle_timeout_s: Sleep after this long without a request.
            source: A folder to unpack in the replicas' working directory.
            env: Environment variables.
            secrets: Names of secrets that arrive as environment variables.
            health_path: Answers 200 when a replica is ready.
            start_timeout_s: How long a replica may take to become ready.
            public: Serve without a token.
            client: The connection; the default one when not given.

        Raises:
            NotFound: When there is no such model or version.
            Conflict: When the name is taken.
        """
        client = client or default_client()
        spec: dict[str, Any] = {
            "machine": machine,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "concurrency": concurrency,
            "idle_timeout_s": idle_timeout_s,
            "env": dict(env or {}),
            "secrets": list(secrets),
            "health_path": health_path,
            "start_timeout_s": start_timeout_s,
            "public": public,
        }
        if model:
            name_of, _, version = model.partition(":")
            Model.get(name_of, client=client).version(version or "latest")  # a misspelt name is said now
            spec["model"] = model
        if command:
            spec["command"] = command if isinstance(command, str) else list(command)
        if source is not None:
            spec["source"] = client.upload_source(source)
        return cls(client, client.create_object(cls.plural, name, spec))

    @property
    def url(self) -> str:
        """Its address; requests need a token of the teamspace unless it is public."""
        return f"{self.client.url}/d/{escape(self.client.teamspace)}/{escape(self.name)}"

    @property
    def openai_base_url(self) -> str:
        """The `base_url` for OpenAI clients."""
        return self.url + "/v1"

    @property
    def api_key(self) -> str:
        """Your own token, which opens it: the `api_key` for OpenAI clients."""
        return self.client.connection.token

    @property
    def replicas(self) -> list[dict[str, Any]]:
        """Its replicas, as last seen."""
        return list(self.data.status.get("replicas") or [])

    def wake(self, timeout_s: float = 120.0) -> float:
        """Send a health request, which wakes a sleeping deployment, and wait for its answer.

        Returns:
            How long it took, in seconds.

        Raises:
            WaitTimeout: When no replica answered in time.
        """
        began = time.monotonic()
        path = str(self.spec.get("health_path") or "/health")
        headers = {"Authorization": f"Bearer {self.api_key}"}
        try:
            answer = httpx.get(self.url + path, headers=headers, timeout=timeout_s, trust_env=False)
        except httpx.TimeoutException as error:
            raise WaitTimeout(
                f"The deployment {self.name!r} did not answer within {timeout_s:g} s.",
                f"See `blixt deployment logs {self.name}`.",
            ) from error
        except httpx.TransportError as error:
            raise ServerUnreachable(f"{self.url} does not answer: {error}.", "Is the server up?") from error
        if answer.is_error:
            raise error_from(answer.status_code, _body(answer))
        return time.monotonic() - began

    def wait_ready(self, timeout_s: float = 120.0) -> Self:
        """Wake it if it sleeps, and wait until a replica is ready.

        Raises:
            StateError: When it failed or is stopped, with the reason.
        """
        began = time.monotonic()
        if self.status == "sleeping":
            self.wake(timeout_s)
        self._wait(_is_ready, timeout_s - (time.monotonic() - began))
        return self

    def wait_stopped(self, timeout_s: float = 60.0) -> Self:
        """Wait until no replica is left after `stop()`."""
        self._wait(_has_stopped, timeout_s)
        return self

    def logs(
        self, *, follow: bool = False, since: int | str = 0, replica: str | None = None
    ) -> Iterator[LogLine]:
        """What a replica wrote; the newest one when none is named."""
        params: dict[str, str | int] = {"replica": replica} if replica else {}
        return read_logs(self.client, self._path("logs"), follow=follow, since=since, params=params)

    def stop(self) -> Self:
        """Stop all replicas; requests are refused until `start()`."""
        self.client.http.json("POST", self._path("stop"))
        return self.refresh()

    def start(self) -> Self:
        """Serve again."""
        self.client.http.json("POST", self._path("start"))
        return self.refresh()


def _is_ready(data: ObjectData) -> bool:
    state = data.status.get("state")
    if state in ("failed", "stopped"):
        reason = data.status.get("reason") or "no reason given"
        raise StateError(f"The deployment {data.name!r} is {state}: {reason}", "See its logs.")
    return state in ("ready", "degraded")


def _has_stopped(data: ObjectData) -> bool:
    return data.status.get("state") == "stopped" and not data.status.get("replicas")


def _body(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return answer.text
