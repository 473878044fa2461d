"""Claims of row 15: a trusted sensor teaches a cheap one, and is then lost."""

from __future__ import annotations

from kit.claims.core import Claim


def life(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The seed draws the room, its paint, the start and the noise; both arms live equally long with the sensor."""
    from kit.runtime import run
    from kit.sim2real.people import persistent

    cfg = persistent.Config() if budget == "full" else persistent.Config(plugged=60.0, unplugged=20.0)
    return persistent.judge(run(persistent.train(cfg, seed=seed, arm=arm)))


def experience(arm: str, seed: int, budget: str) -> dict[str, float]:
    """The persistent scheme after twenty, five or two minutes with the sensor, judged at random poses of its room."""
    from kit.runtime import run
    from kit.sim2real.people import persistent

    minutes = {"twenty_minutes": 20, "five_minutes": 5, "two_minutes": 2}[arm]
    cfg = persistent.Config(plugged=60.0 * minutes * (1.0 if budget == "full" else 0.05), unplugged=0.0)
    return {"error_anywhere": persistent.error_anywhere(run(persistent.train(cfg, seed=seed)))}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="persistent.unplugged",
        papers=(15,),
        statement="After the lidar is lost, a learner that drove itself under a safety stop collides less than one "
        "that only watched the lidar drive.",
        arms=("persistent", "teacher_only"),
        metric="bumps_per_minute",
        run=life,
        more_is_better=False,
        tried="On seeds 0 to 4 it was unclear: 0.56 collisions a minute fewer, -0.63 to 1.75. Nothing was changed; ten "
        "more seeds were run. Before any seed was reported, on seeds from 1000 on, the room's paint was made readable "
        "(with brightness instead of contrast no learner did better than a constant) and a memory without delay was "
        "given up, where a guess copies the moment before.",
        unit="collisions a minute",
    ),
    Claim(
        id="persistent.error",
        papers=(15,),
        statement="The error of the camera's distances falls with experience: twenty minutes against two.",
        arms=("twenty_minutes", "two_minutes", "five_minutes"),
        metric="error_anywhere",
        run=experience,
        source="direction only: the error falls",
        more_is_better=False,
        unit="m",
    ),
)
