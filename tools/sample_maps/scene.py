"""Builds the sample Decentraland scene: one parcel with a small gallery, written as the Creator Hub writes scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.envs.npc.maps.glb_write import Solid, write_glb
from metarl.envs.npc.maps.scene import COMPOSITE

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Lower and upper corner, (x east, y up, z north), metres."""

WALLS: tuple[Box, ...] = (
    ((2.0, 0.0, 4.0), (7.0, 3.0, 4.4)),  # south wall, west of the door
    ((9.0, 0.0, 4.0), (14.0, 3.0, 4.4)),
    ((2.0, 0.0, 14.6), (14.0, 3.0, 15.0)),
    ((2.0, 0.0, 4.4), (2.4, 3.0, 14.6)),
    ((13.6, 0.0, 4.4), (14.0, 3.0, 14.6)),
    ((8.4, 0.0, 8.0), (8.8, 3.0, 14.6)),  # partition
)
FLOOR_AND_ROOF: tuple[Box, ...] = (((2.0, 0.0, 4.0), (14.0, 0.1, 15.0)), ((2.0, 3.0, 4.0), (14.0, 3.2, 15.0)))
"""Solid, but nobody bumps into them."""
STATUE: tuple[Box, ...] = (((-0.4, 0.0, -0.4), (0.4, 0.5, 0.4)), ((-0.15, 0.5, -0.15), (0.15, 1.7, 0.15)))


def write_scene(folder: Path) -> None:
    """Write `scene.json`, the composite and two models into a folder."""
    models = folder / "assets" / "scene" / "Models"
    models.mkdir(parents=True, exist_ok=True)
    shell = [
        Solid("hall", (210, 205, 195), _mirrored(WALLS), True),
        Solid("slabs", (160, 160, 165), _mirrored(FLOOR_AND_ROOF), True),
    ]
    write_glb(shell, models / "hall.glb")
    write_glb([Solid("statue", (204, 121, 167), _mirrored(STATUE), collider=True)], models / "statue.glb")
    scene = {
        "ecs7": True, "runtimeVersion": "7", "display": {"title": "Corner gallery"}, "main": "bin/index.js",
        "scene": {"parcels": ["10,-4"], "base": "10,-4"},
        "spawnPoints": [{"name": "spawn1", "default": True, "position": {"x": [7, 9], "y": [0, 0], "z": [1, 2]}}],
    }  # fmt: skip
    (folder / "scene.json").write_text(json.dumps(scene, indent=2) + "\n")
    (folder / COMPOSITE).write_text(json.dumps({"version": 1, "components": _components()}, indent=1) + "\n")


def _mirrored(boxes: Sequence[Box]) -> Any:
    """Return [B, 2, 3] with x negated: glTF is right-handed, a scene left-handed."""
    array = np.array(boxes)
    return np.stack([np.stack([-array[:, 1, 0], -array[:, 0, 0]], 1), array[:, :, 1], array[:, :, 2]], 2)


def _components() -> list[dict[str, Any]]:
    """Return the components of the composite, each with its entities."""
    plane, texture = (
        {"$case": "plane", "plane": {"uvs": []}},
        {"$case": "texture", "texture": {"src": "assets/art.png"}},
    )
    model = {"visibleMeshesCollisionMask": 0, "invisibleMeshesCollisionMask": 3}
    material = {"material": {"$case": "pbr", "pbr": {"texture": {"tex": texture}}}}
    box = {"mesh": {"$case": "box", "box": {}}, "collisionMask": 3}
    quarter = {"x": 0.0, "y": 0.7071067811865476, "z": 0.0, "w": 0.7071067811865476}
    transforms = {
        512: _placed(0, 0, 0),  # hall
        513: _placed(5.0, 1.6, 14.5, scale=(2.0, 1.5, 1.0)),  # picture on the north wall of the western room
        514: _placed(13.5, 1.6, 10.0, rotation=quarter),  # NFT on the east wall
        515: _placed(4.5, 0.1, 8.5, rotation=quarter, scale=(1.2, 1.2, 1.2)),  # statue
        516: _placed(11.0, 0.1, 7.0),  # group that holds bench and screen
        517: _placed(0.0, 0.45, 0.0, scale=(2.0, 0.9, 0.6), parent=516),
        518: _placed(0.0, 1.5, 7.4, scale=(3.0, 1.7, 1.0), parent=516),
        519: _placed(8.0, 5.0, 9.0),  # on the roof
    }
    names = {512: "hall.glb", 513: "nature_image_1", 514: "NFT", 515: "Statue of music", 516: "group", 517: "Bench"}
    names |= {518: "future_video_screen", 519: "Rooftop image"}
    nft = {"urn": "urn:decentraland:ethereum:erc721:0x0000000000000000000000000000000000000000:1", "style": 0}
    hall, statue = "assets/scene/Models/hall.glb", "assets/scene/Models/statue.glb"
    return [
        _component("core::Transform", transforms),
        _component("core-schema::Name", {number: {"value": name} for number, name in names.items()}),
        _component("core::GltfContainer", {512: {"src": hall, **model}, 515: {"src": statue, **model}}),
        _component("core::MeshRenderer", {number: {"mesh": plane} for number in (513, 518, 519)}),
        _component("core::Material", {number: material for number in (513, 519)}),
        _component(
            "core::MeshCollider", {517: box, 518: {"mesh": {"$case": "plane", "plane": {}}, "collisionMask": 1}}
        ),
        _component("core::NftShape", {514: nft}),
        _component("core::VideoPlayer", {518: {"src": "assets/film.mp4", "playing": True}}),
    ]


def _component(name: str, values: dict[int, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {}, "serializationType": "map"}
    return {"name": name, "jsonSchema": schema, "data": {str(k): {"json": v} for k, v in values.items()}}


def _placed(
    x: float,
    y: float,
    z: float,
    *,
    rotation: dict[str, float] | None = None,
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
    parent: int = 0,
) -> dict[str, Any]:
    turn = rotation or {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    size = dict(zip("xyz", scale, strict=True))
    return {"position": {"x": x, "y": y, "z": z}, "scale": size, "rotation": turn, "parent": parent}
