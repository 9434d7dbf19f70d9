"""From a step's logits to each request's new tokens: masks, draws, guesses kept or dropped, text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from blixt.llm.engine.request import FinishReason, Request, TokenLogprob, Update
from blixt.llm.engine.sampler import Row, edit, logprobs, probabilities, sample
from blixt.llm.engine.scheduler import Slice


@dataclass(eq=False)
class Draw:
    """The rows of one request in a step.

    Attributes:
        request: Whose.
        rows: Of the logits: after its newest token, and after each guess.
        tokens: What was drawn, one a row.
        logprobs: Theirs, when asked for.
        error: What its grammar raised.
    """

    request: Request
    rows: range
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    error: Exception | None = None

    @property
    def kept(self) -> int:
        """How many of the drawn tokens count: up to and with the first that differs from its guess."""
        guesses = self.request.drafts
        same = (i for i, guess in enumerate(guesses) if guess != self.tokens[i])
        return next(same, len(guesses)) + 1


def draw_tokens(logits: Tensor, draws: Sequence[Draw]) -> None:
    """Draw for every row of a step and note the results.

    A row after a guess is drawn as if the guess were true, with the random number of its place. So keeping
    tokens up to the first wrong guess gives literally what would have been drawn without guessing.

    Args:
        logits: (R, V); changed in place.
        draws: Whose rows they are.
    """
    scored = [draw for draw in draws if draw.request.sampling.logprobs is not None]
    plain = logits.clone() if scored else None
    _mask(logits, [draw for draw in draws if draw.request.grammar is not None])
    order = [i for draw in draws for i in draw.rows]
    if not order:
        return
    drawn = [draw for draw in draws if draw.request.draft_probs is not None and draw.request.drafts]
    for draw in drawn:
        _verify(draw, logits[draw.rows.start : draw.rows.stop])
    plainly = [draw for draw in draws if draw not in drawn] if drawn else draws
    order = [i for draw in plainly for i in draw.rows]
    whole = order == list(range(len(logits)))
    tokens = sample(logits if whole else logits[order], [row for draw in plainly for row in _rows(draw)])
    at = 0
    for draw in plainly:
        draw.tokens = tokens[at : at + len(draw.rows)]
        at += len(draw.rows)
    if plain is not None:
        _score(plain[[i for draw in scored for i in draw.rows]], scored)


def note_prompt_logprobs(part: Slice, logits: Tensor) -> None:
    """Keep the log probabilities of a slice's next prompt tokens, from the logits (count, V) of its rows."""
    request = part.request
    following = request.tokens[part.start + 1 : min(part.start + part.count + 1, request.prompt_tokens)]
    count = request.sampling.prompt_logprobs or 0
    rows = logits[: len(following)]
    del request.prompt_logprobs[part.start :]  # computed again after it lost its blocks
    request.prompt_logprobs += logprobs(rows, following, [count] * len(following))


def extend(draw: Draw, update: Update) -> None:
    """Give a request what was drawn for it, token by token, until it ends."""
    request = draw.request
    for index in range(draw.kept):
        token, swapped = draw.tokens[index], False
        if request.grammar is not None:
            used = request.grammar.accept(token, request.left)
            token, swapped = used, used != token
        update.tokens.append(token)
        if draw.logprobs:
            update.logprobs.append(draw.logprobs[index])
        text, reason = append(request, token)
        update.text += text
        if reason is not None:
            update.finish_reason = reason
            return
        if swapped:  # what was drawn behind it no longer follows from it
            return


def append(request: Request, token: int) -> tuple[str, FinishReason | None]:
    """Add one token to a request; gives its text and, when that ends it, why."""
    request.tokens.append(token)
    reason: FinishReason | None = None
    grammar = request.grammar
    if token in request.stop_ids or (grammar is not None and grammar.done):
        reason = "stop"
    elif request.left <= 0:
        reason = "stop" if grammar is not None and grammar.complete else "length"
    text = ""
    if request.detokenizer is not None:
        text = "" if token in request.stop_ids else request.detokenizer.add(token)
        if reason is not None:
            text += request.detokenizer.finish()
    stops = request.stops
    if stops is None or request.count < request.sampling.min_tokens:
        return text, reason
    text = stops.feed(text)
    if stops.hit:
        return text, "stop"
    return (text + stops.rest() if reason is not None else text), reason


def _rows(draw: Draw) -> list[Row]:
    request = draw.request
    before = request.tokens + request.drafts if request.sampling.penalises else []
    return [
        Row(
            request.sampling,
            request.seed,
            request.count + index,
            before[: len(request.tokens) + index],
            request.prompt_tokens,
            request.stop_ids,
        )
        for index in range(len(draw.rows))
    ]


def _verify(draw: Draw, logits: Tensor) -> None:
    """Draw where guesses were drawn, too: by the ratio of probabilities."""
    from blixt.llm.engine.speculative import verify

    request, rows = draw.request, _rows(draw)
    assert request.draft_probs is not None
    edit(logits, rows)
    target = probabilities(logits, rows)
    kept = verify(target, request.drafts, request.draft_probs.to(target.device), request.seed, request.count)
    # Rows behind a rejected guess follow from what did not come: nobody reads what stands for them.
    draw.tokens = kept + [kept[-1]] * (len(draw.rows) - len(kept))


def _mask(logits: Tensor, draws: Sequence[Draw]) -> None:
    """Forbid what the requests' grammars do not allow."""
    if not draws:
        return
    from blixt.llm.engine.grammar import allocate_bitmask, apply_bitmask

    masks = allocate_bitmask(len(logits), logits.shape[-1])
    for draw in draws:
        request, mine = draw.request, masks[draw.rows.start : draw.rows.stop]
        assert request.grammar is not None
        try:
            if request.drafts:
                fitting = request.grammar.fill_draft(mine, request.drafts, request.left)
                del request.drafts[fitting:]
                draw.rows = range(draw.rows.start, draw.rows.start + fitting + 1)
            else:
                request.grammar.fill(mine[0], request.left)
        except Exception as error:
            draw.error = error
    apply_bitmask(logits, masks, [i for draw in draws if draw.error is None for i in draw.rows])


def _score(plain: Tensor, scored: Sequence[Draw]) -> None:
    tokens = [token for draw in scored for token in draw.tokens]
    counts = [draw.request.sampling.logprobs or 0 for draw in scored for _ in draw.tokens]
    found = logprobs(plain, tokens, counts)
    for draw in scored:
        draw.logprobs, found = found[: len(draw.tokens)], found[len(draw.tokens) :]
