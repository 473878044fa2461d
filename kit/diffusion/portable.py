"""A chunk policy's networks and samplers without torch: written once, run in NumPy or written down as an ONNX graph.

    once a policy    t_i, the embeddings of the times that the sampler visits
    once a chunk     e_i = t_i + W (O - middle) / half + b for all i;  FiLM_i = F e_i for all blocks and all i at once
    every step       g = net(x, FiLM_i);   x0 = clip(p_i x + q_i g);   x <- c_i x + d_i x0 + s_i z_i
    at the end       actions = half x + middle

O are the observations as they come in. DDIM, DDPM and Euler's steps of a flow differ only in p, q, c, d and s. `ops` is
`NumpyOps` or `OnnxOps`; both know the same dozen operations. Look first at `draw`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kit import runtime

OPSET, IR = 17, 8  # of ONNX; old enough for runtimes of the last years
Arrays = Mapping[str, np.ndarray]


# ---- once a policy ----------------------------------------------------------------------------------------------


def fold(tensors: Arrays, network: str) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    """What `draw` needs: the arrays, with the FiLM layers of all blocks as one, `film`, and each block's place in it.

    `tensors` are `net.*`, `obs.middle` and `obs.half` (To obs_dim,), `action.middle` and `action.half` (act_dim,), the
    sampler's `steps` (n, 6), and the embeddings `times` (n, width).
    """
    found = {k.removeprefix("net."): np.asarray(v, np.float32) for k, v in tensors.items()}
    found |= {f"cond.{kind}": found[f"embedding.cond.{kind}"] for kind in ("weight", "bias")}
    found["obs.factor"] = 1 / found["obs.half"]
    part = "shift" if network == "mlp" else "film"
    names = sorted(k.removesuffix(f".{part}.weight") for k in found if k.endswith(f".{part}.weight"))
    biases = [found.pop(f"{name}.{part}.bias") for name in names]
    if part == "film":  # which multiplies by 1 + scale
        biases = [bias + (np.arange(len(bias)) < len(bias) // 2) for bias in biases]
    found["film.bias"] = np.concatenate(biases).astype(np.float32)
    found["film.weight"] = np.concatenate([found.pop(f"{name}.{part}.weight") for name in names])
    ends = np.cumsum([len(bias) for bias in biases]).tolist()
    places = {name: (end - len(bias), end) for name, bias, end in zip(names, biases, ends, strict=True)}
    unused = ("embedding.", "obs.low", "obs.high", "obs.half", "action.low", "action.high")
    return {k: v for k, v in found.items() if not k.startswith(unused)}, places


# ---- once a chunk, and every step -------------------------------------------------------------------------------


def draw(ops: Any, weights: Arrays, card: Mapping[str, Any], noise: Any, cond: Any) -> Any:
    """Actions (B, Tp, act_dim) from noise, a list of (B, Tp, act_dim), and raw observations (B, To obs_dim)."""
    table, unet = weights["steps"], card["network"] == "unet"
    scaled = (cond + ops.constant(-weights["obs.middle"])) * ops.constant(weights["obs.factor"])
    e = ops.first_axis(ops.linear(scaled, "cond")) + ops.constant(weights["times"][:, None])
    film = ops.linear(ops.silu(e) if unet else e, "film")
    x = noise[0]
    for i, (p, q, clip, c, d, s) in enumerate(table.tolist()):
        mods = Mods(ops, ops.item(film, i), card)
        seen = u_net(ops, x, mods, card) if unet else mlp(ops, x, ops.item(e, i), mods, card)
        x0 = seen * q if p == 0 else x * p + seen * q
        x0 = x0 if np.isinf(clip) else ops.clip(x0, clip)
        x = x0 * d if c == 0 else x * c + x0 * d
        if s > 0:
            x = x + noise[i + 1] * s
    x = ops.clip(x, card["clip"])
    return x * ops.constant(weights["action.half"]) + ops.constant(weights["action.middle"])


class Mods:
    """The FiLM of one step (B, all blocks' outputs), cut into blocks."""

    def __init__(self, ops: Any, film: Any, card: Mapping[str, Any]):
        self.ops, self.film, self.places = ops, film, card["film"]

    def __call__(self, name: str) -> Any:
        return self.ops.part(self.film, *self.places[name])


def mlp(ops: Any, x: Any, e: Any, mods: Mods, card: Mapping[str, Any]) -> Any:
    """`kit.diffusion.nets.ResidualMLP`."""
    h = ops.linear(ops.flat(x), "first") + e
    for i in range(card["layers"]):
        inner = ops.linear(ops.layer_norm(h, f"blocks.{i}.norm"), f"blocks.{i}.up") + mods(f"blocks.{i}")
        h = h + ops.linear(ops.silu(inner), f"blocks.{i}.down")
    out = ops.linear(ops.silu(ops.layer_norm(h, "last.0")), "last.2")
    return ops.chunk(out, card["horizon"], card["act_dim"])


def u_net(ops: Any, x: Any, mods: Mods, card: Mapping[str, Any]) -> Any:
    """`kit.diffusion.nets.UNet1d`."""
    h, kept, levels = ops.enter(x), [], card["levels"]
    for level in range(levels):
        h = block(ops, block(ops, h, mods, f"down.{level}.0"), mods, f"down.{level}.1")
        kept.append(h)
        if level < levels - 1:
            h = ops.conv(h, f"shrink.{level}", stride=2)
    for i in range(2):
        h = block(ops, h, mods, f"middle.{i}")
    for i in range(levels - 1):
        h = block(ops, ops.beside(h, kept.pop()), mods, f"up.{i}.0")
        h = ops.grow(block(ops, h, mods, f"up.{i}.1"), f"grow.{i}")
    h = ops.silu(ops.group_norm(ops.conv(h, "last.0"), "last.1"))
    return ops.leave(ops.conv(h, "last.3"))


def block(ops: Any, h: Any, mods: Mods, name: str) -> Any:
    """`kit.diffusion.nets.ConvBlock`."""
    scale, shift = ops.halves(mods(name))
    inner = ops.silu(ops.group_norm(ops.conv(h, f"{name}.one"), f"{name}.norm_one")) * scale + shift
    out = ops.silu(ops.group_norm(ops.conv(inner, f"{name}.two"), f"{name}.norm_two"))
    return out + (ops.conv(h, f"{name}.past") if ops.has(f"{name}.past") else h)


# ---- NumPy ------------------------------------------------------------------------------------------------------


class NumpyOps:
    """Operations on float32 arrays; a U-Net's are (B, T, channels), so that a convolution is one matrix product."""

    def __init__(self, weights: Arrays, groups: int):
        self.groups, self.weights = groups, weights
        self.matrices = {k: self._matrix(k, v) for k, v in weights.items() if k.endswith(".weight") and v.ndim > 1}
        self.kernels = {k: v.shape[-1] for k, v in weights.items() if v.ndim == 3}

    @staticmethod
    def _matrix(name: str, weight: np.ndarray) -> np.ndarray:
        """(in, out); of a convolution (kernel in, out), and of one that grows (in, kernel out)."""
        if weight.ndim == 2:
            return np.ascontiguousarray(weight.T)
        if name.startswith("grow."):
            return np.ascontiguousarray(weight.transpose(0, 2, 1).reshape(len(weight), -1))
        return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.weights

    def constant(self, array: np.ndarray) -> np.ndarray:
        return array

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.matrices[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def silu(self, x: np.ndarray) -> np.ndarray:
        half = 0.5 * x
        return half * np.tanh(half) + half

    def clip(self, x: np.ndarray, most: float) -> np.ndarray:
        return np.minimum(np.maximum(x, -most), most)

    def layer_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        return x * scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def group_norm(self, x: np.ndarray, name: str) -> np.ndarray:
        n, steps, channels = x.shape
        x = x.reshape(n, steps, self.groups, -1)
        x = x - x.mean(axis=(1, 3), keepdims=True)
        x = x / np.sqrt(np.square(x).mean(axis=(1, 3), keepdims=True) + np.float32(1e-5))
        return x.reshape(n, steps, channels) * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def conv(self, x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel, steps = self.kernels[f"{name}.weight"], x.shape[1]
        if kernel > 1:
            pad = kernel // 2
            wide = np.zeros((len(x), steps + 2 * pad, x.shape[2]), np.float32)
            wide[:, pad : pad + steps] = x
            x = np.concatenate([wide[:, i : i + steps : stride] for i in range(kernel)], axis=2)
        return self.linear(x, name)

    def grow(self, x: np.ndarray, name: str) -> np.ndarray:
        """A transposed convolution with kernel 4, stride 2 and padding 1: step t reaches 2 t - 1 .. 2 t + 2."""
        n, steps, _ = x.shape
        each = (x @ self.matrices[f"{name}.weight"]).reshape(n, steps, 4, -1)
        wide = np.zeros((n, steps + 1, 2, each.shape[3]), np.float32)
        wide[:, :-1] += each[:, :, :2]
        wide[:, 1:] += each[:, :, 2:]
        return wide.reshape(n, 2 * steps + 2, -1)[:, 1:-1] + self.weights[f"{name}.bias"]

    def first_axis(self, x: np.ndarray) -> np.ndarray:
        return x[None]

    def item(self, x: np.ndarray, i: int) -> np.ndarray:
        return x[i]

    def part(self, x: np.ndarray, start: int, end: int) -> np.ndarray:
        return x[:, start:end]

    def halves(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = x.shape[1] // 2
        return x[:, None, :half], x[:, None, half:]

    def beside(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate((x, y), axis=2)

    def flat(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1)

    def chunk(self, x: np.ndarray, horizon: int, act_dim: int) -> np.ndarray:
        return x.reshape(len(x), horizon, act_dim)

    def enter(self, x: np.ndarray) -> np.ndarray:
        return x

    leave = enter


# ---- ONNX -------------------------------------------------------------------------------------------------------


class Value:
    """The name of something that a graph computes; arithmetic on it adds a node."""

    def __init__(self, ops: OnnxOps, name: str):
        self.ops, self.name = ops, name

    def __add__(self, other: Any) -> Value:
        return self.ops.node("Add", self, other)

    def __mul__(self, other: Any) -> Value:
        return self.ops.node("Mul", self, other)


class OnnxOps:
    """The same operations, written down; a U-Net's values are (B, channels, T), as ONNX has them."""

    def __init__(self, weights: Arrays, groups: int):
        self.onnx, self.groups, self.weights = runtime.optional("onnx"), groups, weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, op: str, *inputs: Any, **options: Any) -> Value:
        names = [x.name if isinstance(x, Value) else self.constant(np.float32(x)).name for x in inputs]
        out = f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, names, [out], **options))
        return Value(self, out)

    def constant(self, array: Any, name: str | None = None) -> Value:
        name = name or f"c{len(self.constants)}"
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.array(array, order="C"), name)
        return Value(self, name)

    def input(self, name: str) -> Value:
        return Value(self, name)

    def index(self, i: int) -> Value:
        return self.constant(np.int64(i), f"at{i}")

    def whole(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, np.int64), "i" + "_".join(map(str, numbers)))

    def weight(self, name: str, change: Any = None) -> Value:
        array = self.weights[name]
        return self.constant(array if change is None else change(array), name)

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.weights

    def linear(self, x: Value, name: str) -> Value:
        return self.node("MatMul", x, self.weight(f"{name}.weight", np.transpose)) + self.weight(f"{name}.bias")

    def silu(self, x: Value) -> Value:
        return x * self.node("Sigmoid", x)

    def clip(self, x: Value, most: float) -> Value:
        return self.node("Clip", x, -most, most)

    def layer_norm(self, x: Value, name: str) -> Value:
        return self.node(
            "LayerNormalization", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), epsilon=1e-5
        )

    def group_norm(self, x: Value, name: str) -> Value:
        """Each group as one channel of an instance norm: ONNX has a group norm only since operator set 21."""
        one, zero = np.ones(self.groups, np.float32), np.zeros(self.groups, np.float32)
        groups = self.node("Reshape", x, self.whole(0, self.groups, -1))
        normed = self.node(
            "InstanceNormalization", groups, self.constant(one, "one"), self.constant(zero, "zero"), epsilon=1e-5
        )
        channels = len(self.weights[f"{name}.weight"])
        wide = self.node("Reshape", normed, self.whole(0, channels, -1))
        weight, bias = (self.weight(f"{name}.{k}", lambda a: a[:, None]) for k in ("weight", "bias"))
        return wide * weight + bias

    def conv(self, x: Value, name: str, stride: int = 1) -> Value:
        pad = self.weights[f"{name}.weight"].shape[-1] // 2
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("Conv", x, weight, bias, strides=[stride], pads=[pad, pad])

    def grow(self, x: Value, name: str) -> Value:
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("ConvTranspose", x, weight, bias, strides=[2], pads=[1, 1])

    def first_axis(self, x: Value) -> Value:
        return self.node("Unsqueeze", x, self.whole(0))

    def item(self, x: Value, i: int) -> Value:
        return self.node("Gather", x, self.index(i), axis=0)

    def part(self, x: Value, start: int, end: int) -> Value:
        return self.node("Slice", x, self.whole(start), self.whole(end), self.whole(1))

    def halves(self, x: Value) -> tuple[Value, Value]:
        wide = self.node("Unsqueeze", x, self.whole(2))
        out = [f"v{len(self.nodes)}.{k}" for k in range(2)]
        self.nodes.append(self.onnx.helper.make_node("Split", [wide.name], out, axis=1))
        return Value(self, out[0]), Value(self, out[1])

    def beside(self, x: Value, y: Value) -> Value:
        return self.node("Concat", x, y, axis=1)

    def flat(self, x: Value) -> Value:
        return self.node("Reshape", x, self.whole(0, -1))

    def chunk(self, x: Value, horizon: int, act_dim: int) -> Value:
        return self.node("Reshape", x, self.whole(0, horizon, act_dim))

    def enter(self, x: Value) -> Value:
        return self.node("Transpose", x, perm=[0, 2, 1])

    leave = enter

    def graph(self, inputs: Mapping[str, list[Any]], result: Value, shape: list[Any]) -> bytes:
        """The whole graph as an ONNX file: named inputs with their shapes, and the output "actions"."""
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        self.nodes.append(helper.make_node("Identity", [result.name], ["actions"]))
        ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
        out = [helper.make_tensor_value_info("actions", kind, shape)]
        made = helper.make_graph(self.nodes, "chunk", ends, out, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(made, opset_imports=opsets, ir_version=IR)
        self.onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
