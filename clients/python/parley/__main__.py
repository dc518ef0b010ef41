"""`python -m parley`: the command line."""

from __future__ import annotations

import sys


def main() -> int:
    """What the entry point runs; its exit status."""
    try:
        from parley.cli.main import run  # noqa: PLC0415  an extra, which may be missing
    except ModuleNotFoundError as exc:
        sys.stderr.write(f"parley: {exc.name} is missing: pip install 'parley[cli]'\n")
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
