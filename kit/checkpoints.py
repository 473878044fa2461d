"""Saving and loading policies: tensors as safetensors, everything else as JSON; nothing is ever unpickled.

A checkpoint is a folder with `policy.safetensors` and `policy.json`. The JSON names the environment, the sizes and how
the policy was made, and carries the tensors' SHA-256, so that a damaged file is noticed before it acts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from kit import runtime
from kit.nets import FilmPolicy, MlpPolicy
from kit.skills.prompts import HilbertPolicy

FORMAT = 1
KINDS: dict[str, type[MlpPolicy]] = {"mlp": MlpPolicy, "film": FilmPolicy, "hilbert": HilbertPolicy}
# Kinds that are imported when one is loaded: module, class with `restore(tensors, card)`.
TORCH_KINDS = {
    "beso": ("kit.diffusion.beso", "Agent"),
    "chunks": ("kit.diffusion.serving", "NumpyChunks"),
}


class DamagedCheckpoint(ValueError):
    """A checkpoint's files are incomplete, altered or not a checkpoint."""


def shipped() -> list[str]:
    """Names of the checkpoints that come with the kit."""
    root = runtime.asset_root() / "checkpoints"
    return sorted(p.name for p in root.iterdir() if (p / "policy.json").exists()) if root.is_dir() else []


def load(name: str | Path) -> Any:
    """A policy: one of the kit's own by name (`kit.load("arm_reach")`), or the folder of a saved one.

    The dictionary of its JSON is the policy's attribute `card`.

    Raises:
        FileNotFoundError: no such checkpoint; the message lists the shipped ones.
        DamagedCheckpoint: the files do not belong together or cannot be read.
    """
    folder = Path(name) if os.sep in str(name) or Path(name).is_dir() else runtime.asset_root() / "checkpoints" / name
    if not (folder / "policy.json").exists():
        raise FileNotFoundError(
            f"no checkpoint {str(name)!r}; shipped ones are {', '.join(shipped()) or 'none'}, and a folder made by "
            "`python -m kit train NAME --out FOLDER` is given by its path"
        )
    card, tensors = read(folder)
    name = card.get("kind", "mlp")
    if name in TORCH_KINDS:
        module, kind = TORCH_KINDS[name]
        try:
            policy = getattr(import_module(module), kind).restore(tensors, card)
        except (KeyError, TypeError, RuntimeError) as error:
            raise DamagedCheckpoint(f"checkpoint {folder.name!r} is not a whole {name} policy ({error!r})") from error
    elif name in KINDS:
        policy = KINDS[name](tensors, low=np.array(card["action_low"]), high=np.array(card["action_high"]))
    else:
        raise DamagedCheckpoint(
            f"checkpoint {folder.name!r} is of the kind {name!r}; kit.load knows {', '.join((*KINDS, *TORCH_KINDS))}, "
            "and kit.sim2real.export.NumpyPolicy.load knows what export writes"
        )
    policy.card = card
    return policy


def read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A checkpoint's JSON and its arrays.

    Raises:
        DamagedCheckpoint: the files do not belong together or cannot be read.
    """
    advice = "make it anew with `python -m kit train` or reinstall the kit"
    try:
        card = json.loads((folder / "policy.json").read_text())
        blob = (folder / "policy.safetensors").read_bytes()
        if card["format"] != FORMAT:
            raise DamagedCheckpoint(f"checkpoint {folder.name!r} has format {card['format']}; this kit reads {FORMAT}")
        if hashlib.sha256(blob).hexdigest() != card["sha256"]:
            raise DamagedCheckpoint(
                f"{folder.name}/policy.safetensors is not the file that its JSON describes; {advice}"
            )
        return card, load_tensors(blob)
    except (OSError, json.JSONDecodeError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"checkpoint {folder.name!r} cannot be read ({error!r}); {advice}") from error


def save(policy: Any, folder: str | Path, **facts: Any) -> Path:
    """Save a policy (an `MlpPolicy` or a Stable-Baselines3 model) with some facts about how it was made."""
    if not isinstance(policy, MlpPolicy):
        policy = MlpPolicy.from_sb3(policy)
    sizes = {"obs_dim": policy.obs_dim, "action_low": policy.low.tolist(), "action_high": policy.high.tolist()}
    return write(policy.weights, folder, **({"kind": "mlp"} | sizes | facts))


def write(weights: Mapping[str, np.ndarray], folder: str | Path, *, kind: str, **facts: Any) -> Path:
    """Write named arrays as a checkpoint of a kind, with facts for its JSON; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blob = dump_tensors({k: np.ascontiguousarray(v) for k, v in weights.items()})
    card = {"format": FORMAT, "kind": kind, "sha256": hashlib.sha256(blob).hexdigest(), **facts}
    write_whole(folder / "policy.safetensors", blob)
    write_whole(folder / "policy.json", json.dumps(card, indent=1).encode())
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that an interrupt leaves the old one or the new one, never half of either."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    os.replace(part, path)
