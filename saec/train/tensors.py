"""Converts a learner to named arrays and back, for checkpoints (safetensors stores no objects)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from saec.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from saec.data.cohorts import Arranged
    from saec.data.keymap import Merged
    from saec.data.paged import Column
    from saec.train.learner import Learner

    Tensor = NDArray[Any] | Column | Merged | Arranged
    """An array, or what is read as one, part by part."""

Arrays = dict[str, NDArray[Any]]
"""Named arrays: what checkpoints and artifacts consist of."""


@dataclass(frozen=True)
class Snapshot:
    """State to be kept: its arrays, named `group.NAME`, and which places of the big ones changed.

    Changed means since the last snapshot. A group that `touched` does not name is kept whole; `touched` of None keeps
    everything whole. What is kept of everything is what `whole` makes, if there is that: tidied up, and with arrays
    that follow from the others, which later deltas leave as they are. Their groups are told beforehand.

    Of a state in shards, each is a snapshot of its own, beside the arrays that are of no shard.
    """

    arrays: Mapping[str, Tensor]
    touched: dict[str, NDArray[np.int64]] | None = None
    whole: Callable[[], Mapping[str, Tensor]] | None = None
    derived_groups: tuple[str, ...] = ()
    shards: tuple[Snapshot, ...] = ()


LEARNER = ("network.", "averaged.", "optimiser.")
"""How the names of a learner's arrays begin."""
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def network_arrays(network: nn.Module) -> Arrays:
    """Copies of the network's parameters by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.named_parameters()}


def load_network(network: nn.Module, arrays: Arrays, origin: str) -> None:
    """Set the network's parameters; errors as for `check_parameters`."""
    check_parameters(network, arrays, origin)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name]))


def check_parameters(network: nn.Module, arrays: Arrays, origin: str) -> None:
    """Refuse arrays that are not the network's parameters.

    Raises:
        IntegrityError: naming `origin` and the parameter, when one is missing, unknown or of another shape.
    """
    if unknown := arrays.keys() - dict(network.named_parameters()).keys():
        raise IntegrityError(
            f"{origin} has network parameters {sorted(unknown)} that the network lacks; it was written with another "
            "model or fields section of the configuration"
        )
    for name, parameter in network.named_parameters():
        found = arrays.get(name)
        if found is None or found.shape != tuple(parameter.shape):
            shape = "nothing" if found is None else f"shape {found.shape}"
            raise IntegrityError(
                f"{origin} has {shape} for network parameter {name!r}, wanted shape {tuple(parameter.shape)}; it "
                "was written with another model or fields section of the configuration"
            )


def learner_state(learner: Learner) -> Arrays:
    """The network's parameters, and once it has learnt their averages and the optimiser's moments.

    They are called `network.NAME`, `averaged.NAME` and `optimiser.MOMENT.NAME`.
    """
    state = {f"network.{name}": value for name, value in network_arrays(learner.network).items()}
    optimiser = learner.optimiser
    if optimiser.started:
        state |= {f"averaged.{name}": value for name, value in network_arrays(learner.averaged).items()}
        for place, (name, _) in enumerate(learner.network.named_parameters()):
            moments = (optimiser.steps, optimiser.means[place], optimiser.squares[place])
            state |= {
                f"optimiser.{moment}.{name}": value.cpu().numpy().copy()
                for moment, value in zip(_MOMENTS, moments, strict=True)
            }
    return state


def restore_learner(learner: Learner, state: Arrays, origin: str) -> None:
    """Put a learner into the state that `learner_state` gave; an average that is not there starts at the parameters."""
    load_network(learner.network, section(state, "network."), origin)
    load_network(learner.averaged, section(state, "averaged.") or section(state, "network."), origin)
    optimiser = learner.optimiser
    for place, (name, _) in enumerate(learner.network.named_parameters()):
        moments = (optimiser.steps, optimiser.means[place], optimiser.squares[place])
        for moment, value in zip(_MOMENTS, moments, strict=True):
            saved = state.get(f"optimiser.{moment}.{name}")
            value.zero_() if saved is None else value.copy_(torch.from_numpy(saved))


def section(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The arrays whose names start with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def shards_of(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The arrays of each shard; those of a state that is not in shards are all its own.

    >>> shards_of({"1/table.squares_V": 2, "0/table.squares_V": 1, "network.bias": 3})
    [{'table.squares_V': 1}, {'table.squares_V': 2}]
    """
    numbers = sorted({int(name.partition("/")[0]) for name in state if "/" in name})
    return [section(state, f"{number}/") for number in numbers] or [state]
