"""Every public message goes in over SMTP and comes out of POP3 byte for byte after our trace fields. [R5.1]"""
import os
import re
import socket

import pytest

import corpus
from kk import PASSWORD, Service

HERE = os.path.dirname(os.path.abspath(__file__))
LISTED = os.path.join(HERE, "corpus_refused.tsv")
# What we put in front, and nothing else: some messages begin with white space, which only looks like more of our Received field.
TRACE = re.compile(rb"Return-Path: <corpus@example.org>\r\nDelivered-To: alice@example.test\r\nReceived: from .*\r\n(\t.*\r\n)+")


class Raw:
    """SMTP over a raw socket: no client library tidies what is sent."""

    def __init__(self, port):
        self.port = port
        self.connect()

    def connect(self):
        self.s = socket.create_connection(("127.0.0.1", self.port), 30)
        self.f = self.s.makefile("rb")
        assert self.reply().startswith(b"220")
        self.command(b"EHLO corpus.example.org")

    def reply(self):
        while True:
            line = self.f.readline()
            if not line or line[3:4] == b" ":
                return line

    def command(self, line):
        self.s.sendall(line + b"\r\n")
        return self.reply()

    def send(self, data, chunked):
        """The final reply."""
        self.s.sendall(b"MAIL FROM:<corpus@example.org>\r\nRCPT TO:<alice@example.test>\r\n")
        first, second = self.reply(), self.reply()
        assert first.startswith(b"250") and second.startswith(b"250"), (first, second)
        if chunked:
            half = len(data) // 2
            self.s.sendall(b"BDAT %d\r\n" % half + data[:half] + b"BDAT %d LAST\r\n" % (len(data) - half) + data[half:])
            answer = self.reply()
            if answer.startswith(b"250"):
                answer = self.reply()
        else:
            assert self.command(b"DATA").startswith(b"354")
            stuffed = data.replace(b"\r\n.", b"\r\n..")
            if stuffed.startswith(b"."):
                stuffed = b"." + stuffed
            try:
                self.s.sendall(stuffed + b".\r\n")
                answer = self.reply()
            except OSError:
                answer = b""
        if not answer.startswith(b"250"):
            self.s.close()
            self.connect()
        return answer


@pytest.fixture(scope="module")
def service():
    with Service(conf="smtp { unlimited_from = {\"127.0.0.0/8\"} max_messages = 100000 max_errors = 1000 max_received = 1000 }\n") as kk:
        yield kk


def test_every_public_message_comes_back_byte_for_byte(service):
    sent, refused, wrong = [], {}, []
    raw = Raw(service.smtp)
    for number, (name, path) in enumerate(corpus.files()):
        with open(path, "rb") as f:
            data = corpus.as_sent(f.read())
        why = corpus.must_be_refused(data)
        answer = raw.send(data, chunked=number % 2 == 1)
        if answer.startswith(b"250"):
            if why:
                wrong.append("%s: accepted though it has %s" % (name, why))
            sent.append((name, data))
        else:
            refused[name] = why or answer.decode(errors="replace").strip()
            if not why:
                wrong.append("%s: refused: %r" % (name, answer))
    if not sent:
        pytest.skip("the shared data is not here")
    assert not wrong, "%d:\n%s" % (len(wrong), "\n".join(wrong[:20]))
    c = service.pop3_client("alice@example.test", PASSWORD, utf8=True)
    sizes = [int(line.split()[1]) for line in c.list()[1]]
    assert len(sizes) == len(sent)
    for i, (name, data) in enumerate(sent, 1):
        c._putcmd("RETR %d" % i)
        assert c.file.readline().startswith(b"+OK")
        out = []
        while True:
            line = c.file.readline()
            if line == b".\r\n":
                break
            out.append(line[1:] if line.startswith(b"..") else line)
        got = b"".join(out)
        assert len(got) == sizes[i - 1], name
        assert got.endswith(data) and TRACE.fullmatch(got[:len(got) - len(data)]), name
    c.quit()
    listed = dict(line.rstrip("\n").split("\t") for line in open(LISTED, encoding="utf-8")) if os.path.exists(LISTED) else {}
    if os.environ.get("KK_WRITE_LISTS"):
        with open(LISTED, "w", encoding="utf-8") as f:
            f.writelines("%s\t%s\n" % item for item in sorted(refused.items()))
        listed = refused
    assert refused == listed, "the list of refused messages has changed"
    print("%d kept and given back, %d refused" % (len(sent), len(refused)))
