"""Tests that need a GPU are not even collected where there is none; `make test-gpu` says so instead."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
