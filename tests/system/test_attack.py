"""Attacks on the whole service that a unit test cannot show: what a stranger takes hold of must be free again when he is gone."""
import random
import socket
import struct
import threading
import time

from kk import Service, wait_for

ENVELOPE = b"EHLO client.example.org\r\nMAIL FROM:<s@example.org> SIZE=%d\r\nRCPT TO:<%s>\r\n"


class Dialogue:
    """Commands one after the other, each with its whole answer."""

    def __init__(self, port, source="127.0.0.1"):
        self.s = socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))
        self.file = self.s.makefile("rb")
        self.answer()

    def answer(self):
        while True:
            line = self.file.readline()
            if line[3:4] != b"-":
                return line

    def say(self, line):
        self.s.sendall(line + b"\r\n")
        return self.answer()

    def begin(self, recipient, size):
        self.say(b"EHLO client.example.org")
        self.say(b"MAIL FROM:<s@example.org> SIZE=%d" % size)
        return self.say(b"RCPT TO:<%s>" % recipient)

    def close(self):
        self.file.close()
        self.s.close()


def room(kk, recipient, size):
    d = Dialogue(kk.smtp)
    try:
        return d.begin(recipient, size)
    finally:
        d.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_a_refused_list_keeps_no_room_of_its_other_members(kk):
    kk.ctl("account", "quota", "alice@example.test", "1M")
    kk.ctl("account", "quota", "bob@example.test", "1K")
    kk.ctl("alias", "add", "list@example.test", "alice@example.test")
    kk.ctl("alias", "add", "list@example.test", "bob@example.test")
    for _ in range(5):
        assert room(kk, b"list@example.test", 600000)[:3] == b"552"  # too big for bob, ever
    wait_for(lambda: room(kk, b"alice@example.test", 1000000).startswith(b"250"), 3, "alice's room")


def test_aborted_transactions_leave_the_whole_quota_free(kk):
    kk.ctl("account", "quota", "bob@example.test", "1M")
    for i in range(60):
        s = socket.create_connection(("127.0.0.1", kk.smtp), 30)
        s.sendall(ENVELOPE % (400000, b"bob@example.test") + (b"DATA\r\nSubject: x", b"BDAT 9\r\nSub", b"RSET\r\n")[i % 3])
        if i % 2:
            time.sleep(0.01)
        if i % 4 < 2:
            reset(s)
        else:
            s.close()
    wait_for(lambda: room(kk, b"bob@example.test", 1000000).startswith(b"250"), 5, "bob's room")


def test_announcing_much_mail_keeps_nobody_else_out():
    with Service(conf="smtp { max_in_flight = 128M }\n") as kk:
        greedy = []
        for _ in range(20):
            d = Dialogue(kk.smtp)
            assert d.begin(b"alice@example.test", 50000000).startswith(b"250")
            assert d.say(b"DATA")[:3] in (b"354", b"452")
            greedy.append(d)
        kk.send(["bob@example.test"], b"Subject: honest\r\n\r\nbody\r\n")
        assert len(kk.fetch("bob@example.test")) == 1
        for d in greedy:
            d.close()


def test_one_client_cannot_fill_the_memory_for_messages():
    with Service(conf="smtp { max_in_flight = 64M\n max_message_size = 15M }\n") as kk:
        piece = (b"x" * 70 + b"\r\n") * 14000  # 1 MB
        greedy = []
        refused = b""
        for _ in range(6):
            d = Dialogue(kk.smtp)
            assert d.begin(b"alice@example.test", 0).startswith(b"250")
            greedy.append(d)
            refused = d.say(b"DATA")
            if not refused.startswith(b"354"):
                break
            for _ in range(14):
                d.s.sendall(piece)
        assert refused.startswith(b"452")
        other = Dialogue(kk.smtp, "127.0.0.2")
        assert other.begin(b"bob@example.test", 14000000).startswith(b"250")
        assert other.say(b"DATA").startswith(b"354")
        for _ in range(14):
            other.s.sendall(piece)
        assert other.say(b".").startswith(b"250")
        assert greedy[0].say(b".").startswith(b"250")
        for d in greedy:
            d.close()
        other.close()


def test_announcing_much_mail_does_not_fill_a_mailbox(kk):
    kk.ctl("account", "quota", "bob@example.test", "1M")
    greedy = []
    for size in (1000000, 500000, 40000, 5000, 500, 50, 5, 1):  # all that there is
        d = Dialogue(kk.smtp)
        d.begin(b"bob@example.test", size)
        greedy.append(d)
    kk.send(["bob@example.test"], b"Subject: honest\r\n\r\nbody\r\n")
    assert len(kk.fetch("bob@example.test")) == 1
    for d in greedy:
        d.close()


def guess(port, source, until):
    while time.monotonic() < until:
        s = socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))
        f = s.makefile("rb")
        f.readline()
        for _ in range(3):
            s.sendall(b"USER u%d\r\nPASS x\r\n" % random.randrange(10**9))
            f.readline()
            f.readline()
        f.close()
        s.close()


def test_many_guessing_networks_do_not_spin_at_the_queue_for_password_checks():
    """More attempts at once than may wait: who is put off waits before the next, or nobody else would ever find a place."""
    with Service(tls_only=False) as kk:
        until = time.monotonic() + 4
        threads = [threading.Thread(target=guess, args=(kk.pop3, "127.0.0.%d" % (2 + i % 12), until)) for i in range(240)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        put_off = [e for e in kk.trail("event=login.failed") if e["reason"] == "temporary"]
        assert len(put_off) < 240 * 5
        kk.pop3_client(tls=False).quit()
