"""A trained policy as files that run without the library that trained it, and say what they are for.

    policy.json    what it sees and moves, in which order and units, its rate, its layers, the files' SHA-256
    policy.npz     the layers' numbers, for `NumpyPolicy`: NumPy alone, microseconds a step
    policy.onnx    the same as a graph, for `OnnxPolicy` or any other ONNX runtime
    policy.safetensors   the same as the kit's checkpoint, if it is a plain tanh network: `kit.load(folder)` reads it

    y = layers(x):  scale (x - offset) factor · clip · linear W x + b · norm (x - mean) / std w + b · an activation

Normalisation of observations comes first and squashing, scaling and clipping of actions last, so nothing is left for
the user to remember. The exported policy is the mean: it draws nothing. TorchScript is left out, since its archives
are pickles, which the kit does not open. Look first at `layers_of`, then at `run` and `graph`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit import checkpoints, runtime
from kit.checkpoints import DamagedCheckpoint, write_whole
from kit.envs import so101
from kit.nets import MlpPolicy
from kit.sim2real.units import KEYS

OPSET, IR = 17, 8  # of ONNX; old enough for runtimes of the last years


@dataclass(frozen=True)
class Card:
    """What a policy is for.

    Raises:
        ValueError: a rate or history that is not positive.
    """

    observation: tuple[str, ...]  # names of what it sees, in order, of one time
    action: tuple[str, ...]  # names of its outputs, in order
    rate: float  # actions in a second [Hz]
    units: str = "degrees"  # of the commands that reach the arm; the gripper's are percent
    joints: tuple[str, ...] = KEYS  # that those commands move
    history: int = 1  # observations that are stacked, the oldest first
    limits: Mapping[str, float] = field(default_factory=dict)  # that it was trained with, for instance max_delta [rad]
    notes: str = ""

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.history >= 1):
            raise ValueError(f"rate is {self.rate} Hz and history {self.history}; both must be positive")


ARM = so101.JOINTS[:5]
ARM_REACH = Card(
    observation=(
        *(f"{joint}.angle [rad]" for joint in ARM),
        *(f"{joint}.speed [5 rad/s]" for joint in ARM),
        *(f"{joint}.target - angle [rad]" for joint in ARM),
        *(f"{point}.{axis} [0.25 m]" for point in ("tool", "goal") for axis in ("forwards", "left", "up")),
        *(f"goal - tool.{axis} [0.1 m]" for axis in ("forwards", "left", "up")),
    ),
    action=tuple(f"{joint}.target step [0.05 rad]" for joint in ARM),
    rate=30.0,
    limits={"max_delta": so101.MAX_DELTA},
    notes="kit.envs.arm_reach.reach_state makes the observation. Each action moves the joint targets, and the targets, "
    "as degrees, are the commands; the gripper stays shut.",
)
CARDS = {"kit/ArmReach-v0": ARM_REACH}  # of the kit's own environments


class Layer(NamedTuple):
    """One step of a network, with its arrays by name."""

    kind: str
    arrays: dict[str, np.ndarray]


# ---- from torch -------------------------------------------------------------------------------------------------

ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "SiLU": "silu", "Sigmoid": "sigmoid"}


def layers_of(agent: Any) -> list[Layer]:
    """The mean of a policy, without normalisation and clipping: `MlpPolicy`, `kit.rl.ppo.ActorCritic`, a PPO or A2C of
    Stable-Baselines3, or a `torch.nn.Sequential`.

    Raises:
        ValueError: it is none of these, or has a layer that is not exported.
    """
    if isinstance(agent, MlpPolicy):
        pairs = [Layer("linear", {"weight": w, "bias": b}) for w, b in agent.layers]
        return [layer for pair in pairs[:-1] for layer in (pair, Layer("tanh", {}))] + pairs[-1:]
    policy = getattr(agent, "policy", None)
    if hasattr(policy, "mlp_extractor"):
        modules = [policy.pi_features_extractor, *policy.mlp_extractor.policy_net, policy.action_net]
    else:
        modules = getattr(agent, "actor", agent)
        if type(modules).__name__ != "Sequential":
            raise ValueError(
                f"cannot export a {type(agent).__name__}; give an MlpPolicy, an ActorCritic, a PPO or A2C of "
                "Stable-Baselines3, or the torch.nn.Sequential that computes the mean action"
            )
    return [layer for module in modules for layer in layers_of_module(module)]


def layers_of_module(module: Any) -> list[Layer]:
    """
    Raises:
        ValueError: a module that is not exported.
    """
    name = type(module).__name__
    arrays = {key: value.detach().cpu().numpy().astype(np.float32) for key, value in module.named_parameters()}
    if name == "Sequential":
        return [layer for part in module for layer in layers_of_module(part)]
    if name == "Linear":
        return [Layer("linear", {"bias": np.zeros(module.out_features, np.float32)} | arrays)]
    if name == "LayerNorm" and len(module.normalized_shape) == 1 and len(arrays) == 2:
        return [Layer("norm", arrays | {"eps": np.float32(module.eps)})]
    if name in ("Identity", "Flatten", "FlattenExtractor", "Dropout"):
        return []
    if name not in ACTIVATIONS or (name == "ELU" and module.alpha != 1):
        known = ", ".join(["Linear", "LayerNorm", *ACTIVATIONS])
        raise ValueError(f"cannot export a {module} layer; the known ones are {known}")
    return [Layer(ACTIVATIONS[name], {})]


def bounds_of(agent: Any) -> tuple[Any, Any]:
    """Least and largest action (act_dim,), or None for what has none of its own."""
    space = getattr(agent, "action_space", agent)
    return getattr(space, "low", None), getattr(space, "high", None)


def normalisation_of(agent: Any) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Mean, standard deviation and clipping of a `VecNormalize` that the model was trained behind."""
    found = getattr(agent, "get_vec_normalize_env", lambda: None)()
    if found is None or not found.norm_obs:
        return None
    return found.obs_rms.mean, np.sqrt(found.obs_rms.var + found.epsilon), found.clip_obs


def before(normalisation: tuple[Any, ...] | None) -> list[Layer]:
    """The layers that normalise observations: (mean, std) or (mean, std, largest size afterwards)."""
    if normalisation is None:
        return []
    mean, std, *most = (np.asarray(x, np.float32) for x in normalisation)
    layers = [Layer("scale", {"offset": mean, "factor": 1 / std})]
    return layers + [Layer("clip", {"low": -m, "high": m}) for m in most]


def after(low: Any, high: Any, squash: bool) -> list[Layer]:
    """The layers that bring the mean into low..high: by tanh and scaling, or by clipping.

    Raises:
        ValueError: bounds to which tanh cannot be scaled.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if not squash:
        return [Layer("clip", {"low": low, "high": high})]
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ValueError(f"low is {low} and high {high}; tanh can only be scaled to finite bounds, low below high")
    half, middle = (high - low) / 2, (high + low) / 2
    return [Layer("tanh", {}), Layer("scale", {"offset": -middle / half, "factor": half})]


# ---- running ----------------------------------------------------------------------------------------------------


def _norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * weight + bias


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


RUN: dict[str, Callable[..., np.ndarray]] = {
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "scale": lambda x, offset, factor: (x - offset) * factor,
    "clip": lambda x, low, high: np.clip(x, low, high),
    "norm": _norm,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
}


def run(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """Actions (n, act_dim) for observations (n, obs_dim) float32."""
    for layer in layers:
        x = RUN[layer.kind](x, **layer.arrays)
    return x


def graph(layers: Sequence[Layer], obs_dim: int, act_dim: int) -> bytes:
    """The layers as an ONNX model: "observation" (n, obs_dim) to "action" (n, act_dim), float32."""
    onnx = runtime.optional("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    nodes, constants, name = [], [], "observation"
    for i, layer in enumerate(layers):
        arrays = {k: f"{i}.{k}" for k in layer.arrays if (layer.kind, k) != ("norm", "eps")}
        constants += [numbers.from_array(np.asarray(layer.arrays[k], np.float32), v) for k, v in arrays.items()]
        out = "action" if i == len(layers) - 1 else f"{i}"
        for op, inputs, result, options in _nodes(layer, name, arrays, out):
            nodes.append(helper.make_node(op, inputs, [result], **options))
        name = out
    ends = [
        [helper.make_tensor_value_info(label, onnx.TensorProto.FLOAT, ["n", size])]
        for label, size in (("observation", obs_dim), ("action", act_dim))
    ]
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(helper.make_graph(nodes, "policy", *ends, constants), opset_imports=opsets, ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _nodes(layer: Layer, x: str, a: Mapping[str, str], out: str) -> list[tuple[str, list[str], str, dict[str, Any]]]:
    """(operator, inputs, output, attributes) of one layer."""
    between = f"{out}.between"
    if layer.kind == "linear":
        return [("Gemm", [x, a["weight"], a["bias"]], out, {"transB": 1})]
    if layer.kind == "scale":
        return [("Sub", [x, a["offset"]], between, {}), ("Mul", [between, a["factor"]], out, {})]
    if layer.kind == "clip":  # ONNX's own Clip takes no vectors
        return [("Max", [x, a["low"]], between, {}), ("Min", [between, a["high"]], out, {})]
    if layer.kind == "norm":
        options = {"axis": -1, "epsilon": float(layer.arrays["eps"])}
        return [("LayerNormalization", [x, a["weight"], a["bias"]], out, options)]
    if layer.kind == "silu":
        return [("Sigmoid", [x], between, {}), ("Mul", [x, between], out, {})]
    return [({"tanh": "Tanh", "relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid"}[layer.kind], [x], out, {})]


# ---- writing ----------------------------------------------------------------------------------------------------


def export(
    agent: Any,
    out: str | Path,
    card: Card | None = None,
    *,
    low: Any = None,
    high: Any = None,
    squash: bool = False,
    normalisation: tuple[Any, ...] | None = None,
) -> Path:
    """Write a policy's files into the folder `out`; the JSON comes last.

    `low` and `high` (act_dim,) are the action's bounds where the agent has none of its own; with `squash` its mean
    goes through tanh to get there, otherwise it is clipped. `normalisation` is (mean, std) or (mean, std, largest
    size) of observations, as (obs_dim,) arrays; a model behind a `VecNormalize` brings its own.

    Raises:
        ValueError: no card, one that does not fit the network, or a network that is not exported; nothing is written.
        MissingExtra: ONNX is not installed.
    """
    core = layers_of(agent)
    found = bounds_of(agent)
    low, high = found[0] if low is None else low, found[1] if high is None else high
    if low is None or high is None:
        raise ValueError("give low and high, the bounds of the actions: this agent has none of its own")
    normalisation = normalisation_of(agent) if normalisation is None else normalisation
    squash = squash or getattr(getattr(agent, "policy", None), "squash_output", False)
    layers = [*before(normalisation), *core, *after(low, high, squash)]
    trained = dict(getattr(agent, "card", None) or {})
    card = card or CARDS.get(trained.get("env"))
    obs_dim, act_dim = check_sizes(layers, card)
    blobs = {"policy.npz": _npz(layers), "policy.onnx": graph(layers, obs_dim, act_dim)}
    facts = {
        "obs_dim": obs_dim,
        "act_dim": act_dim,
        **asdict(card),
        "layers": [layer.kind for layer in layers],
        "files": {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()},
        "env": trained.get("env"),
        "trained": trained,
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        write_whole(folder / name, blob)
    if (plain := as_mlp(agent, core, layers, low, high)) is not None:
        return checkpoints.save(plain, folder, **facts)
    bounds = {"action_low": np.asarray(low, float).tolist(), "action_high": np.asarray(high, float).tolist()}
    content = {"format": checkpoints.FORMAT, "kind": "layers", **bounds, **facts}
    write_whole(folder / "policy.json", json.dumps(content, indent=1).encode())
    return folder


def check_sizes(layers: Sequence[Layer], card: Card | None) -> tuple[int, int]:
    """Sizes of observation and action, from the network, if the card has the same.

    Raises:
        ValueError: there is no card, or it does not fit.
    """
    linear = [layer.arrays["weight"].shape for layer in layers if layer.kind == "linear"]
    if not linear:
        raise ValueError("the network has no linear layer, so there is nothing to export")
    obs_dim, act_dim = linear[0][1], linear[-1][0]
    if card is None:
        raise ValueError(
            f"give a Card: the names of {obs_dim} observations and {act_dim} actions, and the rate; an arm must know "
            "what a policy is for before it moves"
        )
    if (len(card.observation) * card.history, len(card.action)) != (obs_dim, act_dim):
        raise ValueError(
            f"the card names {len(card.observation)} observations, {card.history} times, and {len(card.action)} "
            f"actions; the network takes {obs_dim} and gives {act_dim}"
        )
    return obs_dim, act_dim


def _npz(layers: Sequence[Layer]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{f"{i}.{key}": value for i, layer in enumerate(layers) for key, value in layer.arrays.items()})
    return file.getvalue()


def as_mlp(agent: Any, core: list[Layer], layers: list[Layer], low: Any, high: Any) -> MlpPolicy | None:
    """The same as the kit's checkpoints have it, if it is nothing but a tanh network whose output is clipped."""
    log_std = getattr(agent, "log_std", getattr(getattr(agent, "policy", None), "log_std", None))
    kinds = [layer.kind for layer in layers]
    if log_std is None or kinds != ["linear", "tanh"] * (len(core) // 2) + ["linear", "clip"]:
        return None
    linear = [layer.arrays for layer in core if layer.kind == "linear"]
    weights = {f"{i}.{key}": value for i, arrays in enumerate(linear) for key, value in arrays.items()}
    log_std = log_std if isinstance(log_std, np.ndarray) else log_std.detach().cpu().numpy()
    return MlpPolicy(weights | {"log_std": log_std}, low=low, high=high)


# ---- reading ----------------------------------------------------------------------------------------------------


def read(folder: str | Path, name: str) -> tuple[dict[str, Any], bytes]:
    """The card of an exported policy, and one of its files.

    Raises:
        FileNotFoundError: there is no exported policy.
        DamagedCheckpoint: the file is missing, or is not the one that the card describes.
    """
    folder, advice = Path(folder), "export the policy anew, or copy the whole folder"
    if not (folder / "policy.json").exists():
        raise FileNotFoundError(f"no policy at {folder}: it has no policy.json, which kit.sim2real.export.export makes")
    try:
        card = json.loads((folder / "policy.json").read_text())
        if card["format"] != checkpoints.FORMAT:
            raise DamagedCheckpoint(f"{folder} has format {card['format']}; this kit reads {checkpoints.FORMAT}")
        if "files" not in card:
            raise DamagedCheckpoint(f"{folder} is a checkpoint that was not exported; export(kit.load(folder), out)")
        blob = (folder / name).read_bytes()
        if hashlib.sha256(blob).hexdigest() != card["files"][name]:
            raise DamagedCheckpoint(f"{folder}/{name} is not the file that policy.json describes; {advice}")
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{folder}/{name} cannot be read ({error!r}); {advice}") from error
    return card, blob


def requirements(card: Mapping[str, Any] | Card) -> dict[str, Any]:
    """What `SO101.require` compares before a policy moves anything: `robot.require(**requirements(policy.card))`."""
    card = asdict(card) if isinstance(card, Card) else card
    return {"rate": card["rate"], "units": card["units"], "joints": list(card["joints"])}


class _Exported:
    """Stable-Baselines3's `predict` for an exported policy; its JSON is the attribute `card`."""

    card: dict[str, Any]

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions (act_dim,) or (n, act_dim) for observations (obs_dim,) or (n, obs_dim): the mean, always.

        Raises:
            ValueError: the observation's size is not the policy's.
        """
        obs, size = np.asarray(observation, np.float32), self.card["obs_dim"]
        if obs.shape[-1:] != (size,) or obs.ndim > 2:
            raise ValueError(f"observation has shape {obs.shape}; this policy takes ({size},) or (n, {size})")
        return self._run(obs.reshape(-1, size)).reshape(*obs.shape[:-1], self.card["act_dim"]), state

    def _run(self, observations: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class NumpyPolicy(_Exported):
    """An exported policy in NumPy."""

    def __init__(self, card: dict[str, Any], layers: list[Layer]):
        self.card, self.layers = card, layers

    @classmethod
    def load(cls, folder: str | Path) -> NumpyPolicy:
        """
        Raises:
            FileNotFoundError, DamagedCheckpoint: as `read`.
        """
        card, blob = read(folder, "policy.npz")
        layers = [Layer(kind, {}) for kind in card["layers"]]
        with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
            for name in arrays.files:
                number, key = name.split(".")
                layers[int(number)].arrays[key] = arrays[name]
        return cls(card, layers)

    def _run(self, observations: np.ndarray) -> np.ndarray:
        return run(self.layers, observations)


class OnnxPolicy(_Exported):
    """An exported policy in ONNX Runtime, on one thread."""

    def __init__(self, card: dict[str, Any], session: Any):
        self.card, self.session = card, session

    @classmethod
    def load(cls, folder: str | Path) -> OnnxPolicy:
        """
        Raises:
            FileNotFoundError, DamagedCheckpoint: as `read`.
            MissingExtra: ONNX Runtime is not installed.
        """
        card, blob = read(folder, "policy.onnx")
        runtime_ = runtime.optional("onnxruntime")
        options = runtime_.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return cls(card, runtime_.InferenceSession(blob, options, providers=["CPUExecutionProvider"]))

    def _run(self, observations: np.ndarray) -> np.ndarray:
        return self.session.run(["action"], {"observation": observations})[0]
