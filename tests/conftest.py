"""What holds for every test."""

from __future__ import annotations

import os
import signal

# A shell that starts a job in the background has it ignore Ctrl-C, and so would every process that a test
# starts and interrupts; a handler of our own is put back to the default in children, an ignored signal isn't.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tables are as wide as they are, unless a test sets a width. The C library's environment may have readline's.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")
