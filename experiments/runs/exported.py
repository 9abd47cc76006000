"""One agent as one file: `agent.save("a.safetensors")`. Tensors by name, and in the header what rebuilds the agent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from metarl.agent import Agent
from metarl.checkpoint import join_state, replace_file, split_state, state_fingerprint, writing
from metarl.errors import MOST_SEED, CheckpointError, ConfigError, MetarlError, shortened
from metarl.experiments import codec
from metarl.loop import not_finite
from metarl.provenance import package_versions
from metarl.reading import MOST_TENSOR_BYTES, parse_json, read_bytes
from metarl.size import bounded
from metarl.spec_json import spec_from_json, spec_to_json

_READ = (1, codec.SCHEMA_VERSION)
SEED = "_metarl_seed"
"""Where an agent made or loaded from Python keeps the seed that its parameters follow from."""
_KEY = "metarl.agent"
_REMEDY = "save the agent again"
_MOST_DEPTH = 300
_SPARE = 64
"""Bytes of tensors per byte of a file that an agent may take beyond a gibibyte: buffers are stored as far as filled."""


def save_agent(agent: Any, path: Path) -> None:
    """Write `agent`: config, what it knows of its worlds, and its whole state; in one step.

    Raises: ConfigError for an agent without a config; CheckpointError for a state that is no tensors and plain values.
    """
    config = getattr(agent, "config", None)
    if config is None or not hasattr(config, "algorithm"):
        raise ConfigError(f"agent {agent.name!r} has no config to rebuild it from; build it with metarl.make_agent")
    state = agent.state_dict()
    tensors, tree = split_state(state)
    header = {
        "schema_version": codec.SCHEMA_VERSION,
        "agent": codec.agent_to_json(config),
        "spec": spec_to_json(agent.spec),
        "state": tree,
        "seed": getattr(agent, SEED, 0),
        "packages": package_versions(("torch", "metarl-worlds")),
    }
    text = json.dumps(header, allow_nan=False)
    digest = _digest(text, state)
    with writing(path):
        replace_file(path, safetensors.torch.save(tensors, {_KEY: text, "sha256": digest}))


def load_agent(path: Path, device: torch.device, trusted: Collection[str]) -> Agent:
    """Rebuild what `save_agent` wrote; raises CheckpointError for any other file, ConfigError for code not trusted."""
    try:
        content = read_bytes(path, most=MOST_TENSOR_BYTES, remedy=_REMEDY)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}; agent.save(...) writes one") from error
    text, digest = _header(content, path)
    header = parse_json(text.encode(), path, remedy=_REMEDY, most_depth=_MOST_DEPTH)
    version = header.get("schema_version") if isinstance(header, dict) else None
    if type(version) is not int or version not in _READ:
        raise CheckpointError(f"{path} has agent schema {version!r}, this version reads {_READ}; {_REMEDY}")
    try:
        state = join_state(safetensors.torch.load(content), header.get("state"))
    except CheckpointError:
        raise
    except Exception as error:  # safetensors raises what it likes for headers that it did not write
        raise CheckpointError(f"{path} holds no safetensors ({shortened(error)}); {_REMEDY}") from error
    if _digest(text, state) != digest:
        raise CheckpointError(f"{path} was changed after it was written: its sha256 is another; {_REMEDY}")
    if name := not_finite(state):
        raise CheckpointError(f"{path} holds NaN or Inf in {name!r}, which training never saves; {_REMEDY}")
    try:
        config = codec.agent_from_json(header.get("agent"), trusted, version)
    except ConfigError as error:
        raise ConfigError(str(error).replace("config.json", str(path), 1)) from error
    spec = spec_from_json(header.get("spec"), path)
    try:
        with bounded(f"the agent that {path} describes", spare_bytes=_SPARE * len(content)):
            agent: Agent = config.build(spec, seed=0, device=device)
        agent.load_state_dict(state)
    except MetarlError:
        raise
    except Exception as error:  # each agent meets wrong sizes, keys, shapes and types in its own way
        told = f"{type(error).__name__}: {shortened(error)}"
        raise CheckpointError(f"{path} does not hold the agent that it describes ({told}); {_REMEDY}") from error
    seed = header.get("seed", 0)
    setattr(agent, SEED, seed if type(seed) is int and 0 <= seed <= MOST_SEED else 0)
    return agent


def _header(content: bytes, path: Path) -> tuple[str, str]:
    """Return the texts that `save_agent` put into the file's header."""
    length = int.from_bytes(content[:8], "little")
    header = None
    if 0 < length <= len(content) - 8:
        header = parse_json(content[8 : 8 + length], path, remedy=_REMEDY, most_depth=_MOST_DEPTH)
    about = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get(_KEY), str) or not isinstance(about.get("sha256"), str):
        raise CheckpointError(f"{path} is no agent that metarl saved; agent.save(...) writes one")
    return about[_KEY], about["sha256"]


def _digest(text: str, state: Any) -> str:
    return hashlib.sha256((text + state_fingerprint(state)).encode()).hexdigest()
