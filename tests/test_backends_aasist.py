"""AASIST on weighted features: parity with the study's code, and what holds for any number of frames."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import needs_shared
from golden_layerwise import NAMES, Golden
from voxfide.backends import create_backend, graph_attention
from voxfide.backends.aasist import AasistBackend
from voxfide.backends.aasist_encoder import ResidualBlock
from voxfide.backends.graph_attention import GraphAttention, GraphPool, HeterogeneousAttention, Nodes


def built(n_layers=2, dim=6, seed=0, **options):
    torch.manual_seed(seed)
    backend = create_backend("aasist", **options)
    backend.build(n_layers, dim)
    return backend


def counted(values: torch.Tensor, counts: list[int]) -> Nodes:
    return Nodes.of(values, torch.tensor(counts))


@needs_shared("golden/elkheir2025_aasist")
@pytest.mark.parametrize("name", NAMES)
def test_reference_variant_computes_what_the_reference_does(name):
    golden = Golden("elkheir2025_aasist", name)
    backend = AasistBackend.from_reference(golden.state)
    golden.compare_eval(backend)
    with torch.no_grad():
        spectral, temporal = backend.head.nodes(golden.features, golden.lengths)
        graph = backend.head.graph
        golden.compare("e_S", spectral.values)
        golden.compare("e_T", temporal.values)
        golden.compare("out_S", graph.spectral_pool(graph.spectral(spectral)).values)
        golden.compare("out_T", graph.temporal_pool(graph.temporal(temporal)).values)
        golden.compare("last_hidden", graph.embedding(spectral, temporal))
    golden.compare_training(backend)
    print(f"\n{golden.report()}")
    assert max(golden.differences.values()) < 1e-4


@pytest.mark.parametrize(
    ("dim", "hidden", "nodes"), [(768, 128, 42), (1024, 128, 42), (5, 128, 42), (5, 64, 21)]
)
def test_spectral_nodes_follow_the_hidden_size_and_temporal_ones_the_frames(dim, hidden, nodes):
    head = built(dim=dim, hidden=hidden).head.eval()
    for frames, expected in ((1, 1), (3, 1), (5, 1), (6, 2), (101, 33), (201, 67)):
        spectral, temporal = head.nodes(torch.randn(1, 2, frames, dim), torch.tensor([frames]))
        assert spectral.values.shape == (1, nodes, 64)
        assert temporal.values.shape == (1, expected, 64)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 120), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_an_utterance_gets_the_same_logits_alone_and_in_any_padded_batch(variant, lengths, seed):
    # In double precision: in single, two gates of graph pooling may tie, and change rank by rounding.
    head = built(variant=variant, seed=seed).head.double()
    with torch.no_grad():
        features = 10 * torch.randn(3, 2, 30, 6, dtype=torch.float64)
        head(features, torch.tensor([30, 20, 11]))  # running statistics of some data
        head.eval()
        batch = torch.randn(len(lengths), 2, max(lengths) + 3, 6, dtype=torch.float64)
        together = head(batch, torch.tensor(lengths))
        alone = [head(row[None, :, :n], torch.tensor([n])) for row, n in zip(batch, lengths, strict=True)]
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-9)


@needs_shared("golden/elkheir2025_aasist")
def test_trained_weights_in_single_precision_score_alone_as_in_a_padded_batch():
    golden = Golden("elkheir2025_aasist", "small_4layers")
    head = AasistBackend.from_reference(golden.state).head
    torch.manual_seed(0)
    largest = 0.0
    with torch.inference_mode():
        for _ in range(5):
            batch = golden.features[torch.randint(2, (8,))]
            batch = batch + 0.5 * batch.std() * torch.randn_like(batch)
            lengths = torch.randint(60, 202, (8,))
            together = head(batch, lengths)
            alone = [head(row[None, :, :n], n[None]) for row, n in zip(batch, lengths, strict=True)]
            largest = max(largest, float((together - torch.cat(alone)).abs().max()))
    print(f"\n40 noisy utterances of 60 to 201 frames: largest difference of a logit {largest:.1e}")
    assert largest < 1e-4


def test_only_the_paper_variant_uses_the_activation_before_the_first_convolution():
    x, paper, reference = torch.randn(2, 4, 5, 9), *(ResidualBlock(4, 4, False, p, 1) for p in (True, False))
    reference.load_state_dict(paper.state_dict())
    plain = paper.conv2(torch.selu(paper.norm2(paper.conv1(x)))) + x
    assert torch.allclose(reference(x, None), plain, atol=1e-6)
    activated = torch.selu(paper.norm1(x))
    assert torch.allclose(
        paper(x, None), paper.conv2(torch.selu(paper.norm2(paper.conv1(activated)))) + x, atol=1e-6
    )


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    ratio=st.sampled_from([0.3, 0.5, 0.7, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_graph_pooling_keeps_a_share_of_the_valid_nodes_in_descending_order(counts, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    pool = GraphPool(ratio, 4).eval()
    x = torch.randn(len(counts), max(counts), 4, generator=generator)
    kept = pool(counted(x, counts))
    for row, n in enumerate(counts):
        gates = pool.gate(x[row, :n]).sigmoid()
        k = max(int(n * ratio), 1)
        order = gates[:, 0].argsort(descending=True)[:k]
        assert torch.allclose(kept.values[row, :k], (x[row, :n] * gates)[order])
        assert k == (kept.values.shape[1] if kept.counts is None else int(kept.counts[row]))


def plain_attention(layer: GraphAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, pair by pair, for one utterance of one kind of nodes."""
    scores = torch.stack([
        torch.stack([(layer.pair(a * b).tanh() @ layer.pair_weight)[0] for b in x]) for a in x
    ])  # fmt: skip
    attention = (scores / layer.temperature).softmax(1)
    return torch.selu(layer.norm(layer.attended(attention @ x) + layer.direct(x)))


def test_graph_attention_is_its_definition_and_leaves_invalid_nodes_out():
    layer = GraphAttention(5, 3, temperature=2.0).eval()
    x = torch.randn(2, 7, 5)
    nodes = layer(counted(x, [7, 4]))
    for row, n in enumerate((7, 4)):
        assert torch.allclose(nodes.values[row, :n], plain_attention(layer, x[row, :n]), atol=1e-6)


def test_heterogeneous_attention_has_weights_for_each_pair_of_kinds():
    layer = HeterogeneousAttention(4, 3, temperature=1.5).eval()
    first, second, master = torch.randn(1, 3, 4), torch.randn(1, 2, 4), torch.randn(1, 1, 4)
    x = torch.cat([layer.project1(first), layer.project2(second)], dim=1)[0]
    weights = {(0, 0): layer.pair_weight, (1, 1): layer.pair_weight2}
    kinds = [0, 0, 0, 1, 1]
    scores = torch.stack([
        torch.stack([
            (layer.pair(x[i] * x[j]).tanh() @ weights.get((kinds[i], kinds[j]), layer.pair_weight12))[0]
            for j in range(5)
        ])
        for i in range(5)
    ])  # fmt: skip
    expected = layer.attended((scores / 1.5).softmax(1) @ x) + layer.direct(x)
    expected = torch.selu(layer.norm(expected))
    nodes1, nodes2, updated = layer(Nodes(first), Nodes(second), master)
    assert torch.allclose(torch.cat([nodes1.values, nodes2.values], dim=1)[0], expected, atol=1e-6)
    shares = ((layer.master_pair(x * master[0]).tanh() @ layer.master_weight) / 1.5).softmax(0)
    summed = layer.master_attended(shares.T @ x) + layer.master_direct(master[0])
    assert torch.allclose(updated[0], summed, atol=1e-6)


def test_many_nodes_are_attended_to_in_parts_with_the_same_result(monkeypatch):
    head = built().head.eval()
    x, lengths = torch.randn(2, 2, 60, 6), torch.tensor([60, 41])
    with torch.inference_mode():
        whole = head(x, lengths)
        monkeypatch.setattr(graph_attention, "PAIR_NUMBERS", 2 * 64 * 64 * 3)
        parts = head(x, lengths)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert not torch.equal(whole, head(x[:, :, :50], lengths.clamp_max(50)))
