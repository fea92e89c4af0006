"""Times one training step of the layer-wise back-ends, and shows what their variants do differently.

    python benchmarks/backends.py [--batch N] [--layers N] [--frames N] [--dim N] [--repeat N]

One thread; CPU time. Features are standard normal and random, heads untrained. Times are of
forward and backward pass, and of scoring; "plain" is layer weighting as `BatchNorm2d` over the
layers followed by a weighted sum, which is what the study's code computes with.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from voxfide.backends import create_backend
from voxfide.backends.aasist import AasistHead
from voxfide.backends.ffn import FfnBackend, attentive_statistics, reference_statistics
from voxfide.backends.layer_weighting import LayerWeighting
from voxfide.backends.neural import NeuralBackend


class PlainWeighting(nn.Module):
    """Normalised features are made, then summed."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(n_layers)
        self.logits = nn.Parameter(torch.ones(n_layers))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        summed: Tensor = (self.norm(features) * self.logits.softmax(0)[:, None, None]).sum(1)
        return summed


def milliseconds(work: Callable[[], object], utterances: int, repeat: int) -> float:
    """Least CPU time of several rounds, per utterance."""
    work()
    rounds = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        rounds.append(time.process_time() - start)
    return min(rounds) / utterances * 1000


def trained(module: nn.Module, features: Tensor, lengths: Tensor) -> Callable[[], object]:
    """One forward and backward pass."""

    def step() -> None:
        module.train()
        module.zero_grad()
        module(features, lengths).square().mean().backward()

    return step


def scored(backend: NeuralBackend, features: Tensor, lengths: Tensor) -> Callable[[], object]:
    return lambda: backend.score_padded(features, lengths)


def speed(features: Tensor, lengths: Tensor, repeat: int) -> None:
    n, n_layers, frames, dim = features.shape
    print(f"{n_layers} layers, {frames} frames, dim {dim}, batch {n}; CPU ms an utterance")
    weighting, plain = LayerWeighting(n_layers), PlainWeighting(n_layers)
    ours = milliseconds(trained(weighting, features, lengths), n, repeat)
    theirs = milliseconds(trained(plain, features, lengths), n, repeat)
    print(f"layer weighting, training: {ours:.1f}, plain {theirs:.1f}: {theirs / ours:.1f} times as fast")
    unequal = lengths.clone()
    unequal[0] = frames * 3 // 4
    for name in ("ffn", "aasist"):
        for variant in ("paper", "reference"):
            backend = built(name, variant, n_layers, dim)
            head = backend.head
            assert head is not None
            step = milliseconds(trained(head, features, lengths), n, repeat)
            masked = milliseconds(trained(head, features, unequal), n, repeat)
            score = milliseconds(scored(backend, features, lengths), n, repeat)
            print(
                f"{name:<7}{variant:<10} training {step:6.1f}, with masks {masked:6.1f}, scoring {score:5.1f}"
            )
            if isinstance(head, AasistHead):
                maps, nodes = torch.randn(n, 1, 42, frames // 3), torch.full((n,), frames // 3)
                encoder = milliseconds(trained(Maps(head.encoder), maps, nodes), n, repeat)
                print(f"       of that its encoder {encoder:.1f}")


class Maps(nn.Module):
    """The encoder's maps without their lengths."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, maps: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = self.encoder(maps, lengths)[0]
        return found


def built(name: str, variant: str, n_layers: int, dim: int) -> NeuralBackend:
    torch.manual_seed(0)
    backend = create_backend(name, variant=variant)
    assert isinstance(backend, NeuralBackend)
    backend.build(n_layers, dim)
    return backend


def variants(features: Tensor, lengths: Tensor) -> None:
    """What pooling hands on, and what gradient reaches either half of it."""
    labels = torch.arange(len(features)) % 2
    for variant in ("paper", "reference"):
        backend = built("ffn", variant, *features.shape[1::2])
        assert isinstance(backend, FfnBackend)
        head = backend.head
        assert head is not None
        head.train()
        nn.functional.cross_entropy(head(features, lengths), labels).backward()
        gradient = head.utterance.weight.grad
        with torch.no_grad():
            x = head.layers(features, lengths)
            x = head.frame2(head.frame1(x).relu()).relu()
            weights = head.attention(x, None)
            pooled = (
                reference_statistics(x, weights, lengths)
                if variant == "reference"
                else attentive_statistics(x, weights)
            )
        halves = [part.square().mean().sqrt() for part in pooled.chunk(2, dim=1)]
        norms = [part.norm() for part in gradient.chunk(2, dim=1)]
        shares = weights.max(1).values / weights.min(1).values
        print(
            f"ffn {variant}: pooled, root mean square: mean half {halves[0]:.2e}, "
            f"spread half {halves[1]:.2e}; gradient of the weights behind: {norms[0]:.2e} and "
            f"{norms[1]:.2e}; "
            f"largest frame weight over smallest {shares.max():.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in (("batch", 8), ("layers", 12), ("frames", 201), ("dim", 768), ("repeat", 5)):
        parser.add_argument(f"--{option}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(args.batch, args.layers, args.frames, args.dim, generator=generator)
    lengths = torch.full((args.batch,), args.frames)
    speed(features, lengths, args.repeat)
    variants(features, lengths)


if __name__ == "__main__":
    main()
