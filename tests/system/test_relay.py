"""Open-relay probes of every known form are refused at RCPT, whatever network asks, and recorded. [R5.1 R6.1 T2.3.3.1(1)(a)]"""
import socket

import pytest

from kk import wait_for

SHAPES = [
    "<victim@example.com>",
    "<victim%example.com@example.test>",
    "<victim%example.com>",
    "<victim%example.com@[127.0.0.1]>",
    "<victim@example.com@example.test>",
    "<example.com!victim>",
    "<example.com!victim@example.test>",
    "<victim@example.com@[127.0.0.1]>",
    "<@example.test:victim@example.com>",
    "<@example.test,@mail.example.test:victim@example.com>",
    "<\"victim@example.com\">",
    "<\"victim@example.com\"@example.test>",
    "<\"victim%example.com\"@example.test>",
    "<victim@[127.0.0.1]>",
    "<alice@[127.0.0.1]>",
    "<victim@[IPv6:::1]>",
    "<victim@example.com.>",
    "<victim@EXAMPLE.COM>",
    "<victim@localhost>",
    "<victim@mail.example.test.example.com>",
    "<victim@example.test.>",
    "<victim@.example.test>",
    "<victim@sub.example.test>",
    "<victim@xexample.test>",
    "<victim>",
    "victim@example.com",
    "<victim@example.com> NOTIFY=NEVER",
    "<victim@example.com\x00@example.test>",
    "<victim@example.com\t@example.test>",
    "<victim(comment)@example.com>",
]
SENDERS = ["<spam@example.org>", "<>", "<alice@example.test>", "<spam@[127.0.0.1]>", "<@example.test:spam@example.org>"]


class Line:
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port), 20)
        self.f = self.s.makefile("rb")
        self.reply()

    def reply(self):
        while True:
            line = self.f.readline()
            if not line or line[3:4] == b" ":
                return line

    def __call__(self, text):
        self.s.sendall(text.encode() + b"\r\n")
        return self.reply()


@pytest.mark.parametrize("sender", SENDERS)
def test_no_shape_is_a_way_round(shared_kk, sender):
    for shape in SHAPES:
        c = Line(shared_kk.smtp)
        assert c("EHLO probe.example.org").startswith(b"250")
        if not c("MAIL FROM:" + sender).startswith(b"250"):
            continue
        answer = c("RCPT TO:" + shape)
        assert answer[:1] == b"5", "%r from %s: %r" % (shape, sender, answer)
        assert not c("DATA").startswith(b"354")
        c.s.close()


def test_refusals_are_recorded_with_who_and_what(shared_kk):
    c = Line(shared_kk.smtp)
    c("EHLO recorder.example.org")
    c("MAIL FROM:<thief@example.org>")
    assert c("RCPT TO:<victim@elsewhere.example>").startswith(b"550 5.7.1")
    c("QUIT")

    def found():
        return [e for e in shared_kk.trail("event=smtp.relay_denied") if e["recipient"] == "victim@elsewhere.example"]
    events = wait_for(found, 10, "the record")
    assert len(events) == 1
    assert events[0]["peer"] == "127.0.0.1" and events[0]["sender"] == "thief@example.org" and events[0]["helo"] == "recorder.example.org"


def test_what_is_ours_is_accepted_in_its_forms(shared_kk):
    c = Line(shared_kk.smtp)
    c("EHLO friend.example.org")
    c("MAIL FROM:<>")
    for shape in ["<alice@example.test>", "<ALICE@Example.TEST>", "<alice+detail@example.test>", "<\"alice\"@example.test>",
                  "<postmaster>", "<Postmaster@example.test>", "<abuse@example.test>"]:
        assert c("RCPT TO:" + shape).startswith(b"250"), shape
    assert c("RCPT TO:<nobody@example.test>").startswith(b"550 5.1.1")


def test_nobody_can_harvest_addresses_by_commands(shared_kk):
    """VRFY and EXPN tell nothing, ETRN does nothing. [R5.1]"""
    c = Line(shared_kk.smtp)
    c("EHLO curious.example.org")
    answers = {c("VRFY " + name) for name in ("alice", "nobody", "alice@example.test", "root")}
    assert len(answers) == 1 and answers.pop().startswith(b"252")
    answers = {c("EXPN " + name) for name in ("alice", "staff")}
    assert len(answers) == 1 and answers.pop().startswith(b"252")
    assert c("ETRN example.test").startswith(b"502")
