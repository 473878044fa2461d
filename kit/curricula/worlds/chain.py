"""A chain of grasping and carrying on which a discount can be too large and too small, for imitation from observation.

A demonstrator reaches a ball, grasps it with secret finger moves, carries it and lifts it over a wall. The student sees
the demonstrations' frames only; its reward is the optimal transport of `kit.curricula.discount_schedule`. In each place
there is a cheaper way that leaves the ball:

    grasp    a wrong finger move stops the arm. Skipping shows nothing for `retreat` steps, then the hand alone goes on
             and pays w, the hand's share of the picture. Skipping beats grasping with untrained fingers if
                 gamma^retreat w / (1 - gamma)  >>  1 / (1 - gamma / actions)             too large a discount skips
    wall     the student's arm cannot lift the ball. Round the wall pays c for d steps, then 1 of L in all; letting the
             ball go pays w at once. Round beats it if
                 (1 - c) gamma^d  >  (w - c) + (1 - w) gamma^L                            too small a discount lets go

With the defaults the first tips around 0.93 and the second at 0.945 (at 0.929, as written here, if no demonstrator
paused): the world is made so that no constant discount does both. Frames are rows of `Chain.frames`. The student is
REINFORCE on one softmax a state. Its returns carry the factor 1 - gamma, so that the baseline keeps its scale when the
discount moves. Look at `scripted`, then `train`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import softmax

from kit.curricula.discount_schedule import cosine_cost, gamma_of, ot_reward, reference_score
from kit.types import Metrics


@dataclass(frozen=True)
class Config:
    """The chain, then the student."""

    approach: int = 6  # steps to the ball; one action moves, the others stand still
    grasp: int = 4  # secret finger moves
    carry: int = 16  # steps to the wall
    detour: int = 14  # d, steps round the wall
    rest: int = 14  # steps after it
    retreat: int = 5  # dark frames after the grasp was skipped
    actions: int = 4  # in each state
    hand_share: float = 0.3  # w, similarity of two frames that show the same hand but another ball
    overlap: float = 0.05  # c, similarity of the way round and the way over the wall
    demos: int = 4  # demonstrations
    pauses: int = 2  # steps at which a demonstrator stands still, drawn for each
    episodes: int = 16  # in an update
    updates: int = 500  # of the policy
    learning_rate: float = 0.5  # of the logits, for advantages with standard deviation 1
    value_rate: float = 0.1  # of the baseline
    epsilon: float = 0.02  # of the Sinkhorn plan [cost]
    sinkhorn_steps: int = 40  # rounds

    def __post_init__(self) -> None:
        least = {"approach": 1, "grasp": 1, "carry": 1, "detour": 1, "rest": 2, "retreat": 1, "actions": 3, "demos": 1}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {limit}")
        if not (0 < self.hand_share < 0.5 and 0 < self.overlap < self.hand_share):
            raise ValueError(
                f"hand_share is {self.hand_share}, overlap {self.overlap}; they must satisfy 0 < overlap < hand_share "
                "< 0.5, else a hand without a ball counts as progress or going round needs no foresight"
            )
        if not 0 <= self.pauses < self.horizon - self.past:
            raise ValueError(f"pauses is {self.pauses}; a demonstration may pause 0 to {self.rest - 1} times")
        if self.retreat >= self.horizon:
            raise ValueError(f"retreat is {self.retreat}; it must be shorter than the episode, {self.horizon} steps")

    @property
    def wall(self) -> int:
        """Place before the wall [steps from the start]."""
        return self.approach + self.grasp + self.carry

    @property
    def past(self) -> int:
        """Last place beside the wall."""
        return self.wall + self.detour

    @property
    def horizon(self) -> int:
        """T, steps of every episode."""
        return self.past + self.rest


@dataclass(frozen=True)
class Chain:
    """The world as tables over S states; the student starts in state 0."""

    cfg: Config
    next: np.ndarray  # (S, actions) state after a step
    frames: np.ndarray  # (S, pixels) what the camera sees: hand and ball on two rows each, one pixel for the dark
    cost: np.ndarray  # (S, S) cosine cost between frames
    demos: np.ndarray  # (demos, T) the demonstrators' states
    secret: np.ndarray  # (grasp,) the right finger moves
    grasped: np.ndarray  # (S,) bool: the ball was grasped on the way to this state
    done: np.ndarray  # (S,) bool: the ball is past the wall, so it was grasped and carried round


# ---- the world --------------------------------------------------------------------------------------------------

# A state is a mode and a place, 0 .. T: the ball where the demonstrator has it; the hand gone on after skipping or
# after letting go; round the wall; stopped; and the dark steps of a retreat, counted from 0.
WITH_BALL, SKIPPED, DROPPED, ROUND, STOPPED, RETREAT = range(6)


def state(cfg: Config, mode: int, place: int | np.ndarray) -> int | np.ndarray:
    """The number of a state."""
    return mode * (cfg.horizon + 1) + place


def transitions(cfg: Config, secret: np.ndarray) -> np.ndarray:
    """Where each action leads, (S, actions). Action 0 goes on; at the ball it skips, at the wall it lets go."""
    T, ball = cfg.horizon, cfg.approach + cfg.grasp
    table = np.arange(6 * (T + 1))[:, None].repeat(cfg.actions, axis=1)
    for mode in (WITH_BALL, SKIPPED, DROPPED, ROUND):
        place = np.arange(T)
        table[state(cfg, mode, place)] = state(cfg, mode, place + 1)[:, None]
    for place in range(cfg.approach):
        table[place, 1:] = place
    for place, move in enumerate(secret, cfg.approach):
        table[place] = state(cfg, STOPPED, place)
        table[place, move] = place + 1
    table[cfg.approach, 0] = state(cfg, RETREAT, 0)
    for place in range(cfg.retreat):
        table[state(cfg, RETREAT, place)] = state(cfg, RETREAT, place + 1)
    table[state(cfg, RETREAT, cfg.retreat - 1)] = state(cfg, SKIPPED, ball + 1)
    table[cfg.wall] = cfg.wall
    table[cfg.wall, :2] = state(cfg, DROPPED, cfg.wall + 1), state(cfg, ROUND, cfg.wall + 1)
    table[state(cfg, ROUND, cfg.past)] = state(cfg, WITH_BALL, cfg.past + 1)
    return table


def draw_frames(cfg: Config) -> np.ndarray:
    """What each state looks like, (S, pixels) of length 1."""
    n = cfg.horizon + 1
    mode, hand = np.divmod(np.arange(6 * n), n)
    ball = np.maximum(hand, cfg.approach + cfg.grasp)  # at rest until it is grasped
    ball[mode == SKIPPED], ball[mode == DROPPED] = cfg.approach + cfg.grasp, cfg.wall
    row = np.where((mode == ROUND)[:, None], [cfg.overlap, np.sqrt(1 - cfg.overlap**2)], [1.0, 0.0])
    each, w = np.arange(6 * n), cfg.hand_share
    pictures = np.zeros((6 * n, 2, n, 2))  # hand and ball, place, row
    pictures[each, 0, hand] = np.sqrt(w * (mode != RETREAT))[:, None] * row
    pictures[each, 1, ball] = np.sqrt((1 - w) * ((mode != RETREAT) & (mode != STOPPED)))[:, None] * row
    pixels = pictures.reshape(6 * n, -1)
    dark = np.sqrt(np.clip(1 - (pixels**2).sum(axis=1, keepdims=True), 0, None))
    return np.hstack((pixels, dark))


def make_chain(cfg: Config | None = None, *, seed: int) -> Chain:
    """The seed draws the finger moves and where the demonstrators pause. The first move is never 0, which skips."""
    cfg, rng = cfg or Config(), np.random.default_rng((seed, 0))
    secret = rng.integers(0, cfg.actions, cfg.grasp)
    secret[0] = rng.integers(1, cfg.actions)
    frames = draw_frames(cfg)
    steps = np.ones((cfg.demos, cfg.horizon), int)
    for row in steps:
        row[rng.choice(cfg.horizon, cfg.pauses, replace=False)] = 0
    mode, place = np.divmod(np.arange(len(frames)), cfg.horizon + 1)
    grasped = (mode == DROPPED) | (mode == ROUND) | ((mode == WITH_BALL) & (place >= cfg.approach + cfg.grasp))
    done = (mode == WITH_BALL) & (place > cfg.past)
    cost = np.clip(cosine_cost(frames, frames), 0, None)
    return Chain(cfg, transitions(cfg, secret), frames, cost, steps.cumsum(axis=1), secret, grasped, done)


def scripted(chain: Chain, way: str) -> np.ndarray:
    """The states (T,) that an episode leads to which does everything right, or but for one thing.

    `way` is "right", "skip" (the grasp), "drop" (let the ball go at the wall) or "stop" (a wrong first finger move).
    """
    if way not in ("right", "skip", "drop", "stop"):
        raise ValueError(f"way is {way!r}; it must be right, skip, drop or stop")
    cfg = chain.cfg
    choose = dict(enumerate(chain.secret, cfg.approach)) | {cfg.wall: 0 if way == "drop" else 1}
    if way in ("skip", "stop"):
        wrong = 1 if chain.secret[0] != 1 else 2
        choose[cfg.approach] = 0 if way == "skip" else wrong
    path = [0]
    for _ in range(cfg.horizon):
        path.append(int(chain.next[path[-1], choose.get(path[-1], 0)]))
    return np.array(path[1:])


# ---- the pieces -------------------------------------------------------------------------------------------------


def demo_costs(chain: Chain) -> np.ndarray:
    """Costs between the demonstrations, (demos, demos, T, T)."""
    return chain.cost[chain.demos[:, None, :, None], chain.demos[None, :, None, :]]


def episode_costs(chain: Chain, states: np.ndarray) -> np.ndarray:
    """Costs (..., demos, T, T) of episodes' states (..., T) to the demonstrations."""
    return chain.cost[states[..., None, :, None], chain.demos[:, None, :]]


def proxy_rewards(chain: Chain, states: np.ndarray) -> np.ndarray:
    """Rewards (n, T) of episodes' states (n, T), from the demonstration that gives each episode most in all."""
    paths, which = np.unique(states, axis=0, return_inverse=True)
    rewards = ot_reward(episode_costs(chain, paths), chain.cfg.epsilon, chain.cfg.sinkhorn_steps)
    best = rewards.sum(axis=-1).argmax(axis=-1)
    return rewards[np.arange(len(paths)), best][which.ravel()]


def returns_to_go(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """(1 - gamma) sum_j gamma^j r_{t+j}, (n, T) from rewards (n, T)."""
    returns, later = np.zeros_like(rewards), np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        later = (1 - gamma) * rewards[:, t] + gamma * later
        returns[:, t] = later
    return returns


def rollout(chain: Chain, logits: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """States (n, T + 1) and actions (n, T) of n episodes."""
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    states, actions = np.zeros((n, chain.cfg.horizon + 1), int), np.zeros((n, chain.cfg.horizon), int)
    for t, draws in enumerate(rng.random((chain.cfg.horizon, n))):
        here = states[:, t]
        actions[:, t] = (draws[:, None] > cumulative[here, :-1]).sum(axis=1)
        states[:, t + 1] = chain.next[here, actions[:, t]]
    return states, actions


def policy_gradient(logits: np.ndarray, states: np.ndarray, actions: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """Gradient (S, actions) of the mean over episodes of sum_t A_t log pi(a_t | s_t); the others (n, T)."""
    gradient = np.zeros_like(logits)
    np.add.at(gradient, (states, actions), advantages)
    np.add.at(gradient, states, -advantages[..., None] * softmax(logits, axis=1)[states])
    return gradient / len(states)


# ---- training ---------------------------------------------------------------------------------------------------


class Discount(Protocol):
    """What sets the discount of an update: `DiscountSchedule`, or one of the two below."""

    @property
    def gamma(self) -> float: ...
    def observe(self, cost_matrices: np.ndarray) -> float: ...


@dataclass
class Fixed:
    """Always the same discount."""

    gamma: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie in [0, 1), since returns are scaled by 1 - gamma")

    def observe(self, cost_matrices: np.ndarray) -> float:
        return self.gamma


@dataclass
class Linear:
    """Progress that grows with time, whatever the student does."""

    horizon: int  # T, where progress ends [steps]
    updates: int  # in which it gets there
    start: float = 0.2  # progress at the start [share of T]
    count: int = 0  # updates so far

    @property
    def gamma(self) -> float:
        share = min(self.start + (1 - self.start) * self.count / self.updates, 1.0)
        return float(gamma_of(max(share * self.horizon, 1.0)))

    def observe(self, cost_matrices: np.ndarray) -> float:
        self.count += 1
        return self.gamma


@dataclass
class Student:
    """A softmax policy and a baseline, both tables."""

    logits: np.ndarray  # (S, actions)
    values: np.ndarray  # (S,) mean return, times (1 - gamma)


def learn(student: Student, states: np.ndarray, actions: np.ndarray, returns: np.ndarray, cfg: Config) -> None:
    """One REINFORCE step with the baseline, then one of the baseline; states, actions and returns (n, T)."""
    advantages = returns - student.values[states]
    visits = np.bincount(states.ravel(), minlength=len(student.values))
    errors = np.bincount(states.ravel(), advantages.ravel(), minlength=len(student.values))
    scale = advantages.std() + 1e-3  # 1e-3: nothing is left to learn
    gradient = policy_gradient(student.logits, states, actions, advantages / scale)
    student.logits += cfg.learning_rate * gradient
    student.values += cfg.value_rate * errors / np.maximum(visits, 1)


def train(chain: Chain, discount: Discount | float, *, seed: int) -> Iterator[Metrics]:
    """Yields after every update; the agent is a `Student`. The schedule sees the first episode of each update.

    Raises:
        ValueError: a fixed discount outside [0, 1).
    """
    cfg, rng = chain.cfg, np.random.default_rng((seed, 1))
    discount = discount if hasattr(discount, "observe") else Fixed(float(discount))
    student = Student(np.zeros(chain.next.shape), np.zeros(len(chain.next)))
    for update in range(cfg.updates):
        gamma = discount.gamma
        states, actions = rollout(chain, student.logits, cfg.episodes, rng)
        rewards = proxy_rewards(chain, states[:, 1:])
        learn(student, states[:, :-1], actions, returns_to_go(rewards, gamma), cfg)
        discount.observe(episode_costs(chain, states[0, 1:]))
        metrics = {"update": update + 1, "gamma": gamma, "proxy_return": rewards.sum(axis=1).mean()}
        yield Metrics(metrics | outcome(chain, states), agent=student)


def outcome(chain: Chain, states: np.ndarray) -> dict[str, float]:
    """Shares of episodes (n, T + 1) that grasped the ball, and that also brought it past the wall."""
    return {"grasped": chain.grasped[states].any(axis=1).mean(), "success": chain.done[states[:, -1]].mean()}


def reference(chain: Chain) -> np.ndarray:
    """The demonstrations' own progress score, (T,): what `DiscountSchedule` starts from."""
    return reference_score(demo_costs(chain))
