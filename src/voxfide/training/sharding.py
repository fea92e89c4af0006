"""Fine-tuning with parameters, gradients and optimizer state shared out over the processes (FSDP2).

Y. Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", VLDB 2023, in the form of
``torch.distributed.fsdp.fully_shard``: every tensor is split along its first axis. A block is gathered
for its forward pass and again for its backward pass, so that a process holds the weights and gradients of
one block at a time, beside its share of everything.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from voxfide.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from voxfide.training.finetune_model import FinetuneModel

WEIGHT_BYTES, GRADIENT_BYTES, ADAM_BYTES = 4, 4, 8
"""Of a trained parameter, all in fp32: itself, its gradient, and AdamW's two moments."""


def shard(model: FinetuneModel, accelerator: Accelerator) -> None:
    """Shares a model out, in place: each block for itself, and what is left together.

    Raises:
        UsageError: one process, or fp16.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if accelerator.num_processes < 2:
        raise UsageError(
            "FSDP shares a model out over several processes: there is one (expected `accelerate launch` or "
            "`torchrun` with more)"
        )
    if accelerator.mixed_precision == "fp16":
        raise UsageError("FSDP in fp16: its loss scale is not shared out (expected fp32 or bf16)")
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    encoder = model.encoder.encoder
    # WavLM's first block holds the position bias of all blocks, which is read before any of them runs.
    first = 1 if model.encoder.config.model_type == "wavlm" else 0
    for block in encoder.layers[first:]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be shared out; every process must ask."""
    full = getattr(tensor, "full_tensor", None)
    gathered: Tensor = tensor.detach() if full is None else full().detach()
    return gathered


def like(tensor: Tensor, held: Tensor) -> Tensor:
    """A whole tensor, of which every process has a copy, shared out as ``held`` is."""
    mesh = getattr(held, "device_mesh", None)
    if mesh is None or tensor.shape != held.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # No source rank: each process takes its part of its own copy.
    return distribute_tensor(tensor.to(mesh.device_type), mesh, held.placements, src_data_rank=None)  # type: ignore[attr-defined]


def skeleton(model: FinetuneModel) -> FinetuneModel:
    """A copy of a model without its numbers."""
    memo: dict[int, Tensor] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad) for p in model.parameters()
    }
    memo |= {id(b): b.to("meta") for b in model.buffers()}
    return copy.deepcopy(model, memo)


def fill(empty: FinetuneModel, model: FinetuneModel) -> FinetuneModel:
    """Puts the whole numbers of a model that is shared out into its :func:`skeleton`; all must ask."""
    empty.load_state_dict({name: whole(tensor) for name, tensor in model.state_dict().items()}, assign=True)
    return empty


def state_bytes(trained: int, frozen: int = 0, processes: int = 1) -> int:
    """Bytes of weights, gradients and AdamW's state in each process, of so many parameters in fp32."""
    of_trained = WEIGHT_BYTES + GRADIENT_BYTES + ADAM_BYTES
    return -(-(trained * of_trained + frozen * WEIGHT_BYTES) // processes)


def held_bytes(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, gradients and optimizer state that this process holds, its shares only."""
    tensors: list[Tensor] = [*parameters, *(p.grad for p in parameters if p.grad is not None)]
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor) and value.ndim]
    return sum(local.numel() * local.element_size() for local in map(_own, tensors))


def _own(tensor: Tensor) -> Tensor:
    to_local = getattr(tensor, "to_local", None)
    own: Tensor = tensor if to_local is None else to_local()
    return own
