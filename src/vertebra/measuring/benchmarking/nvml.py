"""NVIDIA's cards as their driver sees them, through the package nvidia-ml-py.

CUDA's card numbers differ from the driver's: CUDA counts the fastest first unless CUDA_DEVICE_ORDER says
PCI_BUS_ID, and only those that CUDA_VISIBLE_DEVICES names, by number or by (the beginning of) a UUID.
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def ask(question: Callable[[Any], T]) -> T | None:
    """The result of `question`, called with the opened library; None without package or driver, or if the
    driver refuses."""
    try:
        library: Any = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception:  # Not installed, no driver, no permission: each is pynvml's own kind of exception.
        return None
    try:
        return question(library)
    except library.NVMLError:
        return None
    finally:
        library.nvmlShutdown()


def ask_card(device: str, question: Callable[[Any, Any], T]) -> T | None:
    """The result of `question`, called with the library and CUDA's `device`, such as "cuda:1"; None as in
    `ask`, and if it is unclear which card that is: None is better than another card's figure."""

    def of_card(library: Any) -> T | None:
        card = _card(library, device)
        return None if card is None else question(library, card)

    return ask(of_card)


def _card(library: Any, device: str) -> Any | None:
    kind, _, number = device.partition(":")
    cards = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(len(cards))] if visible is None else visible.split(",")
    place = int(number) if number.isdecimal() else 0
    if kind != "cuda" or place >= len(names):
        return None
    name = names[place].strip()
    if name.startswith("MIG-"):
        return library.nvmlDeviceGetHandleByUUID(name)
    if name.startswith("GPU-"):
        found = [card for card in cards if library.nvmlDeviceGetUUID(card).startswith(name)]
        return found[0] if len(found) == 1 else None
    is_counted_alike = len(cards) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not is_counted_alike or not name.isdecimal() or int(name) >= len(cards):
        return None
    return cards[int(name)]
