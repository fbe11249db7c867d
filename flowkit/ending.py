"""How a command of the command line ends: 0, or one sentence on stderr and a code that says whose
fault it was.

Code 2 is a wrong call or setting, 1 what went wrong after that, 130 a stop by Ctrl-C. A traceback
is a defect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from flowkit.errors import FlowKitError, UsageError

__all__ = ["fail", "one_sentence"]


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what can go wrong into one sentence on stderr and an exit code."""
    try:
        yield
    except UsageError as error:
        fail(str(error), code=2)
    except FlowKitError as error:
        fail(str(error), code=1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(str(error), code=1)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(sentence: str, *, code: int) -> NoReturn:
    """End with that sentence and code."""
    click.echo(f"flowkit: {sentence}", err=True)
    sys.exit(code)
