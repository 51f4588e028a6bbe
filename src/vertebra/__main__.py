"""The command `vertebra`, and `python -m vertebra`.

Nothing else is imported before an interrupt simply ends the process: inside an import it would be printed as
a traceback. `vertebra.cli.main` takes over before there is anything to tidy up.
"""

import _signal  # type: ignore[import-not-found]  # signal itself takes milliseconds to import


def main() -> None:
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # and not ignored
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from vertebra.cli import main as command

    command()


if __name__ == "__main__":
    main()
