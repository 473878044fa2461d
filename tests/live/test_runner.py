"""`live.run`: however it ends, the agent comes back and the generator is closed. No timing decides."""

import asyncio
import inspect

import pytest

from kit.live import LiveRollout, Scene, run, runner
from kit.types import Metrics


class Agent:
    """Holds still and remembers how it was asked."""

    def __init__(self):
        self.updates, self.starts = 0, []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        self.starts.append(bool(episode_start[0]))
        return 0 * observation + 0.5, state


class Sink:
    def __init__(self):
        self.pushed, self.flushed = [], 0

    def push(self, metrics):
        self.pushed.append(metrics["k"])

    def flush(self):
        self.flushed += 1


def training(steps, closed=None, agent=None):
    agent = agent or Agent()
    try:
        for k in range(steps):
            agent.updates += 1
            yield Metrics({"k": k, "progress": (k + 1) / steps}, agent=agent)
    finally:
        if closed is not None:
            closed.append(True)


@pytest.fixture
def panel(monkeypatch, slow) -> runner.StopPause:
    """The panel that `run` will use, so that a test can press its buttons."""
    panel = runner.StopPause()
    monkeypatch.setattr(runner, "StopPause", lambda: panel)
    return panel


def press(button) -> None:
    """What the browser does."""
    button._click_handlers(button)


def test_it_runs_to_the_end_and_returns_the_agent(slow):
    closed, sink, seen = [], Sink(), []
    agent = asyncio.run(run(training(100, closed), sink, object(), on_metrics=lambda m: seen.append(m["k"])))
    assert agent.updates == 100
    assert seen == list(range(100))
    assert sink.pushed[-1] == 99
    assert sink.flushed == 1
    assert closed == [True]


def test_an_empty_generator_returns_none(slow):
    assert asyncio.run(run(iter(()))) is None


def test_stop_ends_it_with_the_agent_of_that_moment(panel):
    closed = []

    def stop(metrics):
        if metrics["k"] == 7:
            press(panel._stop)

    agent = asyncio.run(run(training(1000, closed), on_metrics=stop))
    assert agent.updates == 8
    assert closed == [True]
    assert panel._status.value.startswith("stopped")
    assert panel._stop.disabled


def test_a_click_from_the_event_loop_arrives_while_training(panel):
    async def main():
        asyncio.get_running_loop().call_later(0.05, press, panel._stop)
        return await run(training(10**9))

    assert asyncio.run(main()).updates < 10**9


def test_pause_holds_and_resume_goes_on(panel, monkeypatch):
    steps_while_paused = []
    agent = Agent()

    async def main():
        asyncio.get_running_loop().call_later(0.05, press, panel._pause)
        task = asyncio.ensure_future(run(training(10**9, agent=agent)))
        while not (panel.paused and task):
            await asyncio.sleep(0.01)
        before = agent.updates
        await asyncio.sleep(0.1)
        steps_while_paused.append(agent.updates - before)
        press(panel._pause)
        while agent.updates == before:
            await asyncio.sleep(0.01)
        press(panel._stop)
        return await task

    assert asyncio.run(main()) is agent
    assert steps_while_paused == [0]
    assert panel._pause.description == "Pause"


def test_max_s_ends_it(slow, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(runner.time, "perf_counter", lambda: float(next(clock)))
    agent = asyncio.run(run(training(10**6), max_s=50))
    assert 1 < agent.updates <= 50


def test_an_exception_closes_the_generator_and_comes_through(slow):
    closed = []

    def fail(metrics):
        raise RuntimeError("no good")

    with pytest.raises(RuntimeError, match="no good"):
        asyncio.run(run(training(10, closed), on_metrics=fail))
    assert closed == [True]


def test_cancellation_closes_the_generator(slow):
    generator = training(10**9)

    async def main():
        task = asyncio.ensure_future(run(generator))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED


def test_background_runs_beside_and_is_cancelled(slow):
    beats = []

    async def heart():
        while True:
            beats.append(1)
            await asyncio.sleep(0)

    def until_it_beats():
        while len(beats) < 3:
            yield Metrics(agent=beats)

    assert asyncio.run(run(until_it_beats(), background=heart())) is beats


def test_fast_mode_needs_no_front_end(fast):
    sink = Sink()
    assert asyncio.run(run(training(30), sink)).updates == 30
    assert sink.pushed[-1] == 29


@pytest.fixture
def rollout(arm, env) -> LiveRollout:
    return LiveRollout(Scene(arm), env)


def test_rollout_resets_at_the_end_of_an_episode_and_shows_markers(rollout, env):
    rollout.policy = Agent()
    for _ in range(6):
        rollout.step()
    assert env.resets == 2
    assert rollout.policy.starts == [True, False, False, False, False, True]
    assert ("goal", 0) in rollout.scene.row


def test_rollout_holds_still_without_a_policy(rollout, env):
    rollout.step()
    assert env.actions[0].tolist() == [0, 0]


def test_rollout_takes_the_agent_from_the_metrics(rollout, env):
    agent = Agent()
    rollout.push(Metrics(agent=agent))
    assert rollout.policy is agent
    assert env.actions[-1].tolist() == [0.5, 0.5]
    before = len(env.actions)
    rollout._caught_up -= 1000  # a long chunk of training
    rollout.push(Metrics())
    assert len(env.actions) - before == 6
    assert rollout.policy is agent


def test_rollout_plays_a_few_steps_in_fast_mode(rollout, env, fast):
    asyncio.run(rollout.play(1000))
    rollout.start()
    assert len(env.actions) == 6


def test_rollout_plays_in_the_background_until_stopped(rollout, env, slow):
    async def main():
        rollout.start()
        while len(env.actions) < 3:
            await asyncio.sleep(0.01)
        rollout.push(Metrics())  # the background is already moving the scene
        rollout.stop()
        await asyncio.sleep(0)
        steps = len(env.actions)
        await asyncio.sleep(0.1)
        return len(env.actions) - steps

    assert asyncio.run(main()) == 0


def test_an_error_in_the_background_is_told(rollout, slow, capsys):
    rollout.step = lambda: 1 / 0

    async def main():
        rollout.start()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_play_stops_at_stop(rollout, env, panel, monkeypatch):
    monkeypatch.setattr("kit.live.stepped.StopPause", lambda: panel)

    async def main():
        asyncio.get_running_loop().call_later(0.05, press, panel._stop)
        await rollout.play(10**6)

    asyncio.run(main())
    assert env.actions
    assert panel._status.value == "stopped"


def test_rollout_needs_model_and_data(arm):
    import gymnasium as gym

    with pytest.raises(TypeError, match="no attribute 'model'"):
        LiveRollout(Scene(arm), gym.make("CartPole-v1"))
