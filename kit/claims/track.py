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


def against_random(teacher: str, name: str, *, papers: tuple[int, ...] = (), paper_number: str = "") -> Claim:
    return Claim(
        id=f"{teacher}.track",
        papers=papers,
        statement=f"With three tasks in four impossible, PPO masters more of the others under {name} than at random.",
        arms=(teacher, "random"),
        metric="mastered",
        run=track,
        source="direction only: the paper's arm is better",
        paper_number=paper_number,
        cost="long",
        unit="share of 100 held-out tasks",
    )


CLAIMS: tuple[Claim, ...] = (
    against_random(
        "alp_gmm",
        "ALP-GMM",
        papers=(1,),
        paper_number="Parkour, SAC, 20 million steps: 26.4 % of tasks against 16.9 % (TeachMyAgent)",
    ),
    against_random("covar_gmm", "Covar-GMM", paper_number="Parkour: 22.1 % against 16.9 %"),
    against_random("riac", "RIAC", paper_number="Parkour: 23.0 % against 16.9 %"),
    against_random("adr", "ADR", paper_number="Parkour: 6.7 % against 16.9 %, without an easy start"),
    against_random("plr", "PLR"),
)
