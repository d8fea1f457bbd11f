"""Makes `lambent/v1` and `lambent/internal/v1` from `protos/`. Run by `make protos`; a test runs it and compares.

Generated files are committed: a clone runs and type-checks without a build step, and a change on the wire shows in
review. The proto path equals the package path, so imports need no rewriting.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PROGRAMS = Path(sys.executable).parent
PACKAGES = {
    "lambent/v1": '"""The public API, generated from `protos/lambent/v1` by `make protos`. Never edited."""\n',
    "lambent/internal/v1": '"""What our processes say to each other, generated from `protos/`. Never edited."""\n',
}


def generate(target: Path) -> None:
    """Write every package below `target`. Raises SystemExit when protoc refuses a file."""
    for package, docstring in PACKAGES.items():
        sources = sorted(str(path) for path in (PROTOS / package).glob("*.proto"))
        arguments = [
            "protoc",
            f"-I{PROTOS}",
            f"-I{Path(protoc.__file__).parent / '_proto'}",
            # The plugins are beside this interpreter, which need not be on PATH.
            f"--plugin=protoc-gen-mypy={PROGRAMS / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={PROGRAMS / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            *sources,
        ]
        (target / package).mkdir(parents=True, exist_ok=True)
        if protoc.main(arguments) != 0:
            raise SystemExit(f"protoc refused {package}")
        (target / package / "__init__.py").write_text(docstring)
        for path in (target / package).glob("*_pb2_grpc.py"):
            # Files of messages alone get an empty service module; it would only be noise.
            if "Stub" not in path.read_text():
                path.unlink()
                path.with_suffix(".pyi").unlink(missing_ok=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
