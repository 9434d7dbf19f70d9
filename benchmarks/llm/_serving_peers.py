"""SmolLM2-135M in blixt, litgpt and transformers: greedy, float32, asked for exactly so many tokens."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tests.llm.smollm2 import smollm2_dir

from blixt.llm import LLM, Engine, EngineConfig, Sampling

Work = list[tuple[list[int], int]]
"""Prompts and how many tokens each asks for."""
Answers = list[list[int]]
Peer = Callable[[Work], Answers]


def texts(count: int) -> list[int]:
    """Token ids of real source code, to cut prompts from."""
    llm = LLM.load(smollm2_dir())
    with open(torch.__file__, encoding="utf-8") as file:
        return llm.tokenizer.encode(file.read()[: 6 * count])[:count]


def blixt(**settings: Any) -> Callable[..., Answers]:
    """The engine; it keeps running between rounds, as a server does."""
    llm = LLM.load(smollm2_dir())
    settings = {"context": 2048, **settings}
    engine = Engine(llm.model, None, EngineConfig(**settings))

    def run(work: Work, temperature: float = 0) -> Answers:
        engine.reset_cache()  # prompts of an earlier round shall not be found again
        return _drain(engine, work, temperature)

    return run


def _drain(engine: Engine, work: Work, temperature: float) -> Answers:
    found: dict[str, list[int]] = {}
    for number, (prompt, count) in enumerate(work):
        sampling = Sampling(temperature=temperature, seed=number, max_tokens=count, ignore_eos=True)
        found[engine.add(prompt, sampling, uid=str(number))] = []
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            found[update.uid] += update.tokens
    return list(found.values())


def litgpt_model() -> Any:
    """litgpt's own GPT with the same weights, converted by litgpt's function."""
    import safetensors.torch
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

    config: Any = Config.from_name("SmolLM2-135M-Instruct")
    weights: dict[str, Any] = safetensors.torch.load_file(smollm2_dir() / "model.safetensors")
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    state: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, state, weights)
    with torch.device("meta"):
        model = GPT(config)
    model.load_state_dict(state, assign=True, strict=True)
    return model.eval()


def litgpt_one_by_one(model: Any) -> Peer:
    """One request after the other, which is what its server does."""
    from litgpt.generate.base import generate

    @torch.inference_mode()
    def run(work: Work) -> Answers:
        answers: Answers = []
        for prompt, count in work:
            _litgpt_cache(model, 1, len(prompt) + count)
            total = len(prompt) + count
            y = generate(model, torch.tensor(prompt), total, temperature=0.0, top_p=0.0, include_prompt=False)
            answers.append(y.tolist())
        return answers

    return run


def litgpt_batch(model: Any) -> Peer:
    """Its `batched_generate_fn`, for prompts of one length that ask for equally many tokens."""
    from litgpt.generate.base import batched_generate_fn

    @torch.inference_mode()
    def run(work: Work) -> Answers:
        prompts = torch.tensor([prompt for prompt, _ in work])
        total = prompts.shape[1] + work[0][1]
        _litgpt_cache(model, len(work), total)
        answers: Answers = [[] for _ in work]
        greedy = {"temperature": 0.0, "top_p": 0.0}
        steps = batched_generate_fn(
            model, prompts, total, sample_args=greedy, include_prompt=False, include_eos=True
        )
        for tokens in steps:
            for answer, token in zip(answers, tokens, strict=True):
                assert token is not None
                answer.append(int(token))
        return answers

    return run


def _litgpt_cache(model: Any, batch: int, total: int) -> None:
    model.clear_kv_cache()
    model.max_seq_length = total
    model.cos, model.sin = model.rope_cache(device="cpu")
    model.set_kv_cache(batch, device="cpu", dtype=torch.float32)


def transformers_model() -> Any:
    """Its Llama with the same weights."""
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(smollm2_dir(), dtype=torch.float32).eval()


def _greedy(count: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False, max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0
    )


def transformers_padded(model: Any, size: int) -> Peer:
    """Static batches of `size`, prompts padded on the left; each runs until its longest answer is done."""

    @torch.inference_mode()
    def run(work: Work) -> Answers:
        answers: Answers = []
        for first in range(0, len(work), size):
            answers += _one_batch(model, work[first : first + size])
        return answers

    return run


def _one_batch(model: Any, work: Sequence[tuple[list[int], int]]) -> Answers:
    width, most = max(len(prompt) for prompt, _ in work), max(count for _, count in work)
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in work])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in work])
    y = model.generate(tokens, attention_mask=mask, generation_config=_greedy(most))
    return [row[width : width + count].tolist() for row, (_, count) in zip(y, work, strict=True)]


def transformers_continuous(model: Any) -> Peer:
    """Its continuous batching over a paged cache, as large as this work needs."""
    from transformers import ContinuousBatchingConfig

    settings = ContinuousBatchingConfig(page_size=32, num_blocks=256, max_batch_tokens=512)

    def run(work: Work) -> Answers:
        answers: dict[str, list[int]] = {str(n): [] for n in range(len(work))}
        config = _greedy(1)
        config.min_new_tokens = None
        config.eos_token_id = -1
        with model.continuous_batching_context_manager(
            generation_config=config, continuous_batching_config=settings, warmup=False
        ) as manager:
            for number, (prompt, count) in enumerate(work):
                manager.add_request(prompt, request_id=str(number), max_new_tokens=count)
            for _ in work:
                result = manager.get_result(timeout=600)
                answers[result.request_id] = list(result.generated_tokens)
        return list(answers.values())

    return run


def differing(reference: Answers, other: Answers) -> int:
    """How many answers are not token for token the same."""
    return sum(a != b for a, b in zip(reference, other, strict=True))
