"""The entry of the command ``flowkit`` and of ``python -m flowkit``."""

from __future__ import annotations

import sys

__all__ = ["main"]

NEEDED = frozenset({"apsw", "click", "orjson", "re2", "tqdm"})
"""Modules of the extra ``server`` without which a command cannot run."""


def main() -> None:
    """Run the command line; without the extra ``server`` say how to get it, with exit code 1."""
    try:
        from flowkit.cli import cli

        cli(prog_name="flowkit")
    except KeyboardInterrupt:  # while the modules were being loaded
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.stderr.write(
            f"flowkit: this command needs the module {error.name}, which is not installed.\n"
            "Install it with: pip install 'flowkit[server]'\n"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
