"""A module that says how it is served is served once, by a real server, before it trains."""

import socket
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from blixt.compat.lightning.own.servable import ServableModule, ServableModuleValidator
from blixt.fabric import ConfigError, FabricError, WrongTypeError, free_port
from blixt.trainer import Trainer
from blixt.trainer.boring import BoringModel

Functions = dict[str, Callable[[Any], Any]]


class Servable(BoringModel, ServableModule):
    """Doubles what it is sent."""

    payload: ClassVar[dict[str, Any]] = {"body": {"x": [1.0, 2.0]}}
    expected: ClassVar[dict[str, Any]] = {"output": [2.0, 4.0]}

    def configure_payload(self) -> dict[str, Any]:
        return self.payload

    def configure_serialization(self) -> tuple[Functions, Functions]:
        return {"x": torch.tensor}, {"output": torch.Tensor.tolist}

    def serve_step(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        assert not self.training
        return {"output": 2 * x}

    def configure_response(self) -> dict[str, Any]:
        return self.expected


def fit(model: BoringModel, callback: ServableModuleValidator, **more: Any) -> Trainer:
    trainer = Trainer(
        max_steps=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[callback],
        **more,
    )
    trainer.fit(model)
    return trainer


def test_a_module_is_served_and_then_trained() -> None:
    port = free_port()
    callback = ServableModuleValidator(port=port)
    assert callback.successful is None
    model = Servable()
    trainer = fit(model, callback)
    assert callback.resp.json() == {"output": [2.0, 4.0]}
    assert callback.resp.url.port == port
    assert callback.state_dict() == {"successful": True, "optimization": None, "server": "fastapi"}
    assert trainer.global_step == 1
    assert model.training
    socket.create_server(("127.0.0.1", port)).close()  # the server let go of it


def test_an_answer_that_was_not_expected_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Servable, "expected", {"output": [0]})
    with pytest.raises(FabricError, match=r"answered {'output': \[2.0, 4.0\]}.* expects {'output': \[0\]}"):
        fit(Servable(), ServableModuleValidator(port=0))


def test_a_step_that_fails_ends_the_run_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Servable, "serve_step", lambda self, x: [x])  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(FabricError, match="cannot be served, the answer was 500"):
        fit(Servable(), ServableModuleValidator(port=0))
    callback = ServableModuleValidator(port=0, exit_on_failure=False)
    fit(Servable(), callback)
    assert callback.successful is False


def test_a_request_without_a_body_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Servable, "payload", {"x": 1})
    with pytest.raises(FabricError, match="gives no 'body'"):
        fit(Servable(), ServableModuleValidator(port=0))


def test_a_module_that_does_not_say_how_is_refused() -> None:
    with pytest.raises(WrongTypeError, match="Derive from ServableModule"):
        fit(BoringModel(), ServableModuleValidator(port=0))


@pytest.mark.parametrize("argument", [{"optimization": "onnx"}, {"server": "torchserve"}])
def test_other_servers_and_forms_are_refused(argument: Any) -> None:
    with pytest.raises(ConfigError, match="ServableModuleValidator"):
        ServableModuleValidator(**argument)


def test_a_module_in_parts_is_refused() -> None:
    try:
        with pytest.raises(ConfigError, match="each process holds a part"):
            fit(Servable(), ServableModuleValidator(port=0), strategy="fsdp")
    finally:
        torch.distributed.destroy_process_group()  # else what later tests fork would be in it
