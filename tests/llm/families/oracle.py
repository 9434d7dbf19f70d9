"""Runs transformers, in a process of its own: writes tiny checkpoints and what they compute, reads ours.

Called with a job (write, read or more), a directory and names of cases, with the folder of transformers 4
in PYTHONPATH for that lane. Each case is a folder: `model/` as `save_pretrained` writes it, `gradients/` the
same with every parameter replaced by its gradient, and in `reference.safetensors` what it computed. `more`
does so for the rotations of published configurations, and for gpt-oss in MXFP4. `read` takes `ours/` and
writes `ours.safetensors`. A failure is written down as `error.txt`.
"""

import json
import sys
import traceback
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.llm.families.cases import CASES
from tests.llm.families.oracle_forms import version_4
from tests.llm.families.published import PUBLISHED
from tests.llm.families.tiny import FULL, SLIDING, Case, Json
from torch import Tensor

SHORT, LONG, BATCH, NEW = 7, 40, 3, 12
SCALE = 4  # of every matrix, so that the likeliest token is likeliest by far


def build(case: Case) -> Any:
    """A model with random weights, in evaluation mode."""
    keys = case.config()
    if transformers.__version__.startswith("4."):
        keys = version_4(keys)
    implementation = keys.pop("attn_implementation")
    if case.wrapped is None:
        config = transformers.CONFIG_MAPPING[case.kind](**keys)
        auto: Any = transformers.AutoModelForCausalLM
    else:
        outer = dict(case.wrapped)
        outer["text_config"] = {**keys, "model_type": case.kind}
        config = transformers.CONFIG_MAPPING[outer.pop("model_type")](**outer)
        auto = transformers.AutoModelForImageTextToText
    model = auto.from_config(config, attn_implementation=implementation).float().eval()
    decisive(model)
    return model


@torch.no_grad()
def decisive(model: Any) -> None:
    """Scale the matrices; move what starts as all ones or all zeros, so that every tensor matters."""
    for tensor in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values():
        persistent = any(tensor is stored for stored in model.state_dict(keep_vars=True).values())
        if not persistent or not tensor.is_floating_point():
            continue
        if tensor.numel() > 1 and tensor.std() > 0 and tensor.dim() > 1:
            tensor.mul_(SCALE)
        else:
            tensor.add_(torch.randn_like(tensor) * 0.2)


def logits(model: Any, tokens: Tensor) -> Tensor:
    """Scores of every position, without a cache."""
    return model(input_ids=tokens, use_cache=False).logits.float()


@torch.no_grad()
def greedy(model: Any, prompt: Tensor) -> Tensor:
    """The likeliest continuation, the whole sequence computed again for every token."""
    tokens = prompt
    for _ in range(NEW):
        tokens = torch.cat((tokens, logits(model, tokens)[:, -1:].argmax(-1)), dim=1)
    return tokens[:, prompt.shape[1] :]


@torch.no_grad()
def in_bfloat16(model: Any, tokens: Tensor) -> dict[str, Tensor]:
    """Scores with weights rounded to bfloat16, computed in float32 and in bfloat16."""
    model, found = deepcopy(model), {}
    for name, dtype in (("rounded", torch.float32), ("bfloat16", torch.bfloat16)):
        for parameter in model.parameters():
            parameter.data = parameter.bfloat16().to(dtype)
        found[f"long.{name}"] = logits(model, tokens)
    return found


def prompts(vocab: int) -> dict[str, Tensor]:
    """Token ids of the tests; 0 to 2 are padding and ends."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randint(3, vocab - 8, shape, generator=generator)
        for name, shape in {"short": (1, SHORT), "long": (1, LONG), "batch": (BATCH, 13)}.items()
    }


def write(case: Case, folder: Path) -> None:
    """Write one case's checkpoint and all that it computes."""
    torch.manual_seed(0)
    model = build(case)
    found: dict[str, Tensor] = {}
    ids = prompts(case.config()["vocab_size"])
    with torch.no_grad():
        for name, tokens in ids.items():
            found[name] = tokens
            found[f"{name}.logits"] = logits(model, tokens)
    # 9 + 12 tokens pass a window of 8 and an original context of 16 on the way.
    found["greedy.prompt"] = ids["long"][:, :9].clone()
    found["greedy"] = greedy(model, found["greedy.prompt"])
    model.save_pretrained(folder / "model")
    if transformers.__version__.startswith("5."):
        found |= in_bfloat16(model, ids["long"])
    scores = logits(model, ids["batch"])
    loss = torch.nn.functional.cross_entropy(scores[:, :-1].flatten(0, 1), ids["batch"][:, 1:].flatten())
    loss.backward()
    found["loss"] = loss.detach()
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / "reference.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    model.save_pretrained(folder / "gradients")


def read(case: Case, folder: Path) -> None:
    """Load what blixt wrote, compute the same, and save it again."""
    auto: Any = transformers.AutoModelForCausalLM
    model, report = auto.from_pretrained(
        folder / "ours", attn_implementation="eager", output_loading_info=True, dtype=torch.float32
    )
    reference = load_file(folder / "reference.safetensors")
    with torch.no_grad():
        found = {
            f"{name}.logits": logits(model.eval(), reference[name]).contiguous()
            for name in ("short", "long", "batch")
        }
    save_file(found, folder / "ours.safetensors")
    problems = {name: sorted(map(str, keys)) for name, keys in report.items() if keys}
    (folder / "report.json").write_text(json.dumps(problems))
    model.save_pretrained(folder / "again")


def ropes(name: str, folder: Path) -> None:
    """Write frequencies and attention factor of a published configuration, by kind of layer."""
    data = dict(PUBLISHED[name])
    text = dict(data.get("text_config", data))
    kind = text.pop("model_type")
    text.pop("quantization_config", None)
    if "attn_temperature_tuning" in text:  # published as 4, which transformers 5 refuses
        text["attn_temperature_tuning"] = bool(text["attn_temperature_tuning"])
    config = transformers.CONFIG_MAPPING[kind](**text)
    found: dict[str, Tensor] = {}
    nested = FULL in config.rope_parameters
    for layer_type in (FULL, SLIDING) if nested else (None,):
        parameters = config.rope_parameters[layer_type] if nested else config.rope_parameters
        for length in (1, 10**6):
            frequencies, factor = rotations(config, parameters, layer_type, length)
            key = f"{layer_type or FULL}.{'short' if length == 1 else 'long'}"
            found[key] = frequencies.float().contiguous()
            found[f"{key}.factor"] = torch.tensor(float(factor))
    save_file(found, folder / "ropes.safetensors")


def rotations(config: Any, parameters: Json, layer_type: str | None, length: int) -> tuple[Tensor, float]:
    """What transformers makes of one set of rope parameters."""
    kind = parameters["rope_type"]
    if kind != "default":
        function = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind]
        return function(config, "cpu", seq_len=length, layer_type=layer_type)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = int(width * parameters.get("partial_rotary_factor", 1.0))
    return parameters["rope_theta"] ** -(torch.arange(0, width, 2).float() / width), 1.0


def packed(folder: Path) -> None:
    """Write a gpt-oss whose experts are MXFP4, and what it computes with the numbers transformers unpacks."""
    torch.manual_seed(0)
    model = build(CASES["gpt-oss"])
    stored, unpack = {}, transformers.integrations.mxfp4.convert_moe_packed_tensors
    model.save_pretrained(folder / "model")
    tensors = load_file(folder / "model" / "model.safetensors")
    for layer, block in enumerate(model.model.layers):
        for part in ("gate_up_proj", "down_proj"):
            weight = getattr(block.mlp.experts, part)
            experts, inner, rows = weight.shape
            blocks = torch.randint(0, 256, (experts, rows, inner // 32, 16), dtype=torch.uint8)
            scales = torch.randint(119, 124, (experts, rows, inner // 32), dtype=torch.uint8)
            weight.data = unpack(blocks, scales, dtype=torch.float32)
            name = f"model.layers.{layer}.mlp.experts.{part}"
            del tensors[name]
            stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file({**tensors, **stored}, folder / "model" / "model.safetensors")
    config = folder / "model" / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "mxfp4"}})
    )
    tokens = prompts(96)["long"]
    with torch.no_grad():
        save_file({"long": tokens, "long.logits": logits(model, tokens)}, folder / "reference.safetensors")


def main() -> None:
    """Do one job for the named cases."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    job, directory, *names = sys.argv[1:]
    for name in names:
        folder = Path(directory) / name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if job == "more":
                packed(folder) if name == "gpt-oss-mxfp4" else ropes(name, folder)
            else:
                (write if job == "write" else read)(CASES[name], folder)
        except Exception:  # told to the test of that family, the others go on
            (folder / "error.txt").write_text(traceback.format_exc())
