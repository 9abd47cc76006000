"""Random numbers for a GPU drawn on the CPU, so that a run can be compared with one that never left the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


class HostDraws(TorchFunctionMode):
    """Within it, a draw from a generator on a GPU is one from a CPU generator of the same seed, moved there."""

    def __init__(self) -> None:
        super().__init__()
        self._stand_ins: dict[int, tuple[torch.Generator, torch.Generator]] = {}
        self.n_draws = 0

    def _stand_in(self, generator: torch.Generator) -> torch.Generator:
        if id(generator) not in self._stand_ins:
            on_host = torch.Generator().manual_seed(generator.initial_seed())
            self._stand_ins[id(generator)] = (generator, on_host)  # kept alive, so that no other has its id
        return self._stand_ins[id(generator)][1]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        generator = kwargs.get("generator")
        if generator is None or generator.device.type == "cpu":
            return func(*args, **kwargs)
        self.n_draws += 1
        kwargs |= {"generator": self._stand_in(generator)} | ({"device": "cpu"} if "device" in kwargs else {})
        return func(*map(_to_cpu, args), **kwargs).to(generator.device)
