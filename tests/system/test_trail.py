"""The audit trail: complete, in order, exactly once, whatever dies. [R4.2(1)] [T2.2.1.4(1)(a)]"""
import glob
import json
import os
import signal
import subprocess
import time

from kk import PROGRAM, Service, wait_for

MESSAGE = b"Message-ID: <one@example.org>\r\nFrom: Some One <someone@example.org>\r\nSubject: secret words\r\n\r\nhello\r\n"


def lines(kk):
    out = []
    for path in sorted(glob.glob(os.path.join(kk.state, "auditd", "trail", "*.jsonl")), key=lambda p: int(p.rsplit("-", 1)[1][:-6])):
        with open(path, encoding="utf-8") as f:
            out += [json.loads(line) for line in f]
    return out


def check_sequence(kk):
    told = lines(kk)
    assert [e["seq"] for e in told] == list(range(1, len(told) + 1))
    sources = [(e["source"], e["source_epoch"], e["source_seq"]) for e in told if "source" in e]
    assert len(sources) == len(set(sources))
    return told


def test_one_number_follows_a_message_to_its_reader(kk):
    kk.send(["alice@example.test", "bob@example.test"], MESSAGE)
    kk.fetch("alice@example.test")
    received = wait_for(lambda: kk.trail("event=smtp.received"), 5, "smtp.received")[0]
    assert received["sender"] == "sender@example.org" and received["peer"] == "127.0.0.1"
    assert [r["address"] for r in received["recipients"]] == ["alice@example.test", "bob@example.test"]
    assert {e["event"] for e in kk.trail("message=" + received["message"])} >= {"smtp.received"}
    assert {e["event"] for e in kk.trail("conn=" + received["conn"])} >= {"smtp.received", "smtp.connection"}
    login = kk.trail("event=login.ok", "user=alice@example.test")[0]
    session = {e["event"]: e for e in kk.trail("conn=" + login["conn"])}
    assert session["mail.retrieved"]["messages"] == 1
    assert login["seq"] < session["mail.retrieved"]["seq"]
    assert kk.trail("event=smtp.received", "user=bob@example.test")
    assert not kk.trail("event=smtp.received", "user=carol@example.test")
    whole = "".join(open(p, encoding="utf-8").read() for p in glob.glob(os.path.join(kk.state, "auditd", "trail", "*.jsonl")))
    assert "secret words" not in whole and "hello" not in whole
    check_sequence(kk)


def test_relaying_is_refused_and_told(kk):
    with kk.smtp_client() as c:
        c.ehlo()
        c.mail("a@example.org")
        assert c.rcpt("victim@elsewhere.test")[0] == 550
    told = wait_for(lambda: kk.trail("event=smtp.relay_denied"), 5, "the refusal")
    assert told[0]["recipient"] == "victim@elsewhere.test" and told[0]["peer"] == "127.0.0.1"


def test_nothing_is_missing_or_doubled_when_roles_die(kk):
    for i in range(30):
        for _ in range(4):
            try:
                kk.send(["alice@example.test"], MESSAGE)
            except Exception:
                time.sleep(0.1)
        if i % 3 == 0:
            kk.wait_serving()
            kk.kill(["auditd", "auditd", "stored", "authd"][i % 4])
    kk.wait_serving()
    count = len(kk.fetch())
    wait_for(lambda: len(kk.trail("event=smtp.received")) >= count, 20, "all events")
    time.sleep(0.5)
    told = check_sequence(kk)
    received = [e["message"] for e in told if e["event"] == "smtp.received"]
    assert len(received) == len(set(received))
    assert len(received) == count


def test_follow(kk):
    p = subprocess.Popen([PROGRAM, "trail", "--follow", "--json", "event=smtp.received", "--config", kk.config, "--state", kk.state],
                         stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    kk.send(["alice@example.test"], MESSAGE)
    begin = time.monotonic()
    event = json.loads(p.stdout.readline())
    assert event["event"] == "smtp.received" and time.monotonic() - begin < 3
    p.send_signal(signal.SIGTERM)
    p.wait()
    p.stdout.close()


def test_pages():
    """More than one answer can hold."""
    with Service(conf="smtp { tarpit = 0\n max_errors = 10000 }") as kk:
        with kk.smtp_client() as c:
            c.ehlo()
            c.mail("a@example.org")
            for i in range(400):
                assert c.rcpt("nobody%d@example.test" % i)[0] == 550
        wait_for(lambda: len(kk.trail("event=smtp.rcpt_refused")) == 400, 20, "all refusals")
        assert len(kk.trail("event=smtp.rcpt_refused", "recipient=nobody399@example.test")) == 1
        check_sequence(kk)
