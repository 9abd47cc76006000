"""`worlds check` says what is in a drawn world, or every fault of it."""

from __future__ import annotations

from pathlib import Path

import imageio.v3
import pytest

from metarl.envs.npc.maps.glb import read_glb
from metarl.envs.npc.maps.samples import FOLDER, SCENE, sample_path
from metarl.experiments.cli.main import main


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["worlds", "check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_good_world_is_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = check(capsys, sample_path("museum"))
    assert code == 0
    assert "Museum: 26 x 20 cells of 2 m, 304 to walk on, 7 districts, licence CC0-1.0" in out
    assert (
        "exhibit Dinosaur hall        (x=1, y=1)     28 steps from spawn, popularity 0.90, dwell 5: nature 0.67" in out
    )
    assert "spawn (x=12, y=18), 1 exit, 1 shop, 1 meeting point" in out
    assert "portal (x=1, y=18) to plaza-market" in out
    assert "from episode 3 on (counted from 0) 1 cell closed" in out


def test_every_fault_of_every_file_is_told_and_the_code_is_two(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.tmx"
    text = sample_path("plaza-market").read_text().replace('value="CC0-1.0"', 'value=""').replace("portal", "potral")
    (tmp_path / "npcworld.tsx").write_bytes((FOLDER / "npcworld.tsx").read_bytes())
    bad.write_text(text)
    code, out, err = check(capsys, bad, sample_path("old-town"), tmp_path / "none.tmj")
    assert code == 2
    assert err == ""
    assert f"{bad}: 2 faults\n" in out
    assert "  the map property 'licence' is '', expected e.g. 'CC0-1.0'" in out
    assert "  layer 'objects', tile (x=1, y=16): unknown class 'potral'; did you mean 'portal'?" in out
    assert "Old town: 28 x 20 cells" in out
    assert "it cannot be read (No such file or directory)" in out


def test_a_scene_is_checked_by_its_folder_or_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    folder = check(capsys, FOLDER / SCENE)
    file = check(capsys, FOLDER / SCENE / "scene.json", "--only", "*")
    assert folder[0] == file[0] == 0
    assert "Corner gallery: 18 x 18 cells of 1 m" in folder[1]
    code, out, _ = check(capsys, FOLDER / SCENE, "--floor", 0, 4, "--cell-m", 0.5, "--only", "nft")
    assert code == 0
    assert "34 x 34 cells of 0.5 m" in out
    assert "nature_image_1" not in out
    code, out, _ = check(capsys, FOLDER / SCENE, "--area", 0, 0, 16, 16, "--without", "*video*", "--also", "bench")
    assert code == 0
    assert "future_video_screen" not in out
    assert "exhibit Bench" not in out  # a collider that nobody sees


def test_picture_and_model_are_written_when_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("m.png", "m.glb"):
        (tmp_path / name).hardlink_to(precious)  # what lies there is replaced, not written into
    code, _, _ = check(capsys, sample_path("museum"), "--picture", tmp_path / "m.png", "--glb", tmp_path / "m.glb")
    assert code == 0
    assert precious.read_text() == "precious"
    assert imageio.v3.imread(tmp_path / "m.png").shape == (480, 624, 3)
    assert any(part.name == "walls walls" for part in read_glb(tmp_path / "m.glb"))


@pytest.mark.parametrize("flag", ["--picture", "--glb"])
def test_no_link_is_followed_and_no_device_is_replaced(
    flag: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    link, precious = tmp_path / "link", tmp_path / "precious"
    precious.write_text("precious")
    link.symlink_to(precious)
    code, _, err = check(capsys, sample_path("museum"), flag, link)
    assert (code, err.count("\n")) == (2, 1)
    assert "is a symbolic link, which a file would replace" in err
    assert precious.read_text() == "precious"
    assert check(capsys, sample_path("museum"), flag, "/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "required: FILE"),
        (("a.tmx", "b.tmx", "--glb", "x.glb"), "--glb is about one world, got 2 files"),
        (("a.tmx", "--picture", "/nowhere/x.png"), "cannot write into /nowhere"),
        (("a.tmx", "--floor", "0", "4"), "--floor is about Decentraland scenes; a.tmx is no folder"),
        (("a.tmx", "--florr", "0"), "did you mean '--floor'"),
        ((FOLDER / SCENE, "--cell-m", "3"), "cell_m must divide 16 m"),
        ((FOLDER / SCENE, "--cell-m", "0"), "--cell-m must be a finite number above 0"),
        ((FOLDER / SCENE, "--area", "0", "0", "0", "9"), "area must be (west, south, east, north)"),
        (("a.tmx", "--through", "*door*"), "--through is about Decentraland scenes; a.tmx is no folder"),
    ],
)
def test_wrong_calls_are_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], says: str) -> None:
    code, _, err = check(capsys, *arguments)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
