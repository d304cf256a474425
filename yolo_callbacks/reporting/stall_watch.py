"""StallWatch: the thread behind `Watchdog`. It only looks and decides; disk and network have threads of their own.

A stall may be caused by the disk, or by a full pipe behind the log, so nothing here waits for either.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.core.stall import BATCH, Place, Stalled, StallJudge, WentOn, behind, waits_for
from yolo_callbacks.reporting.pulse import Pulse
from yolo_callbacks.run_dir.heartbeat import (
    HEARTBEAT,
    next_stall_file,
    of_rank,
    read_heartbeats,
    remove_heartbeats,
    write_heartbeat,
)
from yolo_callbacks.run_dir.manifest import now as iso_now
from yolo_callbacks.session.participant import Alert
from yolo_callbacks.session.remaining import as_json
from yolo_callbacks.support import stacks, storage
from yolo_callbacks.support.background import Background, tell_once

FROZEN = "stall-frozen.txt"
"""The file of the stacks that C code writes."""

_ASK_RANKS = 3.0  # seconds that rank 0 waits for what the other ranks say of a stall
_TELL = 5.0  # seconds that an alert waits for stacks and ranks
_LEAVE = 10.0  # seconds from a stall to the end of the process, at most, for messages and files
_SEND = 3.0  # of these, for messages to be sent
_OLD = 30.0  # seconds after which a heartbeat is missing, besides those between two; clocks of machines differ
_AFTER_RANK_0 = 5.0  # seconds by which the other ranks end later


@dataclass(frozen=True)
class Post:
    """Where a watch stands.

    Attributes:
        folder: The folder of the heartbeats and stacks.
        rank: The rank of this process.
        ranks: Number of ranks.
        run: The id of the run; None where it is unknown, on the ranks above 0.
    """

    folder: Path
    rank: int = 0
    ranks: int = 1
    run: str | None = None


class StallWatch:
    """Looks at a pulse, writes its heartbeat, and reports when it stands still and when it goes on.

    Args:
        pulse: How far the training is.
        judge: Finds stalls.
        post: Where the heartbeat belongs.
        tell: Called with each alert, on rank 0, from a thread of its own.
        tick: Seconds between two looks.
        every: Seconds between two heartbeats.
        frozen_after: Seconds without any look after which C code writes the stacks; None for never.
        exit_code: What the process ends with when it stands still; None if it does not end. C code that holds the
            interpreter cannot be told from a suspended process, so nothing ends it.
        clock: Returns seconds.
    """

    def __init__(
        self,
        pulse: Pulse,
        judge: StallJudge,
        post: Post,
        tell: Callable[[Alert], None],
        *,
        tick: float,
        every: float,
        frozen_after: float | None = None,
        exit_code: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pulse, self._judge, self._post, self._tell = pulse, judge, post, tell
        self._tick, self._every, self._exit_code, self._clock = tick, every, exit_code, clock
        self._frozen_after = frozen_after
        self._frozen = stacks.FrozenDump(post.folder / of_rank(FROZEN, post.rank))
        self._files, self._alerts = Background("watchdog files"), Background("watchdog alerts")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yolo-callbacks watchdog", daemon=True)
        self._logged: set[str] = set()
        self._written = self._postponed = float("-inf")
        self._where: list[Place] = []
        self._host = socket.gethostname()

    def start(self) -> None:
        """Start looking."""
        if self._post.rank == 0:
            self._files.submit("old", lambda: remove_heartbeats(self._post.folder, first_rank=max(1, self._post.ranks)))
        self._thread.start()

    def end(self, status: str) -> None:
        """Stop looking, and leave a last heartbeat that says how the run ended; the ranks above 0 remove theirs."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(2 * self._tick + 1.0)
        self._frozen.cancel()
        self._pulse.enter("ended")
        self._files.submit("heartbeat", lambda: self._last_beat(status))
        self._files.close(_TELL)
        self._alerts.close(_TELL)

    def _last_beat(self, status: str) -> None:
        if self._post.rank:
            storage.remove(self._post.folder / of_rank(HEARTBEAT, self._post.rank))
        else:
            write_heartbeat(self._post.folder, 0, {**self.beat(self._clock()), "status": status, "eta": None})

    def _run(self) -> None:
        while not self._ended.wait(self._tick):
            try:
                self.look()
            except Exception as error:
                tell_once(self._logged, "Watchdog", error)

    def look(self) -> None:
        """Look once."""
        now, pulse = self._clock(), self._pulse
        self._postpone_dump(now)  # first: if it fails, the next look finds what this one would have
        while pulse.finished:
            self._judge.add(pulse.finished.popleft())
        found = self._judge.look(now, pulse.reading)
        if isinstance(found, Stalled):
            self._report(now, found)
        elif found is not None:
            self._where = []
            self._beat(now)
            position = pulse.position  # it moves on until the alert is sent
            self._alerts.submit(f"{now}", lambda: self._alert("went_on", self._went_on(found, position), found.seconds))
        elif now - self._written >= self._every:
            self._beat(now)

    def _postpone_dump(self, now: float) -> None:
        after = self._frozen_after
        if after is None or self._ended.is_set() or now - self._postponed < after / 10:
            return
        self._frozen_after = None  # if the disk refuses the file, it is not asked again
        self._frozen.postpone(after)
        self._frozen_after, self._postponed = after, now

    # ------------------------------------------------------------------------------------------ heartbeats

    def beat(self, now: float) -> dict[str, Any]:
        """Return the heartbeat; `docs/watching.md` describes the fields."""
        pulse, judge, where = self._pulse, self._judge, self._where
        eta = pulse.eta.after(now - pulse.eta_from) if pulse.eta is not None else None
        return {
            "run": self._post.run,
            "status": "stalled" if judge.stalled else "running",
            "phase": pulse.phase,
            "epoch": pulse.epoch,
            "epochs": pulse.epochs,
            "batch": pulse.batch,
            "batches": pulse.batches,
            "batch_seconds": None if judge.usual is None else round(judge.usual, 6),
            "quiet_seconds": round(judge.quiet, 3),
            "where": str(where[0]) if where else None,
            "waits_for": waits_for(where),
            "eta": as_json(eta),
            "time": round(time.time(), 3),
            "written": iso_now(),
            "every": self._every,
            "pid": os.getpid(),
            "host": self._host,
            "rank": self._post.rank,
            "ranks": self._post.ranks,
        }

    def _beat(self, now: float) -> None:
        self._written = now
        beat = self.beat(now)
        self._files.submit("heartbeat", lambda: write_heartbeat(self._post.folder, self._post.rank, beat))

    # ------------------------------------------------------------------------------------------ stalls

    def _report(self, now: float, stalled: Stalled) -> None:
        self._where = [Place(*line) for line in stacks.stack_of(self._pulse.thread)]
        what = f"{self._pulse.position}: {_quiet(self._pulse.reading.kind, stalled)}"
        text = f"{iso_now()} rank {self._post.rank}: {what}\n\n{stacks.all_threads(self._pulse.thread)}"
        last, own = self._pulse.last, self.beat(now)
        self._beat(now)
        found: dict[str, Any] = {}
        known = threading.Event()
        self._files.submit(f"stall {now}", lambda: self._write_stacks(text, own, found, known))
        if self._post.rank == 0:
            self._alerts.submit(f"{now}", lambda: self._tell_stall(what, stalled.seconds, found, known))
        if (code := self._code) is not None:
            self._leave(code, last)

    @property
    def _code(self) -> int | None:
        """What the process ends with; None if it does not. Exports and their check have time limits of their own."""
        return None if self._pulse.phase in ("starting", "closing") else self._exit_code

    def _write_stacks(self, text: str, own: Mapping[str, Any], found: dict[str, Any], known: threading.Event) -> None:
        try:
            path = next_stall_file(self._post.folder, self._post.rank)
            if path is not None:
                storage.write_text(path, text)
                found["file"] = f"{self._post.folder.name}/{path.name}"
            if self._post.rank == 0 and self._post.ranks > 1:
                found["behind"] = self._ask_ranks(own)
        finally:
            known.set()

    def _ask_ranks(self, own: Mapping[str, Any]) -> str:
        """Return what the heartbeats of the other ranks say: each finds the same stall by itself."""
        deadline, beats = time.monotonic() + _ASK_RANKS, {0: dict(own)}
        while True:
            beats = {**read_heartbeats(self._post.folder, self._post.ranks), 0: dict(own)}
            told = sum(beat.get("status") == "stalled" for beat in beats.values())
            if told == self._post.ranks or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return _behind_in_words(beats, self._post.ranks)

    def _tell_stall(self, what: str, seconds: float, found: Mapping[str, Any], known: threading.Event) -> None:
        known.wait(_TELL)
        parts = [what]
        if self._where:
            parts.append(f"it is in {self._where[0]}{_in_words(waits_for(self._where))}")
        if found.get("behind"):
            parts.append(found["behind"])
        parts.append(f"stacks: {found['file']}" if "file" in found else "its stacks were not written")
        if (code := self._code) is not None:
            parts.append(f"the process ends with code {code}")
        self._alert("stall", "; ".join(parts), seconds)

    def _went_on(self, found: WentOn, position: str) -> str:
        if not found.suspended:
            return f"{position}: went on after {_seconds(found.seconds)}"
        held = storage.size(self._post.folder / of_rank(FROZEN, self._post.rank))
        stacks_in = f", or C code held the interpreter, stacks: {self._post.folder.name}/{FROZEN}" if held else ""
        why = f"it was suspended{stacks_in}"  # a suspension can let the timer of the stacks run out, too
        return f"{position}: the process did not run for {_seconds(found.seconds)} ({why})"

    def _alert(self, event: str, message: str, seconds: float) -> None:
        if self._post.rank == 0:
            self._tell(Alert(event, message, round(seconds, 1)))

    def _leave(self, code: int, last: float) -> None:
        """End the process, unless it goes on in the last moment. Nothing that the training could hold is waited for."""
        deadline = time.monotonic() + _LEAVE
        self._frozen.cancel()
        self._postponed = float("-inf")
        self._alerts.wait(_LEAVE - _SEND)
        self._ended.wait(_SEND + (_AFTER_RANK_0 if self._post.rank else 0.0))
        self._files.wait(max(0.0, deadline - time.monotonic()))
        if self._pulse.last != last or self._ended.is_set() or self._waits_for_rank_0():
            return
        with contextlib.suppress(Exception):
            for worker in multiprocessing.active_children():  # of a data loader; they would outlive it
                worker.kill()
        os._exit(code)

    def _waits_for_rank_0(self) -> bool:
        """Return whether rank 0 is at work while this one waits for it, as in a check of exports."""
        beat = read_heartbeats(self._post.folder, 1).get(0) if self._post.rank else None
        return beat is not None and not _is_old(beat) and beat.get("status") == "running"


def _quiet(kind: str, stalled: Stalled) -> str:
    if kind != BATCH:
        return f"no sign of life for {_seconds(stalled.seconds)}"
    usual = "" if stalled.usual is None else f", a batch usually takes {stalled.usual:.3g} s"
    return f"no batch has ended for {_seconds(stalled.seconds)}{usual}"


def _behind_in_words(beats: Mapping[int, Mapping[str, Any]], ranks: int) -> str:
    silent = [rank for rank in range(ranks) if rank not in beats or _is_old(beats[rank])]
    words = [f"rank {rank} is behind and writes no heartbeat" for rank in silent]
    if not silent:
        words = [f"rank {rank} is behind{_place_in_words(beats[rank])}" for rank in behind(beats)]
    return ", ".join(words) or "no rank is behind the others"


def _is_old(beat: Mapping[str, Any]) -> bool:
    return time.time() - float(beat.get("time", 0.0)) > _OLD + 2 * float(beat.get("every", 0.0))


def _place_in_words(beat: Mapping[str, Any]) -> str:
    where = beat.get("where")
    return f", in {where}{_in_words(beat.get('waits_for'))}" if where else ""


def _in_words(waiting: object) -> str:
    return {"data": ", waiting for data", "ranks": ", waiting for the other ranks"}.get(str(waiting), "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
