"""Where upstream's functions are written: their syntax trees, and which attributes their classes assign."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

UPSTREAM = ("metaworld.", "gymnasium.envs.mujoco")
"""Modules whose functions are interpreted; any other function must be known by name."""

_TASK_CHECK = "SawyerXYZEnv._Decorators.assert_task_is_set.<locals>.inner"


def is_upstream(function: Any) -> bool:
    """Tell whether `function` is a Python function of upstream's."""
    return isinstance(function, FunctionType) and str(function.__module__).startswith(UPSTREAM)


def undecorated(function: Any) -> Any:
    """Return the function below upstream's check that a task has been set; worlds always set one."""
    if getattr(function, "__qualname__", "") == _TASK_CHECK:
        return inspect.getclosurevars(function).nonlocals["func"]
    return function


@cache
def syntax_tree(function: FunctionType) -> ast.FunctionDef | ast.Lambda:
    """Return the definition of a function of a module on disk."""
    code = function.__code__
    found: ast.FunctionDef | ast.Lambda = _definitions(code.co_filename)[code.co_firstlineno, code.co_name]
    return found


@cache
def defining_class(function: FunctionType, cls: Any) -> type:
    """Return the class in the ancestry of `cls` whose body defines the method `function`."""
    for ancestor in cls.__mro__:
        for member in vars(ancestor).values():
            for candidate in (member, getattr(member, "fget", None), getattr(member, "__func__", None)):
                if undecorated(candidate) is function:
                    return ancestor  # type: ignore[no-any-return]
    found: type = cls
    return found


@cache
def assigned_outside_init(cls: Any) -> frozenset[str]:
    """Return the attributes that methods of upstream's classes other than `__init__` assign, whole or in part."""
    names: set[str] = set()
    for ancestor in cls.__mro__:
        if not ancestor.__module__.startswith(UPSTREAM):
            continue
        for member in vars(ancestor).values():
            for candidate in (member, getattr(member, "fget", None), getattr(member, "__func__", None)):
                function = undecorated(candidate)
                if is_upstream(function) and function.__name__ != "__init__":
                    names |= _assigned(syntax_tree(function))
    return frozenset(names)


def assigned_by(function: Callable[..., Any]) -> frozenset[str]:
    """Return the attributes of `self` that one function assigns."""
    return frozenset(_assigned(syntax_tree(undecorated(function))))


def _assigned(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target: ast.expr = node
            while isinstance(target, ast.Subscript):
                target = target.value
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                names.add(target.attr)
    return names


@cache
def _definitions(filename: str) -> dict[tuple[int, str], Any]:
    found: dict[tuple[int, str], Any] = {}
    for node in ast.walk(ast.parse(Path(filename).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found[first, node.name] = node
        elif isinstance(node, ast.Lambda):
            found[node.lineno, "<lambda>"] = node
    return found
