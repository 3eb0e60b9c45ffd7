#!/usr/bin/env python3
"""Compares the MIME parser with Python's email package and npm mailparser over every public message of the shared data.

    mime_diff.py --program build/mime-dump [--list FILE]

Part tree, types, character sets, decoded bodies (size and digest), Subject, From, To and Message-ID. Every difference must be a
row of mime_differences.tsv (file, aspect, who is right, reason); one that is not listed fails, and so does a listed one that is
gone. Without mailparser (npm, see package.json) only Python's parser is compared. --list writes the rows of all differences as
they are now, with the reasons that are listed already.
"""
import argparse
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tarfile
import unicodedata
from email import message_from_bytes
from email.header import decode_header
from email.utils import getaddresses

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SHARED = os.environ.get("KK_SHARED", os.path.join(ROOT, "..", "shared"))
LISTED = os.path.join(HERE, "mime_differences.tsv")
NODE_MODULES = os.environ.get("KK_NODE_MODULES", os.path.join(HERE, "node_modules"))
FOLDERS = ["mime", "bounces-sisimai", "dkim", "spam-ham-en"]
NOT_MESSAGES = {"SOURCE", "LICENSE", "LICENSE.txt", "README.md"}


# ---- messages ----

def files():
    """(name, bytes) in a fixed order."""
    base = os.path.join(SHARED, "data")
    for folder in FOLDERS:
        for root, dirs, names in os.walk(os.path.join(base, folder)):
            dirs.sort()
            for name in sorted(names):
                path = os.path.join(root, name)
                relative = os.path.relpath(path, base)
                if name.endswith(".tar.xz"):
                    with tarfile.open(path) as tar:
                        for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                            yield os.path.dirname(relative) + "/" + member.name, tar.extractfile(member).read()
                elif name not in NOT_MESSAGES:
                    with open(path, "rb") as f:
                        yield relative, f.read()


def as_sent(data):
    """LF files get CRLF, as any program that sends a local file does."""
    return data if b"\r\n" in data else data.replace(b"\n", b"\r\n")


def comes_in(data):
    """SMTP refuses NUL, bare CR and bare LF, so there is nothing to compare."""
    rest = data.replace(b"\r\n", b"")
    return not (b"\0" in rest or b"\r" in rest or b"\n" in rest)


def framed(messages):
    return b"".join(struct.pack("<I", len(data)) + data for _, data in messages)


def run(command, messages):
    out = subprocess.run(command, input=framed(messages), stdout=subprocess.PIPE, check=True).stdout
    lines = out.decode("utf-8").split("\n")[:-1]
    if len(lines) != len(messages):
        sys.exit("%s: %d answers to %d messages" % (command[0], len(lines), len(messages)))
    return [json.loads(line) for line in lines]


# ---- one form for all three ----

# Characters that two tables map differently and nobody can tell apart (JIS X 0208 as JIS or as Microsoft has it).
SAME = str.maketrans({"\u301c": "\uff5e", "\u2016": "\u2225", "\u2212": "\uff0d", "\u00a5": "\\", "\u203e": "~", "\u2014": "\u2015",
                      "\u00a2": "\uffe0", "\u00a3": "\uffe1", "\u00ac": "\uffe2"})


def plain(text):
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zs") else c for c in text)
    return re.sub(r"\s+", " ", text.translate(SAME)).strip()


def python_text(value):
    """RFC 2047 by Python, bytes outside of ASCII as what they are: UTF-8, else unknown."""
    if value is None:
        return ""
    raw = str(value) if not isinstance(value, str) else value
    raw = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    raw = re.sub(r"\r?\n", "", raw)
    out = []
    for text, charset in decode_header(raw):
        if isinstance(text, str):
            out.append(text)
            continue
        try:
            out.append(text.decode(charset or "latin-1", "replace"))
        except LookupError:
            out.append(text.decode("ascii", "replace"))
    return plain("".join(out))


def raw_header(message, name):
    """The first field of that name, surrogates for bytes (compat32 hides them in a Header)."""
    for key, value in message._headers:
        if key.lower() == name:
            return value
    return None


def lenient_getaddresses(values):
    """Newer releases (and Debian's) return nothing at all for a list with an error in it, unless told otherwise."""
    try:
        return getaddresses(values, strict=False)
    except TypeError:
        return getaddresses(values)


def python_addresses(message, name, repeats):
    values = [v for k, v in message._headers if k.lower() == name]
    values = values if repeats else values[:1]
    values = [re.sub(r"\r?\n", "", v.encode("utf-8", "surrogateescape").decode("utf-8", "replace")) for v in values]
    try:
        return [[python_text(n), a] for n, a in lenient_getaddresses(values) if n or a]
    except RecursionError:  # comments in comments
        return [["", "RecursionError"]]


def python_leaf(part):
    encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
    payload = part.get_payload(decode=True)
    if payload is None:
        payload = b""
    return {"charset": (part.get_content_charset("") or "").lower(), "size": len(payload), "encoding": encoding,
            "sha256": hashlib.sha256(payload).hexdigest()}


def python_tree(message, depth, tree, leaves):
    kind = message.get_content_type()
    tree.append([depth, kind])
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.get_payload():
            python_tree(part, depth + 1, tree, leaves)
    elif kind in ("message/rfc822", "message/global") and message.is_multipart():
        python_tree(message.get_payload(0), depth + 1, tree, leaves)
    elif message.get_content_maintype() != "multipart":  # one without parts has nothing to compare
        # Python parses every message/* as messages; their bytes are gone then.
        leaves.append(None if message.get_content_maintype() == "message" else python_leaf(message))


def python_parse(data):
    m = message_from_bytes(data)
    tree, leaves = [], []
    python_tree(m, 0, tree, leaves)
    return {"tree": tree, "leaves": leaves, "subject": python_text(raw_header(m, "subject")),
            "message_id": plain(raw_header(m, "message-id") or ""), "from": python_addresses(m, "from", False),
            "to": python_addresses(m, "to", True)}


def our_addresses(items):
    out = []
    for a in items:
        if a["kind"] == "mailbox":
            out.append([plain(a["name"]), a["local"] + ("@" + a["domain"] if a["domain"] else "")])
    return out


def our_parse(j):
    leaves = [{"charset": p["charset"].lower(), "size": p["decoded"], "sha256": p["sha256"], "encoding": p["encoding"],
               "type": (p["type"] + "/" + p["subtype"]).lower()} for p in j["parts"]
              if p["kind"] == "leaf" and p["type"].lower() != "multipart"]
    return {"tree": [[p["depth"], (p["type"] + "/" + p["subtype"]).lower()] for p in j["parts"]], "leaves": leaves,
            "subject": plain(j["subject"]), "message_id": plain(j["message_id"]), "from": our_addresses(j["from"]),
            "to": our_addresses(j["to"])}


# ---- comparing ----

def no_quotes(address):
    return address.replace('"', "").replace("\\", "").replace(" ", "").lower()


def addresses_form(items):
    return [[plain(n), no_quotes(a)] for n, a in items]


def compare_common(ours, theirs, them):
    for aspect in ("subject", "message_id"):
        if plain(ours[aspect]) != plain(theirs[aspect]):
            yield them + ":" + aspect, ours[aspect], theirs[aspect]
    for aspect in ("from", "to"):
        a, b = addresses_form(ours[aspect]), addresses_form(theirs[aspect])
        if a != b:
            yield them + ":" + aspect, a, b


def compare_python(ours, theirs):
    yield from compare_common(ours, theirs, "python")
    if ours["tree"] != theirs["tree"]:
        yield "python:tree", ours["tree"], theirs["tree"]
        return
    for aspect in ("charset", "sha256"):
        a = [p[aspect] for p, q in zip(ours["leaves"], theirs["leaves"]) if q is not None]
        b = [q[aspect] for q in theirs["leaves"] if q is not None]
        if a != b:
            at = [x != y for x, y in zip(a, b)].index(True)
            pick = lambda l: (l[at]["encoding"], l[at]["charset"], l[at]["size"])  # noqa: E731
            pair = [(p, q) for p, q in zip(ours["leaves"], theirs["leaves"]) if q is not None]
            yield "python:" + ("body" if aspect == "sha256" else aspect), pick([p for p, _ in pair]), pick([q for _, q in pair])


def compare_mailparser(ours, theirs):
    """mailparser joins texts; its attachments are leaves as they are."""
    if "error" in theirs:
        yield "mailparser:error", "", theirs["error"]
        return
    yield from compare_common(ours, theirs, "mailparser")
    bodies = {p["sha256"] for p in ours["leaves"]}
    missing = [[a["type"], a["size"]] for a in theirs["attachments"] if not a["type"].startswith("message/") and a["sha256"] not in bodies]
    if missing:
        yield "mailparser:attachment", [[p["type"], p["size"]] for p in ours["leaves"]], missing


def differences(messages, program):
    """(file, aspect, ours, theirs), and the names of the parsers compared with."""
    ours = [our_parse(j) for j in run([program, "-"], messages)]
    for (name, data), one in zip(messages, ours):
        for aspect, a, b in compare_python(one, python_parse(data)):
            yield name, aspect, a, b
    if not has_mailparser():
        return
    theirs = run(["node", os.path.join(HERE, "mailparser_dump.js")], messages)
    for (name, _), one, other in zip(messages, ours, theirs):
        for aspect, a, b in compare_mailparser(one, other):
            yield name, aspect, a, b


def has_mailparser():
    from shutil import which
    return which("node") is not None and os.path.isdir(os.path.join(NODE_MODULES, "mailparser"))


# ---- the list ----

def read_listed():
    rows = {}
    if not os.path.exists(LISTED):
        return rows
    with open(LISTED, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                file, aspect, right, reason = line.rstrip("\n").split("\t")
                rows[file, aspect] = (right, reason)
    return rows


def write_list(path, found, listed):
    with open(path, "w", encoding="utf-8") as f:
        f.write("# file\taspect\twho is right\treason\n")
        for (file, aspect), (a, b) in sorted(found.items()):
            right, reason = listed.get((file, aspect), ("?", "ours %s, theirs %s" % (json.dumps(a), json.dumps(b))))
            f.write("\t".join([file, aspect, right, reason.replace("\t", " ")]) + "\n")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--program", default=os.environ.get("KK_MIME_DUMP", os.path.join(ROOT, "build", "mime-dump")))
    options.add_argument("--list", metavar="FILE")
    options = options.parse_args()
    if not os.path.isdir(os.path.join(SHARED, "data", "mime")):
        print("skipped: no shared data")
        return 0
    every = [(name, as_sent(data)) for name, data in files()]
    messages = [(name, data) for name, data in every if comes_in(data)]
    if len(run([options.program, "-"], every)) != len(every):  # even what SMTP refuses has a structure
        return 1
    listed = read_listed()
    found = {(file, aspect): (a, b) for file, aspect, a, b in differences(messages, options.program)}
    if options.list:
        write_list(options.list, found, listed)
    if not has_mailparser():
        print("skipped: mailparser is not installed")
        listed = {k: v for k, v in listed.items() if not k[1].startswith("mailparser:")}
    new = sorted(k for k in found if k not in listed)
    gone = sorted(k for k in listed if k not in found)
    for file, aspect in new:
        print("FAIL %s\t%s: ours %.300s, theirs %.300s" % (file, aspect, found[file, aspect][0], found[file, aspect][1]))
    for file, aspect in gone:
        print("FAIL %s\t%s: listed, but there is no difference" % (file, aspect))
    failed = len({f for f, _ in new + gone})
    print("%d messages compared, %d more only parsed, %d differences explained" % (len(messages), len(every) - len(messages), len(listed) - len(gone)))
    print("%d passed, %d failed" % (len(messages) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
