"""The command line: `python -m kit train | bench | claims | papers | solve | release | grade | robot | info`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kit", description="Learn and prototype modern robot learning.")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="make one of the shipped policies; `train` alone lists them")
    train.add_argument("name", nargs="?")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, help="folder for the checkpoint; run again to resume")

    bench = commands.add_parser("bench", help="measure the kit against its peers; `bench` alone lists the names")
    bench.add_argument("name", nargs="?")
    bench.add_argument("--json", action="store_true", help="print one JSON object")

    claims = commands.add_parser("claims", help="list the executable claims with their last result, or run some")
    claims.add_argument("action", nargs="?", choices=["run"])
    claims.add_argument("ids", nargs="*", metavar="ID")
    claims.add_argument("--json", action="store_true")
    claims.add_argument("--seeds", type=int, default=5, help="how many; a verdict needs at least 5")
    claims.add_argument("--first-seed", type=int, default=0)
    claims.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    claims.add_argument("--dask", metavar="ADDRESS", help="run on the Dask cluster there instead")
    claims.add_argument("--budget", choices=["full", "fast"], default="full")
    claims.add_argument("--out", type=Path, help="folder for the results instead of assets/claims")

    papers = commands.add_parser("papers", help="print which paper lives where in the kit")
    papers.add_argument("--wing")
    papers.add_argument("--all", action="store_true", help="also the rows that are listed only on request")
    papers.add_argument("--json", action="store_true")

    solve = commands.add_parser("solve", help="write a notebook with its exercises solved")
    solve.add_argument("notebook", type=Path)
    solve.add_argument("--out", type=Path, required=True, help="the notebook to write")

    release = commands.add_parser("release", help="make an nbgrader course of notebooks, one assignment each")
    release.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    release.add_argument("--out", type=Path, required=True, help="the course's folder")

    grade = commands.add_parser("grade", help="autograde what students submitted, into grades.csv")
    grade.add_argument(
        "folder", type=Path, metavar="DIR", help="the course's folder, with submitted/STUDENT/ASSIGNMENT"
    )

    robot = commands.add_parser("robot", help="serve virtual SO-101 arms on serial ports until Ctrl-C")
    robot.add_argument(
        "arms", nargs="*", default=["follower"], metavar="KIND", help="follower or leader, a word an arm"
    )
    robot.add_argument("--seed", type=int, default=0, help="which unit: its assembly offsets")
    robot.add_argument("--servo", default="7.4V-P16", help="motor and supply: 5V-P16, 7.4V-P16 or 12V-P16")
    robot.add_argument("--calibrated", action="store_true", help="store a perfect calibration")
    robot.add_argument("--lockstep", action="store_true", help="time passes only with commands")
    robot.add_argument("--no-wire", dest="wire", action="store_false", help="answer at once")
    robot.add_argument("--waving", action="store_true", help="a hand moves the leaders")
    robot.add_argument("--fault", dest="faults", action="append", default=[], metavar="NAME=NUMBERS")
    robot.add_argument("--links", type=Path, help="folder for links to the ports, with fixed names")

    commands.add_parser("info", help="print version, budget, cores and graphics")

    args, fields = parser.parse_known_args(argv)
    if fields and args.command != "train":
        parser.error(f"unrecognised arguments: {' '.join(fields)}")
    try:
        return COMMANDS[args.command](args, fields)
    except (ValueError, FileNotFoundError, ImportError, RuntimeError) as error:
        print(f"kit {args.command}: {error}", file=sys.stderr)
        return 2


def _train(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import train

    if args.name is None:
        for name, recipe in train.RECIPES.items():
            print(f"{name:13} {recipe.env_id}, {recipe.config.total_steps:,} steps")
        for name, module in train.MODULES.items():
            print(f"{name:13} by {module}, with its own settings")
        return 0
    if args.name in train.MODULES:
        return _make(args, fields)
    chosen = train.recipe(args.name)
    if args.out is None:
        raise ValueError("give --out FOLDER, where the checkpoint goes")
    import tyro

    config = tyro.cli(type(chosen.config), default=chosen.config, args=fields, prog=f"python -m kit train {args.name}")
    train.main(args.name, seed=args.seed, out=args.out, config=config)
    return 0


def _make(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import runtime, train

    if args.out is None or fields:
        raise ValueError(f"{args.name} takes --seed and --out FOLDER, where the checkpoint goes, and no other field")
    runtime.run(train.make(args.name, seed=args.seed, out=args.out), desc=args.name)
    print(f"{args.name}: saved in {args.out}")
    return 0


def _bench(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import bench

    if args.name is None:
        for name, what in bench.NAMES.items():
            print(f"{name:16} {what}")
        return 0
    result = bench.measure(args.name)
    print(json.dumps(result) if args.json else bench.describe(result))
    return 0


def _robot(args: argparse.Namespace, fields: list[str]) -> int:
    from kit.sim2real import serve

    names = ("seed", "servo", "calibrated", "lockstep", "wire", "waving", "faults", "links")
    return serve.robot(args.arms, **{name: getattr(args, name) for name in names})


def _info(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import runtime

    runtime.info()
    print(f"off-screen OpenGL: {runtime.gl() or 'none'}")
    return 0


def _claims(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import claims
    from kit.claims import runner

    if args.action is None:
        rows = runner.listing(args.out)
        print(json.dumps(rows) if args.json else "\n".join(runner.line(row) for row in rows))
        return 0
    if not args.ids:
        raise ValueError(f"run which? give an ID; there are {', '.join(claims.claim_ids())}")
    options = {k: getattr(args, k) for k in ("seeds", "first_seed", "jobs", "dask", "budget")}
    for claim in [claims.get(claim_id) for claim_id in args.ids]:  # look all of them up before any work
        result = claims.run(claim, folder=args.out, on_done=runner.report, **options)
        print(json.dumps(result) if args.json else claims.show(result))
    return 0


def _papers(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import papers

    chosen = papers.load(everything=args.all, wing=args.wing)
    print(json.dumps(papers.summary(chosen)) if args.json else papers.show(chosen))
    return 0


def _solve(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import teach

    notebook = teach.read(args.notebook)
    teach.write(teach.solve(notebook), args.out)
    print(f"{args.out}: {len(teach.exercises(notebook))} exercises solved")
    return 0


def _release(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import teach

    for path in teach.release(args.notebooks, args.out):
        print(f"{path}: give this one to the students")
    return 0


def _grade(args: argparse.Namespace, fields: list[str]) -> int:
    from kit import teach

    path, failed = teach.grade(args.folder)
    print(path)
    for submission in failed:
        print(f"kit grade: {submission} could not be graded; see {args.folder / teach.LOG}", file=sys.stderr)
    return 1 if failed else 0


COMMANDS = {
    "train": _train,
    "bench": _bench,
    "claims": _claims,
    "papers": _papers,
    "solve": _solve,
    "release": _release,
    "grade": _grade,
    "robot": _robot,
    "info": _info,
}

if __name__ == "__main__":
    sys.exit(main())
