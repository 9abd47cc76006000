"""Which releases of Meta-World and MuJoCo these worlds were checked against, and what to do about others."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from metarl.commandline import pip_command
from metarl.errors import ConfigError

SUPPORTED = {"metaworld": "3.1.1", "mujoco": "3.3.0"}
"""The releases whose numbers the engine was compared with, all 50 classes bit for bit. Meta-World pins this MuJoCo."""

_TITLES = {"metaworld": "Meta-World", "mujoco": "MuJoCo"}

_INSTALL = pip_command(*(f"{name}=={release}" for name, release in SUPPORTED.items()))

_accepted: set[tuple[str, str]] = set()
"""Package and release, for which the user of this process said that they will do."""


def installed_version(package: str) -> str:
    """Return the installed release of a package; raises ConfigError if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise ConfigError(f"{_TITLES[package]} is not installed; install it with `{_INSTALL}`") from None


def mismatches() -> dict[str, str]:
    """Return the installed release of each package that is not the supported one."""
    found = {package: installed_version(package) for package in SUPPORTED}
    return {package: release for package, release in found.items() if release != SUPPORTED[package]}


def check_installed() -> None:
    """Raise ConfigError for a package that is missing, or of another release that nobody has accepted."""
    for package, found in mismatches().items():
        if (package, found) not in _accepted:
            raise ConfigError(
                f"{_TITLES[package]} {found} is installed, but these worlds need {SUPPORTED[package]} (physics, goals "
                f"and rewards differ between releases); install it with `{_INSTALL}`, or pass "
                f"allow_version_mismatch=true to go on without proof that the numbers are right"
            )


def accept_installed() -> None:
    """Let this process use whatever releases are installed."""
    _accepted.update(mismatches().items())


def mismatch_notes() -> tuple[str, ...]:
    """Return one line per package that is not the supported release, for whoever reads results."""
    return tuple(
        f"{_TITLES[package]} {found} instead of {SUPPORTED[package]}: parity with upstream is unproven; not "
        f"comparable with results of {SUPPORTED[package]}"
        for package, found in mismatches().items()
    )
