"""Panels for a notebook: calibrate an SO-101 by buttons, drive it by sliders, break the virtual one on purpose.

    robot.connect(calibrate=False)
    panel = CalibrationPanel(robot, "arm.json")     # the last expression of a cell shows it
    panel.start()                                   # it samples the encoders while other cells are edited

    panel = DrivePanel(robot, Scene(...))
    panel.start()                                   # 30 times a second: observe, send what the sliders say, show

Both work with a metal arm on a port and with a virtual one in this process (`SO101(bus)`). The virtual arm also gets a
hand, since a student cannot reach into the computer, and buttons for the nine faults. On a lockstep bus a tick of the
panel is a control period, so that the arm waits while the kernel is busy. Look first at `DrivePanel.tick`.
"""

from __future__ import annotations

import asyncio
import html
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from kit.envs import so101
from kit.envs.so101 import JOINTS
from kit.live.scene import Scene
from kit.live.style import ORANGE, Throttle
from kit.runtime import fast, optional
from kit.sim2real.calibration import FULL_TURN, missing
from kit.sim2real.client import RobotError
from kit.sim2real.servo import TURN
from kit.sim2real.so101 import SO101
from kit.sim2real.units import KEYS, to_radians, to_values

ipywidgets = optional("ipywidgets")

FAST_TICKS = 3
TABLES_PER_S = 8
LOOKS_PER_S = 2  # at an arm that is halted
HAND_S = 0.12  # from one place of the hand to the next [s]
FAULTS: dict[str, tuple[str, tuple]] = {  # what a button does: a fault of the virtual bus and its numbers
    "the cable of servo 3 is out": ("silence", (3,)),
    "a tenth of all packets is lost": ("drop", (0.1,)),
    "no packet arrives": ("drop", (1.0,)),
    "every reply has a wrong byte": ("corrupt", (1.0,)),
    "servo 3 takes the ID 2": ("duplicate_id", (3, 2)),
    "the supply breaks down for a moment": ("brown_out", ()),
    "servo 2 is overloaded": ("overload", (2,)),
    "the encoder of servo 1 is stuck": ("stuck_encoder", (1,)),
    "servo 5 has another firmware": ("firmware", (5, 3, 9)),
    "the next three replies are late": ("late", (0.05, 3)),
}


# ---- a hand for the virtual arm ---------------------------------------------------------------------------------


def lead(here: np.ndarray, there: np.ndarray) -> Iterator[np.ndarray]:
    """Places (6,) [rad] of a hand that goes from one pose to another in a second, HAND_S apart."""
    for share in (*np.linspace(0, 1, 9)[1:], 1.0):
        yield here + share * (there - here)


def show_stops(number: int, stops: np.ndarray) -> Iterator[np.ndarray]:
    """Poses (6,) [rad] that bring joint `number` (0 to 5) to both of its stops (6, 2) [rad] and leave the others alone.

    Up to a stop gently, since it gives way a little to a joint that runs into it, and then past it with all the hand's
    strength, or gravity would keep the joint away. The upper stop of the elbow is only free with the shoulder leaning
    fully back: otherwise the forearm meets the upper arm's motor first.
    """
    start = np.array([0.0, -1.9 if number == 2 else -0.9, 0.3, -0.6, 0.0, 0.3])
    yield start
    for stop, way in zip(stops[number], (-1, 1), strict=True):
        for beyond in (-0.15, 0.1, 0.4):
            pose = start.copy()
            pose[number] = stop + way * beyond
            yield pose
        yield start


# ---- what the panels share --------------------------------------------------------------------------------------


class Panel:
    """Something that ticks in the event loop between `start` and `stop`."""

    def __init__(self, robot: SO101, scene: Scene | None, hz: float):
        self.robot, self.scene, self.hz = robot, scene, hz
        self.bus = robot.port if hasattr(robot.port, "arm") else None  # of a virtual arm
        self._tables = Throttle(TABLES_PER_S)
        self._task: asyncio.Task | None = None

    def tick(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Go on ticking while the cells are idle, until `stop`; a few ticks at once in fast mode."""
        self.stop()
        if fast():
            for _ in range(FAST_TICKS):
                self.tick()
            return
        self._task = asyncio.get_running_loop().create_task(self._forever())
        self._task.add_done_callback(_report)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.tick()
            await asyncio.sleep(max(1 / self.hz - (loop.time() - began), 0.001))

    def pass_time(self, seconds: float) -> None:
        """On a lockstep bus nothing moves without commands: let time pass."""
        if self.bus is not None and not self.bus.clock.waits:
            self.bus.clock.time += seconds
            self.bus.advance(seconds)

    def draw(self, angles: np.ndarray | None) -> None:
        """The virtual arm as it is, or a metal one as its encoders say; an orange ghost where these two disagree."""
        if self.scene is None:
            return
        if self.bus is None:
            if angles is not None:
                self.scene.update(posed(self.scene.model, angles))
            return
        data = self.bus.arm.data
        self.scene.set_poses(data.xpos, data.xquat)
        if angles is not None and np.abs(angles - self.bus.arm.angles)[:5].max() > 0.05:
            self.scene.ghost("what the encoders say", posed(self.scene.model, angles), color=ORANGE)
        else:
            self.scene.remove("what the encoders say")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict:
        return self.widget._repr_mimebundle_(**kwargs)


def _report(task: asyncio.Task) -> None:
    """A background task's error would stay unseen until the task is collected."""
    if not task.cancelled() and task.exception() is not None:
        print(f"the panel stopped: {task.exception()!r}")


def posed(model: mujoco.MjModel, angles: np.ndarray) -> mujoco.MjData:
    """The model with its six joints at `angles` (6,) [rad]."""
    data = mujoco.MjData(model)
    for name, angle in zip(JOINTS, angles, strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_kinematics(model, data)
    return data


def arm_scene(robot: SO101, **options: Any) -> Scene:
    """A scene of this robot's arm on its table."""
    virtual = hasattr(robot.port, "arm")
    return Scene(robot.port.arm.model if virtual else so101.make_spec().compile(), **options)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """Small HTML table; the columns in `text` hold words, all others numbers. Cells are HTML, headings are not."""

    def line(kind: str, cells: Sequence[str]) -> str:
        sides = ["left" if k in text else "right" for k in range(len(cells))]
        cell = '<{0} style="padding:1px 10px;text-align:{1}">{2}</{0}>'
        return f"<tr>{''.join(cell.format(kind, side, c) for side, c in zip(sides, cells, strict=True))}</tr>"

    return f"<table>{line('th', [html.escape(h) for h in head])}{''.join(line('td', row) for row in rows)}</table>"


def _button(text: str, icon: str, action: Any, width: str = "auto") -> Any:
    button = ipywidgets.Button(description=text, icon=icon, layout={"width": width})
    button.on_click(lambda _: action())
    return button


# ---- calibration ------------------------------------------------------------------------------------------------


class CalibrationPanel(Panel):
    """The procedure of `kit.sim2real.calibration` with buttons. `robot` is connected, `connect(calibrate=False)`.

    With a metal arm the reader's hand moves the joints; with a virtual one the sliders are the hand, and a button lets
    it show a joint's stops by itself. When all is done, `calibration` holds the result, which is in the servos, and in
    the file if `path` was given; disconnect and connect again to use it.
    """

    def __init__(self, robot: SO101, path: str | Path | None = None, *, scene: Scene | None = None, hz: float = 15.0):
        super().__init__(robot, scene, hz)
        self._path = path
        self.prompt = ipywidgets.HTML()
        self.ranges = ipywidgets.HTML()
        self.message = ipywidgets.HTML()
        self.buttons = ipywidgets.HBox(
            [_button("Done with this stage", "check", self.confirm), _button("Start anew", "undo", self.restart)]
        )
        rows = [self.prompt, self.buttons, self.message, self.ranges]
        if self.bus is not None:
            rows.insert(1, self._make_hand())
        self.widget = ipywidgets.VBox([*([scene.widget] if scene else []), *rows])
        self.restart()

    @property
    def calibration(self) -> dict | None:
        return self.session.calibration

    def _make_hand(self) -> Any:
        self.stops = np.array([self.bus.arm.model.joint(name).range for name in JOINTS])
        self._places: deque[np.ndarray] = deque()  # where the hand goes by itself
        middle, half = np.degrees(self.stops.mean(axis=1)), np.degrees(np.diff(self.stops, axis=1)[:, 0]) / 2
        self.sliders = [
            ipywidgets.FloatSlider(
                0.0, min=-1.3, max=1.3, step=0.01, description=name, style={"description_width": "100px"},
                readout_format="+.2f", layout={"width": "420px"},
            )
            for name in JOINTS
        ]  # fmt: skip
        self._hand = np.radians([middle, half])
        for slider in self.sliders:
            slider.observe(lambda _: self._move_hand(), "value")
        self.joint = ipywidgets.Dropdown(options=JOINTS, description="joint", layout={"width": "230px"})
        row = ipywidgets.HBox(
            [
                _button("All joints to the middle", "compress", self.to_middle),
                self.joint,
                _button("Show its stops", "arrows-h", lambda: self.show(self.joint.index)),
            ]
        )
        note = ipywidgets.HTML(
            "<b>The hand</b> pulls each joint to a share of its half range: ±1 are the stops, beyond is pushing."
        )
        return ipywidgets.VBox([note, *self.sliders, row])

    # ---- the hand -----------------------------------------------------------------------------------------------

    def _move_hand(self) -> None:
        middle, half = self._hand
        self.bus.arm.guide(middle + half * np.array([slider.value for slider in self.sliders]))
        self._places.clear()

    def to_middle(self) -> None:
        """Let the hand lead all joints to the middle of their ranges."""
        self._queue(self._hand[0])

    def show(self, number: int) -> None:
        """Let the hand bring joint `number` (0 to 5) to both stops."""
        for pose in show_stops(number, self.stops):
            self._queue(pose)

    def _queue(self, pose: np.ndarray) -> None:
        self._places.extend(lead(self._places[-1] if self._places else self.bus.arm.angles, pose))

    def _lead(self) -> None:
        """On a lockstep bus the hand takes a step a tick; in wall time it waits for the arm to follow."""
        if self._places:
            self.bus.arm.guide(self._places.popleft())
            self.pass_time(HAND_S)
        else:
            self.pass_time(1 / self.hz)

    @property
    def busy(self) -> bool:
        """Whether the hand is moving by itself."""
        return self.bus is not None and bool(self._places)

    # ---- the procedure ------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin again; what the servos held before stays until the end."""
        self.session = self.robot.calibrate(self._path)
        self._say("")
        self._show()

    def confirm(self) -> None:
        """The button: this stage is finished."""
        try:
            self.session.confirm()
        except (ValueError, RobotError) as error:
            self._say(str(error))
        else:
            self._say("Stored in the servos." if self.calibration else "")
        self._show()

    def tick(self) -> None:
        """Let the hand move on, take a sample, show it."""
        if self.bus is not None:
            self._lead()
        try:
            self.session.update()
        except (ValueError, RobotError) as error:
            self._say(str(error))
        self.draw(None)
        if self._tables.ready():
            self._show()

    def _say(self, text: str) -> None:
        self.message.value = f"<b style='color:#D55E00'>{html.escape(text)}</b>" if text else ""

    def _show(self) -> None:
        state = self.session.state
        stage = {"middle": "1 of 2", "range": "2 of 2", "done": "finished"}[state.stage]
        self.prompt.value = f"<b>Calibration, {stage}.</b> {html.escape(self.session.prompt)}"
        lazy, rows = missing(state), []
        for name, (low, now, high) in self.session.ranges.items():
            width = f"{(high - low) * 360 / TURN:.0f}°"
            seen = "not needed" if name in FULL_TURN else f"{width} {'more' if name in lazy else '✓'}"
            rows.append([name, str(low), str(now), str(high), seen])
        if not rows and state.encoder:
            rows = [[name, "", str(ticks), "", ""] for name, ticks in zip(JOINTS, state.encoder, strict=True)]
        self.ranges.value = table(["joint", "least [ticks]", "now", "largest", "range seen"], rows)


# ---- driving ----------------------------------------------------------------------------------------------------


class DrivePanel(Panel):
    """Sliders that an arm follows: degrees, and percent for the gripper. `robot` is connected and calibrated.

    Each tick observes, and sends what the sliders say, which the safety layer turns into small steps. `status` shows
    what the robot says; after a halt the sliders do nothing until Reconnect, and then begin at where the arm is.
    """

    def __init__(self, robot: SO101, scene: Scene | None = None, *, hz: float | None = None):
        super().__init__(robot, scene, hz or robot.rate)
        low, high = (to_values(ends) for ends in robot.limits.range)
        self.sliders = {
            key: ipywidgets.FloatSlider(
                0.0, min=low[key], max=high[key], step=0.1, description=f"{name} [{'%' if name == 'gripper' else '°'}]",
                style={"description_width": "130px"}, layout={"width": "420px"}, readout_format=".1f",
            )
            for key, name in zip(KEYS, JOINTS, strict=True)
        }  # fmt: skip
        self.status, self.positions = ipywidgets.HTML(), ipywidgets.HTML()
        self.sent: dict[str, float] = {}
        self.angles: np.ndarray | None = None  # as last measured (6,) [rad]
        self._waited = 0  # ticks without an action
        rows = [self.status, *self.sliders.values()]
        buttons = [_button("Reconnect", "plug", self.reconnect), _button("Rest", "bed", self.rest)]
        rows.append(ipywidgets.HBox(buttons))
        if self.bus is not None:
            rows.append(self._make_faults())
        self.widget = ipywidgets.VBox([*([scene.widget] if scene else []), *rows, self.positions])
        self.follow()

    def _make_faults(self) -> Any:
        self.fault = ipywidgets.Dropdown(options=list(FAULTS), description="break it", layout={"width": "340px"})
        buttons = [_button("Do it", "bolt", self.inject), _button("Mend all", "wrench", self.bus.faults.heal)]
        return ipywidgets.HBox([self.fault, *buttons])

    def follow(self) -> None:
        """Set the sliders to where the arm is."""
        for key, value in self.robot.get_observation().items():
            slider = self.sliders[key]
            slider.value = min(max(value, slider.min), slider.max)

    # ---- the buttons --------------------------------------------------------------------------------------------

    def inject(self) -> None:
        """Switch on the chosen fault of the virtual arm."""
        name, numbers = FAULTS[self.fault.value]
        getattr(self.bus.faults, name)(*numbers)

    def reconnect(self) -> None:
        """Look at everything anew and go on from where the arm is; the message says what is still wrong."""
        try:
            self.robot.reconnect()
            self.follow()
            self._show("")
        except RobotError as error:
            self._show(str(error))

    def rest(self) -> None:
        """Fold the arm and let go; the ticks do it."""
        if self.robot.status == "ready":
            self.robot.begin_rest()
        self._show("")

    # ---- the loop -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Observe, act, show. Whatever goes wrong with the arm is shown and not raised."""
        trouble = ""
        try:
            if self.robot.status == "ready":
                self.angles = to_radians(self.robot.get_observation())
                self.sent = self.robot.send_action({key: slider.value for key, slider in self.sliders.items()})
            else:
                self._wait()
        except RobotError as error:
            trouble = str(error)
        self.draw(self.angles)
        if trouble or self._tables.ready():
            self._show(trouble)

    def _wait(self) -> None:
        """A tick of an arm that takes no actions. It is asked where it is only now and then: it may not answer."""
        if self.robot.status == "resting":
            self.robot.watch()  # on a lockstep bus there is no thread that does
        else:
            self.pass_time(1 / self.hz)
        self._waited += 1
        if self._waited % max(round(self.hz / LOOKS_PER_S), 1) == 0:
            self.angles = to_radians(self.robot.get_observation())

    def _show(self, trouble: str) -> None:
        robot = self.robot
        text = f"{robot.status}{': ' + robot.reason if robot.reason else ''}"
        if trouble and trouble not in text and robot.reason not in trouble:
            text += f". {trouble}"
        mark, colour = ("●", "#009E73") if robot.status == "ready" else ("■", "#D55E00")
        notes = ", ".join(f"{rule} ×{count}" for rule, count in robot.changed.items())
        note = f"<br>the safety layer changed actions: {notes}" if notes else ""
        self.status.value = f"<b style='color:{colour}'>{mark} {html.escape(text)}</b>{note}"
        if self.angles is not None:
            values = to_values(self.angles)
            rows = [
                [name, f"{self.sliders[key].value:.1f}", f"{self.sent.get(key, np.nan):.1f}", f"{values[key]:.1f}"]
                for key, name in zip(KEYS, JOINTS, strict=True)
            ]
            self.positions.value = table(["joint", "slider", "sent", "measured"], rows)
