"""The firmware without a motor: registers, EEPROM, instructions, torque and protections."""

import pytest

from kit.sim2real.protocol import BROADCAST, TABLE, Error, Instruction, Packet, build, decode, encode, parse
from kit.sim2real.servo import BRAKE, COAST, POSITION, PWM, UNLIMITED, VELOCITY, Firmware, Reading, ServoState

AT_REST = Reading(2048.0, 0.0, 0.0, 0.0, 7.4, 25.0, True)


def write(servo, name, value, code=Instruction.WRITE):
    return servo.handle(Packet(servo.id, code, bytes([TABLE[name].address]) + encode(name, value)))


def read(servo, name):
    """The register over the wire, and ERR."""
    address, size = TABLE[name][:2]
    [reply], _, _ = parse(servo.handle(Packet(servo.id, Instruction.READ, bytes([address, size]))))
    return decode(name, reply.params), reply.code


def sense(servo, seconds=0.0, **changes):
    servo.sense(AT_REST._replace(**changes), seconds)


# ---- instructions -------------------------------------------------------------------------------------------------


def test_golden_answers():
    servo = ServoState(1)
    sense(servo)
    assert servo.handle(Packet(1, Instruction.PING)) == bytes.fromhex("ff ff 01 02 00 fc")
    assert servo.handle(Packet(1, Instruction.READ, bytes([56, 2]))) == bytes.fromhex("ff ff 01 04 00 00 08 f2")
    assert write(servo, "Goal_Position", 2048) == bytes.fromhex("ff ff 01 02 00 fc")


def test_a_new_servo_is_an_sts3215():
    servo = ServoState(4)
    assert read(servo, "Model_Number") == (777, 0)
    assert (read(servo, "ID")[0], read(servo, "Firmware_Major_Version")[0], read(servo, "Lock")[0]) == (4, 3, 1)
    assert read(servo, "P_Coefficient")[0] == 32 and servo.return_delay == pytest.approx(500e-6)


def test_only_its_own_packets_are_answered():
    servo = ServoState(2)
    assert servo.handle(Packet(1, Instruction.PING)) == b""
    assert servo.handle(Packet(BROADCAST, Instruction.PING)) == build(2, 0)
    assert servo.handle(Packet(BROADCAST, Instruction.READ, bytes([56, 2]))) == b""
    assert servo.handle(Packet(BROADCAST, Instruction.WRITE, bytes([41, 7]))) == b""
    assert read(servo, "Acceleration")[0] == 7  # obeyed all the same


@pytest.mark.parametrize(
    "packet",
    [
        Packet(1, Instruction.READ, b"\x38"),
        Packet(1, Instruction.READ, bytes([56, 0])),
        Packet(1, Instruction.READ, bytes([120, 20])),  # beyond the table
        Packet(1, Instruction.WRITE, b"\x28"),
        Packet(1, Instruction.SYNC_READ, bytes([56, 2, 1])),  # not to everyone
        Packet(BROADCAST, Instruction.SYNC_READ, b""),
        Packet(1, 0x77),
    ],
)
def test_malformed_requests_get_no_answer_and_change_nothing(packet):
    servo = ServoState(1)
    before = bytes(servo.ram)
    assert servo.handle(packet) == b"" and bytes(servo.ram) == before


def test_writes_to_read_only_or_missing_places_are_ignored():
    servo = ServoState(1)
    servo.handle(Packet(1, Instruction.WRITE, bytes([54]) + bytes(range(1, 70))))  # from before Lock to beyond 100
    assert read(servo, "Lock")[0] == 2 and read(servo, "Present_Position")[0] == 2048
    assert len(servo.ram) == 128
    assert servo.handle(Packet(1, Instruction.WRITE, bytes([126, 1, 2, 3, 4]))) == build(1, 0)
    assert len(servo.ram) == 128


def test_reg_write_waits_for_action():
    servo = ServoState(1)
    assert write(servo, "Acceleration", 9, Instruction.REG_WRITE) == build(1, 0)
    assert read(servo, "Acceleration")[0] == 0 and read(servo, "Async_Write_Flag")[0] == 1
    assert servo.handle(Packet(BROADCAST, Instruction.ACTION)) == b""
    assert read(servo, "Acceleration")[0] == 9 and read(servo, "Async_Write_Flag")[0] == 0
    write(servo, "Acceleration", 5)
    assert servo.handle(Packet(1, Instruction.ACTION)) == build(1, 0)
    assert read(servo, "Acceleration")[0] == 5  # an action runs once


def test_sync_write_and_sync_read():
    servo = ServoState(2)
    blocks = bytes([1, 10, 0, 2, 20, 0, 3, 30, 0])
    assert servo.handle(Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([46, 2]) + blocks)) == b""
    assert read(servo, "Goal_Velocity")[0] == 20
    asked = Packet(BROADCAST, Instruction.SYNC_READ, bytes([46, 2, 3, 2]))
    assert servo.handle(asked) == build(2, 0, bytes([20, 0]))
    assert ServoState(5).handle(asked) == b""
    servo.handle(Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([46, 2, 2, 99])))  # cut short
    assert read(servo, "Goal_Velocity")[0] == 20


def test_response_level_zero_answers_only_questions():
    servo = ServoState(1)
    write(servo, "Response_Status_Level", 0)
    assert write(servo, "Acceleration", 3) == b"" and read(servo, "Acceleration")[0] == 3
    assert servo.handle(Packet(1, Instruction.PING)) == build(1, 0)
    assert servo.handle(Packet(BROADCAST, Instruction.SYNC_READ, bytes([41, 1, 1]))) == build(1, 0, b"\x03")


def test_a_new_id_is_answered_with_the_old_one():
    servo = ServoState(1)
    write(servo, "Lock", 0)
    assert servo.handle(Packet(1, Instruction.WRITE, bytes([5, 6]))) == build(1, 0)
    assert servo.handle(Packet(1, Instruction.PING)) == b"" and servo.handle(Packet(6, Instruction.PING)) == build(6, 0)
    servo.power_on()
    assert servo.id == 6
    assert servo.handle(Packet(6, Instruction.WRITE, bytes([5, 254]))) == build(6, 0)
    assert servo.id == 6  # an ID that no request can reach is not taken


# ---- EEPROM -------------------------------------------------------------------------------------------------------


def test_eeprom_follows_only_while_unlocked():
    servo = ServoState(1)
    write(servo, "P_Coefficient", 16)
    servo.power_on()
    assert read(servo, "P_Coefficient")[0] == 32  # Lock was 1: volatile
    write(servo, "Lock", 0)
    write(servo, "P_Coefficient", 16)
    write(servo, "Acceleration", 200)
    write(servo, "Lock", 1)
    write(servo, "I_Coefficient", 4)
    assert read(servo, "I_Coefficient")[0] == 4
    servo.power_on()
    assert [read(servo, n)[0] for n in ("P_Coefficient", "I_Coefficient", "Acceleration", "Lock")] == [16, 0, 0, 1]


def test_max_torque_becomes_the_torque_limit_at_power_on():
    servo = ServoState(6)
    write(servo, "Lock", 0)
    write(servo, "Max_Torque_Limit", 500)
    assert read(servo, "Torque_Limit")[0] == 1000 and servo.drive().limit == 0.5
    servo.power_on()
    assert read(servo, "Torque_Limit")[0] == 500


def test_reset_restores_the_factory_but_for_the_id():
    servo = ServoState(3)
    write(servo, "Lock", 0)
    write(servo, "Homing_Offset", -77)
    write(servo, "Torque_Enable", 1)
    assert servo.handle(Packet(3, Instruction.RESET)) == build(3, 0)
    assert [read(servo, n)[0] for n in ("ID", "Homing_Offset", "Torque_Enable")] == [3, 0, 0]
    servo.power_on()
    assert read(servo, "Homing_Offset")[0] == 0


# ---- positions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "offset", "position"), [(2148, 100, 2048), (1948, -100, 2048), (50, 100, 4046)])
def test_present_is_actual_minus_homing(encoder, offset, position):
    servo = ServoState(1)
    sense(servo, ticks=encoder)
    write(servo, "Homing_Offset", offset)
    assert read(servo, "Present_Position")[0] == position  # at once, without any time passing


def test_half_turn_homing_makes_the_pose_2047():
    servo = ServoState(1)
    sense(servo, ticks=3001.3)
    actual = read(servo, "Present_Position")[0]
    write(servo, "Homing_Offset", actual - 2047)
    assert read(servo, "Present_Position")[0] == 2047


@pytest.mark.parametrize("encoder", [5, 1000.4, 2048, 4000])
def test_torque_enable_128_makes_the_present_position_2048_for_good(encoder):
    servo = ServoState(1)
    sense(servo, ticks=encoder)
    write(servo, "Torque_Enable", 128)
    assert read(servo, "Present_Position")[0] == 2048 and read(servo, "Torque_Enable")[0] == 0
    servo.power_on()
    assert read(servo, "Present_Position")[0] == 2048


def test_bit_4_of_phase_counts_many_turns():
    servo = ServoState(1)
    sense(servo, ticks=-300)
    assert read(servo, "Present_Position")[0] == 3796
    write(servo, "Phase", 12 | 16)
    assert read(servo, "Present_Position")[0] == -300


def test_feedback_registers_and_their_units():
    servo = ServoState(1)
    sense(servo, speed=-321.4, duty=-0.25, amperes=-0.65, volts=7.38, celsius=41.6)
    names = ("Velocity", "Load", "Current", "Voltage", "Temperature")
    assert [read(servo, f"Present_{n}")[0] for n in names] == [-321, -250, 100, 74, 42]
    write(servo, "Phase", 8)  # speeds in 50 ticks/s
    sense(servo, speed=-321.4)
    assert read(servo, "Present_Velocity")[0] == -6


def test_moving():
    servo = ServoState(1)
    write(servo, "Torque_Enable", 1)
    states = []
    for speed, arrived in ((0, True), (0, False), (300, True), (20, True)):
        sense(servo, speed=speed, arrived=arrived)
        states.append(read(servo, "Moving")[0])
    assert states == [0, 1, 1, 0]


# ---- torque and goals ---------------------------------------------------------------------------------------------


def test_torque_on_holds_the_present_position_or_jumps_to_the_stale_goal():
    for on_enable, goal in (("hold", 1500), ("jump", 0)):
        servo = ServoState(1, Firmware(on_enable=on_enable))
        sense(servo, ticks=1500)
        assert servo.drive().mode == COAST
        write(servo, "Torque_Enable", 1)
        assert (servo.drive().mode, servo.drive().goal) == (POSITION, goal)
        assert read(servo, "Goal_Position")[0] == goal


def test_a_goal_switches_the_torque_on_unless_the_firmware_does_not():
    for switches in (True, False):
        servo = ServoState(1, Firmware(goal_enables_torque=switches))
        sense(servo, ticks=1500)
        write(servo, "Goal_Position", 1600)
        assert read(servo, "Torque_Enable")[0] == switches
        assert read(servo, "Goal_Position")[0] == read(servo, "Goal_Position_2")[0] == 1600
        write(servo, "Torque_Enable", 0)
        assert servo.drive().mode == COAST


def test_only_the_goal_of_the_mode_switches_the_torque_on():
    for mode, name in enumerate(("Goal_Position", "Goal_Velocity", "Goal_Time", None)):
        for goal in ("Goal_Position", "Goal_Velocity", "Goal_Time"):
            servo = ServoState(1)
            write(servo, "Operating_Mode", mode)
            write(servo, goal, 100)
            assert servo.torque == (goal == name), (mode, goal)


def test_modes_and_damping():
    servo = ServoState(1)
    write(servo, "Goal_Velocity", -500)
    write(servo, "Goal_Time", -300)
    write(servo, "Torque_Enable", 1)
    modes = []
    for mode in range(4):
        write(servo, "Operating_Mode", mode)
        modes.append((servo.drive().mode, servo.drive().goal))
    assert modes[1:] == [(VELOCITY, -500), (PWM, -0.3), (COAST, servo.drive().goal)]
    write(servo, "Torque_Enable", 2)
    assert servo.drive().mode == BRAKE


def test_torque_enable_refuses_other_values():
    servo = ServoState(1)
    write(servo, "Torque_Enable", 1)
    write(servo, "Torque_Enable", 77)
    assert read(servo, "Torque_Enable")[0] == 1


def test_goals_outside_the_limits_are_clamped_or_refused():
    for out_of_range, error, stored, driven in (("clamp", 0, 3500, 3000), ("error", Error.ENCODER, 2000, 2000)):
        servo = ServoState(1, Firmware(out_of_range=out_of_range))
        write(servo, "Min_Position_Limit", 1000)
        write(servo, "Max_Position_Limit", 3000)
        write(servo, "Goal_Position", 2000)
        assert write(servo, "Goal_Position", 3500) == build(1, error)
        assert (read(servo, "Goal_Position")[0], servo.drive().goal) == (stored, driven)


def test_speeds_and_accelerations_in_ticks():
    servo = ServoState(1)
    assert servo.drive().speed == servo.drive().acceleration == UNLIMITED
    write(servo, "Goal_Velocity", 1200)
    write(servo, "Acceleration", 254)
    assert (servo.drive().speed, servo.drive().acceleration) == (1200, 25400)
    write(servo, "Maximum_Acceleration", 50)
    assert servo.drive().acceleration == 5000
    write(servo, "Phase", 8)
    assert servo.drive().speed == 60000


# ---- protections --------------------------------------------------------------------------------------------------


def overloaded(duty=0.9):
    """A servo whose load was too large for the 2 s of Protection_Time."""
    servo = ServoState(1)
    sense(servo)
    write(servo, "Goal_Position", 3000)
    for step in range(200):
        assert read(servo, "Status")[0] == 0, step
        sense(servo, 0.01, duty=duty)
    return servo


def test_overload_lowers_the_torque_and_sets_err():
    servo = overloaded()
    assert read(servo, "Status") == (Error.OVERLOAD, Error.OVERLOAD)
    assert servo.drive().limit == 0.2
    sense(servo, 1.0, duty=0.2)
    assert read(servo, "Status")[0] == Error.OVERLOAD  # it stays


def test_a_load_just_below_or_a_break_is_no_overload():
    servo = ServoState(1)
    write(servo, "Goal_Position", 3000)
    for _ in range(1000):
        sense(servo, 0.01, duty=0.8)
    for k in range(1000):
        sense(servo, 0.01, duty=0.9 if k % 150 else 0.1)
    assert read(servo, "Status")[0] == 0


def test_what_ends_an_overload():
    servo = overloaded()
    write(servo, "Goal_Position", 2900)  # still ahead
    assert servo.drive().limit == 0.2
    write(servo, "Goal_Position", 1900)  # the other way
    sense(servo)
    assert servo.drive().limit == 1 and read(servo, "Status") == (0, 0)
    servo = overloaded()
    assert parse(write(servo, "Torque_Enable", 0))[0][0].code == Error.OVERLOAD  # switching off does not
    write(servo, "Torque_Enable", 1)
    sense(servo)
    assert read(servo, "Status") == (0, 0)
    servo = ServoState(1)
    write(servo, "Operating_Mode", 1)
    write(servo, "Goal_Velocity", -300)
    servo.trip(-1)
    write(servo, "Goal_Velocity", -200)
    assert servo.drive().limit == 0.2
    write(servo, "Goal_Velocity", 200)
    assert servo.drive().limit == 1
    servo = overloaded()
    servo.power_on()
    assert read(servo, "Status") == (0, 0)


def test_unloading_condition_may_leave_the_overload_out():
    servo = ServoState(1)
    write(servo, "Unloading_Condition", 12)  # without bit 5
    write(servo, "Goal_Position", 3000)
    sense(servo, 100.0, duty=0.9)
    assert read(servo, "Status")[0] == 0


def test_heat_takes_the_torque_away_and_voltage_only_complains():
    servo = ServoState(1)
    write(servo, "Torque_Enable", 1)
    sense(servo, 0.01, volts=8.4)
    assert read(servo, "Status") == (Error.VOLTAGE, Error.VOLTAGE) and servo.torque
    sense(servo, 0.01, volts=3.2)
    assert read(servo, "Status")[0] == Error.VOLTAGE and servo.torque
    sense(servo, 0.01, celsius=70.2)
    assert read(servo, "Status")[0] == 0 and servo.torque
    sense(servo, 0.01, celsius=71)
    assert read(servo, "Status")[0] == Error.OVERHEAT and not servo.torque
    write(servo, "Torque_Enable", 1)
    sense(servo, 0.01, celsius=71)
    assert not servo.torque  # still too hot
    write(servo, "Torque_Enable", 1)
    sense(servo, 0.01, celsius=60)
    assert servo.torque and read(servo, "Status")[0] == 0


def test_overcurrent_switches_off_until_torque_on():
    servo = ServoState(1)
    write(servo, "Protection_Current", 250)
    write(servo, "Torque_Enable", 1)
    for _ in range(210):
        sense(servo, 0.01, amperes=1.7)
    assert not servo.torque and read(servo, "Status")[0] == Error.OVERCURRENT
    sense(servo, 0.01)
    write(servo, "Torque_Enable", 1)
    sense(servo, 0.01)
    assert servo.torque and read(servo, "Status")[0] == 0


def test_bad_firmware_settings():
    with pytest.raises(ValueError, match=r"on_enable is 'fall'; it must be hold or jump"):
        Firmware(on_enable="fall")
