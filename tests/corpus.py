"""The public messages of the shared data: every file that may be a message, as it would be sent."""
import os

from kk import SHARED

FOLDERS = ["mime", "bounces-sisimai", "spam-ham-en", "dkim", "arc-valimail", "dmarc-reports"]
NOT_MESSAGES = {"SOURCE", "LICENSE", "LICENSE.txt", "README.md", "README", "COPYING"}


def files():
    """(name, path) in a fixed order; empty when the data is not here."""
    base = os.path.join(SHARED, "data")
    for folder in FOLDERS:
        for root, dirs, names in os.walk(os.path.join(base, folder)):
            dirs.sort()
            for name in sorted(names):
                if name not in NOT_MESSAGES:
                    path = os.path.join(root, name)
                    yield os.path.relpath(path, base), path


def as_sent(data):
    """LF files get CRLF, as any program that sends a local file does; files that have CRLF are sent as they are."""
    if b"\r\n" not in data:
        data = data.replace(b"\n", b"\r\n")
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    return data


def must_be_refused(data):
    """Why a message must be refused, or None."""
    if b"\0" in data:
        return "NUL"
    rest = data.replace(b"\r\n", b"")
    if b"\r" in rest:
        return "bare CR"
    if b"\n" in rest:
        return "bare LF"
    return None
