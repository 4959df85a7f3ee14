"""Errors every module raises in the same words."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

# Arguments in older versions of Keras; 'decay' was that of the learning rate, and has no successor.
FORMER_NAMES = {"lr": "learning_rate", "nb_epoch": "epochs", "decay": ""}


class CheckpointError(Exception):
    """A model or weights file that is damaged, foreign, or does not fit the model."""


@contextmanager
def writing(path: str | os.PathLike[str], where: str, remedy: str) -> Iterator[None]:
    """Within it, an OSError says that `where` cannot write `path`, why, and the remedy."""
    try:
        yield
    except OSError as error:
        failure = type(error)(f"{where}: cannot write '{path}' ({error.strerror}); {remedy}")
        failure.errno = error.errno  # given apart, as Python would put "[Errno 13]" in front
        raise failure from error


def unknown_name(kind: str, name: object, choices: Iterable[str], where: str | None = None) -> ValueError:
    """Build the error for a name that is not one of `choices`.

    Parameters
    ----------
    kind : what the name stands for, such as ``'optimizer'``.
    name : what the user gave.
    choices : the names that would have been accepted.
    where : the layer or function that received it, put in front of the message.

    Returns
    -------
    ValueError
        To be raised by the caller; it lists the choices and the nearest one.
    """
    ordered = sorted(choices)
    by_lower = {choice.lower(): choice for choice in ordered}
    import difflib  # only when something is wrong

    wanted = str(name).lower()
    near = difflib.get_close_matches(FORMER_NAMES.get(wanted, wanted), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    prefix = f"{where}: " if where else ""
    return ValueError(f"{prefix}unknown {kind} {name!r}.{hint} Choose one of: {', '.join(ordered)}.")


def explained(method: Function) -> Function:
    """The same method or constructor, whose errors about arguments name it as users know it, and the nearest argument.

    Python's own errors name the class that defines it, a base class perhaps that no user has heard of. Arguments that
    the class declares to be `neutral` are left out.
    """
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **words: Any) -> Any:
        try:
            return method(self, *arguments, **words)
        except TypeError:
            name = type(self).__name__
            where = name if method.__name__ in ("__init__", "__call__") else f"{name}.{method.__name__}"
            needed = without_neutral(method, words, self.neutral, where)
            check_call(method, arguments, needed, where)
            if len(needed) == len(words):
                raise
        return method(self, *arguments, **needed)

    return call  # type: ignore[return-value]


class Explained:
    """A base of classes whose constructors, and those of their subclasses, are `explained`.

    Attributes
    ----------
    neutral : arguments of Keras, and the values with which they change nothing here.
    """

    neutral: Mapping[str, tuple[Any, ...]] = {}

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        if inspect.isfunction(init := vars(cls).get("__init__")):
            cls.__init__ = explained(init)  # type: ignore[method-assign]


def without_neutral(method: Callable[..., Any], words: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]],
                    where: str) -> dict[str, Any]:
    """`words` without those that a method does not take and that change nothing; ValueError for other values."""
    accepted, needed = inspect.signature(method).parameters, {}
    for word, value in words.items():
        if word in accepted or word not in neutral or _takes_any(accepted):  # which may pass it on
            needed[word] = value
        elif not any(type(value) is type(choice) and value == choice for choice in neutral[word]):
            choices = " or ".join(map(repr, neutral[word]))
            raise ValueError(f"{where}: {word} can only be {choices} here, got {value!r}; leave it out") from None
    return needed


def check_call(method: Callable[..., Any], arguments: Sequence[Any], words: Mapping[str, Any], where: str) -> None:
    """TypeError for arguments that a method does not take, or for missing ones."""
    signature = inspect.signature(method)
    try:
        signature.bind(None, *arguments, **words)
    except TypeError as error:
        accepted = list(signature.parameters)[1:]
        unknown = [word for word in words if word not in accepted and not _takes_any(signature.parameters)]
        if not unknown:
            raise TypeError(f"{where}: {error}; its arguments are {', '.join(accepted)}") from None
        raise TypeError(str(unknown_name("argument", unknown[0], accepted, where))) from None


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
