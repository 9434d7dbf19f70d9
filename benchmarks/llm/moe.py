"""A mixture-of-experts layer, 64 experts of which a token visits 8: blixt, litgpt, transformers, interleaved.

Decoding is few tokens at a time, where a loop over experts is mostly overhead; hundreds of tokens are prompts
and training. All compute the same layer with the same weights; their outputs are compared first. Ours are
stored input-major, as the engine stores them from its first batches on.

    python -m benchmarks.llm.moe [--rounds 15] [--out FILE]
"""

from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.llm._measure import Run, compare, options, show, write
from litgpt.config import Config
from litgpt.model import LLaMAMoE
from torch import Tensor, nn
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from blixt.llm.config import MoESpec
from blixt.llm.moe import MoE

D, D_FF, EXPERTS, TOP_K = 512, 256, 64, 8


def ours() -> MoE:
    """Grouped matrix products over tokens sorted by expert."""
    layer = MoE(D, MoESpec(EXPERTS, TOP_K, D_FF), F.silu, None)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.05)
    for weight in (layer.experts.gate, layer.experts.up, layer.experts.down):
        weight.data = weight.data.mT.contiguous().mT
    return layer


def litgpts(layer: MoE) -> nn.Module:
    """litgpt's layer: a loop over all experts."""
    config: Any = Config(
        n_embd=D,
        n_head=8,
        moe_intermediate_size=D_FF,
        intermediate_size=D_FF,
        n_expert=EXPERTS,
        n_expert_per_token=TOP_K,
        mlp_class_name="LLaMAMoE",
        bias=False,
    )
    other = LLaMAMoE(config)
    other.gate.weight.copy_(layer.router.weight)
    for index, expert in enumerate(other.experts):
        expert.fc_1.weight.copy_(layer.experts.gate[index])
        expert.fc_2.weight.copy_(layer.experts.up[index])
        expert.proj.weight.copy_(layer.experts.down[index])
    return other


def transformers(layer: MoE, way: str) -> nn.Module:
    """transformers' layer of Qwen 3, a loop over the experts that are visited, or its own grouped product."""
    config = Qwen3MoeConfig(
        hidden_size=D,
        moe_intermediate_size=D_FF,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        norm_topk_prob=True,
    )
    config._experts_implementation = way
    other = Qwen3MoeSparseMoeBlock(config)
    other.gate.weight.copy_(layer.router.weight)
    other.experts.gate_up_proj.copy_(torch.cat((layer.experts.gate, layer.experts.up), dim=1))
    other.experts.down_proj.copy_(layer.experts.down)
    return other


def at(count: int, layers: dict[str, nn.Module], rounds: int) -> dict[str, dict[str, float]]:
    """Compare them on `count` tokens, a different batch each call."""
    batches = [torch.randn(1, count, D) for _ in range(8)]
    wanted = layers["blixt"](batches[0])
    for layer in layers.values():
        torch.testing.assert_close(layer(batches[0]), wanted, rtol=1e-4, atol=1e-4)

    def run(layer: nn.Module) -> Run:
        def pass_all() -> list[Tensor]:
            return [layer(batch) for batch in batches]

        return pass_all

    return compare({name: run(layer) for name, layer in layers.items()}, rounds)


@torch.no_grad()
def main() -> None:
    arguments = options("moe", 15, __doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = ours()
    layers: dict[str, nn.Module] = {
        "blixt": layer,
        "litgpt": litgpts(layer),
        "transformers, loop": transformers(layer, "eager"),
        "transformers, grouped": transformers(layer, "grouped_mm"),
    }
    results: dict[str, Any] = {}
    for count in (1, 8, 16, 64, 512):
        results[f"{count} tokens"] = at(count, layers, arguments.rounds if count < 100 else 3)
        show(f"{count} tokens, 8 calls", results[f"{count} tokens"])
    write(arguments.out, arguments.rounds, results)


if __name__ == "__main__":
    main()
