"""Prompt styles for models whose files carry no template. litgpt's are the oracle, where it has one."""

import litgpt.prompts
import pytest

from blixt.llm.chat.styles import style, style_names
from blixt.llm.errors import TemplateError

OLDER = {
    "alpaca": "Alpaca", "chatml": "ChatML", "codellama": "CodeLlama", "default": "Default",
    "falcon": "Falcon", "falcon3": "Falcon3", "flan": "FLAN", "freewilly2": "FreeWilly2", "gemma": "Gemma",
    "llama2": "Llama2", "llama3": "Llama3", "longform": "Longform", "olmo": "OLMo", "phi1": "Phi1",
    "phi2": "Phi2", "phi3": "Phi3", "phi4": "Phi4", "phi4-mini": "Phi4Mini",
    "phi4-mini-reasoning": "Phi4MiniReasoning", "platypus": "Platypus", "qwen2.5": "Qwen2_5",
    "qwen2.5-math": "Qwen2_5_Math", "qwq": "QwQ", "r1-base": "R1Base", "smollm2": "SmolLM2",
    "stablecode": "StableCode", "stablelm-alpha": "StableLMAlpha", "stablelm-zephyr": "StableLMZephyr",
    "tinyllama": "TinyLlama",
}  # fmt: skip
# Those that leave a system prompt out, and those whose long default is to be given as a message.
SILENT = {
    "falcon",
    "falcon3",
    "gemma",
    "olmo",
    "phi1",
    "phi2",
    "platypus",
    "stablecode",
    "stablelm-zephyr",
    "default",
}
TOLD = {"llama2", "stablelm-alpha"}


@pytest.mark.parametrize("name", sorted(OLDER))
def test_a_first_turn_is_as_litgpt_writes_it(name: str) -> None:
    theirs = getattr(litgpt.prompts, OLDER[name])()
    user = {"role": "user", "content": "Name a colour."}
    if name not in TOLD:
        assert style(name).render([user]) == theirs.apply("Name a colour.")
    if name not in SILENT:
        system = {"role": "system", "content": "Be brief."}
        assert style(name).render([system, user]) == theirs.apply("Name a colour.", sys_prompt="Be brief.")


def test_alpaca_takes_an_input_beside_the_instruction() -> None:
    message = {"role": "user", "content": "Translate.", "input": "bonjour"}
    assert style("alpaca").render([message]) == litgpt.prompts.Alpaca().apply("Translate.", input="bonjour")


@pytest.mark.parametrize("name", style_names())
def test_every_style_holds_every_turn_in_order_and_can_be_masked(name: str) -> None:
    turns = [
        {"role": "system", "content": "SYS"},
        {"role": "user", "content": "ONE"},
        {"role": "assistant", "content": "TWO"},
        {"role": "user", "content": "THREE"},
    ]
    text = style(name).render(turns)
    places = [text.index(turn["content"]) for turn in turns]
    assert places == sorted(places)


def test_an_unknown_style_is_named() -> None:
    with pytest.raises(TemplateError, match="no prompt style 'klingon'"):
        style("klingon")
