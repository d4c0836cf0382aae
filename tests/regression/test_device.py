"""The whole pipeline on a device that is not there, whose arrays refuse what a GPU's refuse."""

from __future__ import annotations

import numpy as np
from tests.fakes.device import device
from tests.regression.conftest import reduce

from stillsun.io.store import StoreReader

# The open reconstruction has tests of its own: here its kernels would take minutes, thread by thread.
OPTIONS = "speckle=none", "stages=[calibrate,assemble,speckle,destretch,register,align]"


def test_products_are_the_cpus(simulated, tmp_path, monkeypatch):
    assert reduce(simulated, tmp_path / "cpu", *OPTIONS) == 0
    monkeypatch.setattr("stillsun.core.backend._cupy_backend", lambda _number: device(memory=2**28))
    assert reduce(simulated, tmp_path / "gpu", "backend=cupy", *OPTIONS) == 0
    files = sorted((tmp_path / "cpu").rglob("*.h5"))
    assert files
    for file in files:
        other = tmp_path / "gpu" / file.relative_to(tmp_path / "cpu")
        for group in ("register", "align") if file.name == "registration.h5" else ("/",):
            with StoreReader(file, group) as one, StoreReader(other, group) as two:
                assert one.names() == two.names()
                for name in one.names():
                    expected, found = one.read(name), two.read(name)
                    if np.asarray(expected).dtype.kind != "f":
                        continue
                    finite = np.isfinite(expected)
                    np.testing.assert_array_equal(np.isfinite(found), finite)
                    scale = np.abs(expected[finite]).max(initial=0.0)
                    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-3, atol=1e-4 * scale)
