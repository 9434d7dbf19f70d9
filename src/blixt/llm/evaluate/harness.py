"""lm-eval's tasks on our engine: likelihoods by packed forwards, answers by continuous batching."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate.choices import span_of
from blixt.llm.evaluate.files import Measure
from blixt.llm.evaluate.score import BATCH_TOKENS, Score, Span, score

if TYPE_CHECKING:
    from blixt.llm.api import LLM

try:
    from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingTypeStubs] - has none
except ImportError:
    raise EvaluationError("lm-eval's tasks need lm-eval: pip install 'blixt[evaluate]'") from None

_tools: Any = import_module("lm_eval.utils")
_model_tools: Any = import_module("lm_eval.models.utils")

_MOST_GENERATED = 256


class EngineLM(TemplateLM):
    """What lm-eval asks of a model, answered by an `LLM`.

    Args:
        llm: The model with its tokenizer and engine.
        batch_tokens: Tokens in a forward when judging likelihoods.
        max_gen_toks: Most tokens to generate where a task says nothing.
    """

    def __init__(
        self, llm: "LLM", *, batch_tokens: int = BATCH_TOKENS, max_gen_toks: int = _MOST_GENERATED
    ) -> None:
        super().__init__()
        self.llm = llm
        self.batch_tokens = batch_tokens
        self.max_gen_toks = max_gen_toks
        self.max_length: int = llm.model.config.context

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document."""
        if not self.llm.tokenizer.eos:
            raise EvaluationError("lm-eval needs an end token, and the tokenizer has none")
        return self.llm.tokenizer.eos[0]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        bos = self.llm.tokenizer.bos
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """Names the chat template in lm-eval's cache."""
        return "blixt"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The chat template's source, when one shall be used."""
        template = self.llm.tokenizer.template if chat_template else None
        return None if template is None else template.sources.get("default")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text."""
        template = self.llm.tokenizer.template
        if template is None:
            raise EvaluationError("the model has no chat template: evaluate it without one")
        return template.render(chat_history, add_generation_prompt=add_generation_prompt)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Ids of a text; None adds what the tokenizer itself would."""
        return self.llm.tokenizer.encode(string, bos=add_special_tokens)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, in disjoint windows as lm-eval cuts them."""
        spans: list[Span] = []
        counts: list[int] = []
        for (text,) in (request.args for request in requests):
            windows = _tools.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            parts = [_tools.make_disjoint_window(window) for window in windows]
            spans += [span_of(context, rest, self.max_length) for context, rest in parts]
            counts.append(len(parts))
        scores = iter(self._score(spans))
        return [sum(next(scores).logprob for _ in range(count)) for count in counts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, all in one continuous batch for each set of options."""
        groups: dict[str, tuple[dict[str, Any], list[int]]] = {}
        for number, request in enumerate(requests):
            options = dict(request.args[1])
            groups.setdefault(repr(sorted(options.items())), (options, []))[1].append(number)
        answers = [""] * len(requests)
        for options, members in groups.values():
            sampling = _sampling(_model_tools.normalize_gen_kwargs(options, self.max_gen_toks))
            room = self.max_length - sampling["max_tokens"]
            if room < 1:
                raise EvaluationError(
                    f"a task generates {sampling['max_tokens']} tokens, which leaves no room for a prompt in "
                    f"the context of {self.max_length}: give it a smaller max_gen_toks"
                )
            prompts = [self.tok_encode(requests[number].args[0])[-room:] for number in members]
            for number, completion in zip(members, self.llm.generate(prompts, **sampling), strict=True):
                answers[number] = completion.text
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        spans = [span_of(context, rest, self.max_length) for _, context, rest in requests]
        return [(one.logprob, one.greedy) for one in self._score(spans)]

    def _score(self, spans: Sequence[Span]) -> list[Score]:
        return score(self.llm.model, spans, batch_tokens=self.batch_tokens)


def evaluate_tasks(
    llm: "LLM",
    tasks: Sequence[str],
    *,
    include: str | Path | None = None,
    limit: int | None = None,
    few_shot: int | None = None,
    chat: bool = False,
) -> list[Measure]:
    """Run tasks of lm-eval.

    Args:
        llm: The model.
        tasks: Their names.
        include: A folder with tasks as YAML files, which replaces lm-eval's own; those download their data.
        limit: Most documents of each task.
        few_shot: Solved examples before each question; the task's own number by default.
        chat: Whether to put prompts into the model's chat template.

    Raises:
        EvaluationError: lm-eval is not installed, knows no such task, or cannot reach a task's data.
    """
    library: Any = import_module("lm_eval")
    kind: Any = import_module("lm_eval.tasks").TaskManager
    # Its own tasks are ten thousand files, which take it seconds to list.
    manager = kind() if include is None else kind(include_path=str(include), include_defaults=False)
    known: list[str] = manager.all_tasks
    if unknown := [task for task in tasks if task not in known]:
        raise EvaluationError(
            f"lm-eval knows no task {unknown[0]!r}: give the folder of its YAML file, or another name"
        )
    try:
        found: Mapping[str, Any] = library.simple_evaluate(
            model=EngineLM(llm),
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            num_fewshot=few_shot,
            apply_chat_template=chat,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except OSError as error:  # of files and connections alike
        raise EvaluationError(
            f"the data of {', '.join(tasks)} cannot be read ({' '.join(str(error).split())}): lm-eval's own "
            "tasks download theirs from the hub; tasks with files beside them need no network (--task-path)"
        ) from error
    return _measures(found)


def _sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Our sampling options for lm-eval's."""
    sampling: dict[str, Any] = {
        "max_tokens": int(options["max_gen_toks"]),
        "temperature": float(options.get("temperature", 0.0)),
        "stop": tuple(text for text in options.get("until", []) if text),
    }
    if options.get("do_sample"):
        sampling |= {key: options[key] for key in ("top_p", "top_k", "min_p") if key in options}
    return sampling


def _measures(found: Mapping[str, Any]) -> list[Measure]:
    """lm-eval's results, flat: its keys are "metric,filter" and "metric_stderr,filter"."""
    measures: list[Measure] = []
    for task, values in cast("dict[str, dict[str, Any]]", found["results"]).items():
        count = found.get("n-samples", {}).get(task, {}).get("effective", 0)
        for key, value in values.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{kind}")
            measures.append(
                Measure(
                    task,
                    metric if kind == "none" else f"{metric} ({kind})",
                    float(value),
                    float(error) if isinstance(error, int | float) else None,
                    int(count),
                )
            )
    return measures
