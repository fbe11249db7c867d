"""Where accounts, flows and drops are kept."""
