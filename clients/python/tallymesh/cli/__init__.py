"""The command line, `tallymesh`."""


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    from tallymesh.cli.root import root

    root()
