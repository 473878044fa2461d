"""One policy for every reward: successor features (Barreto et al. 2017), forward-backward (Touati and Ollivier 2021).

    M(s,a,x) = sum_{t>=0} gamma^t Pr(s_t = x | s, a, pi)     the present state counts (t=0): E_pi M = (I - gamma P)^-1
    FB       M(s,a,x) = F(s,a,z) . B(x) rho(x),     z_r = E_rho [r B],     pi_z(s) = argmax_a F(s,a,z) . z
    L_FB     = E (F(s,a,z) . B(x) - gamma F'(s',pi_z(s'),z) . B'(x))^2 / 2 - E F(s,a,z) . B(s) + c L_ortho
    L_ortho  = E (B(x) . B(y))^2 / 2 - E |B(x)|^2            which pulls E B B' towards I
    SF       F(s,a,z) = phi(s) + gamma F'(s',pi_z(s'),z),    z_r = argmin_z E (r - phi . z)^2,    phi given

Since Q_r = sum_x M r, a reward that comes after training needs no more learning: it only picks z, and the policy was
learnt for all z. Successor features do as much for rewards in the span of phi, here the slowest modes of the walk.
Look at `successor_matrix` first, then at `fb_loss`. States are numbers, as in `GridMaze.walk`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

from kit import runtime
from kit.data import Episodes, sample_steps
from kit.rl.sac import Ensemble
from kit.skills.skill import check_skill, sphere
from kit.types import Metrics

ACTIONS = 4


@dataclass(frozen=True)
class Config:
    """Settings; the defaults solve four rooms."""

    basis: str = "learned"  # B: "learned" (forward-backward) or "laplacian" (successor features)
    dim: int = 64  # D, numbers in z; with as many as states FB can be exact
    gamma: float = 0.95  # discount of a step
    updates: int = 6000
    batch_size: int = 256  # transitions in an update, each with a skill
    hidden: tuple[int, ...] = (512,)  # widths of F's layers
    learning_rate: float = 5e-3  # of Adam at the start; it falls linearly to 0
    tau: float = 0.05  # share by which targets follow in an update
    ortho: float = 1.0  # c, weight of L_ortho
    mix: float = 0.5  # share of the skills in a batch that are goals' z; the others are uniform on the sphere

    def __post_init__(self) -> None:
        if self.basis not in ("learned", "laplacian"):
            raise ValueError(f"basis is {self.basis!r}; it must be learned or laplacian")
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; visits are finite for 0 <= gamma < 1")
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim}; a skill has at least 1 number")


# ---- tables: what is exact ----------------------------------------------------------------------------------------


def successor_matrix(next_state: np.ndarray, policy: np.ndarray, gamma: float) -> np.ndarray:
    """M (S, A, S) of a policy (S, A) in a deterministic world `next_state` (S, A), by a linear solve."""
    size = len(next_state)
    transition = np.zeros((size, size))
    np.add.at(transition, (np.arange(size)[:, None], next_state), policy)
    of_states = np.linalg.inv(np.eye(size) - gamma * transition)
    return np.eye(size)[:, None] + gamma * of_states[next_state]


def greedy_actions(F: np.ndarray, z: np.ndarray) -> np.ndarray:
    """pi_z (S,) of F (S, A, D) and z (D,): of equally good actions the first."""
    q = F @ z
    return (q >= q.max(axis=1, keepdims=True) - 1e-9).argmax(axis=1)


def tabular_fb(next_state: np.ndarray, z: np.ndarray, gamma: float) -> np.ndarray:
    """F (S, A, S) for one z in a table with D = S and B(x) = e_x / rho(x), for which z_r = r and F = M of pi_z.

    Policy iteration: improve pi_z by F, and solve F for pi_z, until the two agree.
    """
    actions = np.zeros(len(next_state), int)
    while True:
        F = successor_matrix(next_state, np.eye(ACTIONS)[actions], gamma)
        better = greedy_actions(F, z)
        if (better == actions).all():
            return F
        actions = better


def laplacian_basis(data: Episodes, size: int, dim: int) -> np.ndarray:
    """phi (S, dim): the slowest modes of the logged walk, counted both ways; E_rho phi phi' = I."""
    steps = data.steps
    s, s2 = (data.observations[rows, 0].astype(int) for rows in (steps, steps + 1))
    counts = np.zeros((size, size))
    np.add.at(counts, (s, s2), 1.0)
    counts += counts.T
    scale = 1 / np.sqrt(np.maximum(counts.sum(axis=1), 1e-9))
    _, vectors = np.linalg.eigh(scale[:, None] * counts * scale)
    return (scale[:, None] * vectors[:, ::-1][:, :dim]) * np.sqrt(counts.sum())


# ---- the pieces ---------------------------------------------------------------------------------------------------


def fb_loss(
    f: torch.Tensor, f_next: torch.Tensor, B: torch.Tensor, B_target: torch.Tensor, rho: torch.Tensor, s: torch.Tensor,
    gamma: float,
) -> torch.Tensor:  # fmt: skip
    """L_FB without L_ortho. `f` are F(s,a,z) (n, D) at states s (n,), `f_next` the target's F'(s',pi_z(s'),z) (n, D),
    `B` and `B_target` tables (S, D). The mean over x is exact: x runs over all states, weighted by rho (S,)."""
    apart = f @ B.T - gamma * f_next @ B_target.T
    return 0.5 * (apart**2 @ rho).mean() - (f * B[s]).sum(dim=1).mean()


def ortho_loss(B: torch.Tensor, rho: torch.Tensor) -> torch.Tensor:
    """L_ortho of a table B (S, D): |E B B' - I|^2 / 2 without its constant, D / 2."""
    second = (B * rho[:, None]).T @ B
    return 0.5 * (second**2).sum() - second.trace()


def sf_loss(f: torch.Tensor, f_next: torch.Tensor, phi: torch.Tensor, gamma: float) -> torch.Tensor:
    """Squared error of F(s,a,z) against phi(s) + gamma F'(s',pi_z(s'),z), (B, D) each."""
    return 0.5 * ((f - phi - gamma * f_next) ** 2).sum(dim=1).mean()


def to_sphere(z: np.ndarray) -> np.ndarray:
    """Skills (..., D) scaled to the norm sqrt(D).

    Raises:
        ValueError: a skill is zero or not finite: such a prompt asks for nothing.
    """
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    if not (np.isfinite(norm) & (norm > 0)).all():
        raise ValueError(f"a skill has norm {norm.min()}; a prompt whose skill is zero or not finite asks for nothing")
    return (z / norm * np.sqrt(z.shape[-1])).astype(np.float32)


# ---- state --------------------------------------------------------------------------------------------------------


class Forward(nn.Module):
    """F: state numbers (n,) and skills (n, D) to (n, A, D)."""

    def __init__(self, size: int, cfg: Config, generator: torch.Generator):
        super().__init__()
        self.size, self.dim, self.scale = size, cfg.dim, 1 / (1 - cfg.gamma)
        self.net = Ensemble(1, (size + cfg.dim, *cfg.hidden, ACTIONS * cfg.dim), "relu", True, generator)

    def forward(self, s: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        inputs = torch.cat([self.size**0.5 * nnf.one_hot(s, self.size), z], dim=1)  # as long as z is
        return self.scale * self.net(inputs)[0].reshape(-1, ACTIONS, self.dim)


class Agent(nn.Module):
    """F and B with their targets. Skills have the norm sqrt(D), and `predict` acts on (state's number, z).

    With successor features B is phi, and stays as it is given.
    """

    def __init__(self, data: Episodes, cfg: Config, generator: torch.Generator):
        super().__init__()
        data.require(obs_dim=1, act_dim=1)
        self.cfg, self.size = cfg, int(data.observations.max()) + 1
        if cfg.dim > self.size:
            raise ValueError(f"dim is {cfg.dim}, but there are only {self.size} states; more numbers say no more")
        self.F, self.F_target = (Forward(self.size, cfg, generator) for _ in range(2))
        self.F_target.load_state_dict(self.F.state_dict())
        visits = np.bincount(data.observations[:, 0].astype(int), minlength=self.size)
        self.register_buffer("rho", torch.from_numpy(visits / visits.sum()).float())
        if cfg.basis == "learned":  # E B B' = I from the start
            start = torch.linalg.qr(torch.randn((self.size, cfg.dim), generator=generator)).Q
            start = start / self.rho.clamp(min=1e-9).sqrt()[:, None]
        else:
            start = torch.from_numpy(laplacian_basis(data, self.size, cfg.dim)).float()
        self.B = nn.Parameter(start, requires_grad=cfg.basis == "learned")
        self.B_target = nn.Parameter(start.clone(), requires_grad=False)
        self.generator = generator

    def basis(self, states: np.ndarray) -> np.ndarray:
        """B (n, D) of states, numbers (n,) or (n, 1).

        Raises:
            ValueError: there is no such state in the data, as for a goal inside a wall.
        """
        numbers = np.asarray(states).reshape(-1)
        if not len(numbers) or not np.isin(numbers, np.arange(self.size)).all():
            wrong = numbers[~np.isin(numbers, np.arange(self.size))]
            raise ValueError(f"state {wrong[:1]} is none of 0..{self.size - 1}; walls have no number")
        return self.B.detach().numpy()[numbers.astype(int)]

    def z_from_goal(self, s: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Skills (n, D) that go to states g (n,) and stay, wherever they start: `s` has no say. Norm sqrt(D)."""
        return to_sphere(self.basis(g))

    def z_from_reward(self, states: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """The skill (D,) for rewards (n,) of states (n,) drawn as the data's are. Norm sqrt(D)."""
        b, rewards = self.basis(states), np.asarray(rewards, np.float64)
        if rewards.shape != (len(b),):
            raise ValueError(f"rewards have shape {rewards.shape}; {(len(b),)} is needed, one a state")
        if self.cfg.basis == "laplacian":
            return to_sphere(np.linalg.lstsq(b, rewards, rcond=None)[0])
        return to_sphere((rewards[:, None] * b).mean(axis=0))

    def z_from_states(self, states: np.ndarray) -> np.ndarray:
        """The skill (D,) that spends its time where a demonstration's states (n,) are. Norm sqrt(D)."""
        return to_sphere(self.basis(states).mean(axis=0))

    @torch.no_grad()
    def q(self, states: np.ndarray, z: np.ndarray) -> np.ndarray:
        """F(s, ., z) . z (n, A) of states (n,) and skills (D,) or (n, D)."""
        z = torch.from_numpy(np.broadcast_to(z, (len(states), self.cfg.dim)).copy())
        return torch.einsum("nad,nd->na", self.F(torch.as_tensor(states).long(), z), z).numpy()

    def policy(self, z: np.ndarray) -> np.ndarray:
        """The greedy policy's actions (S,) for a skill (D,)."""
        z = check_skill(z, self.cfg.dim, self.cfg.dim**0.5)
        return self.q(np.arange(self.size), z).argmax(axis=1)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        """Actions, numbers () or (n,), for (state's number, z): (1 + D,) or (n, 1 + D). Always greedy."""
        obs = np.asarray(observation, np.float32)
        rows = obs.reshape(-1, obs.shape[-1])
        z = check_skill(rows[:, 1:], self.cfg.dim, self.cfg.dim**0.5)
        self.basis(rows[:, 0])
        return self.q(rows[:, 0], z).argmax(axis=1).reshape(obs.shape[:-1]), state


class Learner:
    """An agent with its optimiser and data. `state_dict` holds all that an update depends on."""

    def __init__(self, data: Episodes, cfg: Config, *, seed: int):
        self.data, self.cfg, self.rng = data, cfg, np.random.default_rng(seed)
        self.agent = Agent(data, cfg, torch.Generator().manual_seed(seed))
        self.agent.F_target.requires_grad_(False)
        trained = [p for p in self.agent.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=cfg.learning_rate, fused=True)
        self.states = torch.from_numpy(data.observations[:, 0].astype(np.int64))
        self.actions = torch.from_numpy(data.actions[:, 0].astype(np.int64))

    def sample_skill(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """z (n, D): goals' skills and uniform ones, `mix` and 1 - `mix`."""
        z = to_sphere(sphere(n, self.cfg.dim, rng))
        goals = rng.random(n) < self.cfg.mix
        rows = rng.integers(len(self.data), size=int(goals.sum()))
        if len(rows):
            z[goals] = self.agent.z_from_goal(None, self.states[rows].numpy())
        return z

    def sample(self) -> dict[str, torch.Tensor]:
        """Transitions `s`, `a`, `s2`, and skills `z`."""
        rows = torch.from_numpy(sample_steps(self.data, self.cfg.batch_size, self.rng))
        z = torch.from_numpy(self.sample_skill(self.cfg.batch_size, self.rng))
        return {"s": self.states[rows], "a": self.actions[rows], "s2": self.states[rows + 1], "z": z}

    def update(self, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """One step of F, and of B where it is learnt."""
        agent, cfg, rows = self.agent, self.cfg, torch.arange(len(batch["s"]))
        with torch.no_grad():
            ahead = agent.F_target(batch["s2"], batch["z"])
            f_next = ahead[rows, torch.einsum("nad,nd->na", ahead, batch["z"]).argmax(dim=1)]
        f = agent.F(batch["s"], batch["z"])[rows, batch["a"]]
        if cfg.basis == "laplacian":
            losses = {"sf_loss": sf_loss(f, f_next, agent.B[batch["s"]], cfg.gamma)}
        else:
            fb = fb_loss(f, f_next, agent.B, agent.B_target, agent.rho, batch["s"], cfg.gamma)
            losses = {"fb_loss": fb, "ortho_loss": cfg.ortho * ortho_loss(agent.B, agent.rho)}
        self.optimiser.zero_grad()
        sum(losses.values()).backward()
        self.optimiser.step()
        with torch.no_grad():
            slow = [*agent.F_target.parameters(), agent.B_target]
            torch._foreach_lerp_(slow, [*agent.F.parameters(), agent.B], cfg.tau)
        return {name: loss.item() for name, loss in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({
            "agent": self.agent.state_dict(), "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
        })  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))  # an optimiser would keep the very tensors that it is given
        self.agent.load_state_dict(state["agent"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]


# ---- training -----------------------------------------------------------------------------------------------------


def train(data: Episodes, cfg: Config, *, seed: int, every: int = 50) -> Iterator[Metrics]:
    """Learn F and B from logged walks, without any reward; yields after every `every` updates. The agent is an `Agent`.

    Raises:
        ValueError: observations or actions are not single numbers.
    """
    runtime.one_thread()
    learner = Learner(data, cfg, seed=seed)
    for update in range(1, cfg.updates + 1):
        for group in learner.optimiser.param_groups:
            group["lr"] = cfg.learning_rate * (1 - (update - 1) / cfg.updates)
        info = learner.update(learner.sample())
        if update % every == 0 or update == cfg.updates:
            yield Metrics({"updates": float(update), "progress": update / cfg.updates} | info, agent=learner.agent)


def optimal_share(next_state: np.ndarray, actions: np.ndarray, reward: np.ndarray, gamma: float) -> float:
    """Discounted return of a policy's actions (S,) for rewards (S,), as a share of the best, mean over all starts."""

    def returns(acts: np.ndarray) -> float:
        M = successor_matrix(next_state, np.eye(ACTIONS)[acts], gamma)
        return float((M[np.arange(len(acts)), acts] @ reward).mean())

    best = greedy_actions(tabular_fb(next_state, reward, gamma), reward)
    return returns(actions) / returns(best)
