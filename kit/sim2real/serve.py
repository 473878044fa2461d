"""The virtual arm on a port: a pseudo-terminal for any program, or an object with pyserial's interface.

    with PtyServer(virtual_arm()) as server:      # Linux, macOS: what a serial port's path is wanted for
        print(server.port)                        # /dev/pts/3

    port = VirtualPort(virtual_arm())             # everywhere, in this process: what a `serial.Serial` is wanted for
    handler = port_handler(virtual_arm())         # the same inside Feetech's SDK, as its PortHandler

A pseudo-terminal takes every baud rate and ignores it. pyserial on macOS refuses 1 Mbit/s on one; open it there with
115200. A thread that shares its process with long computations is slow to answer, so a notebook does better with a
`VirtualPort`, and other programs with `python -m kit robot`, which serves arms until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit import runtime

if TYPE_CHECKING:
    from kit.sim2real.bus import Bus

TOO_LATE = 0.03  # Feetech's SDK waits 34 ms; an answer after that would pass for the next one [s]
IDLE = 0.01  # so long without a byte is silence: a packet that broke off is given up [s]
TICK = (
    1 / 300
)  # between looks while nothing comes: the arm moves on in single physics steps, so that no answer waits [s]
CHUNK = 4096  # bytes


class PtyServer:
    """A thread that serves one bus on a pseudo-terminal, whose path is `port`. Close it, or use it in a `with`.

    `link` is a path at which a symbolic link to the port appears, since the port's own name changes. Where this
    computer was too busy to answer within `too_late` seconds the answer is dropped, as if lost on the wire, and counted
    in `dropped`; None sends it all the same.

    Raises:
        RuntimeError: this system has no pseudo-terminals; use `VirtualPort` instead.
        ValueError: there is something at `link` already that is no symbolic link.
    """

    def __init__(self, bus: Bus, link: Path | None = None, *, too_late: float | None = TOO_LATE):
        try:
            import tty
        except ImportError as error:
            raise RuntimeError("this system has no pseudo-terminals; use VirtualPort or port_handler") from error
        if link is not None and link.exists() and not link.is_symlink():
            raise ValueError(f"{link} is there already and is no symbolic link; choose another name")
        self.bus, self.link, self.too_late, self.dropped = bus, link, too_late, 0
        self._master, self._slave = os.openpty()  # a read without any open slave would fail, so this one stays open
        tty.setraw(self._slave)  # before the path is known: a client that does not set it would see an echo
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._wake, self._waker = os.pipe()
        self._closed = False
        self._make_link()
        self._thread = threading.Thread(target=self._serve, name=f"servo bus on {self.port}", daemon=True)
        self._thread.start()

    def _make_link(self) -> None:
        if self.link is not None:
            self.link.parent.mkdir(parents=True, exist_ok=True)
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(self.port)

    def _serve(self) -> None:
        heard = time.monotonic()
        while True:
            start = time.monotonic()
            readable, _, _ = select.select([self._master, self._wake], [], [], self._patience())
            if self._wake in readable:
                return
            if readable:
                self.bus.feed(os.read(self._master, CHUNK))
                heard = time.monotonic()
            elif time.monotonic() - heard > IDLE:
                self.bus.idle()
            else:
                self.bus.catch_up()
            self._send(self.bus.take(), time.monotonic() - start)

    def _patience(self) -> float:
        due = self.bus.next_due()
        return TICK if due is None else min(max(due - self.bus.clock.now(), 0.0), TICK)

    def _send(self, data: bytes, age: float) -> None:
        if data and self.too_late is not None and age > self.too_late:
            self.dropped += 1
            return
        with contextlib.suppress(BlockingIOError):  # nobody reads: like a wire, the rest is lost
            os.write(self._master, data)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        os.write(self._waker, b"x")
        self._thread.join()
        for fd in (self._master, self._slave, self._wake, self._waker):
            os.close(fd)
        if self.link is not None and self.link.is_symlink() and os.readlink(self.link) == self.port:
            self.link.unlink()

    def __enter__(self) -> PtyServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class VirtualPort:
    """A bus as an open `serial.Serial`, as far as servo drivers use it. `timeout` [s] as in pyserial; None waits.

    The arm moves while the port is used. On a `Lockstep` clock no wait can help, so a read returns what is there.
    """

    def __init__(self, bus: Bus, timeout: float | None = 0.0):
        self.bus, self.timeout = bus, timeout
        self.port = self.name = "virtual"
        self.baudrate = 1_000_000
        self.is_open = True
        self._input = bytearray()
        self._written = time.monotonic()

    @property
    def in_waiting(self) -> int:
        self._input += self.bus.take()
        return len(self._input)

    def write(self, data: bytes | Iterable[int]) -> int:
        """
        Raises:
            OSError: the port is closed.
        """
        self._check_open()
        if self.bus.clock.waits and time.monotonic() - self._written > IDLE:
            self.bus.idle()
        data = bytes(data)
        self.bus.feed(data)
        self._written = time.monotonic()
        return len(data)

    def read(self, size: int = 1) -> bytes:
        """At most `size` bytes: all of them, or what has come when the timeout ends."""
        self._check_open()
        size = max(size, 0)  # the vendor's SDK asks for less than nothing after a reply with a bad length
        end = None if self.timeout is None else time.monotonic() + self.timeout
        while self.in_waiting < size and self.bus.clock.waits and (end is None or time.monotonic() < end):
            time.sleep(1e-4)
        if not self._input and not self.bus.clock.waits:
            self.bus.idle()
        data = bytes(self._input[:size])
        del self._input[:size]
        return data

    def _check_open(self) -> None:
        if not self.is_open:
            raise OSError("the virtual port is closed; make a new VirtualPort")

    def flush(self) -> None:
        """Wait until everything is written, which it is."""

    def reset_input_buffer(self) -> None:
        self.bus.take()
        self._input.clear()

    def reset_output_buffer(self) -> None:
        """Forget what was not sent yet, which is nothing."""

    def close(self) -> None:
        self.is_open = False

    def __enter__(self) -> VirtualPort:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def port_handler(bus: Bus) -> Any:
    """Feetech's `scservo_sdk.PortHandler`, whose serial port is this bus.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    sdk = runtime.optional("scservo_sdk")

    class VirtualPortHandler(sdk.PortHandler):
        def setupPort(self, baud: int) -> bool:
            self.ser = VirtualPort(bus)
            self.ser.baudrate, self.tx_time_per_byte, self.is_open = baud, 10_000 / baud, True
            return True

    return VirtualPortHandler("virtual")


# ---- the command ------------------------------------------------------------------------------------------------


def wave(seconds: float) -> list[float]:
    """A hand that leads an arm about: joint angles (6,) [rad] at a time."""
    from math import sin, tau

    middle, swing = (0.0, -0.8, 0.7, 0.4, 0.0, 0.5), (0.6, 0.3, 0.3, 0.4, 0.8, 0.4)
    return [m + a * sin(tau * seconds / period) for m, a, period in zip(middle, swing, (9, 7, 6, 5, 8, 4), strict=True)]


def parse_fault(text: str) -> tuple[str, list[float]]:
    """`silence=3` or `late=0.05,20` as a fault's name and its numbers.

    Raises:
        ValueError: an unknown fault, or something that is no number.
    """
    from kit.sim2real.faults import NAMES

    name, _, rest = text.partition("=")
    if name not in NAMES:
        raise ValueError(f"unknown fault {name!r}; there are {', '.join(NAMES)}")
    try:
        return name, [float(x) if "." in x else int(x) for x in rest.split(",") if x]
    except ValueError as error:
        raise ValueError(f"fault {text!r} should look like silence=3 or late=0.05,20") from error


def _switch_on(bus: Bus, name: str, numbers: list[float]) -> None:
    try:
        getattr(bus.faults, name)(*numbers)
    except TypeError as error:
        raise ValueError(f"fault {name} does not take the numbers {numbers}: {error}") from error


def robot(
    arms: Sequence[str] = ("follower",),
    *,
    seed: int = 0,
    servo: str = "7.4V-P16",
    calibrated: bool = False,
    lockstep: bool = False,
    wire: bool = True,
    waving: bool = False,
    faults: Sequence[str] = (),
    links: Path | None = None,
    too_late: float | None = TOO_LATE,
    stop: threading.Event | None = None,
) -> int:
    """Serve arms until Ctrl-C, or until `stop` is set; print each one's port. The command `python -m kit robot`.

    `arms` names the kind of each, "follower" or "leader"; arm k is unit `seed + k`. With `waving` a hand moves the
    leaders. `links` is a folder in which each arm gets a link with a fixed name.
    """
    from kit.sim2real.bus import Lockstep, Realtime, Wire, virtual_arm

    orders = [parse_fault(text) for text in faults]
    with contextlib.ExitStack() as stack:
        for k, kind in enumerate(arms):
            clock = Lockstep(on="read" if kind == "leader" else "write") if lockstep else Realtime()
            bus = virtual_arm(
                kind,
                seed=seed + k,
                servo=servo,
                calibrated=calibrated,
                clock=clock,
                wire=Wire() if wire and not lockstep else None,
            )
            if waving and kind == "leader":
                bus.arm.guide(wave)
            for name, numbers in orders:
                _switch_on(bus, name, numbers)
            link = links / f"{kind}{k}" if links else None
            server = stack.enter_context(PtyServer(bus, link, too_late=too_late))
            print(
                f"{kind:9} {link or server.port}   unit {seed + k}, {'' if calibrated else 'not '}calibrated",
                flush=True,
            )
        print("Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            (stop or threading.Event()).wait()
    return 0
