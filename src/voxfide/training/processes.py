"""What the processes of a training run tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from voxfide.jobs import Failure

if TYPE_CHECKING:
    from accelerate import Accelerator

Value = TypeVar("Value")


def gather_failures(accelerator: Accelerator, failures: dict[str, Failure]) -> list[Failure]:
    """Failures of all processes, each utterance once."""
    from accelerate.utils import gather_object

    found = list(failures.values())
    if accelerator.num_processes > 1:
        found = gather_object(found)
    return list({failure.utterance_id: failure for failure in found}.values())


def as_the_first_says(accelerator: Accelerator | None, value: Value) -> Value:
    """The value that the first process has, in all of them."""
    from accelerate.utils import broadcast_object_list

    values = [value]
    if accelerator is not None and accelerator.num_processes > 1:
        broadcast_object_list(values)
    return values[0]
