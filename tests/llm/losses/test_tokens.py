import pytest
import torch
import torch.nn.functional as F
from tests.llm.losses.heads import Small, batch
from torch import Tensor

from blixt.llm.errors import LLMError
from blixt.llm.losses import IGNORE, sequence_logprobs, token_logprobs, token_loss

SHAPES = [{"softcap": 0.0, "scale": 1.0}, {"softcap": 3.0, "scale": 0.5}]


def plain(model: Small, hidden: Tensor, targets: Tensor, mask: Tensor, z: float = 0.0) -> Tensor:
    """The formula on full logits."""
    logits = model.logits(hidden)
    losses = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    losses = losses + z * logits.logsumexp(-1).flatten() ** 2
    return losses[mask.flatten()].mean()


def gradients(model: Small, hidden: Tensor, loss: Tensor) -> list[Tensor]:
    model.zero_grad()
    hidden.grad = None
    loss.backward()
    assert hidden.grad is not None
    return [hidden.grad.clone(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("head", SHAPES)
@pytest.mark.parametrize("z", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [0, 1, 4])
def test_loss_and_gradients_are_those_of_the_plain_formula(
    head: dict[str, float], z: float, chunk: int
) -> None:
    model, data = Small(**head), batch()
    hidden = data["hidden"].requires_grad_()
    expected = plain(model, hidden, data["targets"], data["mask"], z)
    wanted = gradients(model, hidden, expected)
    loss = token_loss(model, hidden, data["targets"], data["mask"], z_loss=z, chunk=chunk)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(model, hidden, loss), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_scaled_loss_scales_the_gradients() -> None:
    model, data = Small(), batch()
    hidden = data["hidden"].requires_grad_()
    once = gradients(model, hidden, token_loss(model, hidden, data["targets"]))
    twice = gradients(model, hidden, token_loss(model, hidden, data["targets"]) * 2)
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(b, 2 * a)


def test_a_frozen_output_layer_passes_gradients_on_and_keeps_none() -> None:
    model, data = Small().requires_grad_(False), batch()
    hidden = data["hidden"].requires_grad_()
    expected = plain(model, hidden, data["targets"], data["mask"])
    (wanted,) = gradients(model, hidden, expected)
    (ours,) = gradients(model, hidden, token_loss(model, hidden, data["targets"], data["mask"], chunk=3))
    torch.testing.assert_close(ours, wanted)


def test_only_loss_positions_pass_the_output_layer_and_a_chunk_at_a_time() -> None:
    model, data = Small(), batch((5, 40))
    token_loss(model, data["hidden"], data["targets"], data["mask"], chunk=7)
    assert model.widest == 7
    model.widest = 0
    token_loss(model, data["hidden"], data["targets"], data["mask"], chunk=10**6)
    assert model.widest == int(data["mask"].sum())


def test_ignored_targets_do_not_count() -> None:
    model, data = Small(), batch()
    targets = data["targets"].masked_fill(~data["mask"], IGNORE)
    torch.testing.assert_close(
        token_loss(model, data["hidden"], targets),
        token_loss(model, data["hidden"], data["targets"], data["mask"]),
    )
    other = data["targets"].masked_fill(~data["mask"], 5)
    kept = data["mask"] & (data["targets"] != 5)
    torch.testing.assert_close(
        token_loss(model, data["hidden"], other, ignore_index=5),
        token_loss(model, data["hidden"], data["targets"], kept),
    )


def test_count_divides_the_sum_so_that_micro_batches_add_up_to_the_whole() -> None:
    model, data = Small(), batch((4, 9))
    whole = token_loss(model, data["hidden"], data["targets"], data["mask"])
    count = data["mask"].sum()
    parts = [
        token_loss(model, *(data[k][rows] for k in ("hidden", "targets", "mask")), count=count)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_no_loss_position_gives_zero_and_zero_gradients() -> None:
    model, data = Small(), batch()
    hidden = data["hidden"].requires_grad_()
    loss = token_loss(model, hidden, data["targets"], torch.zeros_like(data["mask"]))
    assert loss.item() == 0
    grads = gradients(model, hidden, loss)
    assert len(grads) == 3, "every rank must have a gradient to reduce"
    assert all(not g.any() for g in grads)


def test_bfloat16_sums_its_gradients_in_float32() -> None:
    model, data = Small().bfloat16(), batch((1, 512))
    hidden = data["hidden"].bfloat16().requires_grad_()
    fine = gradients(model, hidden, token_loss(model, hidden, data["targets"], chunk=2))
    exact_model = Small()
    exact_model.load_state_dict(model.state_dict())
    exact = data["hidden"].bfloat16().float().requires_grad_()
    wanted = gradients(exact_model, exact, token_loss(exact_model, exact, data["targets"]))
    error = (fine[1].float() - wanted[1]).norm() / wanted[1].norm()
    assert error < 0.01


def test_a_loss_cannot_be_differentiated_twice() -> None:
    model, data = Small(), batch()
    loss = token_loss(model, data["hidden"].requires_grad_(), data["targets"])
    loss.backward(retain_graph=True)
    with pytest.raises(LLMError, match="compute the loss anew"):
        loss.backward()


def test_shapes_that_do_not_agree_are_told() -> None:
    model, data = Small(), batch()
    with pytest.raises(LLMError, match=r"hidden \(3, 11, 12\), targets \(3, 10\)"):
        token_loss(model, data["hidden"], data["targets"][:, :-1])
    with pytest.raises(LLMError, match="chunk=-1"):
        token_loss(model, data["hidden"], data["targets"], chunk=-1)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_logprobs_and_their_gradients_are_those_of_log_softmax(
    frozen: bool, temperature: float
) -> None:
    model, data = Small(softcap=4.0), batch()
    model.requires_grad_(not frozen)
    hidden, weights = data["hidden"].requires_grad_(), torch.randn(3, 11)
    full = (model.logits(hidden) / temperature).log_softmax(-1)
    expected = full.gather(-1, data["targets"].unsqueeze(-1)).squeeze(-1) * data["mask"]
    wanted = gradients(model, hidden, (expected * weights).sum())
    ours = token_logprobs(model, hidden, data["targets"], data["mask"], temperature=temperature, chunk=4)
    torch.testing.assert_close(ours, expected)
    for a, b in zip(gradients(model, hidden, (ours * weights).sum()), wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_token_logprobs_refuse_temperature_zero() -> None:
    data = batch()
    with pytest.raises(LLMError, match="temperature=0"):
        token_logprobs(Small(), data["hidden"], data["targets"], temperature=0)


def test_sequences_packed_in_one_row_have_the_logprobs_they_have_alone() -> None:
    model, data = Small(), batch((3, 11))
    alone = sequence_logprobs(model, data["hidden"], data["targets"], data["mask"])
    documents = torch.arange(3).repeat_interleave(11)
    packed = [torch.cat([data[k].flatten(0, 1), data[k][0, :2]]) for k in ("hidden", "targets", "mask")]
    documents = torch.cat([documents, torch.tensor([-1, -1])])
    for mean in (False, True):
        whole = alone / data["mask"].sum(-1) if mean else alone
        found = sequence_logprobs(model, *packed, documents=documents, mean=mean)
        torch.testing.assert_close(found, whole)
    counted = sequence_logprobs(model, *packed, documents=documents, count=4)
    assert counted.shape == (4,)
    assert counted[3] == 0
