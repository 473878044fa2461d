"""Tasks on MuJoCo: one `mujoco.batch.Batch` steps all simulations on a thread pool.

The batch keeps one `MjData` a simulation (`persistent`), so that refreshing positions and velocities after a step costs
nothing extra: observations describe the state after the last substep, not the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from kit import runtime
from kit.envs.pixels import Camera, Markers
from kit.envs.so101 import SUBSTEPS
from kit.envs.task import Task

FRESH = mujoco.mjtStage.mjSTAGE_VEL.value  # positions, velocities and their sensors are current after a step
BROKEN = [
    int(w)
    for w in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_BADCTRL,
    )
]
SERVO_KP = 4  # where MuJoCo's dcmotor keeps its position gain in gainprm


@dataclass(frozen=True)
class Randomize:
    """Ranges that physics is drawn from, anew for every episode and simulation: multiples of nominal, uniform.

    friction, damping and gain are drawn for each joint, mass for each body, the delay once.
    """

    friction: tuple[float, float] = (1.0, 1.0)  # Coulomb friction of the joints [multiple]
    damping: tuple[float, float] = (1.0, 1.0)  # viscous friction of the joints [multiple]
    mass: tuple[float, float] = (1.0, 1.0)  # mass and inertia of the moving bodies [multiple]
    gain: tuple[float, float] = (1.0, 1.0)  # stiffness of the servos [multiple]
    delay: tuple[float, float] = (0.0, 0.0)  # time until a command reaches the servo [s]

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = getattr(self, field.name)
            if not (0 <= low <= high < np.inf):
                raise ValueError(f"Randomize.{field.name} is ({low}, {high}); give 0 <= low <= high")

    def active(self, name: str) -> bool:
        return getattr(self, name) != {f.name: f.default for f in fields(self)}[name]


class MujocoTask(Task):
    """A `Task` whose simulations are MuJoCo's. Subclasses write joints and controls; this class steps and guards them.

    Public: `model`, `data` (of simulation 0, for live scenes), `physics` (what `Randomize` drew, a row a simulation).
    """

    def __init__(
        self,
        spec: mujoco.MjSpec,
        num_envs: int,
        *,
        nthread: int | None = None,
        randomize: Randomize | None = None,
        camera: str | None = None,
        substeps: int = SUBSTEPS,
    ):
        super().__init__(num_envs)
        self.randomize = randomize or Randomize()
        self.model = spec.compile()
        self.substeps = substeps
        self.fps = 1 / (substeps * self.model.opt.timestep)
        self.batch = Batch(self.model, num_envs, min(nthread or runtime.cpus(), num_envs), persistent=True)
        for name in ("qpos", "qvel", "ctrl", "act", "site_xpos", "xpos", "xquat"):
            setattr(self, name, self.batch.bind(name))
        self.physics: dict[str, np.ndarray] = {}
        self._clean = self.batch.state[0].copy()  # the state row of a simulation that was just reset
        self._warnings = np.zeros(num_envs)
        self._history = self.batch.bind("history") if self.model.nhistory else None
        self._randomized = {k: n for k, n in self._sizes().items() if self.randomize.active(k)}
        self._nominal = self._expand()
        self._camera = camera and Camera(self.model, camera)
        self._pictures: Camera | None = None
        self._data: mujoco.MjData | None = None

    # ---- stepping -----------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """One control step of every simulation; sets `failed` where physics broke."""
        try:
            self.batch.step(nstep=self.substeps, stage=FRESH)
        except SimulationError as error:
            self.failed[:] = False
            self.failed[error.ids] = True
            return
        counts = self._count_warnings()
        self.failed = counts != self._warnings
        self._warnings = counts

    def _count_warnings(self) -> np.ndarray:
        """How often MuJoCo met a number that is not finite or huge, in each simulation; it resets such a simulation."""
        return self.batch.warning[:, BROKEN, 1].sum(axis=1)

    def begin(self, ids: np.ndarray, rngs: Sequence[np.random.Generator]) -> None:
        """Clear simulations and draw their physics; write the state afterwards, then call `settle`."""
        self.batch.state[ids] = self._clean
        if self._randomized:
            self._draw_physics(ids, rngs)

    def settle(self, ids: np.ndarray) -> None:
        """Make derived fields follow the state just written; delayed commands are as if given for long."""
        if self._history is not None:
            for i in np.flatnonzero(self.model.actuator_history[:, 0]):
                self._remember(
                    ids, self.model.actuator_historyadr[i], self.model.actuator_history[i, 0], self.ctrl[ids, i]
                )
        self.batch.forward(ids, stage=FRESH)

    def _remember(self, ids: np.ndarray, address: int, samples: int, value: np.ndarray) -> None:
        """Fill one of MuJoCo's buffers (two numbers, the samples' times, the samples), which a reset leaves at zero."""
        first = address + 2 + samples
        self._history[ids, first : first + samples] = value[:, None]

    # ---- randomised physics --------------------------------------------------------------------------------------

    def _expand(self) -> dict[str, np.ndarray]:
        """Give each simulation its own copy of the fields that will be randomised; return their nominal values."""
        wanted = {
            "friction": ["dof_frictionloss"],
            "damping": ["dof_damping"],
            "mass": ["body_mass", "body_inertia"],
            "gain": ["actuator_gainprm", "actuator_biasprm"],
            "delay": ["actuator_delay"],
        }
        names = [f for key, group in wanted.items() if self.randomize.active(key) for f in group]
        for name in names:
            self.batch.expand(name)
        return {name: getattr(self.model, name).copy() for name in names}

    def _sizes(self) -> dict[str, int]:
        """How many numbers each field of `Randomize` draws for a simulation."""
        model = self.model
        return {"friction": model.nv, "damping": model.nv, "mass": model.nbody - 1, "gain": model.nu, "delay": 1}

    def _draw_physics(self, ids: np.ndarray, rngs: Sequence[np.random.Generator]) -> None:
        for key, size in self._randomized.items():
            draw = np.stack([rng.uniform(*getattr(self.randomize, key), size) for rng in rngs])
            self.physics.setdefault(key, np.zeros((self.num_envs, size)))[ids] = draw
            getattr(self, f"_set_{key}")(ids, draw)

    def _field(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.batch.expand(name), self._nominal[name]

    def _set_friction(self, ids: np.ndarray, scale: np.ndarray) -> None:
        field, nominal = self._field("dof_frictionloss")
        field[ids] = nominal * scale

    def _set_damping(self, ids: np.ndarray, scale: np.ndarray) -> None:
        field, nominal = self._field("dof_damping")
        field[ids] = nominal * scale

    def _set_mass(self, ids: np.ndarray, scale: np.ndarray) -> None:
        mass, nominal_mass = self._field("body_mass")
        inertia, nominal_inertia = self._field("body_inertia")
        mass[ids, 1:] = nominal_mass[1:] * scale
        inertia[ids, 1:] = nominal_inertia[1:] * scale[:, :, None]
        self.batch.set_const(ids)

    def _set_gain(self, ids: np.ndarray, scale: np.ndarray) -> None:
        gain, nominal_gain = self._field("actuator_gainprm")
        bias, nominal_bias = self._field("actuator_biasprm")
        dcmotor = self.model.actuator_gaintype[0] == mujoco.mjtGain.mjGAIN_DCMOTOR
        column = SERVO_KP if dcmotor else 0
        gain[ids, :, column] = nominal_gain[:, column] * scale
        if not dcmotor:  # an affine position servo holds -kp in its bias
            bias[ids, :, 1] = nominal_bias[:, 1] * scale

    def _set_delay(self, ids: np.ndarray, delay: np.ndarray) -> None:
        field, _ = self._field("actuator_delay")
        field[ids] = delay

    # ---- looking -------------------------------------------------------------------------------------------------

    @property
    def data(self) -> mujoco.MjData:
        """Simulation 0 as an `MjData`, current after each step (the same object every time)."""
        if self._data is None:
            self._data = mujoco.MjData(self.model)
        return self.batch.get_data(0, self._data)

    def pixels(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Observations of the task's camera, uint8 (n, 64, 64, 3)."""
        sims = np.arange(self.num_envs)[ids]
        return np.stack([self._camera.draw(self.qpos[i], self.markers(i)) for i in sims])

    def render(self, sim: int) -> np.ndarray:
        if self._pictures is None:
            self._pictures = Camera(self.model, "front", width=480, height=360, pretty=True)
        return self._pictures.draw(self.qpos[sim], self.markers(sim))

    def markers(self, sim: int = 0) -> Markers:
        """What a scene should show beside the model: name -> (position [m], radius [m], rgba)."""
        return {}

    def close(self) -> None:
        for camera in (self._camera, self._pictures):
            if camera:
                camera.close()
