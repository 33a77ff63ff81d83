"""A statue with one arm in simulation, against statics and pendulums computed by hand."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from narrows.cli import main
from narrows.data.errors import DataError
from narrows.errors import NarrowsError
from narrows.modalities.motion import rendered, track_run
from narrows.modalities.motion.body import Body, Gains, build_body, load_mujoco, lowest_point
from narrows.modalities.motion.film import HEAD, SIDE
from narrows.modalities.motion.reference import Reference, reference_of
from narrows.modalities.motion.shown import _body
from narrows.modalities.motion.tables import Table, write_table
from narrows.modalities.motion.tracking import MEASURED, Control, planned_torques, track
from narrows.pretrained import load
from tests.modalities.motion.test_cli import RECIPE

if find_spec("mujoco") is None:
    pytest.skip("mujoco is not installed", allow_module_level=True)
mujoco = load_mujoco()

RATE, GRAVITY, ARM = 50, 9.81, 2.0
STATUE = """<robot name="statue">
  <link name="base">
    <inertial><mass value="10"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>
    <visual><geometry><mesh filename="missing.stl"/></geometry></visual>
    <collision><origin xyz="0 0 -0.5"/><geometry><box size="0.4 0.4 0.1"/></geometry></collision>
    <collision><geometry><mesh filename="missing.stl"/></geometry></collision>
  </link>
  <link name="arm">
    <inertial>
      <origin xyz="0.3 0 0"/><mass value="2"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.06" iyz="0" izz="0.06"/>
    </inertial>
  </link>
  <joint name="shoulder_joint" type="revolute">
    <parent link="base"/><child link="arm"/><origin xyz="0 0.1 0.2"/><axis xyz="0 1 0"/>
    <limit lower="-3" upper="3" effort="40"/>
  </joint>
</robot>"""
"""A block of 10 kg on a square sole 0.55 m below its middle, and an arm of 2 kg that turns about y."""
HAND = """<link name="hand">
    <inertial><mass value="1"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.01"/></inertial>
  </link>
  <joint name="elbow_joint" type="revolute">
    <parent link="arm"/><child link="hand"/><origin xyz="0.6 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-2" upper="2" effort="7"/>
  </joint>"""
WITH_HAND = STATUE.replace('<joint name="shoulder_joint"', f'{HAND}<joint name="shoulder_joint"')


@pytest.fixture(scope="module")
def body() -> Body:
    return build_body(STATUE)


def reference(body: Body, angles: np.ndarray, height: float = 0.55, tilt: float = 0.0) -> Reference:
    """The statue on its place, turned about y by `tilt`, with its arm at angles [T]."""
    positions = np.tile([0.0, 0, height], (len(angles), 1))
    quaternions = np.tile([0, np.sin(tilt / 2), 0, np.cos(tilt / 2)], (len(angles), 1))
    return reference_of(body, positions, quaternions, angles[:, None], RATE)


def swing(frames: int = 51) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * np.arange(frames) / RATE)


def test_a_body_has_the_masses_and_motors_of_its_file(body: Body) -> None:
    model = body.model
    assert model.body_mass.sum() == pytest.approx(12)
    assert (model.nq, model.nv, model.nu) == (8, 7, 1)
    assert model.actuator_forcerange.tolist() == [[-40, 40]]
    assert body.stiffness == pytest.approx(40 / 0.3)
    inertia = 0.06 + ARM * 0.3**2 + 0.02
    assert body.damping == pytest.approx(2 * 3 * np.sqrt(40 / 0.3 * inertia))


def test_joints_may_be_in_any_order_in_the_file() -> None:
    body = build_body(WITH_HAND)
    assert [joint.name for joint in body.robot.joints] == ["shoulder_joint", "elbow_joint"]
    assert body.effort.tolist() == [40, 7]
    assert [body.model.actuator(name).forcerange[1] for name in ("shoulder_joint", "elbow_joint")] == [40, 7]
    data, angles = mujoco.MjData(body.model), np.array([[0.5, -0.8]])
    data.qpos[:] = [0, 0, 1, 1, 0, 0, 0, *angles[0]]
    mujoco.mj_kinematics(body.model, data)
    pose = body.robot.pose(np.array([[0, 0, 1.0]]), np.array([[0, 0, 0, 1.0]]), angles)
    for name in ("arm", "hand"):
        index = body.robot.links.index(name)
        np.testing.assert_allclose(data.body(name).xpos, pose.positions[0, index], atol=1e-9)
        np.testing.assert_allclose(data.body(name).xmat.reshape(3, 3), pose.rotations[0, index], atol=1e-9)


def test_a_motion_is_put_on_the_ground(body: Body) -> None:
    found = reference(body, swing(), height=3.0)
    data = mujoco.MjData(body.model)
    data.qpos[:] = found.positions[7]
    mujoco.mj_kinematics(body.model, data)
    assert lowest_point(body, data) == pytest.approx(0, abs=1e-9)
    times = np.arange(len(found.positions)) * 0.002
    assert times[-1] == pytest.approx(1)
    np.testing.assert_allclose(found.positions[:, 7], 0.5 * np.sin(2 * np.pi * times), atol=1e-3)
    np.testing.assert_allclose(found.speeds[20:-20, 6], np.pi * np.cos(2 * np.pi * times[20:-20]), atol=0.02)


def test_the_lowest_point_of_a_tilted_sole(body: Body) -> None:
    data, tilt = mujoco.MjData(body.model), 0.3
    data.qpos[:] = [0, 0, 2, np.cos(tilt / 2), 0, np.sin(tilt / 2), 0, 0]
    mujoco.mj_kinematics(body.model, data)
    assert lowest_point(body, data) == pytest.approx(2 - 0.55 * np.cos(tilt) - 0.2 * np.sin(tilt))


def test_the_torque_that_holds_an_arm_is_its_weight_times_its_reach(body: Body) -> None:
    data = mujoco.MjData(body.model)
    for angle in (0.0, 0.7):
        data.qpos[:] = [0, 0, 0.55, 1, 0, 0, 0, angle]
        mujoco.mj_forward(body.model, data)
        torque, rest = planned_torques(body, data, np.zeros(7))
        assert torque == pytest.approx(-ARM * GRAVITY * 0.3 * np.cos(angle), rel=1e-6)
        np.testing.assert_allclose(rest, 0, atol=0.01)
    data.qpos[2] = 1.5
    mujoco.mj_forward(body.model, data)
    _, rest = planned_torques(body, data, np.zeros(7))
    assert rest[2] == pytest.approx(12 * GRAVITY)


@pytest.mark.parametrize("torques", ["pd", "feedforward", "balance"])
def test_a_statue_follows_a_swing_of_its_arm(body: Body, torques: str) -> None:
    found = track(body, reference(body, swing()), Control(torques))  # type: ignore[arg-type]
    assert (found.fell, found.seconds) == (False, pytest.approx(1, abs=0.003))
    assert found.angle_error < (3 if torques == "pd" else 0.6)
    assert found.position_error < 2
    assert len(found.states) == 501


def test_errors_are_those_of_the_state_after_each_step() -> None:
    body = build_body(WITH_HAND)
    angles = np.stack([swing(), 0.5 * swing()], 1)
    positions, quaternions = np.tile([0, 0, 0.55], (len(angles), 1)), np.tile([0.0, 0, 0, 1], (len(angles), 1))
    wanted = reference_of(body, positions, quaternions, angles, RATE)
    found = track(body, wanted, Control("pd"))
    assert not found.fell
    every = slice(MEASURED, None, MEASURED)
    links = [
        body.robot.pose(own[every, :3], own[every][:, [4, 5, 6, 3]], own[every, 7:]).positions
        for own in (found.states, wanted.positions)
    ]
    away = np.linalg.norm(np.subtract(*(own[:, 1:] - own[:, :1] for own in links)), axis=2)
    assert found.position_error == pytest.approx(100 * away.mean(), rel=1e-6)


def test_the_weight_of_an_arm_bends_a_spring_by_its_moment_over_its_stiffness() -> None:
    body = build_body(STATUE, Gains(reach=2.0, ratio=1.0))
    still = reference(body, np.zeros(101))
    bent = track(body, still, Control("pd")).states[-1, 7]
    assert bent == pytest.approx(ARM * GRAVITY * 0.3 * np.cos(bent) / (40 / 2.0), rel=0.02)
    assert abs(track(body, still, Control("feedforward")).states[-1, 7]) < 0.01


def test_a_weak_motor_drops_the_arm() -> None:
    weak = build_body(STATUE.replace('effort="40"', 'effort="0.5"'))
    assert track(weak, reference(weak, np.zeros(26)), Control("balance")).angle_error > 10


def test_a_leaning_statue_falls_unless_it_is_held(body: Body) -> None:
    """Leaning by 30 degrees, its centre of mass is beyond the edge of its sole."""
    leaning = reference(body, np.zeros(101), tilt=np.deg2rad(30))
    for torques in ("pd", "balance"):
        found = track(body, leaning, Control(torques))  # type: ignore[arg-type]
        assert found.fell
        assert 0.3 < found.seconds < 1.5
    assert not track(body, leaning, Control("pd", assist=20000)).fell


def test_what_cannot_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="the joint 'shoulder_joint' has no limit of its effort"):
        build_body(STATUE.replace(' effort="40"', ""))
    with pytest.raises(DataError, match="the joint 'shoulder_joint' has no limit of its effort"):
        build_body(STATUE.replace('effort="40"', 'effort="0"'))
    with pytest.raises(DataError, match="cannot be simulated"):
        build_body(STATUE.replace('<mass value="2"/>', '<mass value="-2"/>'))
    with pytest.raises(NarrowsError, match="assist is -1"):
        Control(assist=-1)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(NarrowsError, match=r"pip install 'narrows\[robots\]'"):
        build_body(STATUE)


@pytest.fixture(autouse=True)
def _renders_if_it_can() -> Iterator[None]:
    yield
    rendered.can_render.cache_clear()


def corner(folder: Path) -> tuple[int, ...]:
    """The colour of the lower left corner of the first film of a folder."""
    with Image.open(min(folder.glob("*.gif"))) as film:
        assert film.size == (2 * SIDE, SIDE + HEAD)
        return film.convert("RGB").getpixel((2, film.height - 3))  # type: ignore[return-value]


def test_a_robot_without_torques_is_a_stick_figure_in_films(caplog: pytest.LogCaptureFixture) -> None:
    assert _body(STATUE) is not None
    assert _body(STATUE.replace(' effort="40"', "")) is None
    assert "films show stick figures: the joint 'shoulder_joint' has no limit" in caplog.text


def test_a_run_is_tracked(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("root_x", "root_y", "root_z", "root_qx", "root_qy", "root_qz", "root_qw", "shoulder")
    for number in range(4):
        values = np.tile([0, 0, 0.55, 0, 0, 0, 1, 0.0], (100, 1))
        values[:, 7] = np.roll(swing(100), 9 * number)
        write_table(tmp_path / "data" / f"{number}.csv", Table(names, values))
    (tmp_path / "statue.urdf").write_text(STATUE)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    data = ["--data", str(tmp_path / "data"), f"--data.rate={RATE}", "--data.clip=50"]
    run = str(tmp_path / "run")
    assert (
        main(["train", str(tmp_path / "tiny.yaml"), *data, f"--data.urdf={tmp_path / 'statue.urdf'}", "--out", run])
        == 0
    )
    short = ["--seconds", "0.3", "--limit", "2", "--control", "pd"]
    assert main(["track", run, *short, "--film", "gif", "--out", str(tmp_path / "tracked")]) == 0
    rows = (tmp_path / "tracked" / "tracking.csv").read_text().splitlines()
    assert rows[0] == "window,motion,seconds,fell,angle_error,position_error"
    assert [row.split(",")[-5] for row in rows[1:]] == ["original", "decoded"] * 2
    assert all(float(row.split(",")[-4]) == pytest.approx(0.22, abs=0.003) for row in rows[1::2])
    assert "time until a fall" in (tmp_path / "tracked" / "index.html").read_text()
    with Image.open(tmp_path / "tracked" / "000.gif") as film:
        assert film.size == (3 * SIDE, SIDE + HEAD)
        assert (film.n_frames, film.info["duration"]) == (6, 40)  # 12 states at 50 Hz, every second one

    assert main(["reconstruct", run, "--film", "gif", "--out", str(tmp_path / "films")]) == 0
    assert (max(corner(tmp_path / "films")) < 230) == rendered.can_render()  # its floor is grey

    def broken() -> None:
        raise RuntimeError("no screen")

    monkeypatch.setattr(rendered, "_draw_nothing", broken)
    rendered.can_render.cache_clear()
    assert main(["track", run, *short, "--film", "gif", "--out", str(tmp_path / "drawn")]) == 0
    assert main(["reconstruct", run, "--film", "gif", "--out", str(tmp_path / "sticks")]) == 0
    assert min(corner(tmp_path / "sticks")) > 245
    assert "films show stick figures, since MuJoCo cannot draw here: no screen" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (tmp_path / "drawn" / "001.gif").exists()
    assert main(["track", run, *short, "--out", str(tmp_path / "drawn")]) == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "index.html",
        "tracking.csv",
        "tracking.json",
    ]
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["track", run, *short, "--film", "mp4", "--out", str(tmp_path / "no")]) == 1
    assert "narrows[motion]" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert main(["track", run, "--seconds", "100"]) == 1
    assert "the test split has no window of that length" in " ".join(capsys.readouterr().err.split())
    spec = load(run).spec
    bare = SimpleNamespace(spec=replace(spec, details={**spec.details, "urdf": ""}))
    with pytest.raises(NarrowsError, match="bare is no model of a robot that can be simulated"):
        track_run._robot_format("bare", bare)  # type: ignore[arg-type]
