"""Several callbacks as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fastcnn.callbacks.callback import ALL_HOOKS, Callback, History
from fastcnn.callbacks.progress import ProgressBar


class CallbackList:
    """Calls the same hook of several callbacks, in order: it has all the hooks of a `Callback`.

    Parameters
    ----------
    callbacks : one callback, several, or None.
    add_history : append a `History` unless there is one; it is then found in `history`.
    verbose : a `ProgressBar` of this verbosity is appended unless it is 0 or there is one.
    model, params : given to every callback.

    Attributes
    ----------
    has_batch_hooks : whether any callback wants the hooks of single batches.

    In a `with` statement, an error ends the line of the progress bar before anyone prints a traceback.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        add_history: bool = False,
        verbose: int | str = 0,
        model: Any = None,
        params: dict[str, Any] | None = None,
    ) -> None:
        given = () if callbacks is None else callbacks if isinstance(callbacks, Iterable) else (callbacks,)
        self.callbacks = [_checked(callback) for callback in given]
        if verbose != 0 and self._find(ProgressBar) is None:
            self.callbacks.append(ProgressBar(verbose))
        if add_history and self._find(History) is None:
            self.callbacks.append(History())
        self.history: Any = self._find(History)
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params or {})
        self.has_batch_hooks = any(callback.has_batch_hooks for callback in self.callbacks)

    def _find(self, kind: type[Callback]) -> Callback | None:
        return next((c for c in self.callbacks if isinstance(c, kind)), None)

    def __enter__(self) -> CallbackList:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        progress = self._find(ProgressBar)
        if kind is not None and progress is not None:
            progress.break_off()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in ALL_HOOKS:
            raise AttributeError(f"CallbackList has no attribute {name!r}")
        return partial(self._call, name)

    def _call(self, hook: str, *arguments: Any) -> None:
        """Hooks always get logs, be they empty: a user's function may have no default for them."""
        numbered = "epoch" in hook or "batch" in hook
        if len(arguments) == numbered:
            arguments = (*arguments, {})
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)


def _checked(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    hint = f"; write {callback.__name__}()" if isinstance(callback, type) else ""
    raise TypeError(f"callbacks: expected fastcnn.callbacks.Callback objects, got {callback!r}{hint}")
