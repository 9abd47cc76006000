"""Video recording: a picture of one env after each step, written to a GIF or MP4 file as they come."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.checkpoint import check_replaceable
from metarl.commandline import pip_command
from metarl.deprecated import renamed
from metarl.errors import ConfigError
from metarl.world import StepResult, World

SUFFIXES = (".gif", ".mp4")


class Filmed:
    """A world, unchanged but for the camera beside it; hand it to whatever takes a World, such as `run_trial`.

    ```python
    with Filmed(world, "trial.gif", every=5) as filmed:
        run_trial(filmed, agent, tasks, phases=(1, 1), seed=0)
    ```

    A frame shows what the observation of that moment shows: after a step that ends an episode, the beginning of the
    next one. Frames go to the file at once, so a film may be as long as the disk allows.
    """

    @renamed(copy="env")
    def __init__(
        self,
        world: World,
        path: str | Path,
        *,
        env: int = 0,
        every: int = 1,
        fps: float = 25.0,
        **view: Any,
    ) -> None:
        """Open the file.

        Args:
            world: one that can draw itself; other envs than 0 and `view` need a `render_env`.
            path: where the film goes, a .gif or .mp4 file (MP4 needs `imageio[ffmpeg]`).
            env: which env to film.
            every: steps of the world per frame.
            fps: frames per second when played. Meta-World lives 80 steps per second: `every=2, fps=40` is real time.
            view: passed on to `render_env`, e.g. `camera="corner"`.

        Raises: ConfigError for another kind of file, an env that does not exist, or a missing encoder.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"film {self.path}: a film is a {' or '.join(SUFFIXES)} file, got {self.path.suffix!r}")
        if every < 1 or fps <= 0 or not 0 <= env < world.num_envs:
            raise ConfigError(
                f"film {self.path}: needs every >= 1, fps > 0 and an env in 0..{world.num_envs - 1}, got {every}, "
                f"{fps} and {env}"
            )
        if (env or view) and not hasattr(world, "render_env"):
            raise ConfigError(f"film {self.path}: world {world.name!r} draws env 0 from one side only")
        self._world, self._env, self._view, self._every = world, env, view, every
        self._writer = _writer(self.path, fps)
        self._n_steps = 0
        self.n_frames = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the world and take a picture."""
        result = self._world.reset(**options)
        self._shoot()
        return result

    def step(self, actions: Any) -> StepResult:
        """Step the world; take a picture if it is time for one."""
        result = self._world.step(actions)
        self._n_steps += 1
        if self._n_steps % self._every == 0:
            self._shoot()
        return result

    def end(self) -> Path:
        """Finish the file and return its path; the world goes on unfilmed."""
        self._writer.close()
        return self.path

    def _shoot(self) -> None:
        self._writer.append_data(self._picture())
        self.n_frames += 1

    def _picture(self) -> NDArray[np.uint8]:
        world: Any = self._world
        drawn = world.render_env(self._env, **self._view) if self._env or self._view else world.render()
        return np.asarray(drawn, np.uint8)


def _writer(path: Path, fps: float) -> Any:
    """Open a film for writing.

    Raises: ConfigError if the encoder is missing, the folder cannot be written to, or a link or device lies there.
    """
    import imageio.v2 as imageio

    check_replaceable(path)
    mp4 = path.suffix.lower() == ".mp4"
    if mp4 and find_spec("imageio_ffmpeg") is None:
        raise ConfigError(f"film {path}: MP4 needs an encoder; `{pip_command('imageio[ffmpeg]')}`, or make it a .gif")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mp4:
            return imageio.get_writer(path, format="FFMPEG", fps=fps, macro_block_size=1)
        return imageio.get_writer(path, mode="I", duration=1000.0 / fps, loop=0)
    except OSError as error:
        raise ConfigError(f"film {path} cannot be written: {error}") from error
