"""Trained chunk policies as files: to go on with in torch, to run in NumPy alone, or in any ONNX runtime.

    checkpoint   policy.safetensors, policy.json    `kit.load` runs it in NumPy; `restore` gives the torch agent back
    export       policy.npz, policy.onnx, policy.json    observations as they come in, actions as they go out

The scaling of observations and actions, the noise levels and the embedded times are in the files, so nothing is left
to remember. With the same noise all three give the same chunk to 1e-5 of the actions' range, if the network predicts
clean chunks or velocities. Exceptions are some draws in a thousand that begin where two ways part, where rounding grows
to 1e-4, in torch no less; and networks that predict noise, since their first step divides by sqrt(alpha bar) and blows
rounding up twenty thousand times. Look first at `sampler`, then at `kit.diffusion.portable.draw`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit import checkpoints, runtime
from kit.diffusion import portable
from kit.diffusion.chunks import ChunkPolicy
from kit.diffusion.portable import NumpyOps, OnnxOps

if TYPE_CHECKING:
    from kit.diffusion.policy import Agent

PORTABLE = ("mlp", "unet")
GROUPS = 8  # of the U-Net's group norms


# ---- what a policy is -------------------------------------------------------------------------------------------


def sampler(agent: Agent) -> tuple[np.ndarray, np.ndarray]:
    """The times (n,) that an agent's sampler visits, and its steps (n, 6): p, q, clip, c, d and s of `portable.draw`.

    Raises:
        ValueError: a flow with Runge-Kutta's steps.
    """
    from kit.diffusion import policy

    cfg = agent.cfg
    if agent.method == "flow":
        if cfg.sampler != "euler":
            raise ValueError(f"the sampler {cfg.sampler!r} is not exported; use agent.sampling('euler', steps)")
        n = cfg.sample_steps
        return np.arange(n) / n, np.tile([0.0, 1.0, np.inf, 1.0, 1 / n, 0.0], (n, 1))
    ddpm = cfg.sampler == "ddpm"
    times, kept = policy.visited(cfg.noise_steps, None if ddpm else cfg.sample_steps)
    rows = []
    for here, there in zip(kept, (*kept[1:], 1.0), strict=True):
        p, q = (here**-0.5, -(((1 - here) / here) ** 0.5)) if cfg.target == "noise" else (0.0, 1.0)
        s = policy.spread(here, there, float(ddpm))
        c = ((1 - there - s**2) / (1 - here)) ** 0.5
        rows.append((p, q, cfg.clip, c, there**0.5 - c * here**0.5, s))
    return times.numpy().astype(float), np.array(rows)


def describe(agent: Agent) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All of an agent as arrays and as facts for a JSON file."""
    import torch

    from kit.diffusion.nets import sines

    cfg, net = agent.cfg, agent.net
    tensors = {f"net.{k}": v.detach().cpu().numpy() for k, v in net.state_dict().items()}
    for name, scaler, repeat in (("obs", agent.obs_scaler, agent.obs_steps), ("action", agent.action_scaler, 1)):
        tensors |= {f"{name}.low": scaler.low, f"{name}.high": scaler.high}
        tensors |= {f"{name}.middle": np.tile(scaler.middle, repeat), f"{name}.half": np.tile(scaler.half, repeat)}
    if cfg.network in PORTABLE:
        times, tensors["steps"] = sampler(agent)
        embedding = net.embedding
        scaled = embedding.time_scale * torch.as_tensor(times, dtype=torch.float32, device=cfg.device)
        with torch.inference_mode():
            tensors["times"] = embedding.time(sines(scaled, embedding.width)).cpu().numpy()
    card = {
        "method": agent.method, "network": cfg.network, "obs_dim": agent.obs_dim, "act_dim": agent.act_dim,
        "obs_steps": agent.obs_steps, "horizon": agent.horizon, "execute": agent.execute, "clip": cfg.clip,
        "layers": cfg.layers, "levels": len(cfg.widths), "latency": agent.latency,
        "action_low": agent.action_scaler.low.tolist(), "action_high": agent.action_scaler.high.tolist(),
        "config": asdict(cfg),
    }  # fmt: skip
    return {k: np.asarray(v, np.float32) for k, v in tensors.items()}, card


# ---- checkpoints ------------------------------------------------------------------------------------------------


def save(agent: Agent, folder: str | Path, **facts: Any) -> Path:
    """Save an agent as a checkpoint, with some facts about how it was made. Its sampler is saved with it."""
    tensors, card = describe(agent)
    return checkpoints.write(tensors, folder, **({"kind": "chunks"} | card | facts))


def restore(folder: str | Path, *, device: str = "cpu", seed: int = 0) -> Agent:
    """The agent that was saved, in torch: to train it on, or to draw by another sampler. `seed` is for its noise.

    Raises:
        DamagedCheckpoint: the files do not belong together, or hold something else.
    """
    import torch

    from kit.diffusion import flow_policy, policy
    from kit.diffusion.fit import FitConfig
    from kit.diffusion.windows import MinMax

    card, tensors = checkpoints.read(Path(folder))
    module = {"diffusion": policy, "flow": flow_policy}.get(card.get("method"))
    if module is None:
        raise checkpoints.DamagedCheckpoint(f"{folder} holds no diffusion or flow policy, but {card.get('kind')!r}")
    fields = card["config"] | {"fit": FitConfig(**card["config"]["fit"]), "widths": tuple(card["config"]["widths"])}
    cfg = replace(module.Config(**fields), device=device)
    net = policy.network(card["obs_dim"], card["act_dim"], cfg, seed=0, time_scale=module.Agent.time_scale)
    net.load_state_dict({k[4:]: torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith("net.")})
    scalers = [MinMax(tensors[f"{name}.low"], tensors[f"{name}.high"]) for name in ("obs", "action")]
    agent = module.Agent(net.requires_grad_(False).eval(), *scalers, cfg, seed=seed)
    agent.execute, agent.latency, agent.card = card["execute"], card["latency"], card
    return agent


def check_portable(network: str) -> str:
    """
    Raises:
        ValueError: a network that does not run without torch.
    """
    if network not in PORTABLE:
        raise ValueError(
            f"the network is a {network}; {' and '.join(PORTABLE)} run without torch. "
            "kit.diffusion.serving.restore(folder) gives the torch agent of a checkpoint"
        )
    return network


# ---- running without torch --------------------------------------------------------------------------------------


class Served(ChunkPolicy):
    """A saved chunk policy; its JSON is the attribute `card`."""

    def __init__(self, card: Mapping[str, Any], levels: int, *, seed: int = 0):
        self.card, self.made = dict(card), dict(card)  # `kit.load` sets the first to what the file holds
        self.obs_steps, self.horizon, self.execute = card["obs_steps"], card["horizon"], card["execute"]
        self.latency, self.noise_shape = card["latency"], (levels, card["horizon"], card["act_dim"])
        self.rng = np.random.default_rng(seed)

    @property
    def obs_dim(self) -> int:
        return self.made["obs_dim"]

    @property
    def act_dim(self) -> int:
        return self.made["act_dim"]


def levels_of(steps: np.ndarray) -> int:
    """How many portions of noise a sampler's steps (n, 6) take: one to begin with, and one for each s above 0."""
    return 1 + int((steps[:, 5] > 0).sum())


class NumpyChunks(Served):
    """A chunk policy in NumPy."""

    def __init__(self, card: Mapping[str, Any], weights: Mapping[str, np.ndarray], *, seed: int = 0):
        super().__init__(card, levels_of(weights["steps"]), seed=seed)
        self.weights, self.ops = weights, NumpyOps(weights, card["groups"])

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> NumpyChunks:
        """What `kit.load` makes of a checkpoint.

        Raises:
            ValueError: a network that does not run without torch.
        """
        weights, film = portable.fold(tensors, check_portable(card["network"]))
        return cls({**card, "film": film, "groups": GROUPS}, weights)

    @classmethod
    def load(cls, folder: str | Path) -> NumpyChunks:
        """What `export` wrote.

        Raises:
            FileNotFoundError, DamagedCheckpoint: as `kit.sim2real.export.read`.
        """
        from kit.sim2real.export import read

        card, blob = read(folder, "policy.npz")
        with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
            return cls(card, {k: arrays[k] for k in arrays.files})

    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        cond = np.asarray(history, np.float32).reshape(len(history), -1)
        return portable.draw(self.ops, self.weights, self.made, list(noise.swapaxes(0, 1)), cond)


class OnnxChunks(Served):
    """A chunk policy in ONNX Runtime, on one thread."""

    def __init__(self, card: Mapping[str, Any], session: Any, *, seed: int = 0):
        super().__init__(card, card["noise_levels"], seed=seed)
        self.session = session

    @classmethod
    def load(cls, folder: str | Path) -> OnnxChunks:
        """
        Raises:
            FileNotFoundError, DamagedCheckpoint: as `kit.sim2real.export.read`.
            MissingExtra: ONNX Runtime is not installed.
        """
        from kit.sim2real.export import read

        card, blob = read(folder, "policy.onnx")
        onnxruntime = runtime.optional("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return cls(card, onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"]))

    def plan(self, history: np.ndarray, noise: np.ndarray) -> np.ndarray:
        inputs = {"observations": np.asarray(history, np.float32), "noise": np.asarray(noise, np.float32)}
        return self.session.run(["actions"], inputs)[0]


# ---- writing ----------------------------------------------------------------------------------------------------


def export(agent: Agent, out: str | Path, *, onnx: bool = True, **facts: Any) -> Path:
    """Write `policy.npz`, `policy.onnx` and `policy.json` into the folder `out`, the JSON last.

    Raises:
        ValueError: a network or a sampler that is not exported; nothing is written.
        MissingExtra: ONNX is not installed; `onnx=False` does without.
    """
    tensors, card = describe(agent)
    weights, film = portable.fold(tensors, check_portable(card["network"]))
    card |= {"film": film, "groups": GROUPS, "noise_levels": levels_of(weights["steps"])}
    file = io.BytesIO()
    np.savez(file, **weights)
    blobs = {"policy.npz": file.getvalue()} | ({"policy.onnx": graph(weights, card)} if onnx else {})
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        checkpoints.write_whole(folder / name, blob)
    files = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    content = {"format": checkpoints.FORMAT, "kind": "exported chunks", **card, "files": files, **facts}
    checkpoints.write_whole(folder / "policy.json", json.dumps(content, indent=1).encode())
    return folder


def graph(weights: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> bytes:
    """All steps of the sampler as one ONNX model: "observations" (n, To, obs_dim) and "noise" (n, levels, Tp, act_dim)
    to "actions" (n, Tp, act_dim), float32."""
    ops, chunk = OnnxOps(weights, card["groups"]), [card["horizon"], card["act_dim"]]
    inputs = {
        "observations": ["n", card["obs_steps"], card["obs_dim"]],
        "noise": ["n", card["noise_levels"], *chunk],
    }
    noise = [ops.node("Gather", ops.input("noise"), ops.index(i), axis=1) for i in range(card["noise_levels"])]
    actions = portable.draw(ops, weights, card, noise, ops.flat(ops.input("observations")))
    return ops.graph(inputs, actions, ["n", *chunk])
