"""Teachers side by side: the race is the plain loop, and the picture is the worlds'."""

import asyncio

import numpy as np
import pytest

from kit.curricula import race as module
from kit.curricula.adr import ADR, Config
from kit.curricula.loop import run
from kit.curricula.race import BLOCKED, Race
from kit.curricula.teacher import RandomTeacher
from kit.curricula.worlds.cube import CHALLENGES, CubeWorld

EASY = Config(start=(0.05, 0.05), t_high=0.75, t_low=-float("inf"))


def pairs(cfg=CHALLENGES["base"], seed=0):
    random, adr = CubeWorld(cfg, seed=seed), CubeWorld(cfg, seed=seed)
    return {"Random": (RandomTeacher(random.space, seed=seed), random), "ADR": (ADR(adr.space, EASY, seed=seed), adr)}


@pytest.fixture
def race():
    race = Race(["Random", "ADR"])
    race.begin(pairs())
    return race


def test_it_is_the_plain_loop(race):
    last = [dict(m) for m in race.run(430)][-1]
    for name, (teacher, world) in pairs().items():
        alone = [m["mastered"] for m in run(teacher, world, 430)]
        assert last[name] == alone[-1]
        assert race.mastered[name] == [alone[k - 1] for k in (*range(50, 430, 50), 430)]
    assert race.episodes[-1] == last["episodes"] == 430 and last["progress"] == 1
    assert race.pairs["ADR"][1].competence.sum() > 100


def test_it_goes_on_where_it_was(race):
    for _ in race.run(100):
        pass
    for _ in race.run(100):
        pass
    assert race.episodes == [50, 100, 150, 200]


def test_the_picture():
    race = Race(["Random", "ADR"], title="two")
    worlds = pairs(CHALLENGES["unfeasible"])
    race.begin(worlds)
    for _ in race.run(300):
        pass
    race.flush()
    for k, name in enumerate(race.names):
        heat, dots, line = race.widget.data[3 * k : 3 * k + 3]
        world = worlds[name][1]
        z = np.array(heat.z)
        np.testing.assert_array_equal(z == BLOCKED, ~world.learnable.T)
        np.testing.assert_array_equal(z.T[world.learnable], world.competence[world.learnable])
        assert len(dots.x) == module.RECENT and min(dots.x) >= -0.5 and max(dots.x) <= 9.5
        assert list(line.x) == race.episodes and line.y[-1] == 100 * world.score()
        assert race.widget.layout.annotations[k].text == f"{name}: {100 * world.score():.0f} %"


def test_a_rugged_world_is_shown_as_it_lies_in_the_task_space():
    race = Race(["Random", "ADR"])
    worlds = pairs(CHALLENGES["rugged"], seed=3)
    race.begin(worlds)
    for _ in race.run(2_000):
        pass
    race.draw()
    world = worlds["Random"][1]
    np.testing.assert_array_equal(np.array(race.widget.data[0].z).T, world.in_task_order)
    assert world.competence.max() > 0


def test_bad_names():
    with pytest.raises(ValueError, match="at least one"):
        Race([])
    race = Race(["Random", "other"])
    with pytest.raises(ValueError, match="between Random, other; given were Random, ADR"):
        race.begin(pairs())


def test_start_plays_a_few_in_fast_mode_and_stop_does_no_harm(race, monkeypatch):
    monkeypatch.setenv("KIT_FAST", "1")
    race.start(10_000)
    race.stop()
    assert race.episodes[-1] == module.FAST_EPISODES


def test_in_the_background_it_ends_by_itself_or_by_stop(race, monkeypatch):
    monkeypatch.setenv("KIT_FAST", "0")

    async def play():
        race.start(200)
        await race._task
        assert race.episodes[-1] == 200 and race._status.value == "200 episodes, done"
        race.start(1_000_000)
        await asyncio.sleep(0.05)
        race.stop()
        await asyncio.sleep(0)
        return race.episodes[-1]

    played = asyncio.run(play())
    assert 200 < played < 1_000_000 and race.episodes[-1] == played


def test_what_goes_wrong_in_the_background_is_said(race, monkeypatch):
    monkeypatch.setenv("KIT_FAST", "0")
    monkeypatch.setattr(CubeWorld, "play", lambda *_: 1 / 0)

    async def play():
        race.start(200)
        await race._task

    asyncio.run(play())
    assert "ZeroDivisionError" in race._status.value


def test_the_buttons(monkeypatch):
    monkeypatch.setenv("KIT_FAST", "1")
    race = Race(["Random", "ADR"])
    panel = race.panel(pairs, 100)
    before = race.pairs
    start, stop = panel.children[0].children[:2]
    start.click()
    assert race.pairs is not before and race.episodes == [50, 100]
    stop.click()
    start.click()
    assert race.episodes == [50, 100], "another race"


def test_a_new_race_ends_the_one_that_runs(race):
    running = race.run(1_000)
    next(running)
    race.begin(pairs())
    assert list(running) == [] and race.episodes == []
