"""Try, look, try again: a cloned policy with a verifier that says whether it worked. Etukuru et al. 2024, Robot Utility
Models.

    p(a|o)   = sum_k w_k(o) N(a; mu_k(o), sigma_k(o)^2)       behaviour cloning with K modes; L = -mean log p(a|o)
    yes(o_T) = 1[f(o_T) > tau]                                a verifier of the last frame; here a small classifier
    tau      so that of the failures at most a share alpha is accepted, on scenes that f has not learned from
    loop     policy -> verifier -> reset -> policy ..         until yes, or the budget of tries is spent

In the paper a large multimodal model looks at the pictures; whatever says yes or no, its two errors are all that counts
for the loop. A retry helps as far as attempts differ: `predict` draws from the mixture. Look first at `retry`, then at
`expected_success`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from kit import runtime
from kit.sim2real.people import drawers
from kit.sim2real.people.drawers import Drawers
from kit.types import Metrics

Verifier = Callable[[np.ndarray], np.ndarray]  # last frames (n, 12) -> says yes, bool (n,)
odds_loss = nn.functional.binary_cross_entropy_with_logits


@dataclass(frozen=True)
class Config:
    """The demonstrations, the two networks and the loop."""

    drawers: drawers.Config = field(default_factory=drawers.Config)
    scenes: int = 240  # scenes with demonstrations
    demos: int = 480  # demonstrations in all of them together; the quarter that misses is left out
    modes: int = 5  # Gaussians in the mixture, K
    hidden: int = 128  # width of the networks' hidden layers
    steps: int = 1500  # gradient steps of the policy
    verifier_steps: int = 500  # gradient steps of the verifier
    batch: int = 256  # frames in a gradient step
    rate: float = 2e-3  # largest learning rate
    least_std: float = 0.135  # of an action [largest steps]; below that the mixture would learn scenes by heart
    labelled: int = 300  # more scenes: a person labels four attempts in each, half of them for the threshold
    false_accept: float = 0.05  # alpha, the share of failures that the threshold lets pass
    tries: int = 3  # attempts at most
    unseen: int = 300  # new scenes that judge

    def __post_init__(self) -> None:
        if self.scenes < 1 or self.demos % self.scenes:
            raise ValueError(f"{self.demos} demonstrations in {self.scenes} scenes; each scene needs as many")
        if not 0 <= self.false_accept < 1:
            raise ValueError(f"false_accept is {self.false_accept}; it is a share, at least 0 and below 1")
        if self.tries < 1:
            raise ValueError(f"tries is {self.tries}; at least 1 is needed")


# ---- the pieces -----------------------------------------------------------------------------------------------------


def mixture_loss(log_w: torch.Tensor, mean: torch.Tensor, log_std: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """-mean log p(a|o): log weights (B, K), means and log standard deviations (B, K, d), actions (B, d); a scalar."""
    z = (a[:, None] - mean) / log_std.exp()
    log_density = -(0.5 * z**2 + log_std + 0.5 * np.log(2 * np.pi)).sum(dim=2)
    return -torch.logsumexp(log_w + log_density, dim=1).mean()


def threshold(scores: np.ndarray, success: np.ndarray, false_accept: float) -> float:
    """tau: the least score of a failure above which at most a share `false_accept` of the failures lies.

    `scores` (n,) and `success` bool (n,) are of labelled attempts, `false_accept` at least 0 and below 1.

    Raises:
        ValueError: there is no failure among them, so nothing to learn about false accepts from.
    """
    failures = np.sort(scores[~success])[::-1]
    if not len(failures):
        raise ValueError(f"all {len(scores)} labelled attempts succeeded; a threshold needs failures as well")
    return float(failures[int(false_accept * len(failures))])


def error_rates(yes: np.ndarray, success: np.ndarray) -> tuple[float, float]:
    """Share of failures that were accepted, and share of successes that were rejected; both arguments bool (n,)."""
    return float((yes & ~success).sum() / max((~success).sum(), 1)), float(
        (~yes & success).sum() / max(success.sum(), 1)
    )


def expected_success(p: np.ndarray, false_accept: float, false_reject: float, tries: int) -> np.ndarray:
    """Probability (n,) that a drawer ends open when each try opens it with probability p (n,), independently.

    What the last of `tries` leaves counts: nobody checks it any more. A float p gives a float.
    """
    again = p * false_reject + (1 - p) * (1 - false_accept)
    stopped = p * (1 - false_reject) * sum(again**k for k in range(tries - 1))
    return stopped + again ** (tries - 1) * p


def settle(opened: np.ndarray, yes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the loop ends where all tries are known: success (n,) and tries used (n,), from bool (tries, n) each."""
    asked = yes.copy()
    asked[-1] = True  # after the last try there is nothing left to decide
    last = asked.argmax(axis=0)
    return opened[last, np.arange(opened.shape[1])], last + 1


# ---- the networks ---------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Two hidden layers on standardised inputs; `like` (n, d) gives their mean and spread."""

    def __init__(self, like: np.ndarray, hidden: int, n_out: int, generator: torch.Generator):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(like.mean(axis=0)))
        self.register_buffer("std", torch.as_tensor(like.std(axis=0) + 1e-6))
        sizes = (like.shape[1], hidden, hidden, n_out)
        # torch's own initialisation would draw from the process's generator
        layers = [nn.utils.skip_init(nn.Linear, a, b) for a, b in pairwise(sizes)]
        for layer in layers:
            nn.init.normal_(layer.weight, 0.0, (3 * layer.in_features) ** -0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        self.net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - self.mean) / self.std)


class Clone(Network):
    """The policy: a mixture of `modes` Gaussians over actions (n, 2). `seed` draws what `predict` draws."""

    def __init__(self, like: np.ndarray, cfg: Config, generator: torch.Generator, seed: int):
        super().__init__(like, cfg.hidden, 5 * cfg.modes, generator)
        self.modes, self.least = cfg.modes, float(np.log(cfg.least_std))
        self.rng = np.random.default_rng([seed, 1])

    def mixture(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log weights (n, K), means (n, K, 2), log standard deviations (n, K, 2)."""
        out = self(x).reshape(len(x), self.modes, 5)
        return torch.log_softmax(out[..., 0], dim=1), out[..., 1:3], out[..., 3:].clamp(self.least, 1.0)

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic: bool = False):
        """Stable-Baselines3's. Deterministic: the mean of the likeliest mode; else a draw from the mixture."""
        x = torch.as_tensor(np.atleast_2d(observation), dtype=torch.float32)
        log_w, mean, log_std = (t.numpy().astype(float) for t in self.mixture(x))
        scores = log_w if deterministic else log_w + self.rng.gumbel(size=log_w.shape)  # its argmax is a draw
        chosen = np.arange(len(x)), scores.argmax(axis=1)
        action = mean[chosen]
        if not deterministic:
            action = action + np.exp(log_std[chosen]) * self.rng.standard_normal(action.shape)
        return np.clip(action, -1, 1).reshape(*np.shape(observation)[:-1], 2), state


class Classifier(Network):
    """The verifier: f, the log odds of success, and tau, above which it says yes."""

    tau = 0.0

    @torch.no_grad()
    def scores(self, frames: np.ndarray) -> np.ndarray:
        """f of frames (..., 12)."""
        return self(torch.as_tensor(frames, dtype=torch.float32))[..., 0].numpy().astype(float)

    def says_yes(self, frames: np.ndarray) -> np.ndarray:
        """Whether each frame (..., 12) looks like success, bool (...)."""
        return self.scores(frames) > self.tau


def fit(
    net: nn.Module, loss: Callable, data: tuple[np.ndarray, ...], steps: int, cfg: Config, generator: torch.Generator
) -> Iterator[float]:
    """Minimise loss(batch of each array of `data`) by Adam, its rate rising and then falling; yields each loss."""
    optimiser = torch.optim.Adam(net.parameters(), lr=cfg.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, cfg.rate, total_steps=steps)
    tensors = [torch.as_tensor(x) for x in data]
    for _ in range(steps):
        rows = torch.randint(len(tensors[0]), (cfg.batch,), generator=generator)
        value = loss(*(t[rows] for t in tensors))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        yield value.item()


# ---- the loop -------------------------------------------------------------------------------------------------------


def attempt(task: Drawers, policy: Clone, deterministic: bool = False) -> np.ndarray:
    """One attempt in each simulation; the last frames (n, 12)."""
    for _ in range(task.max_steps):
        task.step(policy.predict(task.observe(), deterministic=deterministic)[0])
    return task.observe()


def retry(task: Drawers, policy: Clone, verifier: Verifier, tries: int) -> tuple[np.ndarray, np.ndarray]:
    """policy -> verifier -> reset -> policy .., until yes or `tries`: success (n,) and tries used (n,)."""
    success, used = np.zeros(task.num_envs, bool), np.zeros(task.num_envs, int)
    waiting = np.arange(task.num_envs)
    for _ in range(tries):
        frames = attempt(task, policy)
        success[waiting] = task.opened()[waiting]
        used[waiting] += 1
        waiting = waiting[~verifier(frames)[waiting]]
        if not len(waiting):
            break
        task.again(waiting)
    return success, used


def attempts(task: Drawers, policy: Clone, tries: int, deterministic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """`tries` attempts in every scene, whatever comes of them: opened (tries, n) and last frames (tries, n, 12)."""
    opened, frames = [], []
    for _ in range(tries):
        frames.append(attempt(task, policy, deterministic))
        opened.append(task.opened())
        task.again(np.arange(task.num_envs))
    return np.array(opened), np.array(frames)


# ---- learning -------------------------------------------------------------------------------------------------------


def train(cfg: Config, *, seed: int) -> Iterator[Metrics]:
    """Clone demonstrations of `cfg.scenes` scenes: `loss`, every 50 steps; the agent is the `Clone`."""
    runtime.one_thread()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    scenes = drawers.repeat(drawers.draw(cfg.scenes, rng, cfg.drawers), cfg.demos // cfg.scenes)
    observations, actions, opened = drawers.demonstrations(scenes, rng, cfg.drawers)
    data = observations[:, opened].reshape(-1, 12), actions[:, opened].reshape(-1, 2)
    policy = Clone(data[0], cfg, generator, seed)
    losses = fit(policy, lambda o, a: mixture_loss(*policy.mixture(o), a), data, cfg.steps, cfg, generator)
    for step, loss in enumerate(losses, 1):
        if step % 50 == 0 or step == cfg.steps:
            yield Metrics({"steps": float(step), "progress": step / cfg.steps, "loss": loss}, agent=policy)


def train_verifier(policy: Clone, cfg: Config, *, seed: int) -> Classifier:
    """The verifier: learned from labelled last frames of half of the labelled scenes, its threshold set on the rest."""
    runtime.one_thread()
    rng, generator = np.random.default_rng([seed, 2]), torch.Generator().manual_seed(seed + 1)
    task = drawers.start(drawers.draw(cfg.labelled, rng, cfg.drawers), rng, cfg.drawers)
    opened, frames = attempts(task, policy, 4)
    half = cfg.labelled // 2
    data = frames[:, :half].reshape(-1, 12), opened[:, :half].reshape(-1).astype(np.float32)
    verifier = Classifier(data[0], cfg.hidden, 1, generator)
    for _ in fit(verifier, lambda x, y: odds_loss(verifier(x)[:, 0], y), data, cfg.verifier_steps, cfg, generator):
        pass
    verifier.tau = threshold(verifier.scores(frames[:, half:]).ravel(), opened[:, half:].ravel(), cfg.false_accept)
    return verifier


def unseen(cfg: Config, *, seed: int) -> Drawers:
    """New scenes, the same for all that have `seed`."""
    rng = np.random.default_rng([seed, 3])
    return drawers.start(drawers.draw(cfg.unseen, rng, cfg.drawers), rng, cfg.drawers)
