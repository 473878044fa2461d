"""Value and policy steps a second of `kit.skills.hilp`, beside the same updates written plainly in torch.

The peer is a straightforward reading of the paper: a network and an optimiser for each of the two maps, critics, the
value and the actor, one forward pass for each kind of input, targets followed parameter by parameter. It has the same
sizes, activations, batches and losses, and no metrics. `ours_map`, `ours_skills` and the peer's give the two kinds of
step apart; `ours`, `peer` and `ratio` are of one of each, one after the other. One thread.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import nn

from kit import runtime
from kit.bench import blocks, fresh
from kit.data import Episodes, sample_goals, sample_steps
from kit.skills import hilp, maze_world

OURS, PEER = "kit.skills.hilp", "plain torch"


def measure(rounds: int = 41, block_s: float = 1.0) -> dict[str, Any]:
    """`ratio` is the median over rounds of our steps/s to the peer's, in blocks of `block_s` seconds in turn."""
    return fresh.call(run, rounds=rounds, block_s=block_s)


def run(rounds: int, block_s: float, cfg: hilp.Config | None = None, episodes: int = 100) -> dict[str, Any]:
    """Measure in this process."""
    runtime.one_thread()
    data = maze_world.random_walk("medium", episodes=episodes, seed=0)
    ours, peer = hilp.HILP(data, cfg or hilp.Config(), seed=0), Plain(data, cfg or hilp.Config(), seed=0)
    both = {
        f"{name}_{part}": work
        for name, agent in (("ours", ours), ("peer", peer))
        for part, work in (("map", agent.update_map), ("skills", agent.update_skills))
    }
    speeds = blocks.interleave([blocks.Contestant(name, work) for name, work in both.items()], rounds, block_s / 2)
    one_each = {name: 1 / (1 / speeds[f"{name}_map"] + 1 / speeds[f"{name}_skills"]) for name in ("ours", "peer")}
    found = blocks.summary(one_each | speeds)
    return {
        "name": "hilp_updates",
        "ours": found["ours"]["median"],
        "peer": found["peer"]["median"],
        "peer_name": PEER,
        "ratio": blocks.paired_ratio(one_each["ours"], one_each["peer"]),
        "unit": "pairs of a value step and a policy step/s",
        "compared": f"updates of the map and of the skills on batches of {ours.cfg.batch}, networks {ours.cfg.hidden}",
        "speeds": found,
        "rounds": rounds,
    }


class Plain:
    """HILP as one would first write it."""

    def __init__(self, data: Episodes, cfg: hilp.Config, *, seed: int):
        self.source = hilp.HILP(data, cfg, seed=seed)  # batches, scaling and sizes are not what is compared
        self.cfg, self.data = cfg, data
        n, m, d = data.obs_dim, data.act_dim, cfg.dim
        self.phi = [self._net(n, d) for _ in range(2)]
        self.value, self.actor = self._net(n + d, d), self._net(n + d, m)
        self.critics = [self._net(n + d + m, d) for _ in range(2)]
        self.phi_target, self.critic_target = copy.deepcopy(self.phi), copy.deepcopy(self.critics)
        groups = (self.phi, [self.value], [self.actor], self.critics)
        self.adam = [torch.optim.Adam([p for net in g for p in net.parameters()], cfg.learning_rate) for g in groups]

    def _net(self, n_in: int, n_out: int) -> nn.Sequential:
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise((n_in, *self.cfg.hidden, n_out))]
        return nn.Sequential(*[x for layer in layers for x in (layer, nn.Tanh())][:-1])

    def update_map(self) -> None:
        cfg, rng = self.cfg, self.source.rng
        rows = sample_steps(self.data, cfg.batch, rng)
        goals = sample_goals(self.data, rows, self.source.shares, rng)
        s, s2, g = (self.source.obs[i] for i in (rows, rows + 1, goals))
        at_goal = (s == g).all(dim=1).float()
        with torch.no_grad():
            here = torch.stack([-hilp.latent_distance(phi(s), phi(g)) for phi in self.phi_target])
            after = torch.stack([-hilp.latent_distance(phi(s2), phi(g)) for phi in self.phi_target])
        value = torch.stack([-hilp.latent_distance(phi(s), phi(g)) for phi in self.phi])
        self._descend(self.adam[0], hilp.temporal_loss(value, here, after, at_goal, cfg.gamma, cfg.expectile))
        self._follow(self.phi_target, self.phi)

    def update_skills(self) -> None:
        cfg = self.cfg
        rows = sample_steps(self.data, cfg.batch, self.source.rng)
        s, s2, a = self.source.obs[rows], self.source.obs[rows + 1], self.source.actions[rows]
        z = hilp.directions(len(s), cfg.dim, self.source.generator)
        with torch.no_grad():
            q = torch.stack([(net(torch.cat((s, z, a), 1)) * z).sum(1) for net in self.critic_target]).min(0).values
            reward = ((self.phi[0](s2) - self.phi[0](s)) * z).sum(1)
            backup = reward + cfg.gamma * (self.value(torch.cat((s2, z), 1)) * z).sum(1)
        advantage = q - (self.value(torch.cat((s, z), 1)) * z).sum(1)
        weight = hilp.expectile_weights(advantage.detach(), cfg.skill_expectile)
        self._descend(self.adam[1], (weight * advantage**2).mean())
        errors = [((net(torch.cat((s, z, a), 1)) * z).sum(1) - backup) ** 2 for net in self.critics]
        self._descend(self.adam[3], sum(error.mean() for error in errors))
        weight = (cfg.beta * advantage.detach()).exp().clamp(max=cfg.weight_limit)
        self._descend(self.adam[2], (weight * ((self.actor(torch.cat((s, z), 1)) - a) ** 2).sum(1)).mean())
        self._follow(self.critic_target, self.critics)

    def _descend(self, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def _follow(self, targets: list[nn.Module], nets: list[nn.Module]) -> None:
        for target, net in zip(targets, nets, strict=True):
            for p, q in zip(target.parameters(), net.parameters(), strict=True):
                p.mul_(1 - self.cfg.ema).add_(self.cfg.ema * q)
