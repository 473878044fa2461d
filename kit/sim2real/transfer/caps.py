"""CAPS: a policy whose actions are smooth in time and in state, by two terms in its loss (Mysore et al. 2021).

    L = L_PPO + lambda_T |mu(s_t) - mu(s_t+1)| + lambda_S |mu(s) - mu(s + sigma xi)|,   xi ~ N(0, I)       eqs. 1-3

Motors that are told to tremble get hot and wear, and where commands arrive late a trembling policy cannot settle.
Smoothness is measured by the mean weighted frequency of the actions (eq. 4), from an FFT of an episode of n steps at
rate f_s with the amplitudes M_i at frequencies f_i; smaller is smoother:

    Sm = 2 / (n f_s) sum_i M_i f_i

Look first at `penalty`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kit.rl import ppo


@dataclass(frozen=True)
class Config:
    """Weights, chosen on seed 1000 of the reach study; the paper has 0.1 to 1 and 0.1 to 5."""

    temporal: float = 1.0  # lambda_T
    spatial: float = 1.0  # lambda_S
    sigma: float = 0.05  # of the noise on the observation, which is scaled to order one


def penalty(
    mean: torch.Tensor, later: torch.Tensor, nearby: torch.Tensor, ended: torch.Tensor, cfg: Config
) -> torch.Tensor:
    """Both terms on mean actions (B, act_dim) at s_t, s_t+1 and s_t + noise; where an episode `ended` (B,) the next
    state is not judged."""
    in_time = (mean - later).norm(dim=-1) * (1 - ended)
    in_state = (mean - nearby).norm(dim=-1)
    return cfg.temporal * in_time.mean() + cfg.spatial * in_state.mean()


def objective(cfg: Config, seed: int) -> ppo.Objective:
    """PPO's loss with the penalty, for `kit.rl.ppo.train(objective=...)`; the noise is drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)

    def loss(
        agent: ppo.ActorCritic, batch: dict[str, torch.Tensor], settings: ppo.Config
    ) -> tuple[torch.Tensor, dict[str, float]]:
        total, info = ppo.loss(agent, batch, settings)
        obs = batch["obs"]
        nearby = obs + cfg.sigma * torch.randn(obs.shape, generator=generator)
        mean, later = agent.actor(obs), agent.actor(batch["next_obs"])
        rough = penalty(mean, later, agent.actor(nearby), batch["ended"], cfg)
        return total + rough, info | {"roughness": rough.item()}

    return loss


def smoothness(actions: np.ndarray, rate: float) -> np.ndarray:
    """Sm of actions (T, n, act_dim) at `rate` [Hz]: the mean over the coordinates, (n,)."""
    steps = len(actions)
    amplitude = np.abs(np.fft.rfft(actions - actions.mean(axis=0), axis=0)) * 2 / steps
    frequency = np.fft.rfftfreq(steps, 1 / rate)
    return (2 / (steps * rate) * np.einsum("f,fna->na", frequency, amplitude)).mean(axis=1)
