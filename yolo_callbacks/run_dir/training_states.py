"""The files of the training's whole state, one per rank, from which a run is resumed exactly.

Each is a zip archive as `torch.save` writes it, and holds plain data only. It is written beside the one of the epoch
before, synced and read back; only then does the older one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.naming import STATES
from yolo_callbacks.support import storage

FORMAT = 1
_NAME = re.compile(r"epoch([0-9]{1,7})-rank([0-9]{1,7})of([0-9]{1,7})\.state")


class UnreadableStateError(ValueError):
    """A state cannot be used; the message says why."""


class TrainingStates:
    """The states of one run, as one rank sees them.

    Args:
        run_dir: The run directory.
        rank: Number of this rank, from 0.
        ranks: Number of ranks.
    """

    def __init__(self, run_dir: Path, rank: int, ranks: int) -> None:
        self.folder = run_dir / STATES
        self._rank = rank
        self._ranks = ranks

    def write(self, epoch: int, content: Mapping[str, Any], *, alone: bool) -> None:
        """Save this rank's state after an epoch, and remove what it makes obsolete.

        Args:
            epoch: Number of epochs that the state has behind it.
            content: The state, and what it is to be known by.
            alone: Whether whatever else this rank has saved is of no use, as it was saved before the run began.

        Raises:
            OSError: If it cannot be written, or does not read back; the older one stays.
        """
        import torch

        with storage.replacing(self._path(epoch, self._rank)) as temporary:
            try:
                with open(temporary, "wb") as file:
                    torch.save({"format": FORMAT, "epoch": epoch, **content}, file)
            except RuntimeError as error:  # torch hides the disk's own behind it
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            if not storage.is_whole(temporary):
                raise OSError("what was written does not read back")
        newest = None if alone else self.newest()
        for path, number, rank, _ in self._files():
            if rank == self._rank and (number != epoch if newest is None else number < newest):
                storage.remove(path)

    def newest(self) -> int | None:
        """Return the newest epoch whose state every rank has saved, None if there is none.

        States of another number of ranks count as well: whoever resumes is told that their number has changed.
        """
        saved: dict[tuple[int, int], set[int]] = {}
        for _, epoch, rank, ranks in self._files():
            saved.setdefault((epoch, ranks), set()).add(rank)
        return max((epoch for (epoch, ranks), there in saved.items() if len(there) == ranks), default=None)

    def read(self, epoch: int) -> dict[str, Any]:
        """Return what this rank has saved after an epoch.

        Raises:
            UnreadableStateError: If it cannot be used.
        """
        import torch

        found = next((path for path, *numbers in self._files() if numbers[:2] == [epoch, self._rank]), None)
        if found is None:
            raise UnreadableStateError(f"rank {self._rank} has saved none")
        if not storage.is_whole(found):
            raise UnreadableStateError(f"{found.name} is damaged")
        try:
            content: dict[str, Any] = torch.load(found, map_location="cpu", weights_only=True)
            written = int(content["format"])
        except Exception as error:  # whatever another program may have written
            raise UnreadableStateError(f"{found.name} does not load ({type(error).__name__})") from error
        if written > FORMAT:
            raise UnreadableStateError(
                f"{found.name} has format {written}, this version reads up to {FORMAT}: update yolo-callbacks"
            )
        return content

    def verify_others(self, epoch: int) -> None:
        """Make sure that the states of the other ranks are whole.

        Raises:
            UnreadableStateError: If one is not.
        """
        for path, number, rank, _ in self._files():
            if number == epoch and rank != self._rank and not storage.is_whole(path):
                raise UnreadableStateError(f"{path.name} is damaged")

    def remove_all(self) -> None:
        """Remove the states of every rank."""
        if self.folder.exists():
            storage.remove(self.folder)

    def forget_if_ended(self) -> None:
        """Remove this rank's states if rank 0, which knows when a run has ended, has removed its own."""
        files = list(self._files())
        if all(rank != 0 for _, _, rank, _ in files):
            for path, _, rank, _ in files:
                if rank == self._rank:
                    storage.remove(path)
            storage.remove_empty(self.folder)

    def _path(self, epoch: int, rank: int) -> Path:
        return self.folder / f"epoch{epoch}-rank{rank}of{self._ranks}.state"

    def _files(self) -> Iterator[tuple[Path, int, int, int]]:
        """Yield path, epoch, rank and number of ranks of each file."""
        try:
            paths = sorted(self.folder.glob("*.state"))
        except FileNotFoundError:  # another rank has removed the folder in this instant
            return
        for path in paths:
            if match := _NAME.fullmatch(path.name):
                epoch, rank, ranks = map(int, match.groups())
                yield path, epoch, rank, ranks
