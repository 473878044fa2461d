"""Wrong versions of every exercise, each one token away from the reference and of the right shape and dtype.

A mutant is a replacement (old, new) in the reference's source. A check that accepts one of its mutants, or has fewer
than three, fails the suite.
"""

import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable

MUTANTS: dict[str, dict[str, tuple[str, str]]] = {
    "wilson": {
        "centre shifted by twice too much": ("z**2 / (2 * n)", "z**2 / (1 * n)"),
        "the interval around the share": ("float(centre - half)", "float(share - half)"),
        "upper end by the wrong sign": ("float(centre + half)", "float(centre - half)"),
        "variance of a share without its complement": ("share * (1 - share) / n +", "share * (1 - 0) / n +"),
        "width not scaled down": ("z**2 / (4 * n**2)) / (1 +", "z**2 / (4 * n**2)) * (1 +"),
        "n not squared": ("(4 * n**2)", "(4 * n**1)"),
        "one deviation, whatever z": ("half = z * np", "half = 1 * np"),
    },
    "held": {
        "off by one: a step too many": ("[-steps:]", "[-steps - 1:]"),
        "the first steps": ("[-steps:]", "[:steps]"),
        "any step": (".all(", ".any("),
        "at the tolerance too": ("< tolerance", "<= tolerance"),
        "the last step only": ("[-steps:]", "[-1:]"),
    },
    "gae": {
        "off by one: the first step forgotten": ("range(len(rewards))", "range(1, len(rewards))"),
        "dropped mask: a terminal state has a value": ("(1 - terminated[t]) * next_values", "(1 - 0) * next_values"),
        "dropped mask: the trace crosses a time limit": ("* (1 - truncated[t]) * later", "* (1 - 0) * later"),
        "dropped mask: the trace crosses a terminal state": ("lam * (1 - terminated[t])", "lam * (1 - 0)"),
        "truncation taken for termination": (
            "(1 - terminated[t]) * next_values",
            "(1 - truncated[t]) * next_values",
        ),
        "a time limit has no V(s')": (
            "(1 - terminated[t]) * next_values",
            "(1 - (terminated[t] | truncated[t])) * next_values",
        ),
        "wrong sign of the baseline": ("- values[t]", "+ values[t]"),
        "lambda missing": ("gamma * lam *", "gamma * gamma *"),
        "forwards": ("reversed(range(len(rewards)))", "(range(len(rewards)))"),
    },
    "log_prob": {
        "wrong sign of the width": ("+ log_std +", "- log_std +"),
        "the half forgotten": ("0.5 * z**2", "1.0 * z**2"),
        "pi not doubled": ("np.log(2 * np.pi)", "np.log(1 * np.pi)"),
        "mean over the joints": (".sum(dim=-1)", ".mean(dim=-1)"),
        "scaled the wrong way": ("/ log_std.exp()", "* log_std.exp()"),
        "no gradient to the mean": ("(actions - mean)", "(actions - mean.detach())"),
    },
    "absolute_learning_progress": {
        "progress with its sign": ("return abs(float(ret - returns[nearest]))", "return float(ret - returns[nearest])"),
        "the farthest task": ("[::-1].argmin()", "[::-1].argmax()"),
        "of equally near ones the earliest": ("len(distances) - 1 - distances[::-1].argmin()", "distances.argmin()"),
        "off by one: from five on": ("<= EARLIEST", "< EARLIEST"),
        "differences not squared": ("(points - point) ** 2", "(points - point) ** 1"),
        "the first coordinate only": ("((points - point) ** 2)", "((points - point)[:, :1] ** 2)"),
        "the last task, not the nearest": ("returns[nearest]", "returns[-1]"),
    },
    "aic": {
        "weights forgotten": ("+ sizes - 1", "+ 0 * sizes"),
        "all weights free": ("+ sizes - 1", "+ sizes - 0"),
        "covariances not symmetric": ("dim * (dim + 1) // 2", "dim * dim"),
        "diagonal covariances": ("dim * (dim + 1) // 2", "dim"),
        "the likelihood's sign": ("- 2 * n *", "+ 2 * n *"),
        "mean for the sum over points": ("- 2 * n *", "- 2 * 1 *"),
        "Schwarz's criterion": ("return 2 * parameters", "return np.log(n) * parameters"),
    },
    "split_score": {
        "sum of the progress": (") - learning_progress", ") + learning_progress"),
        "difference with its sign": ("abs(difference)", "(difference)"),
        "the number of sides for that of episodes": ("len(left) * len(right)", "2 * 2"),
        "one side twice": ("len(left) * len(right)", "len(left) * len(left)"),
        "episodes added": ("len(left) * len(right)", "(len(left) + len(right))"),
        "one side without its window": ("learning_progress(left, window)", "learning_progress(left, 10**9)"),
    },
    "cvar": {
        "the best": ("np.argsort(pick", "np.argsort(-pick"),
        "picked and reported on the second": ("np.argsort(pick", "np.argsort(report"),
        "picked and reported on the first": ("report[worst]", "pick[worst]"),
        "rounded down": ("math.ceil(share * len(pick))", "max(math.floor(share * len(pick)), 1)"),
        "the very worst": ("report[worst].mean()", "report[worst].min()"),
        "all levels": ("report[worst].mean()", "report.mean()"),
    },
    "rank_weights": {
        "the smallest first": ("rankdata(-np", "rankdata(+np"),
        "beta upside down": ("(-1.0 / beta)", "(-1.0 * beta)"),
        "the last rank counts most": ("(-1.0 / beta)", "(1.0 / beta)"),
        "ties by order": ("(np.bincount(group, weights) / np.bincount(group))[group]", "weights"),
        "equal scores have one rank": ('method="ordinal"', 'method="dense"'),
        "ties add up": ("/ np.bincount(group))[group]", "/ 1)[group]"),
        "scaled by the largest": ("weights / weights.sum()", "weights / weights.max()"),
    },
    "easiest": {
        "the hardest": ("np.argsort(-(", "np.argsort(+("),
        "the score added": ("- np.asarray(scores)", "+ np.asarray(scores)"),
        "the score forgotten": ("- np.asarray(scores)", "- 0 * np.asarray(scores)"),
        "the return forgotten": ("(np.asarray(returns) -", "(0 * np.asarray(returns) -"),
        "the last n": ("[:n]", "[-n:]"),
        "the easiest last": ("[:n]", "[:n][::-1]"),
    },
    "regret": {
        "mean for best": ("np.maximum(0.0, antagonist.max(axis=0)", "np.maximum(0.0, antagonist.mean(axis=0)"),
        "best for mean": ("mean_p = protagonist.mean(axis=0)", "mean_p = protagonist.max(axis=0)"),
        "negative regret": ("np.maximum(0.0, antagonist.max(axis=0) - mean_p)", "antagonist.max(axis=0) - mean_p"),
        "minimax that is kind": ("return -mean_p", "return +mean_p"),
        "the weaker one's best": ("np.where(mean_a > mean_p", "np.where(mean_a < mean_p"),
        "the protagonist as the weaker one": ("np.minimum(mean_a, mean_p)", "mean_p"),
        "mean over the levels": (
            "mean_a = antagonist.mean(axis=0)",
            "mean_a = np.full_like(mean_p, antagonist.mean())",
        ),
    },
    "sort_tokens": {
        "walls named twice": ("np.where(again, NONE, walls)", "walls"),
        "gaps in between": ("np.sort(np.where(again, NONE, walls), axis=1)", "np.where(again, NONE, walls)"),
        "cell 0 for no wall": ("np.where(again, NONE, walls)", "np.where(again, 0, walls)"),
        "goal and start swapped": ("tokens[:, -2:]]", "tokens[:, :-3:-1]]"),
        "across levels": ("np.sort(tokens[:, :-2], axis=1)", "np.sort(tokens[:, :-2], axis=0)"),
        "all that are named once": ("walls[:, 1:] == walls[:, :-1]", "walls[:, 1:] != walls[:, :-1]"),
    },
    "longest_increasing_subsequence": {
        "standing still counts": ("tails < values", "tails <= values"),
        "backwards": ("in rows.T", "in rows.T[::-1]"),
        "the first forgotten": ("in rows.T", "in rows.T[1:]"),
        "the last forgotten": ("in rows.T", "in rows.T[:-1]"),
        "steps of more than one": ("< values[:, None]", "< values[:, None] - 1"),
    },
    "value_update": {
        "the wrong side counts more": ("(u < 0)", "(u > 0)"),
        "how often an action was seen forgotten": ("slope = counts *", "slope = (counts > 0) *"),
        "no asymmetry": ("np.abs(tau - (u < 0))", "np.abs(tau - 0)"),
        "sum for mean": ("np.maximum(counts.sum(axis=1), 1)", "np.maximum(1, 1)"),
        "away from the expectile": ("values + rate", "values - rate"),
        "full step, whatever the rate": ("rate * slope", "1.0 * slope"),
    },
    "rankme": {
        "energies for singular values": ("sigma / sigma.sum()", "sigma**2 / (sigma**2).sum()"),
        "the largest for the sum": ("sigma / sigma.sum()", "sigma / sigma.max()"),
        "the entropy's sign": ("np.exp(-(p", "np.exp(+(p"),
        "entropy to another base": ("np.log(p)", "np.log2(p)"),
        "the entropy itself": ("float(np.exp(-(p * np.log(p)).sum()))", "float(-(p * np.log(p)).sum())"),
    },
    "checksum": {
        "bits not turned over": ("~sum(body)", "sum(body)"),
        "two's complement": ("~sum(body)", "-sum(body)"),
        "the ID forgotten": ("sum(body)", "sum(body[1:])"),
        "the last parameter forgotten": ("sum(body)", "sum(body[:-1])"),
        "seven bits": ("0xFF", "0x7F"),
        "the header counted": ("sum(body)", "(sum(body) + 255)"),
    },
    "present": {
        "offset added": ("(e - o)", "(e + o)"),
        "the other way round": ("(e - o)", "(o - e)"),
        "a turn too short": ("% TURN", "% (TURN - 1)"),
        "below zero": ("% TURN", "% TURN - TURN // 2"),
        "not wrapped": ("% TURN", "% (8 * TURN)"),
        "half a turn": ("% TURN", "% (TURN // 2)"),
    },
    "not_fast": {
        "the larger of the two": ("min(limits", "max(limits"),
        "the account forgotten": ("limits.max_speed * credit", "limits.max_speed * 1.0"),
        "the step forgotten": ("min(limits.max_delta, ", "min(np.inf, "),
        "from the goal": ("return last +", "return goal +"),
        "back as fast as it likes": ("-most, most", "-np.inf, most"),
        "the wrong way": ("np.clip(goal - last", "np.clip(last - goal"),
        "the step itself": ("return last + np", "return 0 * last + np"),
    },
    "joint_speed": {
        "no parabola": ("3 * q - 4 * before + earlier", "2 * q - 2 * before + 0 * earlier"),
        "in the middle": ("3 * q - 4 * before + earlier", "q - 0 * before - earlier"),
        "a sign": ("+ earlier", "- earlier"),
        "twice": ("rate / 2", "rate / 1"),
        "period for rate": ("* rate", "/ rate"),
        "old ones swapped": ("4 * before + earlier", "4 * earlier + before"),
    },
    "smoothness": {
        "amplitude halved": ("* 2 / steps", "* 1 / steps"),
        "squared amplitude": ("frequency, amplitude)", "frequency, amplitude**2)"),
        "every frequency counts one": ("frequency, amplitude)", "1 + 0 * frequency, amplitude)"),
        "frequency in steps": ("1 / rate)", "1)"),
        "sum over the joints": (".mean(axis=1)", ".sum(axis=1)"),
        "not by the episode's length": ("2 / (steps * rate)", "2 / (1 * rate)"),
        "the real part alone": ("np.abs(np.fft.rfft(", "np.real(np.fft.rfft("),
    },
    "step": {
        "away from the goal": ("goal - point", "point - goal"),
        "lambda not squared": ("DAMPING**2", "DAMPING**1"),
        "undamped": ("DAMPING**2", "0"),
        "damping in every entry": ("np.eye(3)", "np.ones((3, 3))"),
        "the gradient alone": ("np.linalg.solve(square, (goal - point)[..., None])", "(goal - point)[..., None]"),
        "not clipped": ("-LARGEST_STEP, LARGEST_STEP", "-np.inf, np.inf"),
        "clipped on one side": ("-LARGEST_STEP, ", "-np.inf, "),
    },
    "advance_base": {
        "always at full speed": ("1e-9), 1.0)", "1e-9), np.inf)"),
        "each joint by itself": ("np.abs(move).max(axis=1, keepdims=True)", "np.abs(move)"),
        "one scale for all arms": ("np.abs(move).max(axis=1, keepdims=True)", "np.abs(move).max(keepdims=True)"),
        "the largest with its sign": ("np.abs(move)", "(move)"),
        "at least at full speed": ("np.minimum(", "np.maximum("),
        "sum for the largest": (".max(axis=1", ".sum(axis=1"),
        "away from the goal": ("return base + move", "return base - move"),
        "the move alone": ("return base + move", "return 0 * base + move"),
    },
    "penalty": {
        "ends judged too": ("(1 - ended)", "(1 - 0 * ended)"),
        "only ends judged": ("(1 - ended)", "ended"),
        "weights swapped": ("cfg.temporal *", "cfg.spatial *"),
        "sum for mean": ("in_time.mean()", "in_time.sum()"),
        "distance along the city's blocks": ("(mean - nearby).norm(dim=-1)", "(mean - nearby).norm(p=1, dim=-1)"),
        "squared distance": ("(mean - later).norm(dim=-1)", "(mean - later).norm(dim=-1) ** 2"),
        "near the next state": ("(mean - nearby)", "(later - nearby)"),
        "the next action is no concern of the gradient's": ("(mean - later)", "(mean - later.detach())"),
    },
    "gauss_newton_step": {
        "uphill": ("return -np", "return +np"),
        "no damping": ("+ mu * np", "+ 0 * np"),
        "damping with the wrong sign": ("+ mu * np", "- mu * np"),
        "the gradient's length forgotten": ("jacobian.T @ r)", "jacobian.T @ np.sign(r))"),
        "half a step": ("return -np", "return -0.5 * np"),
        "damping squared": ("+ mu *", "+ mu**2 *"),
    },
    "standard_errors": {
        "variance for deviation": ("return np.sqrt(variance *", "return (variance *"),
        "all residuals count": ("(m - p)", "m"),
        "one degree of freedom for all": ("(m - p)", "(m - 1)"),
        "information, not its inverse": ("np.linalg.inv(jacobian.T @ jacobian)", "jacobian.T @ jacobian"),
        "each parameter by itself": (
            "np.diag(np.linalg.inv(jacobian.T @ jacobian))",
            "1 / np.diag(jacobian.T @ jacobian)",
        ),
        "norm of the residual for its square": ("r @ r /", "np.sqrt(r @ r) /"),
    },
    "friction_budget": {
        "both torques the same way add up": ("tau_m - tau_e", "tau_m + tau_e"),
        "load with its sign": ("np.abs(tau_m - tau_e)", "(tau_m - tau_e)"),
        "speed with its sign": ('k["viscous"] * np.abs(w)', 'k["viscous"] * w'),
        "sticks while it moves": ("np.exp(-(", "np.exp(+("),
        "a Gaussian Stribeck curve": ("** CURVE", "** 2"),
        "load counts at rest only": ('k["load"] + k', 'k["load"] * at_rest + k'),
        "Stribeck at every speed": ('k["stribeck"] * at_rest', 'k["stribeck"] * 1'),
        "no Stribeck under load": ('load_stribeck"] * at_rest', 'load_stribeck"] * 1'),
    },
    "servo_goal": {
        "behind, not ahead": ("return q + (", "return q - ("),
        "the nominal stiffness": ("* gap.stiffness)", "* 1)"),
        "stiffness the wrong way round": ("servo.stiffness * gap.stiffness", "servo.stiffness / gap.stiffness"),
        "back-EMF forgotten": ("+ servo.back_emf * qd", "+ 0 * qd"),
        "friction helps": ("torque + friction", "torque - friction"),
        "friction whatever the direction": ("np.tanh(qd /", "np.tanh(np.abs(qd) /"),
        "a hard sign": ("np.tanh(qd / 0.05)", "np.sign(qd)"),
        "gravity's torque forgotten": ("(torque + friction", "(0 * torque + friction"),
    },
    "modulate": {
        "scaled by gamma alone": ("(1 + gamma)", "(0 + gamma)"),
        "wrong sign of gamma": ("(1 + gamma)", "(1 - gamma)"),
        "wrong sign of beta": ("+ beta", "- beta"),
        "shifted before it is scaled": ("* h + beta", "* (h + beta)"),
        "no gradient by gamma": ("(1 + gamma)", "(1 + gamma.detach())"),
        "gamma and beta swapped": ("(1 + gamma) * h + beta", "(1 + beta) * h + gamma"),
    },
    "ahead": {
        "the farthest for the nearest": (".min(initial=far)", ".max(initial=0)"),
        "distance along the ray": ("(distances * np.cos(angles))[in_lane]", "distances[in_lane]"),
        "the lane forgotten": ("[in_lane]", "[:]"),
        "only one side of the lane": ("np.abs(distances * np.sin(angles))", "(distances * np.sin(angles))"),
        "what is outside of the lane": ("< half_width", "> half_width"),
        "sine and cosine swapped in the lane": ("distances * np.sin(angles)", "distances * np.cos(angles)"),
    },
    "step_of": {
        "backwards": ("sent - before", "before - sent"),
        "in radians": ("/ so101.MAX_DELTA", "/ 1"),
        "scaled the wrong way": ("/ so101.MAX_DELTA", "* so101.MAX_DELTA"),
        "no limit": ("-1, 1)", "-1e9, 1e9)"),
        "never backwards": ("-1, 1)", "0, 1)"),
        "size without direction": ("(sent - before)", "abs(sent - before)"),
    },
    "expected_success": {
        "errors swapped in what is tried again": ("p * false_reject + (1 - p)", "p * false_accept + (1 - p)"),
        "no false rejects": ("again = p * false_reject +", "again = 0 * false_reject +"),
        "no false accepts": ("(1 - false_accept)", "(1 - 0)"),
        "rejected successes count": ("stopped = p * (1 - false_reject)", "stopped = p * 1"),
        "one try too many": ("range(tries - 1)", "range(tries)"),
        "the last try forgotten": ("+ again ** (tries - 1) * p", "+ 0 * again"),
        "the last try is checked as well": ("(tries - 1) * p", "(tries - 1) * p * (1 - false_reject)"),
    },
    "policy_gradient_loss": {
        "wrong sign": ("return -(", "return +("),
        "sum for mean": (".mean()", ".sum()"),
        "probability for its logarithm": ("(log_probs *", "(log_probs.exp() *"),
        "right value without a gradient": ("(log_probs *", "(log_probs.detach() *"),
        "gradient turned round": ("(log_probs *", "((2 * log_probs.detach() - log_probs) *"),
    },
    "clipped_loss": {
        "wrong sign": ("return -torch", "return +torch"),
        "max for min": ("torch.min(", "torch.max("),
        "ratio upside down": ("log_probs - old", "old - log_probs"),
        "clipped on one side": ("1 + clip)", "1e9 + clip)"),
        "sum for mean": (".mean()", ".sum()"),
        "always clipped": ("(ratio * advantages, ", "(ratio.clamp(1 - clip, 1 + clip) * advantages, "),
        "never clipped": ("ratio.clamp(1 - clip, 1 + clip) *", "ratio *"),
        "old policy's logarithm as the ratio": ("(log_probs - old).exp()", "(log_probs - old).expm1()"),
    },
}


def source(reference: Callable, old: str, new: str) -> str:
    """The reference's source with one replacement.

    Raises:
        ValueError: `old` is not in it, or in it more than once.
    """
    text = textwrap.dedent(inspect.getsource(reference))
    if text.count(old) != 1 or old == new:
        raise ValueError(f"{old!r} is {text.count(old)} times in {reference.__name__}; a mutant replaces it once")
    return text.replace(old, new)


def make(reference: Callable, old: str, new: str) -> Callable:
    """The mutant as a function, with the globals of the reference's module."""
    namespace = dict(vars(sys.modules[reference.__module__]))
    flags = __future__.annotations.compiler_flag
    exec(compile(source(reference, old, new), "<mutant>", "exec", flags=flags), namespace)
    return namespace[reference.__name__]
