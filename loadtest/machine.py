"""What a measurement ran on: without it a figure means nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("sentinelstream", "ray", "xgboost-cpu", "scikit-learn", "onnxruntime", "numpy")


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, Python and the versions of the libraries that matter for speed."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
