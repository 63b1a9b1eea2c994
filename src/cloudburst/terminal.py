"""Text that jobs, files and servers wrote, made harmless for a terminal: the one function of that medium."""

from __future__ import annotations

import re

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, among them what begins escape sequences; not \t and \n
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of what stands around them
    "\u2028\u2029\ud800-\udfff]"  # end a line in some programs; are no characters
)


def harmless(text: str) -> str:
    """``text`` without anything that a terminal obeys: such characters are shown as ``\\x1b``."""
    return _HARMFUL.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return "\n" if match[0] == "\r" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
