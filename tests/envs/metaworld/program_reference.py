"""Evaluates a `Program` one number at a time and plays upstream environments, to check derived programs."""

import pickle

import mujoco
import numpy as np
from metaworld.policies import ENV_POLICY_MAP
from metaworld.types import Task

from metarl.envs.metaworld.program import INFO
from metarl.envs.metaworld.tasks import metaworld_module

MOVED = ("xpos", "site_xpos", "geom_xpos", "xquat", "xmat", "geom_xmat", "qpos")
TYPES = {"f64": np.float64, "f32": np.float32, "i64": np.int64, "bool": np.bool_}
OPERATIONS = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b, "neg": lambda a: -a, "not": lambda a: not a, "and": lambda a, b: a and b,
    "or": lambda a, b: a or b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b, "abs": abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "sin": np.sin, "cos": np.cos,
    "select": lambda c, a, b: a if c else b, "cast": lambda a: a,
    "dot": lambda *x: np.dot(np.array(x[: len(x) // 2]), np.array(x[len(x) // 2 :])),
}  # fmt: skip


def upstream(name, reward_version="v2", seed=0):
    """Return an upstream environment after a reset to a goal of its own drawing."""
    cls = metaworld_module().ALL_V3_ENVIRONMENTS[name]
    env = cls(reward_function_version=reward_version)
    env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
    env.seed(seed)
    env.reset()
    data = {"rand_vec": env._last_rand_vec.copy(), "env_cls": cls, "partially_observable": True}
    env.set_task(Task(env_name=name, data=pickle.dumps(data)))
    env.reset()
    return env


def slots_of(program, env):
    """Return the slots of an upstream environment as it is now."""
    slots = np.zeros(program.n_slots)
    for a in program.attributes:
        value = vars(env)[a.name]
        if a.none_slot >= 0:
            slots[a.none_slot] = value is None
        if value is not None:
            assert np.shape(value) == a.shape
            slots[a.start : a.start + int(np.prod(a.shape))] = np.ravel(value)
    return slots


def read(read, env):
    if read.field == "touching":
        return env.touching_object(read.index)
    owner, field = (env.model, read.field[6:]) if read.field.startswith("model.") else (env.data, read.field)
    return getattr(owner, field).reshape(-1)[read.index]


def evaluate(program, env, slots, action, taken=None):
    """Return obs [39], reward, info [7] and the new slots; `slots` are those from before the step.

    Adds (node, side) to `taken` for each `select`.
    """
    values = []
    for i, node in enumerate(program.nodes):
        if node.op == "const":
            value = node.value
        elif node.op in ("read", "slot", "action"):
            value = (
                slots[node.index] if node.op == "slot" else
                action[node.index] if node.op == "action" else read(program.reads[node.index], env)
            )  # fmt: skip
        else:
            args = [values[a] for a in node.args]
            kinds = {program.nodes[a].dtype for a in (node.args[1:] if node.op == "select" else node.args)}
            assert len(kinds) == 1
            value = OPERATIONS[node.op](*args)
            if node.op == "select" and taken is not None:
                taken.add((i, bool(args[0])))
            assert node.op == "cast" or TYPES[node.dtype](value) == value or np.isnan(value)
        values.append(TYPES[node.dtype](value))
    after = slots.copy()
    for slot, node in program.updates:
        after[slot] = values[node]
    pick = lambda nodes: np.array([values[n] for n in nodes], dtype=np.float64)  # noqa: E731
    return pick(program.obs), float(values[program.reward]), pick(program.info), after


def actions(name, env, n_steps, seed, disturbed=True):
    """Yield the scripted expert's actions, mixed with half-shut grips and random ones if `disturbed`."""
    policy = ENV_POLICY_MAP[name]()
    rng = np.random.default_rng(seed)
    obs = env.reset()[0]
    for t in range(n_steps):
        sighted = np.concatenate([obs[:36], env._target_pos])
        action = rng.uniform(-1, 1, 4) if disturbed and t % 8 == 7 else np.clip(policy.get_action(sighted), -1, 1)
        if disturbed and t % 8 in (2, 5):
            action[3] = rng.uniform(-0.5, 1)
        obs = yield action.astype(np.float32)


def compare(program, env, slots, action, outcome, taken=None):
    """Return the largest |difference| of obs, reward, info and slots between upstream's `outcome` and the program's."""
    obs, reward, info = outcome
    with np.errstate(all="ignore"):
        found_obs, found_reward, found_info, after = evaluate(program, env, slots, action, taken)
    theirs = np.array([float(info[key]) for key in INFO])
    pairs = ((found_obs, obs), (found_reward, reward), (found_info, theirs), (after, slots_of(program, env)))
    return [np.max(np.abs(np.asarray(a) - b), initial=0) for a, b in pairs]


def differences(program, env, n_steps, seed=0, disturbed=True):
    """Step upstream and the program side by side; return the largest |difference| of obs, reward, info and slots."""
    play = actions(program.task, env, n_steps, seed, disturbed)
    action = next(play)
    worst = np.zeros(4)
    for _ in range(n_steps):
        slots = slots_of(program, env)
        obs, reward, _, _, info = env.step(action)
        worst = np.maximum(worst, compare(program, env, slots, action, (obs, reward, info)))
        try:
            action = play.send(obs)
        except StopIteration:
            break
    return worst


def scattered(program, env, n, seed=0):
    """Compare on `n` invented states, bodies near each other in ways that physics seldom brings about.

    Returns the largest |difference| as above, how many states upstream had an answer for (it asserts that its numbers
    make sense), and the (node, side) pairs of all `select`s that were taken.
    """
    rng = np.random.default_rng(seed)
    data, goal = env.data, env._target_pos.copy()
    places = np.concatenate([data.xpos, data.site_xpos, data.geom_xpos, goal[None]])
    kept = {
        f: getattr(data, f).copy() for f in ("xpos", "site_xpos", "geom_xpos", "xquat", "xmat", "geom_xmat", "qpos")
    }
    worst, n_answers, taken = np.zeros(4), 0, set()
    for _ in range(n):
        _scatter(data, goal, places, rng)
        env.touching_object = _Touching(rng.random() < 0.5)
        action = rng.uniform(-1.2, 1.2, 4).astype(np.float32)
        slots = slots_of(program, env)
        with np.errstate(all="ignore"):
            try:
                obs = np.clip(env._get_obs(), env.sawyer_observation_space.low, env.sawyer_observation_space.high)
                outcome = (obs, *env.evaluate_state(obs, action))
            except (AssertionError, ValueError):
                continue
        n_answers += 1
        worst = np.maximum(worst, compare(program, env, slots, action, outcome, taken))
    del env.touching_object
    for field, value in kept.items():
        getattr(data, field)[...] = value
    return worst, n_answers, taken


class _Touching:
    def __init__(self, answer):
        self.answer = answer

    def __call__(self, geom):
        return self.answer


def _scatter(data, goal, places, rng):
    """Move bodies, sites and geoms next to others, 0.1 mm to 1 m away, and turn them at random."""
    at_goal = (data.site_xpos == goal).all(axis=1)  # upstream asserts that the goal's site stays where it is
    for field in ("xpos", "site_xpos", "geom_xpos"):
        array = getattr(data, field)
        near = places[rng.integers(len(places), size=len(array))]
        moved = near + rng.normal(size=array.shape) * 10 ** rng.uniform(-4, 0, (len(array), 1))
        array[...] = np.where(rng.random((len(array), 1)) < 0.5, moved, array)
    anchor = places[rng.integers(len(places))] + rng.normal(size=3) * 10 ** rng.uniform(-4, -1)
    for field in ("xpos", "site_xpos", "geom_xpos"):  # some of them all in one place
        array = getattr(data, field)
        array[rng.random(len(array)) < 0.4] = anchor + rng.normal(size=3) * 0.01
    data.site_xpos[at_goal] = goal
    for i in range(len(data.geom_xmat)):
        mujoco.mju_quat2Mat(data.geom_xmat[i], _turn(rng))
    for i in range(len(data.xmat)):
        data.xquat[i] = _turn(rng)
        mujoco.mju_quat2Mat(data.xmat[i], data.xquat[i])
    data.qpos[...] = rng.uniform(-2, 2, data.qpos.shape)


def _turn(rng):
    quaternion = rng.normal(size=4)
    return quaternion / np.linalg.norm(quaternion)
