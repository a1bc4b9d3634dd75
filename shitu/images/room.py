"""How many pixels may be in memory ahead of who consumes them: memory is bounded by pixels, not by pictures.

A picture asks for room when its header is read and before its pixels are. It waits while others fill the room, unless
it is the one that the consumer waits for: so nobody waits for each other, whatever the consumer holds on to.
"""

from __future__ import annotations

import threading

PIXELS_AHEAD = 100_000_000  # eight photos of 12 megapixels, 300 MB as arrays

_of_thread = threading.local()


class Room:
    """Shared by the jobs of one consumer, who calls `wanted` with the number of the one it waits for."""

    def __init__(self, pixels: int | None = None) -> None:
        self._pixels = PIXELS_AHEAD if pixels is None else pixels
        self._taken: dict[int, int] = {}  # pixels by the number of the job
        self._wanted = -1
        self._changed = threading.Condition()

    def enter(self, number: int) -> None:
        """What this thread reads from now on is of that job."""
        _of_thread.place = (self, number)

    def wanted(self, number: int) -> None:
        with self._changed:
            self._wanted = number
            self._changed.notify_all()

    def take(self, number: int, pixels: int) -> None:
        def free() -> bool:
            others = sum(self._taken.values())
            return number <= self._wanted or others == 0 or others + pixels <= self._pixels

        with self._changed:
            self._changed.wait_for(free)
            self._taken[number] = pixels

    def give_back(self, number: int) -> None:
        with self._changed:
            self._taken.pop(number, None)
            self._changed.notify_all()


def take_room(pixels: int) -> None:
    """Wait until so many pixels may be read in this thread; at once where nothing runs ahead."""
    if place := getattr(_of_thread, "place", None):
        place[0].take(place[1], pixels)


def give_room_back() -> None:
    """The picture that this thread has read is in memory no more."""
    if place := getattr(_of_thread, "place", None):
        place[0].give_back(place[1])
