"""Several LoRA adapters as models of their own, and a chat template of one's choice."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import torch
from tests.llm.server.conftest import client_of

from blixt.llm import GPT, LLM, ChatAPI, ConfigError, LoRAConfig, add_lora, load_checkpoint, save_peft, serve
from blixt.llm.server import ServeOptions
from blixt.serve import Server
from blixt.serve.testing import running

REQUEST = {"prompt": "import json", "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters that change what the model says."""
    folders: dict[str, Path] = {}
    for seed, name in enumerate(("pirate", "poet")):
        model: GPT = load_checkpoint(checkpoint, copy=True)
        add_lora(model, LoRAConfig(r=4))
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(generator=draw)
        folders[name] = tmp_path_factory.mktemp(name)
        save_peft(model, folders[name])
    return folders


@pytest.fixture(scope="module")
def client(checkpoint: Path, adapters: dict[str, Path]) -> Iterator[openai.OpenAI]:
    options = ServeOptions(adapters=adapters, chat_template="phi2", max_tokens=6)
    with running(Server(ChatAPI(checkpoint, "source", options), devices=1, accelerator="cpu")) as place:
        yield client_of(place)


def test_each_adapter_is_a_model_and_answers_as_itself(
    client: openai.OpenAI, checkpoint: Path, adapters: dict[str, Path]
) -> None:
    assert [model.id for model in client.models.list()] == ["source", "pirate", "poet"]
    here = LLM.load(checkpoint, adapters=adapters)
    answers = [client.completions.create(model=name, **REQUEST) for name in ("source", "pirate", "poet")]
    wanted = [
        here.generate("import json", max_tokens=8, temperature=0, adapter=name) for name in (None, *adapters)
    ]
    assert [answer.choices[0].text for answer in answers] == [completion.text for completion in wanted]
    assert len({answer.choices[0].text for answer in answers}) == 3
    assert answers[1].model == "pirate"


def test_a_prompt_style_and_a_bound_can_be_given(client: openai.OpenAI, checkpoint: Path) -> None:
    from blixt.llm.chat.styles import style

    messages = [{"role": "user", "content": "Hi."}]
    answer = client.chat.completions.create(model="source", messages=messages, temperature=0)
    wanted = LLM.load(checkpoint).generate(style("phi2").render(messages), max_tokens=6, temperature=0)
    assert answer.choices[0].message.content == wanted.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 6


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"adapters": {"a": "/nowhere"}}, r"no adapter_config\.json"),
        ({"adapters": {"a/b": "/nowhere"}}, "must not be empty or hold"),
        ({"chat_template": "klingon"}, "neither a .jinja file nor a prompt style"),
        ({"chat_template": "/nowhere.jinja"}, "no such file"),
        ({"context": 100_000}, "this model's is 64 tokens"),
        ({"max_batch": 0}, "max_batch=0"),
    ],
)
def test_impossible_options_are_refused_before_anything_starts(
    checkpoint: Path, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        serve(checkpoint, **given)
