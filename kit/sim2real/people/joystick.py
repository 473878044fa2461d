"""Sliders and keys by which a person in a notebook takes over an arm; for `takeover.Takeover`.

    hold      the button, or any steering key that is down
    sliders   goals of the joints: degrees, and percent for the gripper
    keys      q a   w s   e d   r f   t g   y h     one pair a joint: up, down, 2 degrees (or percent) in each step

Whoever takes over starts from where the arm is. A key counts for half a second without a sign of life from the browser,
so that a closed page lets go. Clicks arrive only while the kernel is free: drive the loop from the event loop, with
`kit.live.run`. Look first at `Joystick.__call__`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from traitlets import Int, List, Unicode

from kit.envs.arm_reach import joint_limits
from kit.live.controls import Sliders
from kit.runtime import optional
from kit.sim2real.units import KEYS, to_values

anywidget, ipywidgets = optional("anywidget"), optional("ipywidgets")

PAIRS = ("qa", "ws", "ed", "rf", "tg", "yh")
JOG = 2.0  # by a key in each step [deg, percent]
FRESH = 0.5  # a key is down for so long after the last sign of life [s]

# An input field, since JupyterLab keeps its own shortcuts away from those.
SCRIPT = """
function render({ model, el }) {
  const field = document.createElement("input");
  field.placeholder = "click here, then steer: q/a w/s e/d r/f t/g y/h";
  field.setAttribute("aria-label", field.placeholder);
  field.style.width = "22em";
  const down = new Set();
  const tell = () => {
    model.set("down", [...down].sort());
    model.set("beat", model.get("beat") + 1);
    model.save_changes();
  };
  const change = (event, pressed) => {
    const key = event.key.toLowerCase();
    if (key === "tab") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat || !model.get("accepted").includes(key)) return;
    pressed ? down.add(key) : down.delete(key);
    tell();
  };
  field.addEventListener("keydown", (event) => change(event, true));
  field.addEventListener("keyup", (event) => change(event, false));
  field.addEventListener("blur", () => { down.clear(); tell(); });
  el.appendChild(field);
  const timer = setInterval(() => { if (down.size) tell(); }, 150);
  return () => clearInterval(timer);
}
export default { render };
"""


class Keyboard(anywidget.AnyWidget):
    """Which of the `accepted` keys are `down` in the browser; `beat` counts its messages."""

    _esm = SCRIPT
    accepted = Unicode("".join(PAIRS)).tag(sync=True)
    down = List(Unicode()).tag(sync=True)
    beat = Int(0).tag(sync=True)


class Joystick:
    """A person for `Takeover`: `joystick(observation)` is an action, or None while nobody holds. `widget` is the panel.

    `now` is a clock [s].
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic):
        low, high = (np.array(list(to_values(end).values())) for end in joint_limits())
        names = [key.removesuffix(".pos") for key in KEYS]
        self.sliders = Sliders(names, low, high, np.clip(np.zeros(6), low, high), units="deg, %")
        self.button = ipywidgets.ToggleButton(description="Take over", icon="hand-paper-o")
        self.keyboard = Keyboard()
        self._now, self._fresh, self._held = now, -np.inf, False
        self.keyboard.observe(self._sign_of_life, ["down", "beat"])
        self.widget = ipywidgets.VBox([ipywidgets.HBox([self.button, self.keyboard]), self.sliders.widget])

    def _sign_of_life(self, change) -> None:
        self._fresh = self._now()

    @property
    def pressed(self) -> str:
        """Keys that are down."""
        return "".join(self.keyboard.down) if self._now() - self._fresh < FRESH else ""

    def reset(self, observation: Mapping[str, float]) -> None:
        self._held = False

    def told(self, sent: Mapping[str, float]) -> None:
        """While nobody holds the sliders show where the goals are, and that is where a hold begins."""
        if not self._held:
            self._show(sent)

    def __call__(self, observation: Mapping[str, float]) -> dict[str, float] | None:
        keys = self.pressed
        holds = self.button.value or bool(keys)
        if holds and not self._held:
            self._show(observation)
        self._held = holds
        if not holds:
            return None
        way = np.array([(up in keys) - (down in keys) for up, down in PAIRS], float)
        if way.any():
            self.sliders.value = self.sliders.value + JOG * way
        return dict(zip(KEYS, self.sliders.value.tolist(), strict=True))

    def _show(self, values: Mapping[str, float]) -> None:
        self.sliders.value = [values[key] for key in KEYS]

    def _repr_mimebundle_(self, **kwargs):
        return self.widget._repr_mimebundle_(**kwargs)
