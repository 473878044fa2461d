"""METRA's inequality on a maze, LSD's on the plane, CSD's distance, and what tells the three apart."""

import numpy as np
import pytest
import torch

from kit.envs.grid import Grid
from kit.skills import csd, lsd, metra
from kit.types import SkillMethod

MAZE = """
#######
#.....#
#.###.#
#.#...#
#.#.###
#.....#
#######
"""


def torch_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- pieces -------------------------------------------------------------------------------------------------------


def test_room_by_hand():
    phi, phi2 = torch.zeros(4, 2), torch.tensor([[0.6, 0.8], [1.0, 1.0], [0.0, 0.0], [0.6, 0.0]])
    torch.testing.assert_close(metra.room(phi, phi2, 1.0, 0.5), torch.tensor([0.0, -1.0, 0.5, 0.5]))
    limits = torch.tensor([1.0, 2.0, 0.0, 1.0])
    torch.testing.assert_close(metra.room(phi, phi2, limits, 0.7), torch.tensor([0.0, 0.0, 0.0, 0.64]))


def test_the_encoder_gains_until_the_constraint_costs_more():
    gain, room = torch.tensor([1.0, 3.0]), torch.tensor([0.1, -0.5])
    assert metra.encoder_loss(gain, room, 2.0).item() == pytest.approx(-(2.0 + 2 * -0.2))


def test_the_multiplier_grows_where_the_constraint_is_broken():
    for room, sign in ((-0.5, -1), (0.001, 1)):
        log_dual = torch.tensor(0.0, requires_grad=True)
        metra.dual_loss(log_dual, torch.tensor([room, room])).backward()
        assert np.sign(log_dual.grad.item()) == sign, "descending moves it the other way"


# ---- the inequality -----------------------------------------------------------------------------------------------


def greedy_batch(method: metra.METRA, grid: Grid, states: np.ndarray, n: int, rng: np.random.Generator) -> dict:
    """Transitions of the policy that is best for each skill: of the four moves, the one that gains the most."""
    s, z = rng.integers(grid.size, size=n), method.sample_skill(n, rng)
    phi = method.phi(states)
    best = ((phi[grid.next_state[s]] - phi[s][:, None]) * z[:, None]).sum(-1).argmax(1)
    best = np.where(rng.random(n) < 0.2, rng.integers(4, size=n), best)
    after = grid.next_state[s, best]
    return {k: torch.as_tensor(v, dtype=torch.float32) for k, v in
            {"obs": states[s], "next_obs": states[after], "skill": z}.items()}  # fmt: skip


def embed(steps: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Latent and exact distances of all pairs of a maze's cells, (S, S) each."""
    grid, rng = Grid.parse(MAZE), np.random.default_rng(0)
    method, states = metra.Config().make(grid.size, torch_rng()), np.eye(grid.size, dtype=np.float32)
    for _ in range(steps):
        method.update(greedy_batch(method, grid, states, 128, rng))
    phi = method.phi(states)
    exact = grid.all_distances()
    return np.linalg.norm(phi[:, None] - phi, axis=-1), exact


def test_latent_distance_is_at_most_the_number_of_steps_on_all_pairs():
    latent, exact = embed()
    off = ~np.eye(len(exact), dtype=bool)
    ratio = latent[off] / exact[off]
    assert ratio.max() <= 1.05, "the inequality, on all pairs"
    assert ratio.max() > 0.9, "and it binds"


def test_with_the_mean_over_dimensions_the_inequality_breaks(monkeypatch):
    def averaged(phi, phi2, limit, slack):
        return (limit - ((phi2 - phi) ** 2).mean(-1)).clamp(max=slack)

    monkeypatch.setattr(metra, "room", averaged)
    latent, exact = embed()
    off = ~np.eye(len(exact), dtype=bool)
    worst = (latent[off] / exact[off]).max()
    assert 1.3 < worst <= 1.05 * np.sqrt(2), "by sqrt(dim)"


def test_lsd_cannot_stretch_the_plane():
    method, rng = lsd.Config().make(2, torch_rng()), np.random.default_rng(0)
    before = method.phi(np.array([[0.0, 0.0], [1.0, 0.0]]))
    for _ in range(300):  # steps along the skill, as a good policy makes them
        s, z = rng.uniform(-5, 5, (128, 2)), method.sample_skill(128, rng)
        batch = {"obs": s, "next_obs": s + 0.2 * z, "skill": z}
        info = method.update({k: torch.as_tensor(v, dtype=torch.float32) for k, v in batch.items()})
    points = rng.uniform(-8, 8, (200, 2)).astype(np.float32)
    phi = method.phi(points)
    latent, plane = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (phi, points))
    off = ~np.eye(200, dtype=bool)
    assert (latent[off] <= 1.01 * plane[off]).all() and latent.max() > 0.3 * plane.max()
    assert info["gain"] > 0.1 * np.linalg.norm(before[1] - before[0]) * 0.2


def test_reading_lsds_embedding_changes_nothing():
    method, x = lsd.Config().make(2, torch_rng()), np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_array_equal(method.phi(x), method.phi(x))


# ---- csd ------------------------------------------------------------------------------------------------------------


def test_controllability_by_hand():
    change, mean = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]])
    log_std = torch.tensor([[4.0, 1.0]]).log()  # geometric mean 2: relative sigmas 2 and 1/2
    torch.testing.assert_close(csd.controllability(change, mean, log_std), torch.tensor([0.25 + 4.0]))
    torch.testing.assert_close(csd.controllability(change, mean, log_std + 3), torch.tensor([0.25 + 4.0]), msg="scale")


def test_csd_finds_the_change_that_is_rare_long():
    method, rng = csd.Config().make(2, torch_rng()), np.random.default_rng(0)
    for _ in range(300):
        s = rng.normal(size=(128, 2))
        change = rng.normal(size=(128, 2)) * (1.0, 0.1)  # the second number hardly ever changes
        batch = {"obs": s, "next_obs": s + change, "skill": method.sample_skill(128, rng)}
        method.update({k: torch.as_tensor(v, dtype=torch.float32) for k, v in batch.items()})
    zero = torch.zeros(2, 2)
    easy, rare = method.limit({"obs": zero, "next_obs": zero + torch.eye(2)}).sqrt()
    assert 5 < rare / easy < 20, "about ten times, as the standard deviations are"


# ---- all three ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [metra, lsd, csd])
def test_the_reward_is_the_progress_along_the_skill(module):
    method, rng = module.Config().make(3, torch_rng()), np.random.default_rng(0)
    s, s2 = rng.normal(size=(2, 50, 3)).astype(np.float32)
    z = method.sample_skill(50, rng)
    assert isinstance(method, SkillMethod) and z.shape == (50, 2)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-6)
    reward = method.reward(s, z, s2)
    by_hand = [(method.phi(s2[i : i + 1]) - method.phi(s[i : i + 1]))[0] @ z[i] for i in range(50)]
    np.testing.assert_allclose(reward, by_hand, atol=1e-5)
    np.testing.assert_allclose(method.reward(s, -z, s2), -reward, atol=1e-6)


@pytest.mark.parametrize("module", [metra, lsd, csd])
def test_a_restored_method_goes_on_identically(module):
    one, other = module.Config().make(3, torch_rng(0)), module.Config().make(3, torch_rng(1))
    rng = np.random.default_rng(0)
    batch = {k: torch.as_tensor(rng.normal(size=(32, n)), dtype=torch.float32)
             for k, n in (("obs", 3), ("next_obs", 3), ("skill", 2))}  # fmt: skip
    for _ in range(3):
        one.update(batch)
    other.load_state_dict(one.state_dict())
    assert [one.update(batch) for _ in range(3)] == [other.update(batch) for _ in range(3)]


@pytest.mark.parametrize("module", [metra, lsd, csd])
def test_the_seed_decides(module):
    x = np.ones((1, 2))
    one, same, other = (module.Config().make(2, torch_rng(seed)).phi(x) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
