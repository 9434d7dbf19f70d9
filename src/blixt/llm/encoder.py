"""Sentence encoders of the BERT kind (such as all-MiniLM-L6-v2): texts in, vectors out.

An encoder sees a text in both directions and writes nothing, so it needs no engine, cache or sampling. It
stands beside the decoder of `blixt.llm.model`, for embeddings where a checkpoint was trained for them.

Shapes in comments: B texts, T tokens, H heads, D width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.errors import ConfigError, PromptError, WeightsError
from blixt.llm.weights import open_source

TOKENS_AT_ONCE = 4096
Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder.

    Attributes:
        vocab: Number of tokens.
        d: Width.
        layers: Number of blocks.
        heads: Of attention.
        d_ff: Inner width of the MLP.
        context: Longest text in tokens.
        kinds: Kinds of segments; texts are all of the first.
        norm_eps: Of the LayerNorms.
        pooling: Mean over a text's tokens, or its first one.
        normalize: Whether vectors are scaled to length 1.
        limit: Tokens of a text that count; longer ones are cut there when that is allowed.
    """

    vocab: int
    d: int
    layers: int
    heads: int
    d_ff: int
    context: int
    kinds: int = 2
    norm_eps: float = 1e-12
    pooling: Pooling = "mean"
    normalize: bool = True
    limit: int = 512

    @classmethod
    def load(cls, directory: str | Path) -> "EncoderConfig":
        """Read `config.json`, and how to pool from sentence-transformers' files beside it.

        Raises:
            ConfigError: A file is missing, or describes something this encoder does not have.
        """
        folder = Path(directory)
        data = _json(folder / "config.json")
        for name, wanted in (
            ("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")
        ):  # fmt: skip
            if data.get(name, wanted) != wanted:
                raise ConfigError(f"{folder}/config.json: {name}={data[name]!r} is not read, only {wanted!r}")
        pooling = _json(folder / "1_Pooling" / "config.json", {})
        modules = _json(folder / "modules.json", [])
        limit = _json(folder / "sentence_bert_config.json", {}).get("max_seq_length")
        try:
            return cls(
                vocab=data["vocab_size"],
                d=data["hidden_size"],
                layers=data["num_hidden_layers"],
                heads=data["num_attention_heads"],
                d_ff=data["intermediate_size"],
                context=data["max_position_embeddings"],
                kinds=data.get("type_vocab_size", 2),
                norm_eps=data.get("layer_norm_eps", 1e-12),
                pooling="cls" if pooling.get("pooling_mode_cls_token") else "mean",
                normalize=not modules or any(m.get("type", "").endswith("Normalize") for m in modules),
                limit=limit or data["max_position_embeddings"],
            )
        except KeyError as missing:
            raise ConfigError(f"{folder}/config.json lacks the key {missing}") from None


class EncoderBlock(nn.Module):
    """Attention in both directions, then an MLP, each added and normalised (BERT, arXiv:1810.04805)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q, self.k, self.v, self.out = (nn.Linear(config.d, config.d) for _ in range(4))
        self.attn_norm = nn.LayerNorm(config.d, config.norm_eps)
        self.up, self.down = nn.Linear(config.d, config.d_ff), nn.Linear(config.d_ff, config.d)
        self.mlp_norm = nn.LayerNorm(config.d, config.norm_eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); `mask` (B, 1, 1, T) is True on tokens that are there."""
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(-2)
        x = self.attn_norm(x + self.out(y))
        return self.mlp_norm(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """Texts to vectors.

    Args:
        config: Sizes and how to pool.
        tokenizer: Adds the marks at both ends that the model was trained with.

    Example:
        ```python
        encoder = Encoder.load("all-MiniLM-L6-v2")
        a, b = encoder.embed(["a cat", "a kitten"])
        similarity = float(a @ b)
        ```
    """

    def __init__(self, config: EncoderConfig, tokenizer: tokenizers.Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.embed_token = nn.Embedding(config.vocab, config.d)
        self.embed_position = nn.Embedding(config.context, config.d)
        self.embed_kind = nn.Embedding(config.kinds, config.d)
        self.embed_norm = nn.LayerNorm(config.d, config.norm_eps)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.layers))

    @classmethod
    def load(cls, directory: str | Path, device: str | torch.device = "cpu") -> "Encoder":
        """Read a directory as sentence-transformers and Hugging Face write it; weights stay mapped on a CPU.

        Raises:
            ConfigError: It is no encoder that can be read.
            WeightsError: A tensor is missing or misshapen.
        """
        config = EncoderConfig.load(directory)
        file = Path(directory) / "tokenizer.json"
        if not file.is_file():
            raise ConfigError(f"{file} does not exist")
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        tokenizer.no_padding()  # batches are padded here, to their longest only
        tokenizer.no_truncation()  # and what is too long is said, or cut by `embed`
        with torch.device("meta"):
            model = cls(config, tokenizer)
        source = open_source(directory)
        prefix = "bert." if any(name.startswith("bert.") for name in source.infos) else ""
        state = {ours: prefix + theirs for ours, theirs in _names(config).items()}
        if missing := [theirs for theirs in state.values() if theirs not in source.infos]:
            raise WeightsError(f"{source.where} lacks the tensor {missing[0]}")
        try:
            model.load_state_dict({ours: source.get(theirs) for ours, theirs in state.items()}, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"{source.where} does not fit config.json: {error}") from None
        return model.eval().requires_grad_(False).to(device)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (B, T, D) of ids (B, T); `mask` (B, T) is True on tokens that are there."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embed_token(tokens) + self.embed_kind.weight[0] + self.embed_position(places)
        x = self.embed_norm(x)
        for block in self.blocks:
            x = block(x, mask[:, None, None])
        return x

    @torch.inference_mode()
    def embed(self, texts: str | Sequence[str], *, truncate: bool = True) -> Tensor:
        """Vectors of texts.

        Args:
            texts: One text or a list.
            truncate: Cut texts that are too long, as sentence-transformers does; else they are an error.

        Returns:
            (D,) for one text, (texts, D) for a list, on the CPU.

        Raises:
            PromptError: A text is too long and must not be cut.
        """
        ids = [
            self._ids(n, text, truncate)
            for n, text in enumerate([texts] if isinstance(texts, str) else texts)
        ]
        vectors = torch.empty(len(ids), self.config.d)
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        while order:
            width = len(ids[order[-1]])
            batch = order[-max(1, TOKENS_AT_ONCE // width) :]
            del order[-len(batch) :]
            vectors[batch] = self._pool([ids[n] for n in batch], width).float().cpu()
        return vectors[0] if isinstance(texts, str) else vectors

    def count(self, text: str) -> int:
        """How many tokens a text has, the marks at its ends included."""
        return len(self.tokenizer.encode(text).ids)

    def _ids(self, number: int, text: str, truncate: bool) -> list[int]:
        ids = self.tokenizer.encode(text).ids
        limit = self.config.limit
        if len(ids) <= limit:
            return ids
        if not truncate:
            raise PromptError(f"text {number} has {len(ids)} tokens: {limit} can be embedded")
        return [*ids[: limit - 1], ids[-1]]  # the mark at the end stays

    def _pool(self, ids: Sequence[Sequence[int]], width: int) -> Tensor:
        device = self.embed_token.weight.device
        tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
        mask = torch.tensor([[n < len(row) for n in range(width)] for row in ids], device=device)
        hidden = self(tokens, mask)
        if self.config.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(pooled, dim=-1) if self.config.normalize else pooled


def _names(config: EncoderConfig) -> Mapping[str, str]:
    """Our parameters' names and those on disk."""
    parts = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "out": "attention.output.dense",
        "attn_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "mlp_norm": "output.LayerNorm",
    }
    names = {
        "embed_token.weight": "embeddings.word_embeddings.weight",
        "embed_position.weight": "embeddings.position_embeddings.weight",
        "embed_kind.weight": "embeddings.token_type_embeddings.weight",
        "embed_norm.weight": "embeddings.LayerNorm.weight",
        "embed_norm.bias": "embeddings.LayerNorm.bias",
    }
    for layer in range(config.layers):
        for ours, theirs in parts.items():
            for leaf in ("weight", "bias"):
                names[f"blocks.{layer}.{ours}.{leaf}"] = f"encoder.layer.{layer}.{theirs}.{leaf}"
    return names


def _json(path: Path, default: Any = None) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if default is None:
            raise ConfigError(f"{path} does not exist: is it a checkpoint directory?") from None
        return default
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
