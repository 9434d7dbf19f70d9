"""The chat server through OpenAI's own client."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from blixt.llm import GPT, LLM, ChatAPI, ConfigError, Tokenizer, save_checkpoint, serve
from blixt.serve import Server
from blixt.serve.testing import running


@pytest.fixture(scope="module")
def checkpoint(model: GPT, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(model, folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def client(checkpoint: Path) -> Iterator[openai.OpenAI]:
    server = Server(ChatAPI(checkpoint, "source"), devices=1, accelerator="cpu")
    with running(server) as place:
        yield openai.OpenAI(base_url=f"{place.url}/v1", api_key="none", max_retries=0)


def test_the_model_is_listed_under_its_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["source"]


def test_a_streamed_completion_equals_the_whole_and_the_model_in_process(
    client: openai.OpenAI, checkpoint: Path
) -> None:
    request = {"model": "source", "prompt": "def __init__(self", "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**request)
    chunks = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    here = LLM.load(checkpoint).generate("def __init__(self", max_tokens=20, temperature=0)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text == here.text
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    counted = (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert counted == (here.prompt_tokens, here.completion_tokens)
    assert whole.choices[0].finish_reason == here.finish_reason == "length"


def test_chat_continues_the_conversation_and_stops_where_asked(
    client: openai.OpenAI, checkpoint: Path
) -> None:
    messages = [{"role": "system", "content": "import re"}, {"role": "user", "content": "import json"}]
    here = LLM.load(checkpoint).chat(messages, max_tokens=20, temperature=0)
    answer = client.chat.completions.create(model="source", messages=messages, max_tokens=20, temperature=0)
    assert answer.choices[0].message.content == here.text
    stop = here.text[5:8]
    cut = client.chat.completions.create(
        model="source", messages=messages, max_tokens=20, temperature=0, stop=stop
    )
    assert cut.choices[0].message.content == here.text[: here.text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_prompt_of_token_ids_is_taken_as_it_is(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    text = client.completions.create(model="source", prompt="import json", max_tokens=8, temperature=0)
    ids = client.completions.create(
        model="source", prompt=tokenizer.encode("import json"), max_tokens=8, temperature=0
    )
    assert ids.choices[0].text == text.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [("x y " * 200, "context of 64"), ("", "empty"), ([5, 99999], "99999 is not in the vocabulary")],
)
def test_impossible_prompts_are_bad_requests(
    client: openai.OpenAI, prompt: str | list[int], sentence: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.completions.create(model="source", prompt=prompt, stream=stream)


def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint directory"):
        serve(tmp_path)
