"""World options on the command line: `--world.options task=reach-v3 n_workers=2`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metarl.errors import ConfigError


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` words as a dict; a value that is JSON is read as such, anything else is text.

    Raises: ConfigError for a word without a key and an equals sign.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"world option {word!r} is not of the form key=value; write e.g. task=reach-v3")
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
        except RecursionError as error:
            raise ConfigError(f"world option {key!r} is nested too deeply; give fewer brackets") from error
    return options


def format_options(options: Mapping[str, Any]) -> list[str]:
    """Return the words that `parse_options` reads back."""
    return [f"{key}={_text(value)}" for key, value in options.items()]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(value) if isinstance(value, str) and _is_json(value) else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
