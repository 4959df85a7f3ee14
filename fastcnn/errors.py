"""Errors every module raises in the same words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


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

    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    prefix = f"{where}: " if where else ""
    return ValueError(f"{prefix}unknown {kind} {name!r}.{hint} Choose one of: {', '.join(ordered)}.")
