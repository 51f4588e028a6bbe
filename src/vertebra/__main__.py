"""The command `vertebra`, and `python -m vertebra`.

Before anything else is imported, an interrupt is set to end the process: during an import, Python would print
a traceback. `vertebra.cli.main` handles signals before there is anything to clean up.
"""

import _signal  # type: ignore[import-not-found]  # signal itself takes milliseconds to import


def main() -> None:
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # and not ignored
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from vertebra.cli import main as command

    command()


if __name__ == "__main__":
    main()
