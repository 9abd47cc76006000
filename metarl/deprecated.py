"""Names that changed go on working for one release; whoever uses one is told by a DeprecationWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=type)


def deprecated(text: str) -> None:
    """Warn whoever called the function that calls this one."""
    warnings.warn(f"{text} (the old way goes with the next release)", DeprecationWarning, stacklevel=3)


class OldName:
    """An attribute that is called otherwise by now: `n_copies = OldName("num_envs")`."""

    def __init__(self, new: str) -> None:
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._text = f"{owner.__name__}.{name} is now {self._new}"

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return what the new name gives."""
        if instance is None:
            return self
        deprecated(self._text)
        return getattr(instance, self._new)

    def __set__(self, instance: Any, value: Any) -> None:
        """Set what the new name names."""
        deprecated(self._text)
        setattr(instance, self._new, value)


def renamed(**names: str) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Let a function take keywords by their old names as well: `@renamed(n_copies="num_envs")`."""

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        @functools.wraps(function)
        def either(*args: P.args, **kwargs: P.kwargs) -> Result:
            for old in names.keys() & kwargs.keys():
                called = function.__qualname__.removesuffix(".__init__")
                deprecated(f"{called}({old}=...) is now {names[old]}=...")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return either

    return decorate


def renamed_fields(**names: str) -> Callable[[Kind], Kind]:
    """Let the fields of a dataclass be found by their old names: `@renamed_fields(max_copies="max_envs")` above it.

    They are taken as keywords and answer as attributes. Whoever reads settings that were stored or typed by an old name
    asks `field_names`, so that this line is all there is to say when a setting is renamed.
    """

    def decorate(kind: Kind) -> Kind:
        owner: Any = kind
        owner.__init__ = renamed(**names)(owner.__init__)
        owner.renamed_fields = {**field_names(owner), **names}
        for old, new in names.items():
            alias = OldName(new)
            alias.__set_name__(owner, old)
            setattr(owner, old, alias)
        return kind

    return decorate


def field_names(kind: Any) -> Mapping[str, str]:
    """Return {old: new} of the fields of a dataclass that are called otherwise by now."""
    found: Mapping[str, str] = getattr(kind, "renamed_fields", {})
    return found


def today(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of the dataclass `kind` by today's names; where both are given, the old one stays as it is."""
    new = {old: name for old, name in field_names(kind).items() if name not in given}
    return {new.get(name, name): value for name, value in given.items()}


def bridge(owner: type, names: Mapping[str, str]) -> None:
    """Let methods that `owner` writes be found by their old names and by their new ones, {old: new}.

    A class that overrides the old name overrides the new one, with a warning; one that writes the new one can be asked
    by the old, as `super().begin(...)` of a class derived from it does.
    """
    own = vars(owner)
    for old, new in names.items():
        if old in own and new not in own:
            deprecated(f"{owner.__name__}.{old} is now {new}; rename it")
            setattr(owner, new, own[old])
        elif new in own and old not in own:
            setattr(owner, old, _asked_by(old, new, own[new]))


def _asked_by(old: str, new: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def warned(self: Any, *args: Any, **kwargs: Any) -> Any:
        deprecated(f"{type(self).__name__}.{old} is now {new}")
        return method(self, *args, **kwargs)

    return warned
