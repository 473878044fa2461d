"""Covar-GMM: play where the return rises with time, as a Gaussian mixture over task, time and return shows it.

Moulin-Frier, Nguyen and Oudeyer 2014, "Self-organization of early vocal development in infants and machines", as a
baseline in Portelas et al. 2019.

    [g, t, r] ~ sum_i pi_i N(mu_i, Sigma_i)      t = 0..1 is the place in the window of N tasks; refitted as in ALP-GMM
    with probability p_rnd:  g ~ U
    else:  i with P(i) ~ max(0, Sigma_i[t, r]),  then g ~ N(mu_i, Sigma_i) without t and r, clipped

A component with a positive covariance holds tasks whose returns grew within the window. No earlier window is looked
at, so that nothing grows with the length of a run. Look at `component_weights` first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.curricula import alp_gmm, gmm
from kit.curricula.alp_gmm import ALPGMM
from kit.curricula.gmm import Mixture
from kit.curricula.space import Space
from kit.curricula.teacher import Points


@dataclass(frozen=True)
class Config(alp_gmm.Config):
    """Settings of ALP-GMM, of which `history` means nothing here, and one more."""

    absolute: bool = False  # falling returns draw tasks as well: |Sigma[t, r]|


def component_weights(mixture: Mixture, absolute: bool = False) -> np.ndarray:
    """What the components (K,) are chosen in proportion to: the covariance of time and return, where it is positive."""
    covariance = mixture.covs[:, -2, -1]
    return np.abs(covariance) if absolute else np.maximum(covariance, 0)


def sample(mixture: Mixture, n: int, rng: np.random.Generator, absolute: bool = False) -> Points:
    """Tasks (n, d), not yet clipped: a component by its weight, then a point of it without time and return."""
    components = gmm.choose(component_weights(mixture, absolute), rng, n)
    return mixture.draw(components, rng)[:, :-2]


class CovarGMM(ALPGMM):
    """The teacher. `mixture` is None until the first fit, and tasks are uniform."""

    cfg: Config

    def __init__(self, space: Space | None = None, cfg: Config = Config(), *, seed: int = 0):
        super().__init__(space, cfg, seed=seed)

    def row(self, point: np.ndarray, ret: float) -> np.ndarray:
        return np.append(point, (len(self.rows) / self.cfg.fit_rate, ret))

    def sample(self, n: int) -> Points:
        return sample(self.mixture, n, self.rng, self.cfg.absolute)

    def weights(self) -> np.ndarray:
        return component_weights(self.mixture, self.cfg.absolute)
