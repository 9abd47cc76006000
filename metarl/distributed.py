"""One run over several processes: who is there, what each one does, and what all of them then know.

All processes hold the same agent and the same random streams, and every number that one of them computes alone reaches
all of them (`Group.map`, `Group.total`, `metarl.spread`): sums go over the processes in their order, so that everybody
gets the same bits, and the same ones at every repetition. Hence nothing is broadcast while a run goes on, and a process
that came to differ is found out after each iteration (`Group.check_same`).

A program that is not started by `torchrun` is a group of one, for which all of this costs nothing and changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from .errors import ConfigError, LostProcess, MetarlError, ProcessError
from .signals import STOP

Item = TypeVar("Item")
Value = TypeVar("Value")

PATIENCE_S = 300.0
"""Longest time that a process waits for the others before it takes them for lost."""
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # its name from torch 2.13 on
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Group:
    """The processes of one run; alone unless `joined` says otherwise."""

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        """`rank` is this process's place among `size`; `store` is where they leave word for each other."""
        self.rank, self.size, self._store = rank, size, store

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, prints and decides."""
        return self.rank == 0

    # --- sharing work out -------------------------------------------------------------------------------------------

    def shares(self, n: int) -> list[slice]:
        """Return which of `n` things, neighbours, fall to each process: as many to each, but for one."""
        ends = [n * rank // self.size for rank in range(self.size + 1)]
        return [slice(begin, end) for begin, end in pairwise(ends)]

    def share(self, n: int) -> slice:
        """Return which of `n` things fall to this process."""
        return self.shares(n)[self.rank]

    def over(self, n: int) -> Group:
        """Return this group, or one of a single process if it has more than `n`: everybody then does all of them."""
        return self if n >= self.size else ALONE

    def map(self, items: Sequence[Item], compute: Callable[[Item], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """Return `compute` of every item, in the order of the items, each computed by one process.

        What is computed has no graph for anyone but the process that computed it: take gradients inside.
        """
        if self.size == 1:
            return [compute(item) for item in items]
        own = [tuple(t.detach() for t in compute(item)) for item in items[self.share(len(items))]]
        shapes: list[list[list[tuple[torch.dtype, tuple[int, ...]]]]]
        shapes = self.objects([[(t.dtype, tuple(t.shape)) for t in found] for found in own])
        device = self._device([t for found in own for t in found])
        packed = torch.cat([_raw(t) for found in own for t in found] or [torch.empty(0, dtype=torch.uint8)]).to(device)
        lengths = [sum(_n_bytes(*kind) for found in of for kind in found) for of in shapes]
        parts = self.gather_rows(packed[:, None], lengths)
        found: list[tuple[Tensor, ...]] = []
        for part, of in zip(parts, shapes, strict=True):
            begin = 0
            for kinds in of:
                tensors = []
                for dtype, shape in kinds:
                    end = begin + _n_bytes(dtype, shape)
                    tensors.append(part[begin:end, 0].clone().view(dtype).reshape(shape))
                    begin = end
                found.append(tuple(tensors))
        return found

    def total(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the sum of each tensor over all processes, added up in their order; all of one kind of number."""
        if self.size == 1 or not parts:
            return list(parts)
        flat = torch.cat([part.detach().reshape(-1) for part in parts])
        everybody = self.gather_rows(flat[:, None], [len(flat)] * self.size)
        total = everybody[0]
        for other in everybody[1:]:
            total = total + other
        pieces = total[:, 0].split([part.numel() for part in parts])  # type: ignore[no-untyped-call]
        return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]

    def total_gradients(self, params: Sequence[Tensor], sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make each parameter's gradient the sum over all processes, and return the sums of `sums` likewise.

        A parameter that nobody's loss reached keeps no gradient, as long as every process says so.
        """
        if self.size == 1:
            return sums
        reached = [p for p in params if p.grad is not None]
        summed = self.total([*[p.grad for p in reached if p.grad is not None], *(v.float() for v in sums.values())])
        for param, gradient in zip(reached, summed, strict=False):
            param.grad = gradient.clone()
        return dict(zip(sums, summed[len(reached) :], strict=True))

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """Return each process's rows [counts[rank], width] of one kind of number, this process's being `rows`."""
        most = max(counts)
        if most == 0:
            return [rows for _ in counts]
        if len(rows) < most:
            rows = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
        out = rows.new_empty(self.size * most, *rows.shape[1:])
        with _lost():
            _all_gather(out, rows.contiguous())
        return [out[i * most : i * most + n] for i, n in enumerate(counts)]

    # --- agreeing ---------------------------------------------------------------------------------------------------

    def objects(self, value: Value) -> list[Value]:
        """Return every process's plain value, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _lost():
            dist.all_gather_object(found, value)
        return found

    def from_first(self, value: Callable[[], Value]) -> Value:
        """Return what the first process's `value()` is; the others' is not called."""
        if self.size == 1:
            return value()
        told: list[Any] = [value() if self.leads else None]
        with _lost():
            dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        return told[0]  # type: ignore[no-any-return]

    def any(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return flag if self.size == 1 else any(self.objects(flag))

    def check_same(self, tensors: Sequence[tuple[str, Tensor]], iteration: int) -> None:
        """Raise ProcessError naming iteration and tensor if the processes' named tensors are not the same, bit for bit.

        What is compared is a sum over the bits, which any single change changes.
        """
        if self.size == 1:
            return
        everybody = self.objects([int(_sum_of_bits(tensor)) for _, tensor in tensors])
        for rank, other in enumerate(everybody):
            if other != everybody[0]:
                same = [a == b for a, b in zip(everybody[0], other, strict=False)]
                name = tensors[same.index(False)][0] if False in same else f"number {len(same)}"
                raise ProcessError(
                    f"iteration {iteration}: tensor {name!r} of the agent is not the same in process 0 and process "
                    f"{rank}: let all processes run on the same kind of machine with the same packages, then go on "
                    f"with --resume"
                )

    def _device(self, tensors: Sequence[Tensor]) -> torch.device:
        """Return where this process's tensors are; one that has none looks at the GPU it was given."""
        if tensors:
            return tensors[0].device
        return torch.device("cuda" if torch.cuda.is_initialized() else "cpu")  # type: ignore[no-untyped-call]

    # --- speaking with one voice ------------------------------------------------------------------------------------

    def speaks(self, error: BaseException) -> bool:
        """Return whether this process is the one that tells the user of `error`.

        What all found wrong is told once; that others are lost only if none of them has told why.
        """
        if self._store is None:
            return True
        text = hashlib.sha256(str(error).encode()).hexdigest()
        try:
            first, new = self._store.add("told", 1) == 1, self._store.add(f"told/{text}", 1) == 1
            return bool(first if isinstance(error, LostProcess) else new)
        except RuntimeError:
            return True


ALONE = Group()
"""A group of one process."""
_group = ALONE


def group() -> Group:
    """Return the group that this process belongs to."""
    return _group


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that `torchrun` started beside this one, for the length of a `with` block.

    All but the first are silent: stdout and warnings go nowhere, and an error is told by one process only. Tensors on
    the CPU go through gloo, those on a GPU through NCCL, the process's GPU being that of its number on the machine.

    Raises: ProcessError if the others do not come; LostProcess inside the block if one of them ends or does not answer.
    """
    global _group
    environment = os.environ
    if any(name not in environment for name in _LAUNCHED) or environment["WORLD_SIZE"] == "1":
        yield _group
        return
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    before = _group, sys.stdout
    _group = Group(rank, size, _meet(rank, size))
    if rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # closed below
        warnings.simplefilter("ignore")
        STOP.quiet = True
    try:
        yield _group
        with _lost():
            dist.barrier()
        dist.destroy_process_group()
    except MetarlError as error:
        if _group.speaks(error):
            raise
        raise SystemExit(2) from error
    finally:
        if rank:
            sys.stdout.close()
        _group, sys.stdout = before


def _meet(rank: int, size: int) -> Store:
    """Start torch's own group and return the store through which it met.

    Every restart meets under a name of its own: under torch's, the addresses of the dead are still there.
    """
    environment, patience = os.environ, timedelta(seconds=PATIENCE_S)
    agent_has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    attempt = f"metarl/{environment.get('TORCHELASTIC_RUN_ID', '')}/{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    try:
        server = TCPStore(host, port, None, rank == 0 and not agent_has_store, patience, wait_for_workers=False)
        store = PrefixStore(attempt, server)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("group", store), rank=rank, world_size=size, timeout=patience
        )
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            f"process {rank} of {size} does not meet the others at {host}:{port} ({' '.join(str(error).split())[:200]})"
            f"; start all of them with torchrun, on machines that reach each other"
        ) from error
    return store


def claim_device(device: torch.device) -> torch.device:
    """Return `device`, where each process of a machine takes a GPU of its own.

    Raises: ConfigError for a certain GPU, which all of them would take, or more processes than GPUs.
    """
    if group().size == 1 or device.type != "cuda":
        return device
    local, n = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if device.index is not None or local >= n:
        raise ConfigError(
            f"each of {processes_here()} processes on this machine needs a GPU of its own, of which there are {n}, and "
            f"device is {device}; set device to cuda and start at most {n} processes"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def processes_here() -> int:
    """Return how many processes of the group share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if group().size > 1 else 1


@contextmanager
def _lost() -> Iterator[None]:
    """Turn torch's errors about a process that does not answer into one line."""
    try:
        yield
    except MetarlError:
        raise
    except RuntimeError as error:
        raise LostProcess(
            f"process {_group.rank} of {_group.size} lost another one, which ended or did not answer for "
            f"{PATIENCE_S:.0f} s; what was saved is untouched: go on with --resume"
        ) from error


def _raw(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes, uint8 [n]."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _n_bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * torch.Size(shape).numel()


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's numbers, read as whole ones, modulo 2^64."""
    return tensor.detach().contiguous().view(_BYTES[tensor.dtype.itemsize]).sum(dtype=torch.int64)
