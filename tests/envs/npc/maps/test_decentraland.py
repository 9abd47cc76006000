"""Decentraland scenes become the worlds one would walk in; models are read with bounds."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from metarl.envs.npc.maps.decentraland import load_decentraland, read_decentraland
from metarl.envs.npc.maps.export import WALL_M, export_glb
from metarl.envs.npc.maps.faults import MapError
from metarl.envs.npc.maps.glb import read_glb, transform
from metarl.envs.npc.maps.glb_write import Solid, box_triangles, write_glb
from metarl.envs.npc.maps.raster import Raster
from metarl.envs.npc.maps.reading import BadFileError
from metarl.envs.npc.maps.samples import FOLDER, SCENE, load_sample
from metarl.envs.npc.maps.scene import COMPOSITE
from metarl.envs.npc.maps.sight import crossings
from metarl.errors import ConfigError

GALLERY = """
##################
#................#
#..############..#
#..#.....#....#..#
#..#.....#....#..#
#..#.....#....#..#
#..#.....#....#..#
#..#.....#....#..#
#..#.#...#....#..#
#..#.......##.#..#
#..#.......##.#..#
#..#..........#..#
#..#####..#####..#
#................#
#................#
#................#
#................#
##################
"""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / SCENE, tmp_path / "scene"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def component(document: Any, name: str) -> Any:
    return next(c for c in document["components"] if c["name"] == name)["data"]


def faults(folder: Path, **own: Any) -> list[str]:
    with pytest.raises(MapError) as caught:
        load_decentraland(folder, **own)
    return [fault.located() for fault in caught.value.faults]


def drawn(layout: Any) -> str:
    return "\n" + "\n".join("".join(".#"[cell] for cell in row) for row in layout.wall.int().tolist()) + "\n"


def test_the_sample_scene_is_walled_where_its_models_are_solid_between_step_and_head() -> None:
    reading = read_decentraland(FOLDER / SCENE)
    layout = reading.layout
    assert drawn(layout) == GALLERY
    assert layout.spawn == (15, 8)  # the middle of 7..9 m east, 1..2 m north
    assert dict(zip(layout.exhibits.names, layout.exhibits.cell.tolist(), strict=True)) == {
        "nature_image_1": [3, 5],  # on the inside of the north wall, although the outside is as near
        "NFT": [6, 13],
        "Statue of music": [7, 5],
        "future_video_screen": [3, 11],  # a child of a moved group
    }
    assert [int(row.argmax()) for row in layout.exhibits.themes[[0, 2, 3]]] == [0, 3, 7]
    assert (layout.name, layout.cell_m, layout.district.unique().tolist()) == ("Corner gallery", 1.0, [0, 1])


def test_smaller_cells_let_more_through_and_the_roof_is_another_floor(scene: Path) -> None:
    fine = load_decentraland(scene, cell_m=0.5)
    assert (fine.height, fine.width) == (34, 34)
    assert int((~fine.wall).sum()) > 4 * GALLERY.count(".") * 0.9
    assert load_decentraland(scene, only="NFT").exhibits.names == ("NFT",)
    (fault,) = faults(scene, floor=(5.0, 8.0))
    assert "no cell near the spawn point is free" in fault

    def onto_the_roof(document: Any) -> None:
        document["spawnPoints"][0]["position"] = {"x": 5, "y": 3.2, "z": 6}

    edit(scene / "scene.json", onto_the_roof)
    roof = read_decentraland(scene, floor=(3.2, 8.0)).layout
    assert roof.exhibits.names == ("Rooftop image",)
    assert int((~roof.wall).sum()) == 12 * 11  # the slab: x from 2 to 14 m, z from 4 to 15 m


def test_a_parcel_to_the_west_and_south_moves_the_map_not_the_coordinates(scene: Path) -> None:
    def add(document: Any) -> None:
        document["scene"]["parcels"] = ["9,-4", "10,-5", "10,-4"]

    edit(scene / "scene.json", add)
    layout = load_decentraland(scene)
    assert (layout.height, layout.width) == (34, 34)
    assert layout.spawn == (15, 24)
    assert layout.wall[1:33, 1:33].int().tolist()[:16][0][:3] == [0, 0, 0]
    assert bool(layout.wall[17:, :17].all())  # no parcel in the south-west
    assert drawn_part(layout) == [row[1:17] for row in GALLERY.split()[1:17]]


def drawn_part(layout: Any) -> list[str]:
    return ["".join(".#"[cell] for cell in row) for row in layout.wall[1:17, 17:33].int().tolist()]


def test_an_exported_world_becomes_itself_again_in_a_scene(scene: Path) -> None:
    layout = load_sample("museum")
    export_glb(layout, scene / "assets/scene/Models/hall.glb")

    def furnish(document: Any) -> None:
        tall = layout.height * layout.cell_m
        turned = {"x": 0.0, "y": 1.0, "z": 0.0, "w": 0.0}
        places = {"512": {"position": {"x": 0, "y": 0, "z": tall}, "rotation": turned, "parent": 0}}
        for k, (row, column) in enumerate(layout.exhibits.cell.tolist()):
            x, z = (column + 0.5) * layout.cell_m, tall - (row + 0.5) * layout.cell_m
            places[str(600 + k)] = {"position": {"x": x, "y": 1, "z": z}}
        document["components"] = [
            {"name": "core::Transform", "data": {k: {"json": v} for k, v in places.items()}},
            {
                "name": "core::GltfContainer",
                "data": {"512": {"json": {"src": "assets/scene/Models/hall.glb"}}},
            },
            {"name": "core::NftShape", "data": {k: {"json": {}} for k in places if k != "512"}},
        ]

    def land(document: Any) -> None:
        row, column = layout.spawn
        document["scene"] = {"parcels": [f"{x},{y}" for y in range(3) for x in range(4)], "base": "0,0"}
        x, z = (column + 0.5) * layout.cell_m, (layout.height - row - 0.5) * layout.cell_m
        document["spawnPoints"] = [{"position": {"x": x, "y": 0, "z": z}}]

    edit(scene / COMPOSITE, furnish)
    edit(scene / "scene.json", land)
    back = load_decentraland(scene, cell_m=layout.cell_m)
    top = back.height - 1 - layout.height
    assert back.wall[top : top + layout.height, 1 : 1 + layout.width].tolist() == layout.wall.tolist()
    moved = back.exhibits.cell - layout.exhibits.cell
    assert moved.unique(dim=0).tolist() == [[top, 1]]


BROKEN: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "no parcels": ("scene.json", lambda d: d["scene"].pop("parcels") and None, "it has no list 'scene.parcels'"),
    "parcel": ("scene.json", lambda d: d["scene"].update(parcels=["1;2"]), "a parcel is '1;2', expected e.g. '0,1'"),
    "far": ("scene.json", lambda d: d["scene"].update(parcels=["10,-4", "500,0"]), "its parcels lie far apart"),
    "wide": ("scene.json", lambda d: d["scene"].update(parcels=["10,-4", "14,-4"]), "its land is 82 x 18 cells"),
    "spawn": ("scene.json", lambda d: d["spawnPoints"][0]["position"].update(x="a"), "a spawn point has x = 'a'"),
    "list": (COMPOSITE, lambda d: [1], "it has no list 'components'"),
    "entity": (COMPOSITE, lambda d: component(d, "core::Transform").update(x={}), "belongs to entity 'x'"),
    "loop": (
        COMPOSITE,
        lambda d: component(d, "core::Transform")["516"]["json"].update(parent=517),
        "is its own parent",
    ),
    "shape": (
        COMPOSITE,
        lambda d: component(d, "core::MeshCollider")["517"]["json"].update(mesh={"$case": "torus"}),
        "core::MeshCollider of entity 517 has mesh = {'$case': 'torus'}, expected mesh to be a shape",
    ),
    "turn": (
        COMPOSITE,
        lambda d: component(d, "core::Transform")["513"]["json"].update(rotation={"x": "n"}),
        "core::Transform of entity 513 has rotation = {'x': 'n'}, expected rotation to be xyzw",
    ),
    "model": (
        COMPOSITE,
        lambda d: component(d, "core::GltfContainer")["512"]["json"].update(src="assets/none.glb"),
        "the model 'assets/none.glb': it cannot be read (No such file or directory)",
    ),
    "outside": (
        COMPOSITE,
        lambda d: component(d, "core::GltfContainer")["512"]["json"].update(src="../x.glb"),
        "the model '../x.glb' lies outside the folder",
    ),
    "gltf": (
        COMPOSITE,
        lambda d: component(d, "core::GltfContainer")["512"]["json"].update(src="x.gltf"),
        "the model 'x.gltf' of 'hall.glb' is no .glb",
    ),
    "many": (
        COMPOSITE,
        lambda d: component(d, "core::NftShape").update({str(600 + k): {"json": {}} for k in range(20)}),
        "24 exhibits are on the floor from y = 0 to 4 m (1 elsewhere), 1 to 16 fit",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_scene_is_said_with_its_file(scene: Path, case: str) -> None:
    file, change, says = BROKEN[case]
    edit(scene / file, change)
    found = faults(scene)
    assert any(says in fault for fault in found), found
    assert all(fault.startswith(f"layer '{file}'") for fault in found)


def test_an_empty_folder_lacks_both_files_and_bad_options_are_no_fault_of_the_scene(tmp_path: Path) -> None:
    assert len(faults(tmp_path)) == 2
    for own in ({"floor": (2.0, 1.0)}, {"cell_m": 3.0}, {"cell_m": 0.0}, {"floor": (0.0, float("nan"))}):
        with pytest.raises(ConfigError, match=r"floor must be|cell_m must"):
            load_decentraland(FOLDER / SCENE, **own)


def test_boxes_fill_the_cells_they_cover_and_no_neighbour() -> None:
    raster = Raster(0.0, 0.0, 6, 8, 1.0)
    hit = raster.touched(box_triangles(np.array([[[2.0, 0.0, 1.0], [5.0, 2.0, 3.0]]])), 0.4, 1.8)
    rows = ["........", "........", "........", "..###...", "..###...", "........"]
    assert ["".join(".#"[cell] for cell in row) for row in hit.astype(int)] == rows
    thin = raster.touched(box_triangles(np.array([[[1.0, 0.0, 2.0], [1.0, 2.0, 4.0]]])), 0.4, 1.8)
    assert np.argwhere(thin).tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]  # a sheet on a line of the grid: both sides
    for low, high in ((2.0, 9.0), (-3.0, 0.0)):
        assert not raster.touched(box_triangles(np.array([[[2.0, 0.0, 1.0], [5.0, 2.0, 3.0]]])), low, high).any()


def test_a_slanted_wall_is_cut_at_the_heights_that_count() -> None:
    raster = Raster(0.0, 0.0, 1, 10, 1.0)
    ramp = np.array([[[0.5, 0.0, 0.5], [9.5, 9.0, 0.4], [9.5, 9.0, 0.6]]])  # as high as it is far
    assert raster.touched(ramp, 2.1, 4.4)[0].tolist() == [2 <= k <= 4 for k in range(10)]


def test_lines_of_sight_count_faces_once() -> None:
    box = box_triangles(np.array([[[2.0, 0.0, 0.0], [3.0, 2.0, 4.0]]]))
    ends = np.array([[1.0, 1.0, 2.0], [2.5, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 1.0, 9.0]])
    assert crossings(box, np.array([0.0, 1.0, 2.0]), ends).tolist() == [0, 1, 2, 0]


def test_models_written_here_are_read_alike_by_trimesh(tmp_path: Path) -> None:
    layout, path = load_sample("old-town"), tmp_path / "town.glb"
    export_glb(layout, path)
    theirs = trimesh.load(path)
    assert isinstance(theirs, trimesh.Scene)
    wide, tall = layout.width * layout.cell_m, layout.height * layout.cell_m
    assert theirs.bounds.tolist() == pytest.approx(np.array([[0, -0.05, 0], [wide, WALL_M, tall]]))
    ours = {part.name.split()[0]: part.triangles for part in read_glb(path)}
    assert {"walls", "walls_collider", "district", "exhibit", "spawn"} <= set(ours)
    walls = theirs.geometry["walls"]
    assert len(walls.faces) == len(ours["walls"])
    assert float(walls.volume) == pytest.approx(float(layout.wall.sum()) * layout.cell_m**2 * WALL_M, rel=1e-5)
    assert np.sort(walls.triangles.reshape(-1)) == pytest.approx(np.sort(ours["walls"].reshape(-1)))


def test_models_written_by_trimesh_are_read_alike_here(tmp_path: Path) -> None:
    made = trimesh.Scene()
    matrix = transform([4.0, 1.0, -2.0], [0.0, 0.38268343, 0.0, 0.92387953], [1.0, 2.0, 1.0])
    made.add_geometry(trimesh.creation.icosphere(subdivisions=1), node_name="ball_collider", transform=matrix)
    (tmp_path / "ball.glb").write_bytes(made.export(file_type="glb"))
    (part,) = read_glb(tmp_path / "ball.glb")
    assert part.name.startswith("ball_collider")
    assert part.triangles.shape == (80, 3, 3)
    assert part.triangles.reshape(-1, 3).min(0) == pytest.approx(made.bounds[0], abs=1e-5)
    assert part.triangles.reshape(-1, 3).max(0) == pytest.approx(made.bounds[1], abs=1e-5)


def repack(content: bytes, change: Callable[[Any], Any]) -> bytes:
    (size,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + size])
    change(document)
    text = json.dumps(document).encode()
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + content[20 + size :]
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


MODELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "draco": (lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"]), "packed by 'KHR_draco"),
    "sparse": (lambda d: d["accessors"][0].update(sparse={}), "sparse, quantised"),
    "quantised": (lambda d: d["accessors"][0].update(componentType=5123), "sparse, quantised"),
    "elsewhere": (lambda d: d["buffers"][0].update(uri="../../etc/passwd"), "its geometry lies in another file"),
    "beyond": (lambda d: d["accessors"][0].update(count=999), "beyond the file's data"),
    "huge": (lambda d: d["accessors"][0].update(count=10**9), "corners and indices are in use"),
    "negative": (lambda d: d["bufferViews"][0].update(byteOffset=-400), "out of bounds"),
    "loop": (lambda d: d["nodes"][0].update(children=[0]), "node 0 has two parents, or is its own"),
    "far": (lambda d: d["nodes"][0].update(scale=[1e300, 1, 1]), "a corner lies infinitely far away"),
    "gone": (lambda d: d["nodes"][0].update(mesh=7), "its structure is damaged ('IndexError"),
    "many": (lambda d: d["meshes"][0].update(primitives=d["meshes"][0]["primitives"] * 20_001), "corners and indices"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_read_say_why(tmp_path: Path, case: str) -> None:
    change, says = MODELS[case]
    path = tmp_path / "m.glb"
    write_glb([Solid("box", (1, 2, 3), np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]))], path)
    assert len(read_glb(path)[0].triangles) == 12
    path.write_bytes(repack(path.read_bytes(), change))
    with pytest.raises(BadFileError) as caught:
        sum(len(part.triangles) for part in read_glb(path))
    assert says in caught.value.what


def test_strips_and_fans_are_triangles_of_one_winding(tmp_path: Path) -> None:
    path = tmp_path / "m.glb"
    write_glb([Solid("box", (1, 2, 3), np.array([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]))], path)
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "<f4")
    for mode, order in ((5, [0, 1, 2, 3]), (6, [0, 1, 3, 2])):
        content = repack(
            path.read_bytes(),
            lambda d, m=mode: (d["meshes"][0]["primitives"][0].update(mode=m), d["accessors"][0].update(count=4)),
        )
        at = len(content) - 432
        (tmp_path / "s.glb").write_bytes(content[:at] + square[order].tobytes() + content[at + 48 :])
        (part,) = read_glb(tmp_path / "s.glb")
        normals = np.cross(part.triangles[:, 1] - part.triangles[:, 0], part.triangles[:, 2] - part.triangles[:, 0])
        assert normals.tolist() == [[0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    "content", [b"", b"glTF", b"glTF" + bytes(40), b"solid x", struct.pack("<4sII", b"glTF", 2, 20) + bytes(8)]
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.glb").write_bytes(content)
    with pytest.raises(BadFileError):
        read_glb(tmp_path / "m.glb")
