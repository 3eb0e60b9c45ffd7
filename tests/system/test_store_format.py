"""docs/STORE.md is exact enough to write a reader from: this is one, and it shares no code with the program. It opens the keys, walks the
journal and puts the message together for each account. [T2.2.1.2]
"""
import hashlib
import hmac
import os
import shutil
import struct
import subprocess
import tempfile

import pytest

from kk import PROGRAM

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None

BUILD = os.path.dirname(os.path.abspath(PROGRAM))
TOP_KEY = b"\x07" + bytes(31)
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def id_text(raw):
    """26 characters of base 32: the 128 bits with two zero bits in front."""
    number = int.from_bytes(raw, "big")
    return "".join(CROCKFORD[number >> 5 * i & 31] for i in range(25, -1, -1))


def unwrap(key, wrapped, aad):
    return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], aad)


def unseal(key, domain, counter, sealed, aad=None):
    return AESGCM(key).decrypt(struct.pack("<IQ", domain, counter), sealed, aad)


class Fields:
    """The encoding of section 3."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n:self.at]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def bytes(self):
        return self.take(self.u32())

    def list(self, item):
        return [item() for _ in range(self.u32())]

    def end(self):
        assert self.at == len(self.data)


def read_format(path):
    raw = open(os.path.join(path, "store.kk"), "rb").read()
    assert len(raw) == 64 and raw[:8] == b"KKSTORE\0" and struct.unpack("<II", raw[8:16]) == (1, 0)
    assert struct.unpack("<I", raw[60:])[0] == crc32c(raw[:60])
    return raw[16:32]


def read_keys(path, store_id):
    raw = open(os.path.join(path, "keys.kk"), "rb").read()
    header, entries = raw[:512], raw[512:]
    assert header[:8] == b"KKKEYS\0\0" and struct.unpack("<II", header[8:16]) == (1, 0)
    assert struct.unpack("<I", header[508:])[0] == crc32c(header[:508])
    kek_id = header[16:32]
    assert header[32:48] == store_id
    n = struct.unpack("<I", header[48:52])[0]
    kek = unwrap(TOP_KEY, header[52:52 + n], b"store-kek:" + id_text(kek_id).encode())
    journal = unwrap(kek, header[308:368], kek_id + bytes(12))
    keys = {}
    assert len(entries) % 80 == 0
    for at in range(0, len(entries), 80):
        entry = entries[at:at + 80]
        assert struct.unpack("<I", entry[76:])[0] == crc32c(entry[:76])
        tenant, _, account = struct.unpack("<IIQ", entry[:16])
        keys[account] = unwrap(kek, entry[16:76], kek_id + struct.pack(">IQ", tenant, account))
    return journal, keys


def read_segment(path, store_id, journal_key):
    """(type, event, body, effects) of each record."""
    raw = open(path, "rb").read()
    assert raw[:8] == b"KKSEGMT\0" and struct.unpack("<II", raw[8:16]) == (1, 0)
    number, size, sequence, _, _ = struct.unpack("<QQQQq", raw[16:56])
    assert "%016x.kks" % number == os.path.basename(path) and size == len(raw)
    assert raw[56:72] == store_id and struct.unpack("<I", raw[124:128])[0] == crc32c(raw[:124])
    at = 128
    while raw[at:at + 4] == b"KKR1":
        header = raw[at:at + 96]
        kind, zero, seq, _, event, _, body_n, sealed_n = struct.unpack("<HHQQQqQI", header[4:52])
        salt, body_id = header[52:68], header[68:84]
        assert zero == 0 and seq == sequence and struct.unpack("<I", header[92:])[0] == crc32c(header[:92])
        sealed_size = sealed_n + 16 if sealed_n else 0
        padded = (body_n + sealed_size + 7) // 8 * 8
        payload = raw[at + 96:at + 96 + padded]
        assert raw[at + 96 + padded:at + 112 + padded] == b"KKRE" + struct.pack("<IQ", crc32c(payload), seq)
        body, sealed = payload[:body_n], payload[body_n:body_n + sealed_size]
        key = hmac.new(journal_key, b"kakitome record 1" + salt, hashlib.sha256).digest()
        yield kind, event, body_id, body, unseal(key, 4, 0, sealed, struct.pack("<H", kind) + body_id + struct.pack("<Q", body_n))
        sequence += 1
        at += 112 + padded
    assert not any(raw[at:])


def read_body(section, key, body_size):
    out, at, frame, last = b"", 0, 0, False
    while not last:
        header = section[at:at + 12]
        codec, flags, _, plain_n, stored_n = struct.unpack("<BBHII", header)
        piece = unseal(key, 1, frame, section[at + 12:at + 28 + stored_n], header)
        if codec == 1:
            piece = subprocess.run(["zstd", "-dcq"], input=piece, stdout=subprocess.PIPE, check=True).stdout
        assert len(piece) == plain_n
        out, at, frame, last = out + piece, at + 28 + stored_n, frame + 1, flags == 1
    assert at == len(section) and len(out) == body_size
    return out


def parse_accept(effects):
    f = Fields(effects)
    f.take(16)
    received, sender, body_size, common_size, meta = f.u64(), f.bytes(), f.u64(), f.u64(), f.bytes()

    def place():
        names = ("tenant", "account", "mailbox", "flags", "size", "internal_ms", "save_ms", "lane")
        p = {name: f.u64() for name in names}
        p.update(key=f.bytes(), prefix=f.bytes(), keywords=f.list(f.bytes))
        return p
    places = f.list(place)
    statuses, event = f.bytes(), f.bytes()
    f.end()
    return received, sender, body_size, common_size, meta, places, statuses, event


@pytest.mark.skipif(AESGCM is None or shutil.which("zstd") is None, reason="needs python3-cryptography and zstd")
def test_reader_from_the_document():
    subprocess.run(["ninja", "-C", BUILD, "store-sample"], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "store")
        digest = subprocess.run([os.path.join(BUILD, "store-sample"), path], check=True, stdout=subprocess.PIPE).stdout.decode().strip()
        store_id = read_format(path)
        journal_key, keys = read_keys(path, store_id)
        assert sorted(keys) == [1, 2]
        records = list(read_segment(os.path.join(path, "seg", "0000000000000001.kks"), store_id, journal_key))
    assert [r[0] for r in records] == [7, 7, 2, 4]
    _, event_number, body_id, section, effects = records[2]
    received, sender, body_size, common_size, meta, places, statuses, event = parse_accept(effects)
    assert (event_number, event, sender, received) == (1, b"received", b"sender@example.org", 1234567890123)
    assert statuses == bytes(8) and [p["account"] for p in places] == [1, 2]
    for place, own in zip(places, (b"P1\r\n", b"P2\r\n")):
        aad = struct.pack(">IQ", place["tenant"], place["account"]) + body_id
        body_key = unwrap(keys[place["account"]], place["key"], aad)
        lines = unseal(body_key, 2, 0, meta)
        assert unseal(body_key, 3, place["lane"], place["prefix"]) == own
        assert (lines[:common_size], lines[common_size:]) == (b"C\r\n", b"meta")
        body = read_body(section, body_key, body_size)
        assert hashlib.sha256(body).hexdigest() == digest
        assert place["size"] == len(own) + common_size + body_size
    flags = Fields(records[3][4])
    assert (flags.u64(), flags.u64(), flags.u64(), flags.bytes()) == (0, 1, 1, struct.pack("<II", 1, 1))
