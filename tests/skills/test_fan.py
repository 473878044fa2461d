"""The fan: what it plays is what it draws."""

import numpy as np
import pytest

from kit.envs.env import BatchEnv
from kit.envs.point_disc import STEP, PointDisc
from kit.skills.fan import SkillFan
from kit.skills.skill import circle
from kit.types import Metrics


class Straight:
    """The best policy there is: along the skill at full speed."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation[:, 2:], state


def test_a_straight_policy_reaches_the_circle_and_is_drawn_with_its_numbers():
    fan = SkillFan(circle(5), BatchEnv(PointDisc(5, max_steps=10)), title="straight")
    fan.push(Metrics({}, agent=Straight()))
    np.testing.assert_allclose(fan.paths[-1], 10 * STEP * circle(5), rtol=1e-5)
    figure = fan.widget
    assert fan.shown and figure.layout.title.text == "straight: 100 % of the way out"
    for k, trace in enumerate(figure.data[1:]):
        np.testing.assert_allclose(np.stack([trace.x, trace.y], 1), fan.paths[:, k], atol=1e-7)
        assert trace.text[-1] == str(k) and set(trace.text[:-1]) == {""}
    assert np.hypot(figure.data[0].x, figure.data[0].y) == pytest.approx(10 * STEP)


def test_it_draws_at_most_twice_a_second_but_always_the_last():
    fan = SkillFan(circle(3), BatchEnv(PointDisc(3, max_steps=4)))
    drawn = []
    fan.draw = drawn.append
    agents = [Straight() for _ in range(20)]
    for agent in agents:
        fan.push(Metrics({}, agent=agent))
    fan.flush()
    assert len(drawn) <= 3 and drawn[-1] is agents[-1]


def test_a_skill_for_each_simulation():
    with pytest.raises(ValueError, match="2 skills for 3 simulations"):
        SkillFan(circle(2), BatchEnv(PointDisc(3)))
