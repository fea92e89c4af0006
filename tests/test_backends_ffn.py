"""The feed-forward back-end: parity with the study's code, and the paper's pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import needs_shared
from golden_layerwise import NAMES, Golden
from voxfide.backends import create_backend
from voxfide.backends.ffn import FfnBackend, attentive_statistics, reference_statistics
from voxfide.errors import CheckpointError, UsageError


def built(n_layers=3, dim=7, seed=0, **options):
    torch.manual_seed(seed)
    backend = create_backend("ffn", **options)
    backend.build(n_layers, dim)
    return backend


@needs_shared("golden/elkheir2025_ffn")
@pytest.mark.parametrize("name", NAMES)
def test_reference_variant_computes_what_the_reference_does(name):
    golden = Golden("elkheir2025_ffn", name)
    backend = FfnBackend.from_reference(golden.state)
    golden.compare_eval(backend)
    with torch.no_grad():
        x = backend.head.layers(golden.features, golden.lengths)
        x = backend.head.frame2(backend.head.frame1(x).relu()).relu()
        weights = backend.head.attention(x, None)
        pooled = reference_statistics(x, weights, golden.lengths)
        golden.compare("attention_weights", weights)
        golden.compare("pooled", pooled)
        golden.compare("penultimate", backend.head.utterance(pooled).relu())
    golden.compare_training(backend)
    print(f"\n{golden.report()}")
    assert max(golden.differences.values()) < 1e-4


def test_a_reference_checkpoint_is_read_with_its_front_end_and_prefix():
    backend = built(variant="reference", hidden=5)
    theirs = {"layers.logits": "weight_hidd", "layers.norm.": "layer_norm."}
    theirs |= {ours: name for name, ours in FfnBackend.reference_names.items()}
    state = {}
    for key, tensor in backend.head.state_dict().items():
        ours = next(o for o in theirs if key.startswith(o))
        state["module." + theirs[ours] + key.removeprefix(ours)] = tensor
    state["module.ssl.model.mask_emb"] = torch.zeros(4)
    read = FfnBackend.from_reference(state)
    assert (read.variant, read.hidden, read.n_layers, read.dim) == ("reference", 5, 3, 7)
    arrays = [np.random.default_rng(0).standard_normal((3, 9, 7)).astype(np.float32)]
    assert np.array_equal(read.score(arrays), backend.score(arrays))
    del state["module.LL3.bias"]
    with pytest.raises(CheckpointError, match="utterance.bias are missing"):
        FfnBackend.from_reference(state)
    with pytest.raises(CheckpointError, match="weight_hidd is missing"):
        FfnBackend.from_reference({})


def test_paper_pooling_is_the_weighted_mean_and_standard_deviation():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    weights /= weights.sum(1, keepdim=True)
    pooled = attentive_statistics(x, weights).numpy()
    for row, values, shares in zip(pooled, x.numpy(), weights.numpy(), strict=True):
        mean = np.average(values, axis=0, weights=shares)
        variance = np.average((values - mean) ** 2, axis=0, weights=shares)
        assert np.allclose(row, np.concatenate([mean, np.sqrt(variance)]))


def test_the_reference_pools_the_mean_over_frames_once_more_and_a_variance():
    x = torch.rand(1, 20, 3, dtype=torch.float64)
    weights = torch.full((1, 20), 1 / 20, dtype=torch.float64)
    mean, spread = reference_statistics(x, weights, torch.tensor([20])).chunk(2, dim=1)
    assert torch.allclose(mean, x.mean(1) / 20)
    assert torch.allclose(spread, x.square().mean(1) - (x.mean(1) / 20).square())


def test_pooled_statistics_of_frames_that_do_not_vary_have_a_finite_gradient():
    x = torch.ones(1, 8, 3, requires_grad=True)
    attentive_statistics(x, torch.full((1, 8), 1 / 8)).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_attention_is_over_valid_frames_only(variant):
    head = built(variant=variant).head.eval()
    x = torch.randn(3, 10, 128)
    mask = torch.arange(10) < torch.tensor([10, 4, 1])[:, None]
    weights = head.attention(x, mask).detach()
    assert torch.allclose(weights.sum(1), torch.ones(3))
    assert not weights[~mask].any()
    assert weights[2, 0] == 1
    bound = np.exp(2) if variant == "reference" else np.inf
    assert float(weights[0].max() / weights[0].min()) <= bound * 1.0001


def test_training_on_a_padded_batch_is_training_on_its_frames():
    lengths = [12, 5, 1]
    arrays = [torch.randn(3, n, 7) for n in lengths]
    batch = torch.zeros(3, 3, 12, 7)
    for row, array in zip(batch, arrays, strict=True):
        row[:, : array.shape[1]] = array
    head = built().head.train()
    together = head(batch, torch.tensor(lengths))
    packed = head.layers(torch.cat(arrays, dim=1)[None], torch.tensor([sum(lengths)]))[0]
    alone = []
    for frames in packed.split(lengths):
        x = head.frame2(head.frame1(frames[None]).relu()).relu()
        pooled = attentive_statistics(x, head.attention(x, None))
        alone.append(head.out(head.utterance(pooled).relu()))
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 0}, {"hidden": 2.5}, {"hidden": "wide"}, {"temperature": 0}, {"temperature": -1},
        {"temperature": "x"}, {"temperature": float("nan")}, {"freeze_layers": "perhaps"},
        {"layer_init": "a,b"}, {"layer_init": None},
    ],
)  # fmt: skip
def test_bad_values_of_options(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        create_backend("ffn", **options)


def test_options_as_the_command_line_gives_them():
    backend = create_backend("ffn", hidden="16", temperature="0.5", freeze_layers="true", layer_init="1,0,2")
    backend.build(3, 4)
    assert not backend.head.layers.logits.requires_grad
    assert np.allclose(backend.layer_weights(), torch.tensor([2.0, 0.0, 4.0]).softmax(0))
    with pytest.raises(UsageError, match="3 initial layer weights for 4 layers"):
        backend.build(4, 4)
