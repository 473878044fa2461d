"""What a denoising step costs beside the network, and what a plan costs with it; one thread, batches of one.

    overhead   DDIM with 8 steps around a network that answers at once: ours, and diffusers' DDIMScheduler in its loop
    policies   one action of BESO in 3 steps; one chunk of the shipped U-Net (DDIM 8), in torch, NumPy and ONNX Runtime
    width      one chunk of an untrained U-Net as wide as the paper's, 256-512-1024

Both loops give the same chunk from the same noise, to 1e-5, which is checked first. tests/diffusion hold NumPy and ONNX
to torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kit.bench import fresh
from kit.bench.blocks import Contestant, interleave, paired_ratio, summary

STEPS, TRAINED = 8, 100  # steps of DDIM, and noise levels in training
PEER = "diffusers DDIMScheduler"
REFERENCE = (256, 512, 1024)  # channels of Diffusion Policy's U-Net


def measure(rounds: int = 41, block_s: float = 0.25, widths: tuple[int, ...] = REFERENCE) -> dict[str, Any]:
    """`ratio` is the median over rounds of the peer's microseconds a step beside the network to ours."""
    return fresh.call(run, rounds=rounds, block_s=block_s, widths=list(widths))


def run(rounds: int, block_s: float, widths: list[int]) -> dict[str, Any]:
    """Measure in this process."""
    import torch

    from kit import runtime

    runtime.one_thread()
    with torch.inference_mode():
        agents = policies(tuple(widths))
        work = loops(None) | {f"{k}, U-Net": v for k, v in loops(agents["U-Net, torch"].net).items()}
        work |= {name: one_plan(agent) for name, agent in agents.items()}
        speeds = interleave([Contestant(name, f) for name, f in work.items()], rounds, block_s)
    each = {name: 1e6 / STEPS / np.median(speeds[name]) for name in (*loops(None), "network alone, U-Net")}
    ms = {name: 1e3 / float(np.median(speeds[name])) for name in agents}
    within = {
        name: 1e6 / STEPS * float(np.median(1 / speeds[f"{name}, U-Net"] - 1 / speeds["network alone, U-Net"]))
        for name in ("kit", PEER)
    }
    return {
        "name": "denoise",
        "ours": float(each["kit"]),
        "peer": float(each[PEER]),
        "peer_name": PEER,
        "ratio": paired_ratio(speeds["kit"], speeds[PEER]),
        "unit": "microseconds a step beside the network",
        "compared": f"DDIM with {STEPS} of {TRAINED} steps, x0 clipped, one chunk of 16 x 2, one thread, same result",
        "kit.diffusion.samplers.vp_ddim [us a step]": float(each["kit, vp_ddim"]),
        "loop minus network, with the shipped U-Net [us a step]": within,
        "U-Net forward [us]": float(each["network alone, U-Net"]),
        "milliseconds": ms,
        "parameters": {name: parameters(agent) for name, agent in agents.items() if hasattr(agent, "net")},
        "numpy_to_torch": {
            name: paired_ratio(speeds[f"{name}, NumPy"], speeds[f"{name}, torch"]) for name in ("U-Net", "MLP")
        },
        "rounds": rounds,
        "contestants": summary(speeds),
    }


def parameters(agent: Any) -> int:
    return sum(p.numel() for p in agent.net.parameters())


# ---- loops ------------------------------------------------------------------------------------------------------


def loops(net: Any) -> dict[str, Callable[[], Any]]:
    """One chunk by each loop, around a network or, with None, around a stored answer.

    Raises:
        AssertionError: the loops do not agree.
    """
    import torch

    from kit.diffusion import policy, samplers, schedules

    generator = torch.Generator().manual_seed(0)
    x, answer = torch.randn(2, 1, 16, 2, generator=generator)
    cond = None if net is None else torch.zeros(1, net.embedding.cond.in_features)
    times = schedules.spaced(TRAINED, STEPS, "leading")
    alpha_bar = schedules.squared_cosine(TRAINED)
    kept, noise = tuple(alpha_bar[times].tolist()), x[:, None]

    def seen(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
        return answer if net is None else net(x, time, cond)

    def ours() -> torch.Tensor:
        return policy.denoise(seen, noise, cond, times, kept, target="noise")

    def general() -> torch.Tensor:
        return samplers.vp_ddim(seen, x, alpha_bar, times, cond, clip=1.0)

    def alone() -> torch.Tensor:
        for time in each:
            out = seen(x, time, cond)
        return out

    each, theirs = times[:, None].float(), peer(seen, x, cond)
    for other in (general, theirs):
        torch.testing.assert_close(ours(), other(), rtol=0, atol=1e-5)
    return {"kit": ours, "kit, vp_ddim": general, PEER: theirs, "network alone": alone}


def peer(net: Callable[..., Any], x: Any, cond: Any) -> Callable[[], Any]:
    """diffusers' loop, as its documentation writes it; what is the same for all chunks is made once."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(TRAINED, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    scheduler.set_timesteps(STEPS)
    each = [t[None].float() for t in scheduler.timesteps]

    def theirs() -> Any:
        sample = x
        for t, time in zip(scheduler.timesteps, each, strict=True):
            sample = scheduler.step(net(sample, time, cond), t, sample, use_clipped_model_output=True).prev_sample
        return sample

    return theirs


# ---- policies ---------------------------------------------------------------------------------------------------


def policies(widths: tuple[int, ...]) -> dict[str, Any]:
    """What plans: the shipped policies in torch, NumPy and ONNX Runtime, BESO if it is shipped, and a wide U-Net."""
    import tempfile

    from kit import checkpoints, runtime
    from kit.diffusion import policy, serving

    found: dict[str, Any] = {}
    for label, name in (("U-Net", "push_t"), ("MLP", "avoid_diffusion")):
        agent = serving.restore(runtime.asset("checkpoints", name))
        with tempfile.TemporaryDirectory() as folder:
            serving.export(agent, folder)
            served = serving.NumpyChunks.load(folder), serving.OnnxChunks.load(folder)
        found |= {f"{label}, torch": agent, f"{label}, NumPy": served[0], f"{label}, ONNX Runtime": served[1]}
    shipped = found["U-Net, torch"]
    cfg = replace(shipped.cfg, widths=widths)
    wide = policy.network(shipped.obs_dim, shipped.act_dim, cfg, seed=0).eval()
    found["U-Net, reference width, torch"] = policy.Agent(wide, shipped.obs_scaler, shipped.action_scaler, cfg)
    if "beso_avoid" in checkpoints.shipped():
        found["BESO, 3 steps, torch"] = checkpoints.load("beso_avoid")
    return found


def one_plan(agent: Any) -> Callable[[], Any]:
    """One plan from one observation; of BESO, one action."""
    rng = np.random.default_rng(0)
    if not hasattr(agent, "noise_shape"):
        return one_action(agent)
    history = np.zeros((1, agent.obs_steps, agent.obs_dim), np.float32)
    noise = rng.standard_normal((1, *agent.noise_shape), dtype=np.float32)
    return lambda: agent.plan(history, noise)


def one_action(agent: Any) -> Callable[[], Any]:
    """An action of BESO in the middle of an episode, towards the first exit."""
    seen, state = np.zeros((1, agent.obs_dim), np.float32), None
    seen[0, agent.state_size] = 1  # of the goal's one-hot word
    for _ in range(10):
        _, state = agent.predict(seen, state, deterministic=True)
    return lambda: agent.predict(seen, state, deterministic=True)
