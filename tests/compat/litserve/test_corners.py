"""LitServe's inner names that programs lean on: devices, health by hand, middlewares, tools elsewhere."""

import contextlib
import subprocess
import sys
from queue import Queue
from types import SimpleNamespace
from unittest import mock

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from PIL import Image

from blixt.compat import litserve as ls
from blixt.compat.litserve import cli, connector
from blixt.compat.litserve.callbacks.base import CallbackRunner, EventTypes
from blixt.compat.litserve.callbacks.defaults.metric_callback import PredictionTimeLogger, RequestTracker
from blixt.compat.litserve.loggers import Logger, LoggerConnector
from blixt.compat.litserve.mcp import ToolEndpointType
from blixt.compat.litserve.mcp_connector import ToolConnector
from blixt.compat.litserve.middlewares import RequestCountMiddleware
from blixt.compat.litserve.schema.image import ImageInput, ImageOutput
from blixt.compat.litserve.transport.factory import TransportConfig, create_transport_from_config
from blixt.compat.litserve.utils import WorkerSetupStatus, generate_random_zmq_address
from blixt.serve.testing import wait_until

from . import apis

READY, ERROR = WorkerSetupStatus.READY, WorkerSetupStatus.ERROR


def make(*some, **settings):
    return ls.LitServer(list(some) or apis.Square(), **{"accelerator": "cpu", "timeout": 300, **settings})


@contextlib.contextmanager
def without_workers(server):
    """The app as a program serves it that has workers of its own."""

    @contextlib.asynccontextmanager
    async def nothing(app):
        yield {}

    server.app.router.lifespan_context = nothing
    with TestClient(server.app) as client:
        yield client


def test_health_follows_what_was_told_of_the_workers_at_once():
    server = make()
    with without_workers(server) as client:
        said = []
        for states in ({}, {"w": READY}, {"w": READY, "v": ERROR}, {"w": READY}):
            server.workers_setup_status = states
            answer = client.get("/health")
            said.append((answer.status_code, answer.text))
    assert said == [(503, "not ready"), (200, "ok"), (503, "not ready"), (200, "ok")]


@pytest.mark.parametrize("api", [apis.Sick, apis.AsyncSick])
def test_a_health_method_that_raises_is_not_ready_whatever_was_told(api):
    server = make(api())
    server.workers_setup_status = {"w": READY}
    with without_workers(server) as client:
        assert client.get("/health").status_code == 503


def test_the_workers_states_are_told_while_they_live():
    server = make(workers_per_device=2)
    with TestClient(server.app):
        wait_until(
            lambda: dict(server.workers_setup_status) == {"predict_0": READY, "predict_1": READY}, 60, "both"
        )
    assert server.workers_setup_status == {}


@pytest.mark.parametrize("counts", [{"/a": 2, "/b": 3}, [2, 3]])
def test_workers_are_counted_by_route_and_device(counts):
    server = make(
        apis.Square(api_path="/a"), apis.Square(api_path="/b"), devices=2, workers_per_device=counts
    )
    assert [len(devices) for devices in server._server.served.devices] == [4, 6]


def test_devices_that_are_not_here_are_refused_when_they_are_needed():
    server = make(accelerator="cuda", devices=[97, 98])
    assert server.devices == [["cuda:97"], ["cuda:98"]]
    assert server.device_identifiers("cuda", [1, 2]) == ["cuda:1", "cuda:2"]
    with pytest.raises(ValueError, match="cuda"):
        server.run(generate_client_file=False)


def test_the_accelerator_is_what_the_machine_has(monkeypatch):
    monkeypatch.setattr(connector, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(connector.subprocess, "check_output", lambda *a, **k: b"GPU 0: one\nGPU 1: two\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    connector.check_cuda_with_nvidia_smi.cache_clear()
    try:
        found = connector.Connector("gpu")
        assert (found.accelerator, found.devices, found.names()) == ("cuda", 2, ["cuda:0", "cuda:1"])
    finally:
        connector.check_cuda_with_nvidia_smi.cache_clear()
    monkeypatch.setattr(connector.Connector, "_choose_gpu_accelerator_backend", staticmethod(lambda: None))
    assert connector.Connector(None).accelerator == "cpu"
    with pytest.raises(ValueError, match="accelerator must be one of"):
        connector.Connector("tpu")


def test_the_middlewares_are_listed_and_a_payload_limit_is_one_of_them():
    assert len(make().middlewares) == 1
    limited = make(max_payload_size=50)
    assert len(limited.middlewares) == 2
    with TestClient(limited.app) as client:
        too_much = client.post("/predict", content=iter([b'{"input": "', b"x" * 100, b'"}']))
        assert (too_much.status_code, client.post("/predict", json={"input": 2}).json()["output"]) == (413, 4)


def test_a_copy_of_the_app_counts_requests_and_leaves_the_app_alone():
    server = make(track_requests=True)
    before, copy = list(server.app.user_middleware), FastAPI()

    @copy.get("/now")
    async def now(request: Request) -> int:
        return server.active_counter.value

    server._prepare_app_run(copy)
    assert [layer.cls for layer in copy.user_middleware] == [RequestCountMiddleware]
    with TestClient(copy) as client:
        assert client.get("/now").json() == 1
    assert (server.active_counter.value, server.app.user_middleware) == (0, before)


def test_values_of_log_may_go_to_a_queue_of_ones_own():
    api, queue = apis.Square(), Queue()
    api.set_logger_queue(queue)
    api.log("time", 0.1)
    assert queue.get_nowait() == ("time", 0.1)


def test_a_loggers_app_is_mounted_on_the_server_that_gets_it():
    class Nothing(Logger):
        def process(self, key, value):
            raise AssertionError

    logger, server = Nothing(), SimpleNamespace(app=FastAPI())
    logger.mount("/metrics", FastAPI())
    LoggerConnector(server, [logger])
    assert server.app.routes[-1].path == "/metrics"
    with pytest.raises(ValueError, match="a list or an instance"):
        LoggerConnector(None, object())


def test_tools_may_be_put_on_an_app_of_ones_own():
    tools = ToolConnector()
    app = FastAPI(lifespan=tools.lifespan)

    @app.post("/double")
    async def double(request: Request) -> int:
        return 2 * (await request.json())["x"]

    schema = {"properties": {"x": {"type": "integer"}}}
    tools.connect_mcp_server([ToolEndpointType("double", "Doubles x.", schema, "/double")], app)
    with TestClient(app) as client:
        assert apis.rpc(client, "tools/list")["tools"][0]["name"] == "double"
        answer = apis.rpc(client, "tools/call", name="double", arguments={"x": 21})
        assert answer["content"][0]["text"] == "42"


def test_a_transport_is_made_of_its_description():
    manager = SimpleNamespace(Queue=Queue)
    transport = create_transport_from_config(TransportConfig(num_consumers=2, manager=manager))
    transport.send("x", consumer_id=1)
    with pytest.raises(ValueError, match="transport_type"):
        TransportConfig(transport_type="zmq")
    assert generate_random_zmq_address("/somewhere").startswith("ipc:///somewhere/zmq-")


def test_lightnings_own_command_is_fetched_if_it_is_not_there(monkeypatch):
    monkeypatch.setattr(cli, "is_package_installed", lambda name: False)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(cli.shutil, "which", lambda name: "/usr/bin/uv")
    failing = mock.Mock(side_effect=[subprocess.CalledProcessError(1, "pip"), None])
    monkeypatch.setattr(cli.subprocess, "run", failing)
    cli._ensure_lightning_installed()
    assert [call.args[0][:2] for call in failing.call_args_list] == [[sys.executable, "-m"], ["uv", "pip"]]
    monkeypatch.setattr(cli.subprocess, "run", mock.Mock(side_effect=FileNotFoundError))
    with pytest.raises(SystemExit, match="Failed to install lightning-sdk"):
        cli._ensure_lightning_installed()


def test_a_constructor_that_takes_long_is_told_to_move_into_setup(monkeypatch):
    monkeypatch.setattr("blixt.compat.litserve.api.SLOW_INIT_S", -1.0)

    class Heavy(ls.LitAPI):
        def predict(self, x):
            return x

    with pytest.warns(RuntimeWarning, match=r"Heavy.__init__ took longer"):
        Heavy()


def test_hooks_of_an_async_litapi_that_are_not_async_are_told_so():
    class Half(ls.LitAPI):
        def decode_request(self, request):
            return request

        async def predict(self, x):
            return x

        async def encode_response(self, output):
            return output

    with pytest.warns(UserWarning, match="decode_request should be an async function"):
        Half(enable_async=True)


def test_images_travel_as_base64_in_bodies_and_answers():
    picture = Image.new("RGB", (3, 2), "red")
    text = ImageOutput(image=picture).model_dump()["image"]
    assert ImageInput(image_data=text).get_image().size == (3, 2)
    with pytest.raises(ValueError, match="Invalid Base64"):
        ImageInput(image_data="a")
    with pytest.raises(ValueError, match="Missing image data"):
        ImageInput().get_image()
    with pytest.raises(Exception, match="Expected a PIL Image"):
        ImageOutput(image="red").model_dump()


def test_the_callbacks_that_come_along_log_times_and_requests(caplog):
    runner = CallbackRunner([PredictionTimeLogger(), RequestTracker()])
    with caplog.at_level("INFO"):
        runner.trigger_event(EventTypes.BEFORE_PREDICT.value)
        runner.trigger_event(EventTypes.AFTER_PREDICT.value)
        runner.trigger_event(EventTypes.ON_REQUEST.value, active_requests=3)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["Prediction", "Active"]
    assert caplog.records[1].getMessage() == "Active requests: 3"
