"""PerRun: for classes that hold threads, hooks or files during a run, which no copy and no pickle can take along."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerRun(Generic[T]):
    """Holds in `_live` what belongs to one run and this process: a copy or a pickle of it holds nothing."""

    _live: T | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": None}
