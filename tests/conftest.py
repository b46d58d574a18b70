"""For all tests: `import media` works, the real clips and tiny checkpoints, and random state that does not leak."""

from __future__ import annotations

import importlib.util
import random
import signal
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:  # pytest's importlib mode adds nothing
    sys.path.insert(0, str(TESTS))


def pytest_configure() -> None:
    """Started in the background of a shell, we would hand an ignored SIGINT on to every process that a test stops."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the repository that holds real clips and golden files; not part of the project."""
    folder = TESTS.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not here")
    return folder


@pytest.fixture(scope="session")
def tiny_maker() -> ModuleType:
    """scripts/make_tiny_checkpoint as a module."""
    loader = SourceFileLoader("make_tiny_checkpoint", str(TESTS.parent / "scripts" / "make_tiny_checkpoint"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def random_state() -> Iterator[None]:
    """Each test leaves the generators as it found them."""
    state, mine, numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()
    yield
    torch.set_rng_state(state)
    random.setstate(mine)
    np.random.set_state(numbers)
