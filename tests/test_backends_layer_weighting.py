"""Layer weighting is batch normalisation over layers and a softmax-weighted sum, in fewer passes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from voxfide.backends.layer_weighting import LayerWeighting, layer_statistics
from voxfide.backends.masking import MaskedBatchNorm, length_mask, masked_softmax, repeat_short
from voxfide.errors import UsageError

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 9), st.integers(1, 6))


class Plain(nn.Module):
    """The same, as the study's code writes it."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_layers)
        self.logits = nn.Parameter(torch.ones(n_layers))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (self.norm(features) * self.logits.softmax(0)[:, None, None]).sum(1)


def pair(n_layers: int, seed: int) -> tuple[LayerWeighting, Plain]:
    """Both in float64 with the same random weights."""
    generator = torch.Generator().manual_seed(seed)
    ours, plain = LayerWeighting(n_layers).double(), Plain(n_layers).double()
    with torch.no_grad():
        for parameter in (plain.logits, plain.norm.weight, plain.norm.bias):
            parameter.copy_(torch.randn(n_layers, generator=generator))
    ours.load_state_dict(plain.state_dict())
    return ours, plain


@given(shape=SHAPES, seed=st.integers(0, 10**6), offset=st.floats(-50, 50))
def test_it_is_batch_normalisation_and_a_weighted_sum(shape, seed, offset):
    batch, n_layers, frames, dim = shape
    ours, plain = pair(n_layers, seed)
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(n_layers, 1, 1, generator=generator) + 0.1
    features = offset + scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    upstream = torch.randn(batch, frames, dim, generator=generator, dtype=torch.float64)
    lengths = torch.full((batch,), frames)
    mine, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    for _ in range(2):
        out, expected = ours(mine, lengths), plain(theirs)
        assert torch.allclose(out, expected, rtol=1e-6, atol=1e-6)
    (out * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for name, parameter in plain.named_parameters():
        assert torch.allclose(ours.get_parameter(name).grad, parameter.grad, rtol=1e-5, atol=1e-5), name
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    for name, buffer in plain.named_buffers():
        assert torch.allclose(ours.get_buffer(name), buffer), name
    ours.eval(), plain.eval()
    assert torch.allclose(ours(mine, lengths), plain(theirs), rtol=1e-6, atol=1e-6)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_statistics_leave_padding_out(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    arrays = [torch.randn(3, n, 4, generator=generator) for n in lengths]
    batch = torch.full((len(lengths), 3, max(lengths) + 2, 4), 1e6)
    for row, array in zip(batch, arrays, strict=True):
        row[:, : array.shape[1]] = array
    found = layer_statistics(batch, torch.tensor(lengths))
    packed = torch.cat(arrays, dim=1)
    assert torch.allclose(found.mean, packed.mean((1, 2)), atol=1e-5)
    assert torch.allclose(found.variance, packed.var((1, 2), correction=0), atol=1e-5)
    assert found.n_values == sum(lengths) * 4


@pytest.mark.parametrize("offset", [0.0, 30.0, 1e3, 1e5])
def test_an_offset_far_larger_than_the_spread_costs_no_digits_of_the_variance(offset):
    features = offset + torch.randn(4, 2, 50, 64, generator=torch.Generator().manual_seed(0))
    exact = features.double().var((0, 2, 3), correction=0)
    found = layer_statistics(features, torch.full((4,), 50)).variance
    assert torch.allclose(found.double(), exact, rtol=1e-3)


def test_statistics_of_a_batch_can_be_shared_by_heads_of_fewer_layers():
    features, lengths = torch.randn(3, 6, 8, 5), torch.tensor([8, 3, 5])
    shared = layer_statistics(features, lengths)
    for n in (2, 6):
        one, other = LayerWeighting(n), LayerWeighting(n)
        out = one(features[:, :n], lengths, shared.first(n))
        assert torch.equal(out, other(features[:, :n], lengths))
        assert torch.equal(one.norm.running_var, other.norm.running_var)


def test_initial_weights_temperature_and_freezing():
    assert torch.allclose(LayerWeighting(4).weights(), torch.full((4,), 0.25))
    start = (2.0, 0.0, 1.0)
    assert torch.allclose(LayerWeighting(3, start).weights(), torch.tensor(start).softmax(0))
    sharp, flat = (LayerWeighting(3, start, temperature=t).weights() for t in (0.5, 4.0))
    assert sharp.max() > torch.tensor(start).softmax(0).max() > flat.max()
    frozen = LayerWeighting(3, start, freeze=True)
    frozen(torch.randn(2, 3, 4, 5), torch.tensor([4, 4])).sum().backward()
    assert frozen.logits.grad is None
    assert frozen.norm.bias.grad is not None
    with pytest.raises(UsageError, match="2 initial layer weights for 3 layers"):
        LayerWeighting(3, (1.0, 2.0))


@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=st.integers(0, 10**6))
def test_masked_batch_norm_is_batch_norm_of_what_is_valid(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    size = max(lengths) + 1
    x = torch.randn(len(lengths), 3, 2, size, generator=generator)
    mask = length_mask(torch.tensor(lengths), size)
    ours, plain = MaskedBatchNorm(3), nn.BatchNorm1d(3)
    out = ours(x, mask[:, None, None])
    packed = x.permute(0, 3, 2, 1)[mask]  # (valid, 2, 3)
    expected = plain(packed.reshape(-1, 3)).view_as(packed)
    assert torch.allclose(out.permute(0, 3, 2, 1)[mask], expected, atol=1e-5)
    assert torch.allclose(ours.running_var, plain.running_var, atol=1e-6)
    assert torch.allclose(ours.running_mean, plain.running_mean, atol=1e-6)
    assert ours.num_batches_tracked == plain.num_batches_tracked == 1


def test_masks_and_softmax():
    assert length_mask(torch.tensor([3, 3]), 3) is None
    mask = length_mask(torch.tensor([1, 3]), 3)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    shares = masked_softmax(torch.zeros(2, 3), mask, 1)
    assert torch.allclose(shares, torch.tensor([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))


def test_short_utterances_are_repeated_from_their_beginning():
    x = torch.arange(8.0).view(2, 4, 1)
    same, lengths = repeat_short(x, torch.tensor([3, 4]), 3)
    assert same is x
    longer, lengths = repeat_short(x, torch.tensor([2, 4]), 5)
    assert longer[0, :, 0].tolist() == [0, 1, 0, 1, 0]
    assert longer[1, :, 0].tolist()[:4] == [4, 5, 6, 7]
    assert lengths.tolist() == [5, 5]


def test_half_precision_training_keeps_statistics_and_weighting_in_full():
    features, lengths = 100 + torch.randn(4, 3, 400, 8), torch.tensor([400, 399, 7, 300])
    full, half = LayerWeighting(3), LayerWeighting(3)
    norm, half_norm = MaskedBatchNorm(3), MaskedBatchNorm(3)
    mask = length_mask(lengths, 400)[:, None, :, None]
    expected = full(features, lengths), norm(features, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = half(features, lengths), half_norm(features, mask)
        assert half_norm(features.bfloat16(), mask).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
