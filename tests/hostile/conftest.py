"""What the tests of several corpora share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.user import User


@pytest.fixture(scope="module")
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """Give the user that the module names, `USER`."""
    found = User(request.module.USER)
    yield found
    found.close()
