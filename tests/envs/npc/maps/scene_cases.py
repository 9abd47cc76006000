"""What a scene can say, row by row of the table in docs/maps.md: changes to a small scene, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metarl.envs.npc.maps.components import IGNORED, SCHEMAS
from tests.envs.npc.maps.scene_files import GROUP, IMAGE, MODEL, WALL, WALLS, Scene, placed, walls

SHIFTED = frozenset((x + 1, z) for x, z in WALLS if z == 8) | {(12, 4)}
BARE = WALLS - {(12, 4)}
OPEN = frozenset({(12, 4)})
Change = Callable[[Scene], Any]
Expected = str | frozenset[tuple[int, int]] | tuple[str, ...] | Callable[[Any], bool] | None
"""A fault's text, the walls, the names of exhibits, a question about the reading, or None: as if it were not there."""
NONE = "0 exhibits are on the floor"


def at(entity: str, **own: Any) -> Change:
    return lambda s: s.parts["core::Transform"][entity].update(own)


def put(component: str, entity: str, **value: Any) -> Change:
    return lambda s: s.put(component, entity, value)


def land(**own: Any) -> Change:
    return lambda s: s.land.update(own)


def scene(**own: Any) -> Change:
    return lambda s: s.land["scene"].update(own)


def spawn(*points: Any) -> Change:
    return lambda s: s.land.update(spawnPoints=list(points))


def document(change: Callable[[Any], Any]) -> Change:
    return lambda s: setattr(s, "composite", change)


def model(change: Callable[[Any], Any], corners: str = "<f4") -> Change:
    return lambda s: (setattr(s, "model", change), setattr(s, "corners", corners))


def node(**own: Any) -> Change:
    """Change the model's collider."""
    return model(lambda d: d["nodes"][1].update(own))


def primitive(**own: Any) -> Change:
    return model(lambda d: d["meshes"][0]["primitives"][0].update(own))


def together(*changes: Change) -> Change:
    return lambda s: [change(s) for change in changes]


def film(entity: str, material: str = "pbr") -> Change:
    texture = {"tex": {"$case": "videoTexture", "videoTexture": {"videoPlayerEntity": 7}}}
    return put("core::Material", entity, material={"$case": material, material: {"texture": texture}})


def colour(alpha: Any, **own: Any) -> Change:
    body = {"albedoColor": {"r": 1, "g": 1, "b": 1, "a": alpha}, **own}
    return put("core::Material", IMAGE, material={"$case": "pbr", "pbr": body})


def binary(document: Any) -> None:
    document["components"][0]["data"][WALL] = {"binary": "AAAA"}


def move(kind: str, **body: Any) -> Change:
    return put("core::Tween", WALL, duration=1, playing=True, mode={"$case": kind, kind: body})


SPOT = {"x": 5.5, "y": 0, "z": 5.5}
HALF_TURN = {"x": 0, "y": 1, "z": 0, "w": 0}
MASKED = "GltfContainer of entity 602 has invisibleMeshesCollisionMask"
SECOND = placed(12.5, 0, 10.5)
STATUE = put("core-schema::Name", MODEL, value="statue")
HIDDEN = {"KHR_node_visibility": {"visible": False}}
THIN = {"radiusTop": 0.25, "radiusBottom": 0.1}
TEXTURE = {"$case": "textureMove", "textureMove": {}}

CASES: dict[str, list[tuple[Change, Expected]]] = {
    "`scene.parcels`": [
        (scene(parcels=["3,4", "4,4"]), lambda r: r.layout.width == 34),
        (scene(parcels=["3,4", "5,4"]), lambda r: bool(r.layout.wall[:, 18:32].all())),
        (scene(parcels=["3,4", "3,4"]), "the parcel 3,4 is there twice"),
        (scene(parcels=["3_0,4"]), "a parcel is '3_0,4', expected"),
        (scene(parcels=[]), "it has 0 parcels"),
        (scene(parcels=[f"{3 + k},4" for k in range(5)]), "spawn point and exhibits lie within (2, 2, 5, 13)"),
    ],
    "`scene.base`": [
        (scene(parcels=["2,4", "3,4"]), lambda r: r.layout.spawn == (14, 19)),
        (scene(base="9,9"), "its base '9,9' is none of its parcels"),
        (lambda s: s.land["scene"].pop("base"), "a parcel is None"),
    ],
    "`spawnPoints`: `position`, `default`": [
        (spawn({"position": SPOT}), lambda r: r.layout.spawn == (11, 6)),
        (spawn({"position": {"x": 2, "y": 0, "z": 2}}, {"default": True, "position": SPOT}),
         lambda r: r.layout.spawn == (11, 6) and "it has 2 spawn points, the first default is used" in r.notes),
        (spawn(), lambda r: r.layout.spawn[0] == 9 and "it names no spawn point" in r.notes[0]),
        (spawn({"position": {"x": 1, "y": 0}}), "a spawn point has the position {'x': 1, 'y': 0}, expected x, y and z"),
        (spawn({"position": {"x": [1, 2, 3], "y": 0, "z": 1}}), "a spawn point has x = [1, 2, 3]"),
        (spawn({"position": {"x": True, "y": 0, "z": 1}}), "a spawn point has x = True"),
        (spawn({"position": SPOT, "default": "yes"}), "a spawn point has default = 'yes'"),
        (land(spawnPoints={"x": 1}), "its spawnPoints are {'x': 1}"),
    ],
    "`spawnPoints`: `name`, `cameraTarget`": [
        (lambda s: s.land["spawnPoints"][0].update(name="x", cameraTarget={"x": 1, "y": 1, "z": 1}), None),
    ],
    "`display.title`": [
        (land(display={"title": "Hall"}), lambda r: r.layout.name == "Hall"),
        (land(display={"title": 3}), "its display is {'title': 3}"),
    ],
    "`runtimeVersion`, `ecs7`": [
        (land(runtimeVersion="6"), "its runtimeVersion is '6'"),
        (land(ecs7=False), "ecs7 False, expected '7' and true"),
        (lambda s: [s.land.pop(key) for key in ("runtimeVersion", "ecs7")], lambda r: walls(r) == WALLS),
    ],
    "everything else in `scene.json`": [
        (land(owner="x", tags=[1], skyboxConfig={}, worldConfiguration={"name": "w"}, source={}), None),
    ],
    "`version`": [
        (document(lambda d: d.update(version=2)), "its version is 2, expected 1"),
        (document(lambda d: d.update(version=True)), "its version is True, expected 1"),
        (document(lambda d: d.pop("version") and None), "its version is None, expected 1"),
        (lambda s: None, lambda r: walls(r) == WALLS),
    ],
    "`id`, `jsonSchema`": [(document(lambda d: d.update(id="x") or d["components"][0].update(jsonSchema=[1])), None)],
    "values under `binary`, any other key": [
        (document(binary), "core::Transform of entity 600 is {'binary': 'AAAA'}, expected an object under 'json'"),
        (document(lambda d: d.update(composites=[])), "it has 'composites', expected only version and components"),
    ],
    "what is there twice": [
        (document(lambda d: d["components"].append(d["components"][0])), "component 'core::Transform' is there twice"),
        (document(lambda d: '{"version": 1, "version": 1, "components": []}'), "the key 'version' is there twice"),
        (lambda s: s.put("core::Transform", "0600", placed(0, 0, 0)), "belongs to entity '0600', expected a number"),
    ],
    "`core::Transform` `position`": [
        (at(WALL, position={"x": 9, "y": 1, "z": 8.5}), SHIFTED),
        (at(WALL, position={"x": 9, "y": 1}), "of entity 600 has position = {'x': 9, 'y': 1}, expected"),
        (at(WALL, position=[9, 1, 8]), "has position = [9, 1, 8], expected position to be xyz"),
        (at(WALL, position={"x": "9", "y": 1, "z": 8}), "expected position to be xyz"),
        (at(WALL, position=None), "has position = None"),
        (at(WALL, position={"x": 1e9, "y": 1, "z": 8}), "expected position to be xyz"),
        (at(WALL, positon=SPOT), "has positon = "),
        (lambda s: s.put("core::Transform", WALL, [1]), "core::Transform of entity 600 is {'json': [1]}, expected"),
        (lambda s: s.put("core::Transform", IMAGE, {}), lambda r: r.layout.exhibits.cell.tolist() == [[16, 1]]),
    ],
    "`core::Transform` `rotation`": [
        (at(WALL, rotation={"x": 0, "y": 0.5**0.5, "z": 0, "w": 0.5**0.5}),
         lambda r: walls(r) >= {(7, 6), (8, 10)} and not walls(r) & {(6, 8), (9, 8)}),
        (at(WALL, rotation={"x": 0, "y": 2, "z": 0, "w": 2}), lambda r: walls(r) >= {(7, 6), (8, 10)}),
        (at(WALL, rotation={"x": 0, "y": 0, "z": 0, "w": 0}), "'wall' is turned by a quaternion of length 0"),
        (at(WALL, rotation={"x": 0, "y": 0, "z": 0}), "expected rotation to be xyzw"),
        (at(WALL, rotation={"x": 0, "y": 90, "z": 0}), "expected rotation to be xyzw"),
    ],
    "`core::Transform` `scale`": [
        (at(WALL, scale={"x": 2, "y": 2, "z": 1}), frozenset([(7, 8), (8, 8), (12, 4)])),
        (at(WALL, scale={"x": -4, "y": 2, "z": 1}), WALLS),
        (at(MODEL, scale={"x": -1, "y": 1, "z": 1}), WALLS),
        (at(WALL, scale={"x": 0, "y": 0, "z": 0}), OPEN),
        (at(IMAGE, scale={"x": 0, "y": 0, "z": 0}), NONE),
        (at(IMAGE, scale={"x": 1, "y": 1, "z": 0}), ("image",)),
        (at(WALL, scale=2), "expected scale to be xyz"),
    ],
    "`core::Transform` `parent`": [
        (together(at(GROUP, position={"x": 1, "y": 0, "z": 0}), at(WALL, parent=int(GROUP))), SHIFTED),
        (at(WALL, parent=999), "'wall' has the parent 999, which is not in the scene"),
        (at(WALL, parent="603"), "has parent = '603', expected parent to be an entity's number"),
        (at(WALL, parent=-1), "has parent = -1"),
        (together(at(GROUP, parent=int(WALL)), at(WALL, parent=int(GROUP))), "is its own parent"),
        (at(WALL, parent=1), "'wall' goes where a visitor goes"),
        (at(IMAGE, parent=2), "'image' goes where a visitor goes"),
        (at(GROUP, parent=1), ("image",)),
    ],
    "`core-schema::Name` `value`": [
        (put("core-schema::Name", IMAGE, value="music_statue"), ("music_statue",)),
        (put("core-schema::Name", IMAGE, value="plank"), "what is one with also='...'; there are 'plank'"),
        (put("core-schema::Name", IMAGE, value=5), "Name of entity 601 has value = 5, expected value to be text"),
        (put("core-schema::Name", IMAGE), "core-schema::Name of entity 601 has no 'value'"),
    ],
    "`core::MeshCollider` `mesh`": [
        (put("core::MeshCollider", WALL, mesh={"$case": "plane", "plane": {}}),
         lambda r: walls(r) == frozenset([(6, 8), (7, 8), (8, 8), (9, 8), (12, 4)])),
        (put("core::MeshCollider", WALL, mesh={"$case": "cylinder", "cylinder": THIN}),
         frozenset([(7, 8), (8, 8), (12, 4)])),
        (put("core::MeshCollider", WALL, mesh={"$case": "sphere", "sphere": {}}), WALLS),
        (put("core::MeshCollider", WALL, mesh={"$case": "gltfMesh", "gltfMesh": {}}), "expected mesh to be a shape"),
        (put("core::MeshCollider", WALL, mesh={"$case": "cylinder", "cylinder": {"radiusTop": -1}}), "to be a shape"),
        (put("core::MeshCollider", WALL, mesh={"$case": "box", "box": {}, "plane": {}}), "expected mesh to be a shape"),
        (put("core::MeshCollider", WALL, mesh=None), "expected mesh to be a shape"),
        (put("core::MeshCollider", WALL), "core::MeshCollider of entity 600 has no 'mesh'"),
    ],
    "`core::MeshCollider` `collisionMask`": [
        (lambda s: s.parts["core::MeshCollider"][WALL].update(collisionMask=1), OPEN),
        (lambda s: s.parts["core::MeshCollider"][WALL].pop("collisionMask"), WALLS),
        (lambda s: s.parts["core::MeshCollider"][WALL].update(collisionMask="3"), "has collisionMask = '3', expected"),
        (lambda s: s.parts["core::MeshCollider"][WALL].update(collisionMask=-1), "collisionMask to be a mask"),
    ],
    "`core::GltfContainer` `src`": [
        (lambda s: s.parts["core::GltfContainer"].pop(MODEL), BARE),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(src="n.glb"), "the model 'n.glb': it cannot be read"),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(src="m.gltf"), "model 'm.gltf' of 'model' is no .glb"),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(src="../m.glb"), "lies outside the folder"),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(src=3), "has src = 3, expected src to be text"),
        (lambda s: s.parts["core::GltfContainer"][MODEL].pop("src"), "core::GltfContainer of entity 602 has no 'src'"),
    ],
    "`core::GltfContainer` masks": [
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(invisibleMeshesCollisionMask=1), BARE),
        (lambda s: s.put("core::GltfContainer", MODEL, {"src": "m.glb"}), WALLS),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(
            invisibleMeshesCollisionMask=0, visibleMeshesCollisionMask=2), WALLS),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(invisibleMeshesCollisionMask=True), MASKED),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(invisibleMeshesCollisionMask=None), MASKED),
        (lambda s: s.parts["core::GltfContainer"][MODEL].update(mask=3), "has mask = 3, expected only src, visible"),
    ],
    "`core::MeshRenderer` `mesh`": [
        (lambda s: s.parts["core::MeshRenderer"].pop(IMAGE), NONE),
        (put("core::MeshRenderer", WALL, mesh={"$case": "box", "box": {}}), ("image",)),
        (put("core::MeshRenderer", IMAGE, mesh={"$case": "torus"}), "expected mesh to be a shape"),
    ],
    "`core::VisibilityComponent` `visible`": [
        (put("core::VisibilityComponent", IMAGE, visible=False), NONE),
        (put("core::VisibilityComponent", IMAGE), ("image",)),
        (put("core::VisibilityComponent", WALL, visible=False), WALLS),
        (put("core::VisibilityComponent", IMAGE, visible=0), "has visible = 0, expected visible to be true or false"),
        (put("core::VisibilityComponent", IMAGE, visible="false"), "expected visible to be true or false"),
    ],
    "`core::VisibilityComponent` `propagateToChildren`": [
        (together(at(IMAGE, parent=int(GROUP)),
                  put("core::VisibilityComponent", GROUP, visible=False, propagateToChildren=True)), NONE),
        (together(at(IMAGE, parent=int(GROUP)), put("core::VisibilityComponent", GROUP, visible=False)), ("image",)),
        (together(at(IMAGE, parent=int(GROUP)), put("core::VisibilityComponent", IMAGE, visible=True),
                  put("core::VisibilityComponent", GROUP, visible=False, propagateToChildren=True)), ("image",)),
        (put("core::VisibilityComponent", GROUP, propagateToChildren=1), "has propagateToChildren = 1"),
    ],
    "`core::NftShape`": [
        (together(put("core::NftShape", GROUP, urn="u"), at(GROUP, position=SPOT)), ("image", "entity 603")),
        (together(put("core::NftShape", GROUP, urn="u"), at(GROUP, position=SPOT),
                  put("core::VisibilityComponent", GROUP, visible=False)), ("image",)),
        (together(put("core::NftShape", GROUP, urn="u"), at(GROUP, position={"x": 40, "y": 0, "z": 5})),
         "exhibit 'entity 603' is at x = 40, z = 5 m, outside the parcels"),
    ],
    "`core::VideoPlayer`": [
        (put("core::VideoPlayer", MODEL, src="a.mp4"), ("image", "model")),
        (put("core::VideoPlayer", WALL, src="a.mp4"), ("image",)),  # plays, but shows nothing
    ],
    "`core::Material` video texture": [
        (film(MODEL), ("image", "model")),
        (film(MODEL, "unlit"), ("image", "model")),
        (film(WALL), ("image",)),
    ],
    "`core::Material` alpha": [
        (colour(0), NONE),
        (colour(0.1), ("image",)),
        (colour(0, transparencyMode=0), ("image",)),
        (put("core::Material", IMAGE, material={"$case": "unlit", "unlit": {"diffuseColor": {"a": 0}}}), NONE),
        (colour("x"), "'image' has a damaged Material"),
        (put("core::Material", IMAGE, material=[1]), "'image' has a damaged Material"),
        (put("core::Material", IMAGE, material={"$case": "toon", "toon": {}}), "'image' has a damaged Material"),
    ],
    "`core::Tween`": [
        (move("move", start={"x": 9, "y": 1, "z": 8.5}, end=SPOT),
         lambda r: walls(r) == SHIFTED and "moves by itself, read where it begins: wall" in r.notes[0]),
        (move("rotateContinuous", speed=1), lambda r: walls(r) == WALLS and "moves by itself" in r.notes[0]),
        (move("move", end=SPOT), "'wall' has a Tween that begins at None"),
        (put("core::Tween", WALL, playing=False, mode={"$case": "move", "move": {}}), None),
        (put("core::Tween", WALL, mode=TEXTURE), None),
    ],
    "`core::Animator`": [
        (together(model(lambda d: d.update(animations=[{"name": "open", "channels": [
            {"sampler": 0, "target": {"node": 1, "path": "translation"}}]}])),
            put("core::Animator", MODEL, states=[{"clip": "open", "playing": True}])),
         lambda r: walls(r) == WALLS and "read where it begins: model" in r.notes[0]),
        (put("core::Animator", MODEL, states="x"), "'model' has a damaged Animator ('x')"),
    ],
    "`core::AvatarAttach`": [
        (put("core::AvatarAttach", WALL, anchorPointId=1), "'wall' goes where a visitor goes"),
        (put("core::AvatarAttach", GROUP, anchorPointId=1), ("image",)),
    ],
    "`core::Billboard`": [
        (put("core::Billboard", WALL), "'wall' turns towards whoever looks"),
        (together(put("core::Billboard", GROUP), at(IMAGE, parent=int(GROUP))), "'image' turns towards whoever looks"),
        (put("core::Billboard", IMAGE), ("image",)),
    ],
    "`composite::root`": [(put("composite::root", WALL, id="other"), "entity 600 has a 'composite::root': another")],
    "`core-schema::Network-Parent`": [(put("core-schema::Network-Parent", WALL), "its parent is known when")],
    "`core::GltfNode`": [(put("core::GltfNode", WALL), "it stands for a part of a model")],
    "any other `core::` or `core-schema::`": [
        (put("core::Portal", WALL), "entity 600 has a 'core::Portal': what that means is not known here"),
        (put("core:Transform", WALL), "entity 600 has a 'core:Transform'"),
        (put("Core::Transform", WALL), "entity 600 has a 'Core::Transform'"),
        (put("core-schema::Solid", WALL), "entity 600 has a 'core-schema::Solid'"),
    ],
    "`core-schema::Network-Entity`, `core-schema::Sync-Components`, `core-schema::Tags`": [
        (together(*(put(name, WALL, x=1) for name in SCHEMAS)), None),
    ],
    "`inspector::...`, `asset-packs::...`, a script's own": [
        (together(put("inspector::Hide", WALL, value=True), put("asset-packs::Actions", IMAGE, value=[]),
                  put("cube-id", WALL), put("inspector::Scene", "0", layout={})), None),
    ],
    "a node's place": [
        (node(translation=[1, 0, 0]), BARE | {(11, 4)}),  # x of a model grows to the west of a scene
        (node(matrix=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1]), BARE | {(11, 4)}),
        (node(scale=[-1, 1, 1]), WALLS),  # mirrored: its faces still look outwards
        (node(rotation=[0, 0, 0, 0]), "a node is turned by a quaternion of length 0"),
        (node(matrix=[1] * 16), "a node has a matrix that is no place"),
        (node(matrix=[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1], scale=[1, 1, 1]), "or a place beside it"),
        (node(translation=["a", 0, 0]), "its structure is damaged"),
    ],
    "`_collider` in a name": [
        (node(name="Box_COLLIDER.001"), WALLS),
        (node(name="box"), BARE),
        (model(lambda d: (d["nodes"][1].update(name="x"), d["nodes"].append({"name": "g_collider", "children": [1]}),
                          d["scenes"][0].update(nodes=[0, 2]))), WALLS),
        (together(node(name="box"), model(lambda d: d["meshes"][0].update(name="m_collider"))), WALLS),
    ],
    "`extras`: `dcl_collision_mask`, `dcl_collider_mask`": [
        (node(extras={"dcl_collision_mask": 1}), BARE),
        (node(name="plain", extras={"dcl_collider_mask": 2}), WALLS),
        (node(extras={"dcl_collision_mask": "none"}), WALLS),
    ],
    "skinned meshes": [(node(skin=0), BARE)],
    "blended shapes (morph targets)": [
        (node(weights=[0.5]), "its meshes are blended from several shapes"),
        (node(weights=[0.0]), WALLS),
    ],
    "`animations`": [
        (model(lambda d: d.update(animations=[{"channels": [{"target": {"node": 1, "path": "rotation"}}]}])),
         lambda r: "read where it begins: model" in r.notes[0]),
        (model(lambda d: d.update(animations=[{"channels": [{"target": {"node": 0, "path": "rotation"}}]}])),
         lambda r: "moves by itself" not in " ".join(r.notes)),
    ],
    "`scene`, `scenes`": [
        (model(lambda d: (d["scenes"].append({"nodes": [0]}), d.update(scene=1))), BARE),
        (model(lambda d: d.update(scene=-1)), "a reference is -1, expected a number"),
        (model(lambda d: d.update(scene=7)), "its structure is damaged"),
    ],
    "`mode`": [
        (primitive(mode=0), BARE),
        (primitive(mode=7), "a primitive has mode 7, expected 0 to 6"),
        (primitive(mode="4"), "a primitive has mode '4'"),
    ],
    "`KHR_mesh_quantization`": [
        (model(lambda d: (d.update(extensionsRequired=["KHR_mesh_quantization"]),
                          d["accessors"][0].update(componentType=5122),
                          d["nodes"][1].update(scale=[0.5, 0.5, 0.5])), "<i2"), WALLS),
        (model(lambda d: d["accessors"][0].update(componentType=5122), "<i2"), "not read (sparse, quantised)"),
    ],
    "`KHR_draco_mesh_compression`, `EXT_meshopt_compression`, `KHR_meshopt_compression`": [
        (model(lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"])), "packed by 'KHR_draco_mesh"),
        (primitive(extensions={"EXT_meshopt_compression": {}}), "packed by 'EXT_meshopt_compression'"),
        (model(lambda d: d.update(extensionsRequired=["KHR_meshopt_compression"])), "packed by 'KHR_meshopt"),
    ],
    "`EXT_mesh_gpu_instancing`": [
        (node(extensions={"EXT_mesh_gpu_instancing": {}}), "its meshes are placed by EXT_mesh_gpu_instancing"),
    ],
    "`KHR_node_visibility`": [
        (together(STATUE, model(lambda d: d["nodes"][0].update(extensions=HIDDEN))),
         ("image",)),
        (STATUE, ("image", "statue")),
        (together(STATUE, model(lambda d: d["scenes"][0].update(nodes=[1]))), ("image",)),
    ],
    "`KHR_materials_...`, `KHR_texture_...`, `EXT_texture_...`, `KHR_lights_...`, `KHR_xmp...`, "
    "`KHR_animation_pointer`": [
        (model(lambda d: d.update(extensionsRequired=["KHR_texture_transform", "KHR_materials_ior"])), None),
    ],
    "any other extension in `extensionsRequired`": [
        (model(lambda d: d.update(extensionsRequired=["X_voxels"])), "it needs the extension 'X_voxels'"),
    ],
    "sparse accessors, other files, `data:` buffers": [
        (model(lambda d: d["accessors"][0].update(sparse={})), "sparse, quantised"),
        (model(lambda d: d["buffers"][0].update(uri="m.bin")), "its geometry lies in another file"),
        (model(lambda d: d["buffers"][0].update(uri="data:;base64,AA")), "its geometry lies in another file"),
    ],
    "`asset.version`": [
        (model(lambda d: d["asset"].update(version="1.0")), "its glTF version is"),
        (model(lambda d: d["asset"].update(minVersion="2.1")), "its glTF version is"),
        (lambda s: None, lambda r: walls(r) == WALLS),
    ],
}  # fmt: skip
for reason, names in IGNORED.items():
    CASES[reason] = [(put(f"core::{name}", WALL, x=1), None) for name in names]
