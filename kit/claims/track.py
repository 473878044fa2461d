"""Claims on the robot track: which teacher makes a deep student master most, where most tasks are impossible."""

from __future__ import annotations

from kit.claims.core import Claim


def track(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the student's weights and noise, the simulations and the teacher's choices."""
    import dataclasses

    from kit.curricula import track_study

    cfg = track_study.Config()
    if budget != "full":
        cfg = dataclasses.replace(cfg, ppo=dataclasses.replace(cfg.ppo, total_steps=20_000))
    return track_study.run_arm(arm, cfg, seed=seed)


def against_random(
    teacher: str, name: str, cost_s: int, *, papers: tuple[int, ...] = (), paper_number: str = "", tried: str = ""
) -> Claim:
    """`cost_s` is what one seed of the teacher took, training and judging [s on one core]."""
    return Claim(
        id=f"{teacher}.track",
        papers=papers,
        statement=f"With three tasks in four impossible, PPO masters more of the others under {name} than at random.",
        arms=(teacher, "random"),
        metric="mastered",
        run=track,
        source=f"direction only: the paper's arm is better; a seed of this teacher takes {cost_s} s of one core",
        paper_number=paper_number,
        cost="long",
        tried=tried,
        unit="share of 100 held-out tasks",
    )


CLAIMS: tuple[Claim, ...] = (
    against_random(
        "alp_gmm",
        "ALP-GMM",
        221,
        papers=(1,),
        paper_number="Parkour, SAC, 20 million steps: 26.4 % of tasks against 16.9 % (TeachMyAgent)",
        tried="nothing was tuned: teachers at their class's defaults, 2 million steps. Five seeds cannot separate the "
        "arms: seeds of one arm differ by up to 0.56. On the calibration seed 1000 RIAC came to 0.89, Covar-GMM to "
        "0.86, ALP-GMM to 0.82, ADR to 0.68, Random to 0.25 and PLR to 0.21; Random's student there jumps no gap above "
        "0.75 m, half of what can be done.",
    ),
    against_random("covar_gmm", "Covar-GMM", 192, paper_number="Parkour: 22.1 % against 16.9 %"),
    against_random("riac", "RIAC", 201, paper_number="Parkour: 23.0 % against 16.9 %"),
    against_random("adr", "ADR", 197, paper_number="Parkour: 6.7 % against 16.9 %, without an easy start"),
    against_random("plr", "PLR", 221),
)
