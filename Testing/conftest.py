"""Fixtures of every test."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development images beside the checkout; a fresh clone has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("development images (../shared/data) are not on this machine")
    return SHARED_DATA
