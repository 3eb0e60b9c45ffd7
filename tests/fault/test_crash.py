"""Kill any process at any moment: nothing acknowledged is lost. [T2.2.2.3(1)]

A sender keeps a record of what was acknowledged (250 after the final dot), of what was refused, and of what got no answer. After the storm
each acknowledged message must be there, whole, for each recipient; a second copy is allowed only where the sender saw no answer.
"""
import hashlib
import os
import random
import socket
import threading
import time

from kk import DOMAIN, Service, body_after_trace

SEED = int(os.environ.get("KK_SEED", random.SystemRandom().randrange(1 << 32)))
SECONDS = float(os.environ.get("KK_CRASH_SECONDS", "20"))
KILLABLE = ["tlsd", "smtpd", "login", "imapd", "authd", "keyd", "stored", "filterd", "auditd"]


class Sender(threading.Thread):
    """Sends numbered messages over raw sockets, so that it knows exactly which answers it has seen."""

    def __init__(self, kk, number, stop, recipients):
        super().__init__(daemon=True)
        self.kk, self.number, self.stop_event, self.recipients = kk, number, stop, recipients
        self.rng = random.Random(SEED + number)
        self.acknowledged, self.unanswered, self.refused = {}, set(), 0

    def body(self, key):
        size = self.rng.choice([100, 2000, 4000, 70000])
        text = hashlib.sha256(key.encode()).hexdigest()
        lines = (text + "\r\n") * (size // 66 + 1)
        return ("Subject: %s\r\nX-Key: %s\r\nX-Digest: %s\r\n\r\n%s" % (
            key, key, hashlib.sha256(lines.encode()).hexdigest(), lines)).encode()

    def run(self):
        count = 0
        while not self.stop_event.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.kk.smtp), 5) as s:
                    s.settimeout(20)
                    f = s.makefile("rb")
                    if not self.expect(f, b"220"):
                        continue
                    s.sendall(b"EHLO storm.example.org\r\n")
                    while True:
                        line = f.readline()
                        if not line or line[3:4] == b" ":
                            break
                    for _ in range(20):
                        if self.stop_event.is_set():
                            break
                        count += 1
                        self.one(s, f, "k%d-%d" % (self.number, count))
            except OSError:
                time.sleep(0.02)

    @staticmethod
    def expect(f, code):
        line = f.readline()
        if not line:
            raise OSError("closed")
        return line.startswith(code)

    def one(self, s, f, key):
        recipients = self.rng.sample(self.recipients, self.rng.randint(1, 2))
        s.sendall(b"MAIL FROM:<storm@example.org>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % r.encode() for r in recipients) + b"DATA\r\n")
        ok_mail = self.expect(f, b"250")
        accepted = [r for r in recipients if self.expect(f, b"250")]
        go = f.readline()
        if not go:
            raise OSError("closed")
        if not go.startswith(b"354"):
            self.refused += 1
            s.sendall(b"RSET\r\n")
            self.expect(f, b"250")
            time.sleep(0.01)
            return
        assert ok_mail
        self.unanswered.add(key)
        s.sendall(self.body(key) + b".\r\n")
        answer = f.readline()
        if answer.startswith(b"250"):
            self.acknowledged[key] = accepted
            self.unanswered.discard(key)
        elif answer[:1] in (b"4", b"5"):
            self.unanswered.discard(key)
            self.refused += 1


def collect(kk, account):
    found, uids = {}, []
    c = kk.pop3_client(account, timeout=60)
    uids = [line.split()[1] for line in c.uidl()[1]]
    for i in range(1, len(uids) + 1):
        message = b"\r\n".join(c.retr(i)[1]) + b"\r\n"
        own = body_after_trace(message)
        head, body = own.split(b"\r\n\r\n", 1)
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
        assert hashlib.sha256(body).hexdigest().encode() == headers[b"X-Digest"], "damaged: %r" % headers
        found.setdefault(headers[b"X-Key"].decode(), 0)
        found[headers[b"X-Key"].decode()] += 1
    c.quit()
    assert len(set(uids)) == len(uids)
    return found, uids


def check(kk, senders, accounts):
    boxes = {a: collect(kk, a)[0] for a in accounts}
    acknowledged = 0
    for s in senders:
        for key, recipients in s.acknowledged.items():
            acknowledged += 1
            for r in recipients:
                assert boxes[r].get(key, 0) == 1, "%s for %s is there %d times (seed %d)" % (key, r, boxes[r].get(key, 0), SEED)
    known = {k for s in senders for k in list(s.acknowledged) + list(s.unanswered)}
    for box in boxes.values():
        for key, times in box.items():
            assert key in known, "%s was refused but is there (seed %d)" % (key, SEED)
            assert times == 1, "%s is there %d times (seed %d)" % (key, times, SEED)
    return acknowledged


def storm(kk, seconds, between, first=0):
    accounts = ["u%d@%s" % (i, DOMAIN) for i in range(4)]
    stop = threading.Event()
    senders = [Sender(kk, first + i, stop, accounts) for i in range(8)]
    for s in senders:
        s.start()
    try:
        between(time.monotonic() + seconds)
    finally:
        stop.set()
    for s in senders:
        s.join(60)
        assert not s.is_alive(), "a sender hangs (seed %d)" % SEED
    return senders, accounts


def test_kill_any_role_under_load():
    """A random process is killed every fraction of a second while eight senders work."""
    print("seed", SEED)
    rng = random.Random(SEED)
    with Service(accounts=["u0", "u1", "u2", "u3"], conf="smtp { unlimited_from = {\"127.0.0.0/8\"} }\n") as kk:
        kills = []

        def between(end):
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.1, 0.6))
                role = rng.choice(KILLABLE)
                try:
                    kk.kill(role)
                    kills.append(role)
                except (ProcessLookupError, KeyError, AssertionError):
                    pass

        senders, accounts = storm(kk, SECONDS, between)
        kk.wait_serving(60)
        acknowledged = check(kk, senders, accounts)
        print("%d acknowledged, %d kills, %d refused" % (acknowledged, len(kills), sum(s.refused for s in senders)))
        assert acknowledged > 50 and len(kills) > 10


def test_kill_everything_and_restart():
    """All processes at once, as a power cut does to them; the unique ids that clients know stay what they are."""
    rng = random.Random(SEED + 1)
    with Service(accounts=["u0", "u1", "u2", "u3"], conf="smtp { unlimited_from = {\"127.0.0.0/8\"} }\n") as kk:
        everybody, known_uids = [], {}
        for turn in range(3):
            def between(end):
                time.sleep(rng.uniform(0.5, 1.5))
                kk.kill_all()

            senders, accounts = storm(kk, 2, between, first=100 * turn)
            everybody += senders
            kk.start()
            for a in accounts:
                _, uids = collect(kk, a)
                assert uids[:len(known_uids.get(a, []))] == known_uids.get(a, []), "unique ids changed (seed %d)" % SEED
                known_uids[a] = uids
        assert check(kk, everybody, accounts) > 10
