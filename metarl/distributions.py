"""The former name of `metarl.action_distributions`."""

from __future__ import annotations

from .moved import moved

__getattr__ = moved(__name__, "metarl.action_distributions")
