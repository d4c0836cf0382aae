"""The GPU branch of the open reconstruction: its kernels for each architecture, and run without a device."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import stillsun.speckle.masking

SOURCE = Path(stillsun.speckle.masking.__file__).with_name("kernels.cu")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile(architecture):
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="extra gpu-check: cuda-bindings, NVRTC")
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC not found: {error}")
    code = SOURCE.read_bytes()
    made, program = nvrtc.nvrtcCreateProgram(code, b"kernels.cu", 0, [], [])
    assert made == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [b"-std=c++17", f"--gpu-architecture={architecture}".encode()]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, length = nvrtc.nvrtcGetProgramLogSize(program)
    text = b" " * length
    nvrtc.nvrtcGetProgramLog(program, text)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, text.decode()
    assert not text.strip(b" \0\n"), text.decode()
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = b" " * size
    nvrtc.nvrtcGetCUBIN(program, cubin)
    for name in re.findall(r"__global__ void (\w+)\(", code.decode()):
        assert b".text." + name.encode() in cubin
    nvrtc.nvrtcDestroyProgram(program)
