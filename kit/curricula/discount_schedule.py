"""Automatic discount scheduling: look further ahead only once the start of a demonstration is mastered.

Liu et al. 2024, "Imitation Learning from Observation with Automatic Discount Scheduling".

    c_ij  = 1 - cos(o_i, e_j)                                           cost of the agent's frame i and the expert's j
    mu    = argmin <mu, c> - eps H(mu),  rows and columns sum to 1/T    entropic optimal transport (Sinkhorn)
    r_i   = -T sum_j mu_ij c_ij                                         proxy reward of frame i
    q_i   = argmin_{j <= k} c_ij,   score(k) = LIS(q_1 .. q_k)          progress: frames that follow the expert's order
    k    += 1   while   score(k) >= floor(lambda reference(k))          reference(k): the demonstrations' own score
    gamma = alpha^{1/k}                                                 the reward k steps ahead then counts alpha

The schedule needs only a score, so any measure of progress can drive it. Look at `progress_score` first, then
`DiscountSchedule.observe_score`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback

LARGEST_EXPONENT = 600.0  # exp(-600) is still a float64, exp(-750) is 0


@dataclass(frozen=True)
class Config:
    """The paper's settings."""

    alpha: float = 0.2  # what a reward k steps ahead counts, in (0, 1)
    threshold: float = 0.9  # lambda: share of the reference score that counts as mastered
    start: float = 0.2  # k at the start [share of the horizon]
    max_delta: int = 5  # most that k grows in one observation; sets the pace
    percentile: float = 90.0  # of the scores against the single demonstrations [%]

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; it must lie between 0 and 1, the paper has 0.2")
        if not (0 < self.threshold <= 1 and 0 <= self.start <= 1 and 0 <= self.percentile <= 100):
            raise ValueError(
                f"threshold is {self.threshold}, start {self.start}, percentile {self.percentile}; "
                "they must lie in (0, 1], in 0..1 and in 0..100"
            )
        if self.max_delta < 1:
            raise ValueError(f"max_delta is {self.max_delta}; at least 1, else the discount never moves")


# ---- the reward -------------------------------------------------------------------------------------------------


def cosine_cost(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """1 - cos of frames (..., T, d) and others (..., U, d): costs (..., T, U) in 0..2.

    Raises:
        ValueError: a frame is all zeros, so it has no direction.
    """
    norms = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (frames, others)]
    if any((n == 0).any() for n in norms):
        raise ValueError("a frame is all zeros and has no cosine; add a constant feature")
    return 1 - (frames / norms[0]) @ np.swapaxes(others / norms[1], -1, -2)


def sinkhorn(costs: np.ndarray, epsilon: float, steps: int) -> np.ndarray:
    """The entropic transport plan between uniform marginals, (..., T, U) like `costs`.

    Rows sum to 1/T exactly; columns to 1/U up to what `steps` rounds leave (Cuturi 2013).

    Raises:
        ValueError: a cost is not finite, or epsilon is so small that the kernel would underflow.
    """
    span = np.ptp(check_finite("costs", costs)) if costs.size else 0.0
    if not (epsilon > 0 and span <= LARGEST_EXPONENT * epsilon):
        least = span / LARGEST_EXPONENT
        raise ValueError(f"epsilon is {epsilon}; with costs that differ by {span:.3g} it must be at least {least:.3g}")
    T, U = costs.shape[-2:]
    kernel = np.exp((costs.min() - costs) / epsilon)
    back = np.ascontiguousarray(np.swapaxes(kernel, -1, -2))
    v = np.ones((*costs.shape[:-2], U, 1))
    for _ in range(steps):
        u = 1 / (T * (kernel @ v))
        v = 1 / (U * (back @ u))
    u = 1 / (T * (kernel @ v))
    return u * kernel * np.swapaxes(v, -1, -2)


def ot_reward(costs: np.ndarray, epsilon: float = 0.01, steps: int = 100) -> np.ndarray:
    """Proxy rewards (..., T) of an episode's frames from its costs (..., T, U) to a demonstration.

    Minus the mean cost of what the frame is matched with. A frame's reward depends on the whole episode.
    """
    return -costs.shape[-2] * (sinkhorn(costs, epsilon, steps) * costs).sum(axis=-1)


# ---- the progress -----------------------------------------------------------------------------------------------


def longest_increasing_subsequence(sequences: np.ndarray) -> np.ndarray:
    """Length (...,) of the longest strictly increasing subsequence of each of `sequences` (..., T).

    Patience sorting, for all rows at once: `tails[l]` is the smallest end of an increasing subsequence of length l + 1.
    """
    *shape, length = np.shape(sequences)
    rows = np.asarray(sequences, float).reshape(int(np.prod(shape)), length)
    tails = np.full(rows.shape, np.inf)
    each = np.arange(len(rows))
    for values in rows.T:
        tails[each, (tails < values[:, None]).sum(axis=1)] = values
    return np.isfinite(tails).sum(axis=1).reshape(shape)


def progress_score(cost_block: np.ndarray) -> np.ndarray:
    """How many of the first k frames follow the expert in order, (...,), from the costs (..., k, k) of both's first k.

    A frame stands for the expert's frame that is nearest to it; frames that stand still or go back do not count.
    """
    return longest_increasing_subsequence(cost_block.argmin(axis=-1))


def reference_score(costs: np.ndarray) -> np.ndarray:
    """What a demonstration scores against the others, (T,): entry k - 1 is the median over ordered pairs at progress k.

    `costs` (n, n, T, T) are those between n demonstrations. A single one is scored against itself.
    """
    check_finite("costs", costs)
    if costs.ndim != 4 or costs.shape[0] != costs.shape[1] or costs.shape[2] != costs.shape[3]:
        raise ValueError(f"costs between demonstrations have shape {costs.shape}; they must be (n, n, T, T)")
    n, T = costs.shape[1:3]
    pairs = costs[~np.eye(n, dtype=bool)] if n > 1 else costs[0]
    return np.array([np.median(progress_score(pairs[:, :k, :k])) for k in range(1, T + 1)])


def gamma_of(k: float | np.ndarray, alpha: float = 0.2) -> float | np.ndarray:
    """The discount whose k-th power is alpha: gamma = alpha^(1/k), for k >= 1 steps."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1, the paper has 0.2")
    if np.min(k) < 1:
        raise ValueError(f"progress is {np.min(k)} steps; at least 1")
    return alpha ** (1 / k)


def check_finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values, if all are finite."""
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{name} at {where} is {values[where]}; it must be finite. Check the frames it comes from")
    return values


# ---- state ------------------------------------------------------------------------------------------------------


class DiscountSchedule:
    """Progress k and the discount that goes with it; k never falls.

        schedule = DiscountSchedule(reference_score(costs_between_demonstrations))
        gamma = schedule.observe(costs_of_an_episode)          # after each episode

    `reference` (T,) is the score that counts as perfect at k = 1 .. T; T is the horizon.
    """

    def __init__(self, reference: np.ndarray, cfg: Config | None = None):
        self.cfg = cfg or Config()
        self.reference = check_finite("reference", np.array(reference, float))
        if self.reference.ndim != 1 or not len(self.reference):
            raise ValueError(
                f"the reference score has shape {self.reference.shape}; it must be (T,), one for each step"
            )
        self.progress = max(1, int(self.cfg.start * self.horizon))

    @property
    def horizon(self) -> int:
        return len(self.reference)

    @property
    def gamma(self) -> float:
        return float(gamma_of(self.progress, self.cfg.alpha))

    def observe(self, cost_matrices: np.ndarray) -> float:
        """The discount after one more episode, from its costs (n, T, T) to n demonstrations (one may drop n).

        Raises:
            ValueError: the episode is not as long as the horizon, or a cost is not finite.
        """
        costs = np.asarray(cost_matrices, float)
        costs = costs[None] if costs.ndim == 2 else costs
        if costs.ndim != 3 or not len(costs) or costs.shape[1:] != (self.horizon, self.horizon):
            T = self.horizon
            raise ValueError(f"costs have shape {costs.shape}; they must be (n, {T}, {T}): episodes of equal length")
        check_finite("costs", costs)
        return self.observe_score(lambda k: np.percentile(progress_score(costs[:, :k, :k]), self.cfg.percentile))

    def observe_score(self, score: float | Callable[[int], float]) -> float:
        """The discount after a score: a number of mastered steps, or a function of k; at most `max_delta` steps up."""
        progress = self.progress
        for _ in range(self.cfg.max_delta):
            value = float(score(progress) if callable(score) else score)
            if not np.isfinite(value):
                raise ValueError(f"the score at progress {progress} is {value}; it must be finite")
            # 1e-9: 0.7 * 10 is 7 and not 6.99
            mastered = value >= np.floor(self.cfg.threshold * self.reference[progress - 1] + 1e-9)
            if not mastered or progress == self.horizon:
                break
            progress += 1
        self.progress = progress
        return self.gamma

    def state_dict(self) -> dict[str, Any]:
        return {"progress": self.progress, "reference": self.reference.copy(), "config": asdict(self.cfg)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: it is of another horizon or its progress lies outside; the schedule stays as it was.
        """
        other = DiscountSchedule(state["reference"], Config(**state["config"]))
        if other.horizon != self.horizon:
            raise ValueError(f"the state has a horizon of {other.horizon} steps, the schedule {self.horizon}")
        if not 1 <= state["progress"] <= self.horizon:
            raise ValueError(f"progress is {state['progress']}; it must lie in 1..{self.horizon}")
        self.cfg, self.reference, self.progress = other.cfg, other.reference, int(state["progress"])


# ---- Stable-Baselines3 ------------------------------------------------------------------------------------------


def push_gamma(model: BaseAlgorithm, gamma: float, *, rescale_values: bool = True) -> None:
    """Give a Stable-Baselines3 model a new discount, everywhere it keeps one.

    On-policy models keep it in the model and in the rollout buffer, off-policy ones in the model and, for returns over
    several steps, in the replay buffer, which discounts when it is sampled. `VecNormalize` keeps another one.

    Values grow like 1 / (1 - gamma), so an on-policy critic is wrong by that factor after a push, and its advantages
    with it. `rescale_values` multiplies the last layer of `policy.value_net` by (1 - old) / (1 - gamma); this is exact
    for a constant reward without end and close as long as the episode is longer than 1 / (1 - gamma) steps. Q-networks
    are left alone: their targets are computed anew from the replayed rewards and follow within some target updates.
    Push between rollouts, or one rollout mixes two discounts.

    Raises:
        ValueError: gamma is not in [0, 1); the model stays as it was.
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma is {gamma}; it must lie in [0, 1)")
    value_net = getattr(model.policy, "value_net", None)
    if rescale_values and value_net is not None and model.gamma < 1:
        factor = (1 - model.gamma) / (1 - gamma)
        for parameter in value_net.parameters():
            parameter.data.mul_(factor)
    buffers = (getattr(model, name, None) for name in ("rollout_buffer", "replay_buffer"))
    for owner in (model, model.get_vec_normalize_env(), *buffers):
        if hasattr(owner, "gamma"):
            owner.gamma = gamma


def sb3_callback(
    schedule: DiscountSchedule,
    episode_costs: Callable[[np.ndarray], np.ndarray],
    *,
    rescale_values: bool = True,
) -> BaseCallback:
    """A Stable-Baselines3 callback that observes each finished episode and pushes the discount before each rollout.

    `episode_costs` maps the T observations (T, ...) that an episode's steps led to, as they were before `VecNormalize`,
    to costs (n, T, T). Save `schedule.state_dict()` beside the model; SB3 saves the discount with the model.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    class PushDiscount(BaseCallback):
        def _on_training_start(self) -> None:
            n, resumed = self.training_env.num_envs, self.num_timesteps > 0 and not self.locals["reset_num_timesteps"]
            self.frames: list[list[np.ndarray]] = [[] for _ in range(n)]
            self.partial = [resumed] * n  # an episode whose start was not seen tells nothing

        def _on_rollout_start(self) -> None:
            if self.model.gamma != schedule.gamma:
                push_gamma(self.model, schedule.gamma, rescale_values=rescale_values)
            self.logger.record("schedule/gamma", schedule.gamma)

        def _on_step(self) -> bool:
            norm = self.model.get_vec_normalize_env()
            raw = norm.unnormalize_obs if norm is not None else np.copy
            for i, (done, info) in enumerate(zip(self.locals["dones"], self.locals["infos"], strict=True)):
                self.frames[i].append(raw(info["terminal_observation"] if done else self.locals["new_obs"][i]))
                if done and not self.partial[i]:
                    schedule.observe(episode_costs(np.stack(self.frames[i])))
                if done:
                    self.frames[i], self.partial[i] = [], False
            return True

    return PushDiscount()
