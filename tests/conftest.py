"""What all tests share: one thread, no screen, no network account, and examples drawn the same way each time."""

import os

# Before anything imports matplotlib, mujoco or wandb: subprocesses that tests start inherit these as well.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ.pop("WANDB_API_KEY", None)
# Worlds and agents of the tests, which runs that tests make name: as code of a user's own it must be trusted.
os.environ["METARL_TRUST"] = (
    "tests.metarl.line_world:Line,tests.metarl.line_world:LearnerConfig,tests.metarl.tiny:TinyConfig,"
    "tests.experiments.test_contract:READY,tests.experiments.test_contract:tiring,tests.envs.broken_worlds:make"
)

import torch
from hypothesis import settings

from tests.folded_skips import pytest_terminal_summary as pytest_terminal_summary

torch.set_num_threads(1)
# Results must not depend on the machine's speed or on the day: no deadline, a fixed stream of examples.
settings.register_profile("metarl", deadline=None, derandomize=True, database=None)
settings.load_profile("metarl")
