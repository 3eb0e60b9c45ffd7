"""There is one end of a message: CRLF . CRLF. Everything else is refused, and nothing behind it is taken for a command."""
import pytest

from kk import wait_for
from test_relay import Line

ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r\n.\r\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n",
        b"\r\r\n.\r\r\n", b"\r\n\r.\r\n", b"\n\n.\n\n"]
SMUGGLED = b"MAIL FROM:<smuggler@example.org>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled body\r\n.\r\n"


@pytest.mark.parametrize("end", ENDS, ids=[repr(e) for e in ENDS])
def test_no_other_end_of_data(shared_kk, end):
    before = len(shared_kk.fetch())
    c = Line(shared_kk.smtp)
    c("EHLO smuggler.example.org")
    c("MAIL FROM:<smuggler@example.org>")
    c("RCPT TO:<alice@example.test>")
    assert c("DATA").startswith(b"354")
    c.s.sendall(b"Subject: outer\r\n\r\nouter" + end + SMUGGLED + b"\r\n.\r\n")
    answer = c.reply()
    assert not answer.startswith(b"250"), answer
    c.s.close()
    after = shared_kk.fetch()
    assert len(after) == before, "something was smuggled in by %r" % end


def test_input_behind_starttls_closes_the_connection(shared_kk):
    c = Line(shared_kk.smtp)
    c("EHLO injector.example.org")
    c.s.sendall(b"STARTTLS\r\nMAIL FROM:<injected@example.org>\r\n")
    answers = c.f.read()
    assert b"220" not in answers.split(b"\r\n")[0]
    assert b"250 2.1.0" not in answers
    wait_for(lambda: shared_kk.trail("event=smtp.abuse"), 5, "a record of the injection")


def test_input_behind_stls_closes_the_connection(shared_kk):
    import socket
    s = socket.create_connection(("127.0.0.1", shared_kk.pop3), 10)
    f = s.makefile("rb")
    f.readline()
    s.sendall(b"STLS\r\nUSER alice@example.test\r\n")
    rest = f.read()
    assert b"USER" not in rest and rest.count(b"+OK") == 0
