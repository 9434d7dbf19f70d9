"""Which path leads to which lane: decided once, from the APIs and their specs."""

from collections.abc import Callable, Collection, Mapping, Sequence

from blixt.serve.api import API
from blixt.serve.errors import ConfigError
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import AnswerLane, ChoiceLane, Lane, StreamLane
from blixt.serve.http.openai import ModelsLane, SpecLane, Target

MODELS = "/v1/models"
ONE_MODEL = "/v1/models/{name:path}"
GateOf = Callable[[API], Gate]


def lanes_of(apis: Sequence[API], gate_of: GateOf, own: Collection[str] = ()) -> dict[str, Lane]:
    """All POST routes, and OpenAI's list of models if a spec has one of its routes.

    Args:
        apis: What is served.
        gate_of: Each API's gate.
        own: The server's own paths.

    Raises:
        ConfigError: A path is the server's own, or two APIs claim it and no model tells them apart.
    """
    lanes: dict[str, Lane] = {}
    targets: dict[str, list[Target]] = {}
    for api in apis:
        gate = gate_of(api)
        if api.spec is not None:
            for endpoint in api.spec.endpoints():
                targets.setdefault(endpoint.path, []).append(Target(gate, api.spec, endpoint))
        elif has_post(api):
            if api.api_path in lanes:
                raise _twice(api.api_path)
            lanes[api.api_path] = _plain(api, gate)
    for path, claims in targets.items():
        models = [model for claim in claims for model in claim.spec.models]
        if path in lanes or len(set(models)) < len(models):
            raise _twice(path)
        lanes[path] = SpecLane(claims)
    lanes |= _models_lanes(targets)
    for path in lanes.keys() & set(own):
        raise ConfigError(f"api_path={path!r} is the server's own route; choose another.")
    return lanes


def has_post(api: API) -> bool:
    """Whether the API answers plain requests, not only websockets."""
    return type(api).predict is not API.predict or not api.has_session


def _plain(api: API, gate: Gate) -> Lane:
    if api.stream == "auto":
        return ChoiceLane(gate, api.join)
    return StreamLane(gate) if api.stream else AnswerLane(gate)


def _models_lanes(targets: Mapping[str, Sequence[Target]]) -> dict[str, Lane]:
    claims = [claim for path, claimed in targets.items() if path.startswith("/v1/") for claim in claimed]
    if not claims:
        return {}
    named = [model or "default" for claim in claims for model in claim.spec.models]
    models = list(dict.fromkeys(named))
    lane = ModelsLane(claims[0].gate, models)
    return {MODELS: lane, ONE_MODEL: lane}


def _twice(path: str) -> ConfigError:
    return ConfigError(f"Two APIs claim {path}; give each its own api_path, or its spec a model of its own.")
