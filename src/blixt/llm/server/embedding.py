"""A sentence encoder behind `/v1/embeddings`: requests of all clients fill its batches."""

from pathlib import Path

from blixt.llm.errors import LLMError
from blixt.serve import API, ConfigError, HTTPError
from blixt.serve.specs.openai_embeddings import OpenAIEmbeddingSpec
from blixt.serve.specs.openai_types import Embedding, EmbeddingRequest


class EmbeddingAPI(API):
    """Embeddings of one encoder (all-MiniLM-L6-v2 and its kind).

    Args:
        directory: As sentence-transformers and Hugging Face write it; read in each worker's `setup`.
        model_name: What clients call it.
        max_batch: Texts in a batch.
    """

    def __init__(self, directory: str | Path, model_name: str, max_batch: int = 32) -> None:
        spec = OpenAIEmbeddingSpec(model_name)
        super().__init__(spec=spec, max_batch_size=max_batch, batch_timeout_s=0.002 if max_batch > 1 else 0)
        self.directory = str(directory)

    def setup(self, device: str) -> None:
        """Load the encoder onto the worker's device; what is wrong is said without a traceback."""
        from blixt.llm.encoder import Encoder

        try:
            self.encoder = Encoder.load(self.directory, device)
        except LLMError as error:
            raise ConfigError(f"{self.directory}: {error}.") from None

    def decode_request(self, request: EmbeddingRequest) -> tuple[str, int]:
        """A text and its tokens; what cannot be embedded fails alone, not with its batch.

        Raises:
            HTTPError: 400, and why.
        """
        text, size = request.input, self.encoder.config.d
        if not isinstance(text, str):
            raise HTTPError(400, {"message": "This model embeds texts, not token ids.", "param": "input"})
        if request.dimensions not in (None, size):
            said = f"dimensions={request.dimensions}: this model's vectors have {size}."
            raise HTTPError(400, {"message": said, "param": "dimensions"})
        tokens, limit = self.encoder.count(text), self.encoder.config.limit
        if tokens > limit:
            said = (
                f"The text has {tokens} tokens, {tokens - limit} more than the {limit} that can be embedded."
            )
            raise HTTPError(400, {"message": said, "param": "input"})
        return text, tokens

    def predict(self, texts: "list[tuple[str, int]] | tuple[str, int]") -> "list[Embedding] | Embedding":
        """Vectors of a batch of texts, or of one where there are no batches."""
        if isinstance(texts, tuple):
            return Embedding(self.encoder.embed(texts[0]), texts[1])
        vectors = self.encoder.embed([text for text, _ in texts])
        return [Embedding(vector, tokens) for vector, (_, tokens) in zip(vectors, texts, strict=True)]
