"""A base model behind OpenAI's own client: completions, chat without a template, refusals."""

from pathlib import Path

import openai
import pytest

from blixt.llm import LLM, ConfigError, Tokenizer, serve

IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


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


def test_a_prompt_that_is_too_long_says_by_how_much(client: openai.OpenAI) -> None:
    with pytest.raises(
        openai.BadRequestError, match=r"has 70 tokens, 7 too many: the context of 64 leaves room for 63"
    ):
        client.completions.create(model="source", prompt=[1] * 70)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"temprature": 1}, "no parameter 'temprature'; did you mean 'temperature'?"),
        ({"zzz": 1}, "no parameter 'zzz'"),
        ({"temperature": 3}, "'temperature' must be from 0 to 2"),
        ({"top_k": -1}, "top_k=-1: must be 0"),
        ({"min_p": 2}, "min_p=2.0"),
        ({"best_of": 3}, "'best_of' must be 1 or equal to n"),
        ({"suffix": "x"}, "only continues prompts"),
        ({"logit_bias": {"x": 1}}, "'x', which is no token id"),
        ({"logit_bias": {"99999": 1}}, "99999 is not in the vocabulary"),
        ({"max_tokens": 0}, "'max_tokens' must be above 0"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "regex", "regex": "["}}, "regular expression|regex"),
    ],
)
def test_unknown_and_impossible_parameters_are_refused_in_a_sentence(
    client: openai.OpenAI, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.completions.create(model="source", prompt="import", extra_body=given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"functions": []}, "say it as 'tools'"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "takes functions"),
        ({"chat_template_kwargs": {"messages": []}}, "a parameter of its own"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "reads text only"),
    ],
)
def test_what_a_chat_cannot_have_is_refused_in_a_sentence(
    client: openai.OpenAI, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.chat.completions.create(
            model="source", messages=[{"role": "user", "content": "import"}], max_tokens=2, extra_body=given
        )


def test_an_echo_tells_the_prompts_own_log_probabilities(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("import json")
    answer = client.completions.create(model="source", prompt=ids, max_tokens=0, echo=True, logprobs=2)
    choice = answer.choices[0]
    assert choice.text == "import json"
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.token_logprobs) == len(ids)
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


def test_many_prompts_and_choices_are_answered_in_order(client: openai.OpenAI) -> None:
    prompts = ["import json", "def f", "class A"]
    alone = [
        client.completions.create(model="source", prompt=prompt, max_tokens=6, temperature=0).choices[0].text
        for prompt in prompts
    ]
    together = client.completions.create(model="source", prompt=prompts, n=2, max_tokens=6, temperature=0)
    assert [choice.text for choice in together.choices] == [text for text in alone for _ in range(2)]


def test_a_seed_makes_an_answer_repeatable_and_choices_different(client: openai.OpenAI) -> None:
    request = {"model": "source", "prompt": "def", "max_tokens": 12, "temperature": 1.5, "seed": 7, "n": 3}
    first, second = (client.completions.create(**request) for _ in range(2))
    assert [c.text for c in first.choices] == [c.text for c in second.choices]
    assert len({c.text for c in first.choices}) > 1


def test_a_bias_can_forbid_and_force_tokens(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    token = tokenizer.encode("x")[0]
    forced = client.completions.create(
        model="source", prompt="import", max_tokens=4, temperature=0, logit_bias={str(token): 100}
    )
    assert forced.choices[0].text == "xxxx"


def test_vectors_are_those_of_the_model_in_process(client: openai.OpenAI, checkpoint: Path) -> None:
    answer = client.embeddings.create(model="source", input=["import json", "def f(x):"])
    here = LLM.load(checkpoint).embed(["import json", "def f(x):"])
    for got, wanted in zip(answer.data, here.tolist(), strict=True):
        assert got.embedding == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(openai.BadRequestError, match="vectors have 64"):
        client.embeddings.create(model="source", input="x", dimensions=8)


def test_a_model_that_is_not_served_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has 'source'"):
        client.completions.create(model="other", prompt="x")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_bound_are_heeded(client: openai.OpenAI, name: str) -> None:
    messages = [{"role": "user", "content": "import"}]
    answer = client.chat.completions.create(
        model="source", messages=messages, temperature=0, extra_body={name: 3}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"
