"""Answers: the platform."""

from importlib import import_module

for _name in ("apsw", "orjson"):
    try:
        import_module(_name)
    except ModuleNotFoundError as _error:
        raise ModuleNotFoundError(
            f"the platform needs the module {_error.name}, which is not installed; "
            "install it with: pip install 'flowkit[server]'",
            name=_error.name,
        ) from None
