"""The gate and the README are about the same commands."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_gate_runs_what_the_readme_says():
    """The optional packages and the test command stand in both, word for word."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    indented = [line.strip() for line in readme if line.startswith("    ")]
    commands = [line for line in indented if "apt-get install" in line or line.endswith("/tox")]

    assert len(commands) == 2
    assert [command for command in commands if command not in gate] == []
