"""What the wing refuses and what the message says; then what must not matter: a cut, a restart, a batch, a dtype.

One case a line.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch

from kit.data import Episodes
from kit.diffusion import beso, flow_policy, guidance, policy, precond, samplers, schedules, synther
from kit.diffusion.fit import Fit, FitConfig
from kit.diffusion.mixture import ring
from kit.diffusion.windows import MinMax
from kit.envs.env import SingleEnv
from kit.envs.push_t import PushT
from kit.envs.reach_push import ReachPush, demonstrations
from kit.imitation import act, cloning, vq_bet
from kit.imitation import backward_planning as lbp
from kit.offline.rows import Rows

FIT = FitConfig(steps=4, batch_size=8, warm_up=1)
NAN = math.nan


# ---- a small dataset, and every policy of the wing on it --------------------------------------------------------


def dataset(episodes=3, steps=20, *, scale=1.0):
    """Places (2) and a one-hot word (2); places are the goals."""
    rng = np.random.default_rng(0)
    places = 0.1 * rng.normal(size=(episodes, steps + 1, 2)).cumsum(axis=1)
    words = np.repeat(np.eye(2)[rng.integers(2, size=episodes)][:, None], steps + 1, axis=1)
    actions = scale * rng.uniform(-1, 1, (episodes, steps, 2))
    return Episodes.stack(np.concatenate([places, words], axis=2), actions, places)


def word_goals(data):
    return data.with_goals(data.observations[:, 2:])


def chunk(kind, **extra):
    """A maker of learners, data -> (policy, what trains it): `run(policy, every)`, `state_dict`, `load_state_dict`."""

    def make(data, seed=0, **settings):
        settings = {"width": 16, "fit": FIT} | extra | settings
        if kind in (policy, flow_policy):
            fit, agent = policy.learner(data, kind.Config(**settings), seed=seed, kind=kind.Agent)
            return agent, fit
        name = {cloning: "Cloning", vq_bet: "VQBeT", act: "ACT"}[kind]
        one = getattr(kind, name)(data, kind.Config(**settings), seed=seed)
        return one, one

    return make


def make_beso(data, seed=0, **settings):
    cfg = beso.Config(**{"width": 16, "layers": 1, "heads": 2, "window": 3, "fit": FIT} | settings)
    learner = beso.Learner(data, cfg, seed=seed)
    return learner.agent, learner.fit


def make_lbp(data, seed=0, **settings):
    learner = lbp.Learner(data, lbp.Config(**{"hidden": (16,), "width": 8, "fit": FIT} | settings), seed=seed)
    return learner.agent, learner


VQ = {"vq_fit": FIT, "codes": 4}
CHUNKS = {
    "diffusion": chunk(policy),
    "ddpm": chunk(policy, sampler="ddpm", noise_steps=10, sample_steps=5),
    "unet": chunk(policy, network="unet", widths=(8, 16)),
    "flow": chunk(flow_policy),
    "mse": chunk(cloning),
    "mixture": chunk(cloning, head="mixture"),
    "vq_bet": chunk(vq_bet, **VQ),
    "act": chunk(act),
    "act, ensembling": chunk(act, decay=0.01),
}
ALL = CHUNKS | {"beso": make_beso, "lbp": make_lbp}


def learn(name, data=None, seed=0, **settings):
    agent, fit = ALL[name](data or dataset(), seed, **settings)
    finish(agent, fit)
    return agent


def finish(agent, fit):
    for _ in fit.run(agent, every=1) if isinstance(fit, Fit) else fit.learn():
        pass


@pytest.fixture(scope="module", params=ALL)
def trained(request):
    return request.param, learn(request.param)


def observations(agent, n, t, *, seed=3):
    """Finite observations (n, size) that fit an agent; the same ones for the same t."""
    size = agent.obs_dim if hasattr(agent, "obs_dim") else agent.size + agent.words
    return np.random.default_rng((seed, t)).normal(size=(5, size)).astype(np.float32)[:n]


def play(agent, rows, *, steps=24, restarts=(), first=0, dtype=np.float32):
    """Actions (steps, len(rows), act_dim); `restarts` are (t, row) at which a row starts anew."""
    state, out = None, []
    for t in range(first, first + steps):
        start = np.array([t == first or (t, row) in restarts for row in rows])
        seen = observations(agent, 5, t)[list(rows)].astype(dtype)
        action, state = agent.predict(seen, state, start, deterministic=True)
        out.append(action)
    return np.array(out)


# ---- samplers: unknown ones, too few steps ----------------------------------------------------------------------

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LEVELS = schedules.make("karras", 5, 0.02, 1.0)


def sample(levels=LEVELS, **options):
    return samplers.sample(ring().denoise, X, torch.as_tensor(levels, dtype=torch.float64), **options)


def vp_ddim(times):
    alpha_bar = schedules.squared_cosine(10)
    return samplers.vp_ddim(lambda x, t, c: x, X, alpha_bar, torch.tensor(times, dtype=torch.long))


UNKNOWN = {
    "sampler": (lambda: sample(method="ddpm2"), "unknown sampler 'ddpm2'; there are euler, ddim, heun"),
    "schedule": (lambda: schedules.make("cosine", 3, 0.1, 1.0), "unknown schedule 'cosine'; there are karras"),
    "spacing": (lambda: schedules.spaced(100, 5, "linspace"), "spacing is 'linspace'; it must be trailing or leading"),
    "flow": (lambda: samplers.flow(None, X, 3, method="heun"), "method is 'heun' with 3 steps; give euler or rk4"),
    "diffusion policy": (lambda: policy.Config(sampler="pndm"), "sampler is 'pndm'; there are ddim, ddpm"),
    "flow policy": (lambda: flow_policy.Config(sampler="ddim"), "sampler is 'ddim' with 8 steps; give euler or rk4"),
    "beso": (lambda: beso.Config(sampling=beso.Sampling(method="x")), "unknown sampler 'x'; there are euler"),
    "beso schedule": (lambda: beso.Config(sampling=beso.Sampling(schedule="x")), "unknown schedule 'x'; there are"),
    "synther": (lambda: synther.Config(sampler="euler_ancestral"), "it must be one of euler, ddim, heun, dpmpp_2m"),
    "network": (lambda: policy.Config(network="cnn"), "network is 'cnn'; there are mlp, unet, transformer"),
    "trunk": (lambda: act.Config(trunk="cnn"), "trunk is 'cnn'; it must be mlp or transformer"),
    "head": (lambda: cloning.Config(head="gmm"), "head is 'gmm'; it must be mse or mixture"),
    "order": (lambda: lbp.Config(order="sideways"), "order is 'sideways'; it must be one of backward, forward"),
    "kind of goal": (lambda: beso.Config(goal="image"), "goal is 'image'.*a goal is one of state, word, path"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_names(case):
    call, message = UNKNOWN[case]
    with pytest.raises(ValueError, match=message):
        call()


TOO_FEW = [
    (lambda: sample([80.0, 0.02, 0.0], method="heun"), "Heun from sigma 80 to 0.02 in one step .* Take more"),
    (lambda: synther.Config(levels=5), "Heun from sigma 2.52 to 0.17"),
    (lambda: schedules.make("karras", 0, 0.1, 1.0), "n is 0; a schedule has at least 1 step"),
    (lambda: schedules.spaced(100, 1, "leading"), 'gives back the noise; use spacing="trailing"'),
    (lambda: schedules.spaced(100, 101), "101 steps were asked for; a schedule of 100 times has 1 to 100"),
    (lambda: sample([1.0]), "must fall, not below 0, and be finite"),
    (lambda: samplers.flow(None, X, 0), "with 0 steps; give euler or rk4, and at least 1"),
    (lambda: policy.Config(sample_steps=0), "0 steps were asked for; a schedule of 100 times has 1 to 100"),
    (lambda: policy.Config(sample_steps=200), "200 steps were asked for"),
    (lambda: flow_policy.Config(sample_steps=0), "with 0 steps"),
    (lambda: beso.Config(sampling=beso.Sampling(steps=0)), "n is 0; a schedule has at least 1 step"),
    (lambda: learn("diffusion").sampling("ddim", 0), "0 steps were asked"),
    (lambda: sample([5.0, 0.02, 0.0], method="heun"), "Heun from sigma 5 to 0.02"),
    (lambda: vp_ddim([]), "the times .* must be at least one, and fall"),
    (lambda: vp_ddim([2, 5, 9]), "the times .* fall"),
    (lambda: vp_ddim([5, 5]), "the times .* fall"),
]


@pytest.mark.parametrize(("call", "message"), TOO_FEW)
def test_steps_that_a_sampler_cannot_honour(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- never a silent identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", samplers.METHODS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_any_number_of_steps_arrives(method, steps):
    """All data in one place: whatever the number of steps, that is where everybody ends."""

    def denoise(x, sigma, cond):
        return torch.full_like(x, 0.25)

    noise = samplers.noise_from(torch.Generator().manual_seed(1))
    levels = schedules.make("karras", steps, 0.3, 1.0)  # near enough to each other for Heun
    end = samplers.sample(denoise, X, levels, method=method, noise=noise)
    assert torch.allclose(end, torch.full_like(X, 0.25), atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 100])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_and_ddpm_arrive_too(steps, eta):
    alpha_bar = schedules.squared_cosine(100)

    def predict(x, time, cond):
        kept = alpha_bar[time.long()][:, None]
        return (x - kept.sqrt() * 0.25) / (1 - kept).sqrt()

    noise, times = samplers.noise_from(torch.Generator().manual_seed(1)), schedules.spaced(100, steps)
    end = samplers.vp_ddim(predict, X, alpha_bar, times, eta=eta, noise=noise)
    assert torch.allclose(end, torch.full_like(X, 0.25), atol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_flow_arrives(method, steps):
    end = samplers.flow(lambda a, t, cond: 0.25 - X, X, steps, method=method)
    assert torch.allclose(end, torch.full_like(X, 0.25), atol=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": NAN},
        {"learning_rate": 0.0},
        {"learning_rate": NAN},
        {"steps": 0},
        {"batch_size": 0},
    ],
)
def test_a_training_that_cannot_learn_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FitConfig(**settings)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone():
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    fit = Fit(network, lambda n, rng, g: (network.weight - 1).abs().sqrt().sum(), FIT, seed=0)
    with pytest.raises(FloatingPointError, match="gradient"):
        fit.step()
    assert network.weight.item() == 1.0


def test_a_loss_that_is_not_finite_leaves_the_weights_alone():
    network = torch.nn.Linear(1, 1)
    before = network.weight.item()
    fit = Fit(network, lambda n, rng, g: network.weight.sum() * NAN, FIT, seed=0)
    with pytest.raises(FloatingPointError, match="the loss of update 0 is nan"):
        fit.step()
    assert network.weight.item() == before and fit.updates == 0


# ---- sigma out of range -----------------------------------------------------------------------------------------


def zeros(x, time, cond):
    return torch.zeros_like(x)


SIGMA = [
    (lambda: schedules.make("karras", 3, 0.0, 1.0), "sigma_min 0.0 and sigma_max 1.0 must rise from above 0"),
    (lambda: schedules.make("karras", 3, 2.0, 1.0), "must rise"),
    (lambda: schedules.make("karras", 3, NAN, 1.0), "must rise"),
    (lambda: schedules.make("karras", 3, 0.1, math.inf), "be finite"),
    (lambda: sample([1.0, 2.0, 0.0]), "must fall"),
    (lambda: sample([1.0, -0.1]), "not below 0"),
    (lambda: sample([NAN, 1.0, 0.0]), "must fall"),
    (lambda: precond.EDM(zeros)(X, 0.0), "sigma is 0.0; it must be finite and positive"),
    (lambda: precond.EDM(zeros)(X, NAN), "sigma is nan; it must be finite and positive"),
    (lambda: precond.EDM(zeros)(X, torch.ones(3)), r"sigma has shape \(3,\)"),
    (lambda: precond.VP(zeros, schedules.squared_cosine(10))(X, 1e6), "leaves what the network was trained for"),
    (lambda: precond.Flow(zeros)(X, -1.0), "sigma is -1.0"),
    (lambda: learn("beso").using(sigma_max=80.0), "leaves what the network was trained for, 0.05 to 1.0; choose"),
    (lambda: learn("beso").using(sigma_min=0.001), "leaves what the network was trained for"),
    (lambda: sample([math.inf, 1.0, 0.0]), "finite"),
    (lambda: schedules.make("karras", 3, 0.1, 1.0, rho=0.0), "rho is 0.0"),
    (lambda: schedules.make("karras", 3, 0.1, 1.0, rho=NAN), "rho is nan"),
    (lambda: precond.EDM(zeros, 0.0), "sigma_data is 0.0"),
    (lambda: precond.EDM(zeros, NAN), "sigma_data is nan"),
    (lambda: guidance.CFG(None, NAN, None), "the scale of the guidance is nan"),
    (lambda: precond.log_logistic(3, None, sigma_data=0.5, sigma_min=0.0, sigma_max=1.0), "sigma_min is 0.0"),
    (lambda: beso.Config(sigma_min=-1.0), "sigma_min is -1.0"),
    (lambda: beso.Config(sigma_data=0.0), "sigma_data 0.0"),
    (lambda: learn("beso").using(guidance=NAN), "guidance is nan"),
    (lambda: learn("beso").using(guidance=math.inf), "guidance is inf"),
]


@pytest.mark.parametrize(("call", "message"), SIGMA)
def test_levels_and_scales_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- actions that are not normalised ----------------------------------------------------------------------------


def test_losses_want_scaled_chunks():
    chunks, noise, times = torch.full((2, 4, 2), 7.0), torch.zeros(2, 4, 2), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"actions reach 7; .* scale them with MinMax.of"):
        policy.loss(zeros, chunks, None, schedules.squared_cosine(10), noise, times)
    with pytest.raises(ValueError, match="actions reach 7"):
        flow_policy.loss(zeros, chunks, None, noise, times.float())


def test_rows_want_scaled_actions():
    with pytest.raises(ValueError, match=r"actions reach 5; rows hold them in -1..1. Divide by"):
        Rows(np.zeros((3, 2)), np.full((3, 1), 5.0), np.zeros(3), np.zeros((3, 2)), np.zeros(3))


@pytest.mark.parametrize("name", [*CHUNKS, "beso"])
def test_policies_scale_actions_of_any_unit_themselves(name):
    agent = learn(name, dataset(scale=50.0))
    actions = play(agent, [0, 1], steps=3)
    assert np.isfinite(actions).all() and np.abs(actions).max() <= 50 * (1 + 1e-5)


def test_backward_planning_refuses_actions_that_it_would_clip():
    with pytest.raises(ValueError, match="actions reach"):
        make_lbp(dataset(scale=50.0))


@pytest.mark.parametrize("name", [*CHUNKS, "beso"])
def test_an_action_that_never_changes_stays_what_it_is(name):
    data = dataset()
    frozen = data.actions.copy()
    frozen[data.steps, 1] = 0.3
    with np.errstate(all="ignore"):
        agent = learn(name, dataclasses.replace(data, actions=frozen))
    assert play(agent, [0, 1], steps=10)[..., 1] == pytest.approx(0.3, abs=1e-5)


# ---- episodes shorter than the window, chunks too short for what is asked of them -------------------------------


@pytest.mark.parametrize("name", CHUNKS)
def test_episodes_shorter_than_a_chunk(name):
    with pytest.raises(ValueError, match="episode 0 has 15 steps, fewer than the window's 16; leave such"):
        CHUNKS[name](dataset(steps=15))


def test_episodes_shorter_than_besos_window():
    with pytest.raises(ValueError, match="episode 0 has 4 steps, fewer than the window's 5"):
        make_beso(dataset(steps=4), window=5)


TOO_SHORT = [
    ({"execute": 0}, "cannot give 0 actions"),
    ({"execute": 16}, "cannot give 16 actions after 2 observations and 0 steps of latency; it takes 17"),
    ({"obs_steps": 0}, "obs_steps is 0 and horizon 16; 1 <= obs_steps <= horizon"),
    ({"obs_steps": 18, "horizon": 16}, "obs_steps is 18"),
]


@pytest.mark.parametrize(
    ("name", "settings", "message"),  # with ensembling it plans anew in every step, whatever `execute` says
    [(n, *case) for n in CHUNKS for case in TOO_SHORT if not (n == "act, ensembling" and "execute" in case[0])],
)
def test_chunks_too_short_for_what_is_carried_out(name, settings, message):
    with pytest.raises(ValueError, match=message):
        CHUNKS[name](dataset(), **settings)


@pytest.mark.parametrize("name", CHUNKS)
def test_one_episode_of_just_the_windows_length_is_enough(name):
    assert np.isfinite(play(learn(name, dataset(episodes=1, steps=16)), [0], steps=3)).all()


# ---- goals of the wrong kind ------------------------------------------------------------------------------------

WRONG_GOALS = {
    "state": [
        (np.zeros(3), r"the goal has shape \(3,\); a state is \(B, 2\)"),
        ([NAN, 0.0], "a state goal must be finite"),
        (1.0, r"the goal has shape \(\); a state is"),
        (np.zeros((1, 1, 2)), r"the goal has shape \(1, 1, 2\); a state is"),
    ],
    "word": [
        ([1], r"the goal has shape \(1,\); a word is \(B, 2\)"),
        ([0.2, 0.8], "a word is one-hot"),
        ([0, 0], "a word is one-hot"),
        ([1, 1], "a word is one-hot"),
    ],
    "path": [
        ([0.0, 0.0], r"the goal has shape \(2,\); a path is \(B, 3, 2\)"),
        ([[0, 0], [NAN, NAN], [1, 1]], "NaN only after it"),
        (np.full((3, 2), NAN), "a path is finite from its first point"),
    ],
}


@pytest.fixture(scope="module")
def asked():
    data = dataset()
    return {
        kind: make_beso(word_goals(data) if kind == "word" else data, goal=kind, path_points=3)[0]
        for kind in WRONG_GOALS
    }


@pytest.mark.parametrize(("kind", "goal", "message"), [(k, *c) for k, cases in WRONG_GOALS.items() for c in cases])
def test_goals_of_the_wrong_kind(asked, kind, goal, message):
    with pytest.raises(ValueError, match=message):
        asked[kind].ask(goal)


def test_as_many_goals_as_observations(asked):
    with pytest.raises(ValueError, match="2 goals were asked for, and there are 3 observations; give one a row"):
        asked["state"].ask(np.zeros((2, 2))).predict(np.zeros((3, 4)))


def test_data_without_goals():
    bare = dataclasses.replace(dataset(), goals=None)
    for make in (make_beso, make_lbp):
        with pytest.raises(ValueError, match="this dataset has no goals; name what a goal is"):
            make(bare)


def test_goals_that_the_observations_do_not_begin_with():
    data = dataset()
    with pytest.raises(ValueError, match="the first 2 columns of the observations are not the goals"):
        make_lbp(data.with_goals(data.observations[:, 1:3]))


def test_words_that_are_not_one_hot_are_refused_before_training():
    with pytest.raises(ValueError, match="a word is one-hot"):
        make_beso(dataset(), goal="word")


# ---- NaN --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["observations", "actions", "goals"])
def test_nan_in_a_dataset(name):
    data = dataset()
    spoilt = getattr(data, name).copy()
    spoilt[5, 1] = NAN
    with pytest.raises(ValueError, match=rf"{name} holds .*nan.* in row 5; a dataset must be finite"):
        dataclasses.replace(data, **{name: spoilt})


@pytest.mark.parametrize("name", ["obs", "actions", "reward", "next_obs", "terminated"])
def test_nan_in_rows(name):
    parts = {"obs": np.zeros((3, 2)), "actions": np.zeros((3, 1)), "reward": np.zeros(3)}
    parts |= {"next_obs": np.zeros((3, 2)), "terminated": np.zeros(3)}
    parts[name] = parts[name] + NAN
    with pytest.raises(ValueError, match=f"{name} holds nan; rows must be finite"):
        Rows(**parts)


def test_terminated_is_yes_or_no():
    with pytest.raises(ValueError, match="terminated"):
        Rows(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(3), np.zeros((3, 2)), np.full(3, 7.0))


def test_nan_in_a_scaler():
    with pytest.raises(ValueError, match="row 1 is not finite; leave such rows out"):
        MinMax.of(np.array([[0.0, 1.0], [NAN, 1.0]]))


def test_nan_when_acting(trained):
    _, agent = trained
    seen = observations(agent, 3, 0)
    _, state = agent.predict(seen)
    for column in (0, -1):
        broken = seen.copy()
        broken[1, column] = NAN
        with pytest.raises(ValueError, match="finite"):
            agent.predict(broken, state)


def test_observations_of_the_wrong_shape(trained):
    _, agent = trained
    size = observations(agent, 1, 0).shape[1]
    for shape in ((size + 1,), (2, size + 1), (2, 2, size), ()):
        with pytest.raises(ValueError, match=r"observation has shape"):
            agent.predict(np.zeros(shape))


def test_a_state_of_another_batch(trained):
    name, agent = trained
    _, state = agent.predict(observations(agent, 3, 0))
    if name == "lbp":
        assert state is None  # it remembers nothing
        return
    with pytest.raises(ValueError, match="the state is that of 3 rows, and there are 2 observations"):
        agent.predict(observations(agent, 2, 1), state)


# ---- what must not matter ---------------------------------------------------------------------------------------


def test_rows_of_a_batch_know_nothing_of_each_other(trained):
    """Restarts in the middle of the others' chunks, in the middle of one's own, twice in a row, and of all at once."""
    _, agent = trained
    restarts = {(3, 1), (9, 2), (10, 2), (13, 1), *((16, row) for row in range(3))}
    together = play(agent, [0, 1, 2], restarts=restarts)
    alone = play(agent, [0], restarts={(16, 0)})
    assert together[:, 0] == pytest.approx(alone[:, 0], abs=1e-5)
    assert together[16:] == pytest.approx(play(agent, [0, 1, 2], first=16, steps=8), abs=1e-6)


def test_a_call_changes_neither_its_state_nor_its_observation(trained):
    _, agent = trained
    seen = observations(agent, 3, 0)
    kept = seen.copy()
    _, state = agent.predict(seen)
    before = [x.copy() for x in state or ()]
    for _ in range(12):
        agent.predict(seen, state, np.array([True, False, False]))
    assert np.array_equal(seen, kept) and all(np.array_equal(a, b) for a, b in zip(state or (), before, strict=True))


def test_float64_observations_and_single_ones(trained):
    _, agent = trained
    assert np.array_equal(play(agent, [0, 1], steps=10), play(agent, [0, 1], steps=10, dtype=np.float64))
    one, _ = agent.predict(observations(agent, 1, 0)[0], deterministic=True)
    many, _ = agent.predict(observations(agent, 1, 0), deterministic=True)
    assert one.dtype == np.float32 and one == pytest.approx(many[0], abs=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("stop", [2, 6])
def test_an_interrupted_training_resumes_as_if_nothing_had_happened(name, stop):
    """VQ-BeT is cut in both phases. The learner that goes on has made an update of its own before."""
    data = dataset()
    agent, fit = ALL[name](data)
    parts = [fit] if isinstance(fit, Fit) else list(fit.fits)
    for _ in range(stop):
        part = next((p for p in parts if p.updates < FIT.steps), None)
        if part is not None:
            part.step()
    saved = fit.state_dict()
    other, again = ALL[name](data)
    (again if isinstance(again, Fit) else again.fits[0]).step()
    again.load_state_dict(saved)
    finish(agent, fit)
    finish(other, again)
    assert np.array_equal(play(agent, [0, 1], steps=10), play(other, [0, 1], steps=10))


@pytest.mark.parametrize("name", ALL)
def test_seed_0_is_a_seed(name):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    plays = [play(learn(name, seed=seed), [0, 1], steps=4) for seed in (0, 0, 1)]
    assert np.array_equal(plays[0], plays[1]) and not np.array_equal(plays[0], plays[2])
    assert torch.equal(torch.rand(1), expected), "the process's own generator goes on as if nothing had happened"


# ---- the environments -------------------------------------------------------------------------------------------

ENVS = {"push_t": lambda: SingleEnv(PushT(1)), "reach_push": lambda: SingleEnv(ReachPush(1))}


@pytest.fixture(scope="module", params=ENVS)
def env(request):
    made = ENVS[request.param]()
    made.reset(seed=0)
    return made


def test_actions_that_are_not_finite_or_of_another_size(env):
    size = env.action_space.shape[0]
    before = env.task.qpos.copy()
    for action, message in ((np.full(size, NAN), "is nan; every entry must be finite"), (np.zeros(size + 1), "shape")):
        with pytest.raises(ValueError, match=message):
            env.step(action)
    assert np.array_equal(env.task.qpos, before)


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("push_t", {"goal": (0, 0)}, "unknown task field 'goal'; the fields are block, pusher"),
        ("push_t", {"block": (NAN, 0, 0)}, r"task field 'block' is \[nan"),
        ("push_t", {"block": (1.0, 0, 0)}, "limits"),
        ("push_t", {"pusher": (0.1,)}, r"has shape \(1,\); expected \(2,\)"),
        ("reach_push", {"target": [8]}, "limits"),
        ("reach_push", {"target": [1.5]}, "target is 1.5; it must be 0 to 7"),
        ("reach_push", {"push": [0.5]}, "push is 0.5; it must be 0, to reach, or 1, to push"),
        ("reach_push", {"word": "red"}, "unknown task field 'word'"),
    ],
)
def test_tasks_that_there_are_not(name, task, message):
    made = ENVS[name]()
    made.reset(seed=0)
    before = made.task.qpos.copy()
    with pytest.raises(ValueError, match=message):
        made.reset(options={"task": task})
    assert np.array_equal(made.task.qpos, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PushT(1, spread=NAN), "spread is nan; it must be between 0"),
        (lambda: PushT(1, frame="world"), "frame is 'world'"),
        (lambda: ReachPush(1, goal="image"), "goal is 'image'; it must be one of word, state, none"),
        (lambda: ReachPush(1, skill="lift"), "skill is 'lift'; it must be reach, push or both"),
        (lambda: demonstrations(1, seed=0, skill="lift"), "skill is 'lift'"),
    ],
)
def test_environments_that_there_are_not(call, message):
    with pytest.raises(ValueError, match=message):
        call()
