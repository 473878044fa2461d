"""The host's end of a servo bus, on Feetech's own SDK, so that a late or foreign reply is an error and never data.

    request k asks for n_k bytes,   n_k = number of failures so far + 2  (mod 8),   n_k >= what is wanted
    a reply counts only if its ID and its length are what was asked for

The SDK alone takes whatever comes next for the answer: a reply that was given up arrives during the next request and
passes for its data. Here the input is emptied before each request, and since the length changes with every failure, a
reply that still slips through belongs to an older length and is refused. A request that fails is sent again, and in
the end the servos are asked one by one, so that the error can say which is silent. After a first failure each write is
read back, because an acknowledgement holds nothing that could be compared.

Look first at `ServoClient._attempt`, then at `explain`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import runtime
from kit.envs.so101 import JOINTS
from kit.sim2real.protocol import (
    BROADCAST,
    Error,
    Instruction,
    Packet,
    build,
    decode,
    encode,
    parse,
    register,
)

LENGTHS = 8  # how many failures it takes until a length comes again
IDS = tuple(range(1, 7))

try:
    import termios

    PORT_ERRORS: tuple[type[Exception], ...] = (OSError, termios.error)
except ImportError:  # Windows
    PORT_ERRORS = (OSError,)


class RobotError(RuntimeError):
    """Something about the arm that a user has to look at; the message names it and the fix."""


class PortMissing(RobotError):
    """There is nothing at the port's path."""


class PortBusy(RobotError):
    """Another program holds the port."""


class BusError(RobotError, ConnectionError):
    """Requests stay without a proper answer; `silent` and `garbled` hold the IDs, as found when asked one by one."""

    def __init__(self, message: str, silent: Sequence[int] = (), garbled: Sequence[int] = ()):
        super().__init__(message)
        self.silent, self.garbled = tuple(silent), tuple(garbled)


class BadReply(Exception):
    """One attempt failed. It stays inside the client unless all attempts do."""


@dataclass(frozen=True)
class Config:
    """Of the line."""

    baud: int = 1_000_000  # [bit/s]; pyserial on macOS wants 115200 on a pseudo-terminal
    timeout: float = 0.05  # for the whole answer to a request [s]; LeRobot's
    retries: int = 2  # attempts after the first, as in LeRobot

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout} s; it must be positive")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; 0 is the least")


# ---- pure pieces ------------------------------------------------------------------------------------------------


def tagged(size: int, failures: int) -> int:
    """The least number of bytes, at least `size`, whose remainder by 8 tells how many failures there were."""
    return size + (failures + 2 - size) % LENGTHS


def check_reply(reply: Packet, id: int, count: int) -> Packet:
    """The reply itself.

    Raises:
        BadReply: it comes from another servo, or answers another question.
    """
    if reply.id != id:
        raise BadReply(f"servo {reply.id} answered in place of {id}")
    if len(reply.params) != count:
        raise BadReply(f"servo {id} sent {len(reply.params)} bytes where {count} were asked for: an old reply")
    return reply


def name_of(id: int) -> str:
    """A servo with the name of its joint."""
    return f"servo {id} ({JOINTS[id - 1]})" if id in IDS else f"servo {id}"


def error_names(code: int) -> str:
    """The bits of an ERR byte in words."""
    return ", ".join(bit.name.lower() for bit in Error if code & bit) or "none"


def explain(port: str, asked: Sequence[int], silent: Sequence[int], garbled: Sequence[int], last: str) -> str:
    """What is most likely wrong when requests fail, and what to do about it."""
    if set(silent) == set(asked) and len(asked) > 1:
        return f"no servo answers on {port}: is the arm's supply on, and is the cable between board and servo 1 in?"
    if garbled:
        twins = ", ".join(map(str, garbled))
        gone = f" and {', '.join(map(name_of, silent))} is gone" if silent else ""
        return (
            f"the replies of ID {twins} are garbled{gone}: two servos have the same ID, or the line is very noisy. "
            "Connect the servos one at a time, and give each its own ID"
        )
    if silent:
        return f"{', '.join(map(name_of, silent))} does not answer: check its cable and the one before it"
    return f"replies on {port} are lost, late or broken ({last}): check cables and supply, or raise the timeout"


# ---- opening ----------------------------------------------------------------------------------------------------


def make_handler(port: Any) -> Any:
    """Feetech's PortHandler for a path, for a virtual bus, for an open port like pyserial's, or for a PortHandler."""
    sdk = runtime.optional("scservo_sdk")
    if isinstance(port, (str, Path)):
        return sdk.PortHandler(str(port))
    if hasattr(port, "openPort"):
        return port
    if hasattr(port, "exchange"):  # a kit.sim2real.bus.Bus
        from kit.sim2real.serve import port_handler

        return port_handler(port)
    if not hasattr(port, "reset_input_buffer"):
        raise TypeError(f"{port!r} is no port; give a path, a virtual bus, a pyserial port or an SDK PortHandler")

    class OpenPort(sdk.PortHandler):
        def setupPort(self, baud: int) -> bool:
            self.ser, self.tx_time_per_byte, self.is_open = port, 10_000 / baud, True
            return True

    return OpenPort(str(getattr(port, "name", "port")))


def open_handler(port: Any, baud: int, timeout: float) -> Any:
    """An open PortHandler that no other program shares. One that was given by its path waits for bytes, up to `timeout`
    seconds: the SDK asks again and again instead, which on a busy computer takes the time that the answer needs.

    Raises:
        PortMissing, PortBusy: with what to do.
    """
    handler = make_handler(port)
    try:
        if not handler.setBaudRate(baud):
            raise ValueError(f"baud is {baud}; the servos know 1000000, 500000, 250000, 128000 and 115200")
        if getattr(handler.ser, "exclusive", True) is None:  # two programs would steal each other's replies
            handler.ser.exclusive = True
        if isinstance(port, (str, Path)):
            handler.ser.timeout = timeout
    except PORT_ERRORS as error:
        if handler.ser is not None and handler.is_open:
            handler.ser.close()
        raise _open_error(str(handler.port_name), error) from error
    return handler


def _open_error(path: str, error: Exception) -> RobotError:
    number = getattr(error, "errno", None)
    if number == 2 or "FileNotFound" in str(error):
        from serial.tools import list_ports

        found = ", ".join(p.device for p in list_ports.comports()) or "none"
        return PortMissing(
            f"there is no port {path}; serial ports here: {found}. Plug the arm in, or start a virtual one with "
            "`python -m kit robot` and use the path that it prints"
        )
    if number == 13:
        return PortBusy(f"port {path} may not be opened: join its group (on Linux: sudo usermod -aG dialout $USER)")
    return PortBusy(f"port {path} is in use by another program, or is no serial port ({error}); close the other one")


# ---- state ------------------------------------------------------------------------------------------------------


class ServoClient:
    """Reads and writes registers of the servos `ids`. Threads may share it.

    `requests`, `repeats` (attempts after a first) and `failures` count; `errors` holds each servo's last ERR byte.

    Raises:
        PortMissing, PortBusy: on opening.
    """

    def __init__(self, port: Any, cfg: Config | None = None, *, ids: Sequence[int] = IDS):
        self.cfg, self.ids = cfg or Config(), tuple(ids)
        self.port = open_handler(port, self.cfg.baud, self.cfg.timeout)
        self.name = str(self.port.port_name)
        self.lock = threading.RLock()
        self.requests = self.repeats = self.failures = 0
        self.errors = dict.fromkeys(self.ids, 0)
        self.while_waiting: Callable[[], None] | None = None  # called when a request is out and its answer on the way

    def close(self) -> None:
        with self.lock:
            if self.port.is_open:
                self.port.closePort()

    # ---- the line -----------------------------------------------------------------------------------------------

    def _send(self, packet: bytes) -> None:
        if not self.port.is_open:
            raise BusError(f"port {self.name} is closed; connect again")
        self.requests += 1
        self.port.ser.reset_input_buffer()
        if self.port.writePort(packet) != len(packet):
            raise BadReply("the port did not take the request")

    def _attempt(self, packet: bytes, expected: Mapping[int, int]) -> dict[int, Packet]:
        """Send a request and take the replies of `expected` (ID to number of bytes), in that order.

        Raises:
            BadReply: nothing came, or not that.
        """
        self._send(packet)
        self.port.setPacketTimeoutMillis(1000 * self.cfg.timeout)
        if self.while_waiting is not None:
            self.while_waiting()
        wanted, replies, rest = deque(expected.items()), {}, b""
        while wanted:
            left = sum(count + 6 for _, count in wanted) - len(rest)
            least = wanted[0][1] + 6 - len(rest)  # a whole reply, and whatever else is there already
            heard = self.port.readPort(min(max(self.port.getBytesAvailable(), least), left))
            if heard:
                packets, rest, skipped = parse(rest + heard)
                for reply in packets:
                    id, count = wanted.popleft()
                    replies[id] = check_reply(reply, id, count)
                if skipped:
                    raise BadReply("a reply has a wrong checksum, or noise came with it")
            elif self.port.isPacketTimeout():
                what = "broke off" if rest else "did not come"
                raise BadReply(f"the reply of servo {wanted[0][0]} {what} within {1000 * self.cfg.timeout:g} ms")
        return replies

    def _ask(self, make: Any, ids: Sequence[int]) -> dict[int, Packet]:
        """`_attempt` with retries; `make()` gives the packet and the number of bytes, anew for each attempt.

        Raises:
            BusError: all attempts failed, or the port is gone.
        """
        last = ""
        with self.lock:
            for attempt in range(1 + self.cfg.retries):
                self.repeats += attempt > 0
                packet, count = make()
                try:
                    replies = self._attempt(packet, dict.fromkeys(ids, count))
                except BadReply as error:
                    self.failures, last = self.failures + 1, str(error)
                    continue
                except PORT_ERRORS as error:
                    raise BusError(
                        f"port {self.name} is gone ({error}): plug the cable in again, then connect"
                    ) from error
                self.errors.update({id: reply.code for id, reply in replies.items()})
                return replies
        raise BusError(last, silent=ids)

    def _gone(self, error: Exception) -> BusError:
        return BusError(f"port {self.name} is gone ({error}): plug the cable in again, then connect")

    def _ask_or_explain(self, make: Any, ids: Sequence[int]) -> dict[int, Packet]:
        try:
            return self._ask(make, ids)
        except BusError as error:
            if not error.silent:
                raise
            silent, garbled = self.survey(ids)
            raise BusError(explain(self.name, ids, silent, garbled, str(error)), silent, garbled) from error

    def survey(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Ask servos one by one: IDs that are silent, and IDs whose replies come but cannot be read."""
        silent, garbled = [], []
        for id in ids:
            try:
                self._ask(lambda id=id: (build(id, Instruction.PING), 0), [id])
            except BusError as error:
                (silent if "did not come" in str(error) else garbled).append(id)
                continue
            try:
                self._ask(lambda id=id: self._read_request(id, 56, 8), [id])
            except BusError:
                garbled.append(id)
        return silent, garbled

    def _read_request(self, id: int, address: int, size: int) -> tuple[bytes, int]:
        count = tagged(size, self.failures)
        return build(id, Instruction.READ, bytes([address, count])), count

    # ---- registers ----------------------------------------------------------------------------------------------

    def ping(self, id: int) -> None:
        """
        Raises:
            BusError: the servo does not answer.
        """
        self._ask_or_explain(lambda: (build(id, Instruction.PING), 0), [id])

    def read(self, name: str, id: int) -> int:
        """A register of one servo."""
        address, size = register(name)[:2]
        reply = self._ask_or_explain(lambda: self._read_request(id, address, size), [id])[id]
        return decode(name, reply.params[:size])

    def peek(self, name: str, id: int) -> int | None:
        """A register, asked for once; None if no proper answer comes. For when the bus is in trouble."""
        address, size = register(name)[:2]
        packet, count = self._read_request(id, address, size)
        with self.lock:
            try:
                return decode(name, self._attempt(packet, {id: count})[id].params[:size])
            except (BadReply, BusError, *PORT_ERRORS):
                self.failures += 1
                return None

    def block(self, first: str, size: int, ids: Iterable[int] | None = None) -> dict[int, bytes]:
        """`size` bytes from the register `first` on, of each servo, by one SYNC_READ."""
        asked, address = tuple(ids or self.ids), register(first).address

        def make() -> tuple[bytes, int]:
            count = tagged(size, self.failures)
            return build(BROADCAST, Instruction.SYNC_READ, bytes([address, count, *asked])), count

        return {id: reply.params[:size] for id, reply in self._ask_or_explain(make, asked).items()}

    def sync_read(self, name: str, ids: Iterable[int] | None = None) -> dict[int, int]:
        """A register of each servo, by one SYNC_READ."""
        blocks = self.block(name, register(name).size, ids)
        return {id: decode(name, data) for id, data in blocks.items()}

    def write(self, name: str, id: int, value: int) -> None:
        """Change a register of one servo.

        Raises:
            BusError: it is not acknowledged, or does not read as written.
            ValueError: the value does not fit.
        """
        address, data = register(name).address, encode(name, value)
        for _ in range(2 + self.cfg.retries):
            self._ask_or_explain(lambda: (build(id, Instruction.WRITE, bytes([address]) + data), 0), [id])
            if not self.failures or self.read(name, id) == value:
                return
        raise BusError(f"{name_of(id)} does not keep {name} = {value}: it reads {self.read(name, id)}")

    def sync_write(self, name: str, values: Mapping[int, int]) -> None:
        """Change a register of several servos at once. Nobody answers, so nothing tells whether it arrived."""
        address, size = register(name)[:2]
        blocks = b"".join(bytes([id]) + encode(name, value) for id, value in values.items())
        with self.lock:
            try:
                self._send(build(BROADCAST, Instruction.SYNC_WRITE, bytes([address, size]) + blocks))
            except PORT_ERRORS as error:
                raise self._gone(error) from error
            except BadReply as error:
                raise BusError(f"port {self.name}: {error}") from error
