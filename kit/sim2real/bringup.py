"""What a connected arm is asked, and told, before and while it moves: who the servos are, whether the calibration is
theirs, LeRobot's settings, and how they feel.

Functions of a `ServoClient`, which `kit.sim2real.so101.SO101` calls in this order. Look first at `configure`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kit.envs.so101 import JOINTS
from kit.sim2real import calibration as calib
from kit.sim2real.client import ServoClient, name_of
from kit.sim2real.protocol import decode, register
from kit.sim2real.units import CalibrationMismatch, FirmwareMismatch

MODEL = 777  # STS3215
HEALTH = ("Torque_Enable", "Acceleration", "Present_Load", "Present_Voltage", "Present_Temperature")
GRIPPER_LIMITS = {"Max_Torque_Limit": 500, "Protection_Current": 250, "Overload_Torque": 25}  # LeRobot's


class Settings(Protocol):
    """What `configure` writes."""

    p_gain: int
    i_gain: int
    d_gain: int
    acceleration: int  # [100 ticks/s^2]


def shake_hands(client: ServoClient) -> None:
    """
    Raises:
        BusError: a servo does not answer.
        FirmwareMismatch: a servo of another model, or firmware that differs.
    """
    models, versions = {}, {}
    for id in client.ids:
        client.ping(id)
        models[id] = client.read("Model_Number", id)
        major = client.read("Firmware_Major_Version", id)
        versions[id] = f"{major}.{client.read('Firmware_Minor_Version', id)}"
    if wrong := [id for id, model in models.items() if model != MODEL]:
        raise FirmwareMismatch(f"{', '.join(map(name_of, wrong))} is no STS3215 (model {MODEL}): {models}")
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{name_of(id)} has {version}" for id, version in versions.items())
        raise FirmwareMismatch(
            f"the servos run different firmware: {listed}. Bring all to the same version with Feetech's FD software"
        )


def check_calibration(client: ServoClient, calibration: calib.Calibration) -> None:
    """
    Raises:
        CalibrationMismatch: the servos hold another one.
    """
    found = calib.differences(calibration, calib.read_eeprom(client))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise CalibrationMismatch(
            f"the calibration is of another arm, or the servos were changed: {'; '.join(found[:3])}{more}. Use "
            "this arm's own file; or connect(calibrate=False), and then write_calibration() if the file is right, "
            "or calibrate() anew"
        )


def check_pose(client: ServoClient, calibration: calib.Calibration) -> None:
    """A servo horn that was taken off and put back shows here.

    Raises:
        CalibrationMismatch: a joint stands more than 5 degrees outside its calibrated range.
    """
    for name, (id, ticks) in zip(JOINTS, client.sync_read("Present_Position").items(), strict=True):
        joint = calibration[name]
        if not joint.range_min - 60 <= ticks <= joint.range_max + 60:
            raise CalibrationMismatch(
                f"{name_of(id)} stands at {ticks} ticks, outside its calibrated range {joint.range_min} to "
                f"{joint.range_max}: this cannot be the calibration of this arm as it is; calibrate anew"
            )


def configure(client: ServoClient, id: int, cfg: Settings, keep: bool) -> None:
    """LeRobot's settings; then its goal is where the servo is, and the torque comes on. With `keep` a servo that still
    has its settings holds on meanwhile."""
    write, here = client.write, client.read("Present_Position", id)
    if not (keep and _is_set_up(client, id, cfg)):
        for name, value in (("Torque_Enable", 0), ("Lock", 0), ("Return_Delay_Time", 0)):
            write(name, id, value)
        write("Maximum_Acceleration", id, 254)
        write("Acceleration", id, cfg.acceleration)
        phase = client.read("Phase", id)
        if phase & 16:  # counts turns; a position would not be one of 4096
            write("Phase", id, phase & ~16)
        write("Operating_Mode", id, 0)
        for name, value in zip("PID", (cfg.p_gain, cfg.i_gain, cfg.d_gain), strict=True):
            write(f"{name}_Coefficient", id, value)
        for name, value in GRIPPER_LIMITS.items() if id == client.ids[5] else ():
            write(name, id, value)
    write("Goal_Position", id, here)
    write("Torque_Enable", id, 1)
    write("Lock", id, 1)


def _is_set_up(client: ServoClient, id: int, cfg: Settings) -> bool:
    wanted = {"Acceleration": cfg.acceleration, "Torque_Enable": 1, "P_Coefficient": cfg.p_gain}
    return all(client.read(name, id) == value for name, value in wanted.items())


def health(client: ServoClient) -> dict[str, np.ndarray]:
    """Torque, acceleration, load (share of full duty), volts and degrees Celsius, (6,) each."""
    first, last = register(HEALTH[0]).address, register("Status")
    blocks = list(client.block(HEALTH[0], last.address + last.size - first).values())

    def column(name: str) -> np.ndarray:
        start, size = register(name).address - first, register(name).size
        return np.array([decode(name, block[start : start + size]) for block in blocks], float)

    scale = {"Present_Load": 1e-3, "Present_Voltage": 0.1}
    return {name: column(name) * scale.get(name, 1.0) for name in HEALTH}
