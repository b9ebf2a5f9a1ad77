"""Blocks of a stream cross the boundary on demand: the fit asks for one by its number, the trusted side draws and sends it, raw.

The fit asks for the next block in a thread, so it is drawn over here while a training step runs over there.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from typing import TYPE_CHECKING, NoReturn

from lrbench.boundary import wire
from lrbench.boundary.messages import Wanted
from lrbench.errors import LrbenchError

if TYPE_CHECKING:
    from lrbench.streaming.stream import Sites
    from lrbench.view import TrainView

NUMBER = struct.Struct("!Q")  # before the samples of a block: the rest of another one is not taken for them
TURN_SECONDS = 60.0  # that a process of the fit waits for the others to have their block


class Supply:
    """The trusted side: draws what is asked for, one block at a time, and sends it as fast as it is read.

    Parameters
    ----------
    view
        What is fitted, None where nothing is.
    """

    def __init__(self, view: TrainView | None = None) -> None:
        from lrbench.streaming.stream import Stream, n_blocks

        self._draw: Callable[[int], Sites] | None = None
        self._n_blocks = 0
        if view is not None and isinstance(view.sites, Stream):
            self._draw, self._n_blocks = view.sites.draw, n_blocks(view.budget.n_samples)
        self._left: list[memoryview] = []

    def draw(self, block: int) -> None:
        """Draw a block that was asked for, or raise `Breach`."""
        if self._draw is None:
            raise wire.Breach("it asked for samples where none are drawn")
        if not 0 <= block < self._n_blocks:
            raise wire.Breach(f"it asked for the block {block} of a stream, expected 0 to {self._n_blocks - 1}")
        if self._left:
            raise wire.Breach("it asked for a block before it had read the one before")
        sites = [site.contiguous().numpy().data.cast("B") for site in self._draw(block)]
        self._left = [memoryview(NUMBER.pack(block)), *sites]

    def wait(self, connection: socket.socket, seconds: float) -> bool:
        """Return whether there is something to read, after waiting for as long; send meanwhile what the other side can take."""
        ready, free, _ = select.select([connection], [connection] if self._left else [], [], seconds)
        if free:
            with contextlib.suppress(OSError):  # full, or gone, which is found where it is read
                self._send(connection)
        return bool(ready)

    def _send(self, connection: socket.socket) -> None:
        while self._left:
            sent = connection.send(self._left[0][: wire.CHUNK], socket.MSG_DONTWAIT)
            self._left[0] = self._left[0][sent:]
            if not self._left[0]:
                del self._left[0]


class Asker:
    """The side of the fit: returns a block by its number, as `lrbench.streaming.stream.Stream` draws one.

    Threads and forks of the fit, such as the workers of a loader, take turns.

    Parameters
    ----------
    connection, key
        Of the exchange.
    widths
        d_site of every site.
    """

    def __init__(self, connection: socket.socket, key: str, widths: tuple[int, ...]) -> None:
        self._connection, self._key, self._widths = connection, key, widths
        self._turn = get_context("fork").Lock()

    def __call__(self, block: int) -> Sites:
        """Wait for a block, or raise `LrbenchError` where it will not come."""
        import torch

        from lrbench.streaming.stream import BLOCK

        sites = tuple(torch.empty(BLOCK, width, dtype=torch.float32, device="cpu") for width in self._widths)
        with self.in_turn():
            try:
                wire.send(self._connection, Wanted(key=self._key, block=block).model_dump())
                got = bytearray(NUMBER.size)
                wire.receive_into(self._connection, memoryview(got))
                if got != NUMBER.pack(block):
                    raise LrbenchError(
                        "the samples are out of step: a process that this fit started ended while it read some"
                    )
                for site in sites:
                    wire.receive_into(self._connection, site.numpy().data.cast("B"))
            except (OSError, EOFError) as error:
                raise LrbenchError(f"the samples have ended: nobody answers ({type(error).__name__})") from error
        return sites

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Have the connection to oneself, or raise `LrbenchError` where who has it does not give it back."""
        if not self.await_turn():
            raise LrbenchError("no turn to ask for samples: a process that this fit has started keeps it")
        try:
            yield
        finally:
            self._turn.release()

    def await_turn(self) -> bool:
        """Take the turn, and return whether it came: one that died in its turn keeps it for ever."""
        return self._turn.acquire(timeout=TURN_SECONDS)

    def __reduce__(self) -> NoReturn:
        raise LrbenchError("a view that draws its samples cannot be pickled: start the loader's workers by fork")
