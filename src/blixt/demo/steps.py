"""The six steps, each a few commands and what must be true after them."""

import json
import math
import shlex
import sys
import sysconfig
import time
from dataclasses import dataclass, replace
from pathlib import Path

from blixt.client import Client, Deployment, Experiment, Model, NotFound, Series, Studio, credits
from blixt.demo.jupyter import JupyterVisit
from blixt.demo.stage import Stage, Untrue, sparkline

GREETING = "made in a Studio"
PROMPT = "def __init__(self"


@dataclass(frozen=True)
class Plan:
    """How large the tour is, and what its objects are called.

    Attributes:
        vocab_size: Tokens of the tokenizer.
        max_bytes: How much of the standard library is read.
        batch_size: Sequences a step, over all ranks.
        steps: Optimizer steps of the job with one process.
        ranks_steps: Optimizer steps of the job with two.
        least_fall: By how much the loss must fall, in nats.
        suffix: Added to all names, so that a kept cloud can be toured again.
        port: The public port; 0 picks a free one.
        budget: The budget, in credits.
    """

    vocab_size: int = 2048
    max_bytes: str = "8MB"
    steps: int = 200
    ranks_steps: int = 100
    batch_size: int = 16
    least_fall: float = 2.0
    suffix: str = ""
    port: int = 0
    budget: float = 5.0

    def name(self, word: str) -> str:
        """The name of one of the tour's objects."""
        return word + self.suffix


@dataclass
class Tour:
    """What the steps share: where they are told, how large they are, and the server once it is up."""

    stage: Stage
    plan: Plan
    data_dir: Path
    client: Client | None = None

    @property
    def cloud(self) -> Client:
        """The SDK's connection."""
        if self.client is None:
            raise Untrue("The cloud is not up yet.")
        return self.client


def start_cloud(tour: Tour) -> None:
    """Step 1: `blixt up`."""
    stage = tour.stage
    began = time.monotonic()
    stage.run(f"blixt up --detach --port {tour.plan.port}", timeout_s=60)
    took_s = time.monotonic() - began
    server = json.loads((tour.data_dir / "server.json").read_text())
    token = (tour.data_dir / "token").read_text().strip()
    tour.client = Client(str(server["url"]), token)
    health = tour.cloud.health()
    stage.true(
        health["status"] == "ok",
        f"ready in {took_s:.1f} s, Python's start included: API, console, gateway, local engine",
        f"The server says {health}.",
    )
    tour.plan = _unused_names(tour)
    stage.run(f"blixt budget set {tour.plan.budget:g}", quiet=True)
    stage.run("blixt machines")


def _unused_names(tour: Tour) -> Plan:
    """A kept cloud may have been toured before: then everything is called `lab-2`, `chat-2` and so on."""
    plan, count = tour.plan, 1
    while Studio.exists(plan.name("lab"), client=tour.cloud):
        count += 1
        plan = replace(plan, suffix=f"-{count}")
    return plan


def work_in_studio(tour: Tour) -> None:
    """Step 2: a Studio whose files stay, with a terminal and JupyterLab."""
    stage, lab = tour.stage, tour.plan.name("lab")
    stage.run(f"blixt studio create {lab}", quiet=True)
    stage.run(f"blixt studio run {lab} -- {shlex.quote(f'echo {GREETING} > note.txt; python --version')}")
    _visit_terminal(tour, lab)
    _visit_jupyter(tour, lab)
    stage.run(f"blixt studio stop {lab}", quiet=True)
    stage.run(f"blixt studio start {lab}", quiet=True)
    kept = stage.run(f"blixt studio run {lab} -- cat note.txt")
    stage.true(kept.strip() == GREETING, "the file is there after stop and start", "The file is gone.")


def _visit_terminal(tour: Tour, lab: str) -> None:
    stage = tour.stage
    stage.show(f'Studio.get("{lab}").terminal()', ">>>")
    with Studio.get(lab, client=tour.cloud).terminal() as terminal:
        terminal.send("echo $((6 * 7))-in-a-terminal; exit\n")
        shown = terminal.read_until("42-in-a-terminal")
    stage.true("42-in-a-terminal" in shown, "a terminal answers over a WebSocket", "The terminal is mute.")


def _visit_jupyter(tour: Tour, lab: str) -> None:
    stage = tour.stage
    url = stage.run(f"blixt studio open {lab}", quiet=True).strip()
    visit = JupyterVisit(url)
    try:
        stage.true(
            "JupyterLab" in visit.page(),
            f"JupyterLab opens at the Studio's own origin, http://{visit.host}/lab",
            f"The page at {visit.host} is not JupyterLab.",
        )
        stage.true(visit.reuse_is_refused(), "the link works only once", "The one-time link worked twice.")
        answer = visit.compute("print(6 * 7)").strip()
        stage.true(answer == "42", "a notebook kernel computes 6 * 7 = 42", f"The kernel said {answer!r}.")
        shown = visit.terminal("echo $((6 * 7))-in-jupyter", "42-in-jupyter")
        stage.true("42-in-jupyter" in shown, "a terminal in JupyterLab answers", "It is mute.")
    finally:
        visit.close()


def prepare_data(tour: Tour) -> None:
    """Step 3: the standard library becomes a tokenizer and token shards, inside the Studio."""
    stage, plan, lab = tour.stage, tour.plan, tour.plan.name("lab")
    library = sysconfig.get_path("stdlib")
    stage.show(f"STDLIB={library}   # real text that every machine has")
    stage.env["STDLIB"] = library
    folder = "teamspace/" + plan.name("python")
    stage.run(
        f"blixt studio run {lab} -- blixt llm train-tokenizer $STDLIB --vocab-size {plan.vocab_size}"
        f" --max-bytes {plan.max_bytes} --out {folder}/tokenizer.json"
    )
    stage.run(
        f"blixt studio run {lab} -- blixt llm prepare $STDLIB --tokenizer {folder}/tokenizer.json"
        f" --max-bytes {plan.max_bytes} --out {folder}/tokens"
    )
    told = stage.run(f"blixt studio run {lab} -- blixt data info {folder}/tokens/train --json", quiet=True)
    facts = json.loads(told)
    tokens = sum(facts["tokens"].values())
    stage.true(
        tokens > 10_000,
        f"{tokens:,} training tokens in {facts['shards']} shards, {facts['size_bytes'] / 1e6:.1f} MB",
        f"There are only {tokens} tokens.",
    )
    stage.run(f"blixt studio stop {lab}", quiet=True)


def train(tour: Tour) -> None:
    """Step 4: the same recipe as one process and as two ranks; curves live, checkpoints become versions."""
    _train_once(tour, "gpt-one", 1, tour.plan.steps)
    _train_once(tour, "gpt-two-ranks", 2, tour.plan.ranks_steps)
    stage, model = tour.stage, tour.plan.name("py-gpt")
    stage.run(f"blixt experiment runs {tour.plan.name('pretrain')}")
    versions = Model.get(model, client=tour.cloud).versions()
    stage.true(
        [version.state for version in versions] == ["ready", "ready"],
        f"Model {model} has 2 versions; the newest holds "
        + ", ".join(sorted(file.path for file in versions[-1].files)),
        f"Model {model} has the versions {versions}.",
    )


def _train_once(tour: Tour, word: str, processes: int, steps: int) -> None:
    stage, plan, name = tour.stage, tour.plan, tour.plan.name(word)
    live = LiveCurve(tour, plan.name("pretrain"), name)
    many = f" --processes {processes}" if processes > 1 else ""
    stage.watch(
        f"blixt run --name {name} --machine cpu-2{many} --model {plan.name('py-gpt')}"
        f" --experiment {plan.name('pretrain')} --no-source --"
        f" blixt llm pretrain teamspace/{plan.name('python')}/tokens --steps {steps}"
        f" --batch-size {plan.batch_size}",
        live.look,
        every_s=0.25,
        timeout_s=600,
    )
    live.refresh()
    live.check(plan, processes)


class LiveCurve:
    """A run's metrics, looked at while the job runs: what a person at the console would see."""

    def __init__(self, tour: Tour, experiment: str, run: str) -> None:
        self._tour = tour
        self._experiment = experiment
        self._run = run
        self._metrics: dict[str, Series] = {}
        self._seen: set[int] = set()

    def refresh(self) -> None:
        """Read the metrics as they are now; there are none before the job's first row."""
        try:
            experiment = Experiment.get(self._experiment, client=self._tour.cloud)
            self._metrics = experiment.metrics(self._run)
        except NotFound:
            return

    def look(self) -> None:
        """Look while the job runs, and remember which steps were seen."""
        self.refresh()
        loss = self._series("loss")
        if loss.step:
            self._seen.add(loss.step[-1])
            speed = self._series("tokens_per_s").value[-1:]
            shown = f", {speed[0]:,.0f} tokens/s" if speed else ""
            self._tour.stage.live(f"step {loss.step[-1]}: loss {loss.value[-1]:.2f}{shown}")

    def check(self, plan: Plan, processes: int) -> None:
        """State what must be true of the finished run."""
        stage, loss = self._tour.stage, self._series("loss")
        speeds, rates = self._series("tokens_per_s").value, self._series("learning_rate").value
        if not loss.value or not speeds or not rates:
            raise Untrue(f"The run {self._run} lacks loss, lr or tokens/s; it has {sorted(self._metrics)}.")
        expected, first, last = math.log(plan.vocab_size), loss.value[0], loss.value[-1]
        speed = sorted(speeds)[len(speeds) // 2]
        stage.true(
            bool(self._seen) and min(self._seen) < loss.step[-1],
            f"loss, learning rate and tokens/s came live: at {_steps(self._seen)} while the job ran",
            f"The metrics of {self._run} did not come while it ran.",
        )
        stage.true(
            abs(first - expected) < 0.5 and first - last > plan.least_fall,
            f"{'two ranks' if processes > 1 else 'one process'}: loss {first:.2f} (ln {plan.vocab_size} = "
            f"{expected:.2f}) -> {last:.2f} at {speed:,.0f} tokens/s  {sparkline(list(loss.value))}",
            f"The loss of {self._run} went from {first:.2f} to {last:.2f}; it should begin near "
            f"{expected:.2f} and fall by {plan.least_fall:g}.",
        )

    def _series(self, name: str) -> Series:
        return self._metrics.get(name) or Series((), (), ())


def _steps(seen: set[int]) -> str:
    shown = [str(step) for step in sorted(seen)]
    return f"step{'s' if len(shown) > 1 else ''} " + ", ".join(
        shown[:3] + (["..."] if len(shown) > 3 else [])
    )


def deploy(tour: Tour) -> None:
    """Step 5: an OpenAI-compatible service that wakes from nothing."""
    import openai

    stage, name = tour.stage, tour.plan.name("chat")
    versions = Model.get(tour.plan.name("py-gpt"), client=tour.cloud).versions()
    best = min(versions, key=lambda version: version.metrics["val_loss"])
    stage.run(f"blixt deploy {name} --model {tour.plan.name('py-gpt')}:{best.version}   # the better one")
    deployment = Deployment.get(name, client=tour.cloud)
    stage.true(
        deployment.state == "sleeping" and not deployment.replicas,
        "it sleeps: no replica, no cost",
        f"It is {deployment.state} with {len(deployment.replicas)} replicas.",
    )
    stage.show(f'client = openai.OpenAI(base_url="{deployment.openai_base_url}", api_key=TOKEN)', ">>>")
    with openai.OpenAI(
        base_url=deployment.openai_base_url, api_key=deployment.api_key, timeout=120, max_retries=0
    ) as client:
        began = time.monotonic()
        stage.show("client.models.list()", ">>>")
        models = [model.id for model in client.models.list()]
        woke_s = time.monotonic() - began
        stage.true(
            bool(models), f"the first request woke it in {woke_s:.1f} s: {models}", "It lists no model."
        )
        call = (
            f'client.completions.create(model="{models[0]}", prompt="{PROMPT}", temperature=0.6, stream=True)'
        )
        stage.show(call, ">>>")
        _stream_completion(tour, client, models[0])
    state = deployment.status
    stage.true(state == "ready", "one replica is ready", f"The deployment is {state}.")


def _stream_completion(tour: Tour, client: "object", model: str) -> None:
    import openai

    assert isinstance(client, openai.OpenAI)
    began, first_s, pieces = time.monotonic(), 0.0, list[str]()
    stream = client.completions.create(
        model=model, prompt=PROMPT, max_tokens=64, temperature=0.6, seed=1, stream=True
    )
    for event in stream:
        text = event.choices[0].text if event.choices else ""
        if text:
            first_s = first_s or time.monotonic() - began
            pieces.append(text)
    for line in (PROMPT + "".join(pieces)).splitlines():
        tour.stage.note(f"│ {line}")
    tour.stage.true(
        len(pieces) > 1,
        f"streamed in {len(pieces)} pieces, the first after {first_s * 1000:.0f} ms, all after"
        f" {time.monotonic() - began:.1f} s",
        f"The completion came in {len(pieces)} pieces.",
    )


def settle(tour: Tour) -> None:
    """Step 6: the bill is every machine-second at the machine's price, and the budget knows."""
    stage, plan = tour.stage, tour.plan
    stage.run(f"blixt deployment stop {plan.name('chat')}", quiet=True)
    deployment = Deployment.get(plan.name("chat"), client=tour.cloud)
    deployment.wait_stopped(30)
    stage.run("blixt bill")
    bill = tour.cloud.bill()
    prices = {machine.name: machine.price_uc_per_hour for machine in tour.cloud.machines()}
    ours = {plan.name(word) for word in ("lab", "gpt-one", "gpt-two-ranks", "chat")}
    missing = ours - {line.name for line in bill.lines}
    stage.true(not missing, "Studio, both jobs and the Deployment are on it", f"{missing} are not billed.")
    # Each allocation is rounded to whole micro-credits once, so a line may differ by one for each.
    wrong = [
        line.name
        for line in bill.lines
        if abs(line.amount_uc - line.seconds * prices[line.machine] / 3600) > max(2, line.segments)
    ]
    stage.true(
        not wrong and sum(line.amount_uc for line in bill.lines) == bill.total_uc,
        f"{sum(line.seconds for line in bill.lines):.1f} machine-seconds at their prices are exactly "
        f"{credits(bill.total_uc)}",
        f"These lines do not add up: {wrong or 'the total'}.",
    )
    still = [line.name for line in bill.lines if line.open and line.name in ours]
    stage.true(not still, "nothing is running on the meter", f"The meter still runs for {still}.")
    left = (bill.budget_uc or 0) - bill.total_uc
    stage.true(
        bill.budget_uc is not None and bill.remaining_uc == left,
        f"{credits(left)} of the budget of {plan.budget:g} cr are left",
        f"The budget says {bill.remaining_uc}, the bill {left}.",
    )


STEPS = (
    ("The cloud: API, console, gateway, engine", start_cloud),
    ("A Studio: a machine whose files stay", work_in_studio),
    ("Data: Python's standard library as token shards", prepare_data),
    ("Jobs: pretrain a small GPT, as one process and as two ranks", train),
    ("A Deployment: OpenAI-compatible, from zero replicas", deploy),
    ("The bill", settle),
)

PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
