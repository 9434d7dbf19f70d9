"""blixt llm evaluate: judge a model by local files and by lm-eval's tasks."""

from typing import Annotated

import typer

from blixt.cli.failure import room
from blixt.cli.llm_errors import ERRORS
from blixt.cli.options import Json
from blixt.cli.output import print_json, print_table


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or a .gguf file.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, or .jsonl of texts or of questions with choices and answer."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task of lm-eval; repeat it.")] = None,
    task_path: Annotated[
        str | None, typer.Option(help="A folder of tasks (YAML) instead of lm-eval's.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many lines or documents.", min=1)] = None,
    few_shot: Annotated[int | None, typer.Option(help="Solved examples before each question.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put prompts of tasks into the chat template.")
    ] = False,
    window: Annotated[int | None, typer.Option(help="Tokens to look back on in texts.")] = None,
    stride: Annotated[int | None, typer.Option(help="Tokens judged by each further window.")] = None,
    quantize: Annotated[str | None, typer.Option(help="int8, int8-dynamic, int4, nf4 or fp8.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Judge a model: perplexity of texts, multiple choice, lm-eval's tasks."""
    with room("llm", *ERRORS):
        from blixt.llm import LLM
        from blixt.llm.errors import EvaluationError
        from blixt.llm.evaluate import Measure, evaluate_file

        if not files and not task:
            raise EvaluationError("nothing to judge by: name files, or a task with --task")
        llm = LLM.load(model, device, quantize=quantize)
        found: list[Measure] = []
        for file in files or []:
            found += evaluate_file(llm.model, llm.tokenizer, file, window=window, stride=stride, limit=limit)
        if task:
            from blixt.llm.evaluate import evaluate_tasks

            found += evaluate_tasks(llm, task, include=task_path, limit=limit, few_shot=few_shot, chat=chat)
    if json:
        print_json(found)
        return
    rows = [
        (one.task, one.metric, f"{one.value:.4g}", f"{one.error:.2g}" if one.error else "", str(one.count))
        for one in found
    ]
    print_table(("task", "metric", ">value", ">±", ">n"), rows, empty="There is nothing to show.")
