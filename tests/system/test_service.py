"""The service as its administrator meets it: start, wrong settings, reload, restart of roles, stop."""
import os
import signal
import socket
import subprocess
import time

import pytest

import kk as kk_module
from kk import PASSWORD, PROGRAM, Service, wait_for
from test_relay import Line


def test_a_taken_port_is_a_clear_error():
    blocker = socket.socket()
    blocker.bind(("127.0.0.1", 0))
    blocker.listen()
    port = blocker.getsockname()[1]
    service = Service(start=False)
    service.smtp = port
    service.write_config()
    with pytest.raises(AssertionError, match=r"127\.0\.0\.1:%d .*taken" % port):
        service.start(10)
    service.process.wait(10)
    assert service.process.returncode not in (0, None)
    service.process = None
    blocker.close()


def test_a_second_service_on_the_same_state_is_refused(kk):
    other = Service(start=False)
    other.state = kk.state
    with pytest.raises(AssertionError, match="another kakitome is running"):
        other.start(10)
    other.process.wait(10)
    other.process = None


def test_wrong_settings_are_told_with_file_line_and_suggestion(tmp_path):
    path = tmp_path / "bad.conf"
    path.write_text("smtp {\n    max_recipiants = 5\n    max_messages = 0\n}\n")
    r = subprocess.run([PROGRAM, "check", "--config", str(path)], capture_output=True, text=True)
    assert r.returncode == 78
    text = r.stdout + r.stderr
    assert "bad.conf:2" in text and "max_recipients" in text


def test_reload_drops_no_connection(kk):
    """And takes effect for what comes after it. [R4.3]"""
    before = Line(kk.smtp)
    before("EHLO client.example.org")
    reader = kk.pop3_client()
    kk.extra = "smtp { max_recipients = 1 }\n"
    kk.write_config()
    kk.ctl("reload")
    assert before("NOOP").startswith(b"250")
    assert reader.noop().startswith(b"+OK")
    reader.quit()
    after = Line(kk.smtp)
    after("EHLO client.example.org")
    after("MAIL FROM:<a@example.org>")
    assert after("RCPT TO:<alice@example.test>").startswith(b"250")
    assert after("RCPT TO:<bob@example.test>").startswith(b"452")


def test_a_wrong_file_is_not_reloaded_and_changes_nothing(kk):
    kk.extra = "smtp { max_recipients = 100000 }\n"
    kk.write_config()
    r = kk.ctl("reload", check=False)
    assert r.returncode != 0 and "max_recipients" in r.stderr + r.stdout
    kk.send(["alice@example.test"], b"Subject: still here\r\n\r\n")
    assert len(kk.fetch()) == 1


def test_a_second_start_goes_on_with_the_same_mail(kk):
    kk.send(["alice@example.test"], b"Subject: kept\r\n\r\nover a restart\r\n")
    uid = kk.pop3_client().uidl()[1]
    kk.stop()
    kk.start()
    c = kk.pop3_client()
    assert c.uidl()[1] == uid
    c.quit()
    assert b"over a restart" in kk.fetch()[0]


@pytest.mark.parametrize("role", ["tlsd", "smtpd", "login", "imapd", "authd", "keyd", "stored", "filterd", "auditd"])
def test_a_role_that_dies_is_back_in_a_moment(shared_kk, role):
    old = shared_kk.kill(role)
    wait_for(lambda: shared_kk.pid(role) not in (0, old), 20, "a new process")
    shared_kk.wait_serving()
    box = len(shared_kk.fetch())
    shared_kk.send(["alice@example.test"], b"Subject: after the death of a role\r\n\r\n")
    assert len(shared_kk.fetch()) == box + 1
    wait_for(lambda: [e for e in shared_kk.trail("event=process.died") if e["process"].startswith(role)], 5, "the record of the death")


def test_what_others_see_when_stored_dies(kk):
    kk.send(["alice@example.test"], b"Subject: before\r\n\r\n")
    reader = kk.pop3_client()
    sender = Line(kk.smtp)
    sender("EHLO client.example.org")
    sender("MAIL FROM:<a@example.org>")
    sender("RCPT TO:<alice@example.test>")
    assert sender("DATA").startswith(b"354")
    kk.kill("stored")
    # The sender's message was on its way: it is taken in the end, or put off, but never lost in silence.
    sender.s.sendall(b"Subject: during\r\n\r\n\r\n.\r\n")
    answer = sender.reply()
    assert answer[:1] in (b"2", b"4")
    # The reader's grant is void.
    with pytest.raises(Exception):
        for _ in range(50):
            reader.retr(1)
            time.sleep(0.05)
    kk.wait_serving()
    assert len(kk.fetch()) == 1 + answer.startswith(b"250")


def test_sessions_live_on_when_authd_dies(kk):
    kk.send(["alice@example.test"], b"Subject: one\r\n\r\n")
    reader = kk.pop3_client()
    kk.kill("authd")
    assert reader.retr(1)[0].startswith(b"+OK")
    kk.wait_serving()
    assert reader.retr(1)[0].startswith(b"+OK")
    reader.quit()
    kk.pop3_client().quit()


def test_suspension_ends_a_live_session_within_a_second(kk):
    reader = kk.pop3_client()
    kk.ctl("account", "suspend", "alice@example.test")
    start = time.monotonic()
    reader.sock.settimeout(5)
    data = reader.file.readline()  # "-ERR ..." or the end of the stream
    assert data == b"" or data.startswith(b"-ERR")
    assert time.monotonic() - start < 2
    with pytest.raises(Exception):
        kk.pop3_client()
    kk.ctl("account", "resume", "alice@example.test")
    kk.pop3_client().quit()


def test_stop_is_graceful_and_says_goodbye(kk):
    client = Line(kk.smtp)
    client("EHLO client.example.org")
    kk.process.send_signal(signal.SIGTERM)
    line = client.f.readline()
    assert line.startswith(b"421"), line
    kk.stop()


def test_passwords_and_content_are_in_no_log_and_no_trail(kk):
    secret, content = "wrong-Secret-4711", "unmistakable-content-0815"
    with pytest.raises(Exception):
        kk.pop3_client(password=secret)
    kk.send(["alice@example.test"], ("Subject: %s\r\n\r\n%s\r\n" % (content, content)).encode())
    kk.fetch()
    kk.stop()
    for root, _, files in os.walk(kk.dir):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                data = f.read()
            assert secret.encode() not in data, name
            assert PASSWORD.encode() not in data, name
            assert content.encode() not in data, name


def test_login_without_tls_is_refused_by_default(kk):
    import poplib
    c = poplib.POP3("127.0.0.1", kk.pop3, timeout=10)
    with pytest.raises(poplib.error_proto):
        c.user("alice@example.test")
        c.pass_(PASSWORD)


def test_unknown_users_cannot_be_told_from_wrong_passwords(kk):
    import poplib
    answers, times = [], []
    for user in ("alice@example.test", "nobody@example.test"):
        start = time.monotonic()
        with pytest.raises(poplib.error_proto) as e:
            kk.pop3_client(user, "wrong-password-1")
        times.append(time.monotonic() - start)
        answers.append(e.value.args[0])
    assert answers[0] == answers[1]
    assert min(times) >= 1.5


def test_quota_is_answered_at_rcpt(kk):
    kk.ctl("account", "quota", "alice@example.test", "20000")
    kk.send(["alice@example.test"], b"Subject: fits\r\n\r\n" + b"x" * 70 + b"\r\n" * 100)
    c = Line(kk.smtp)
    c("EHLO client.example.org")
    c("MAIL FROM:<a@example.org> SIZE=19999")
    assert c("RCPT TO:<alice@example.test>")[:3] in (b"452", b"552")
    assert c("RCPT TO:<bob@example.test>").startswith(b"250")
    # Without SIZE there is room at RCPT, so the message is taken whole, once; then the account is full.
    c("RSET")
    c("MAIL FROM:<a@example.org>")
    c("RCPT TO:<alice@example.test>")
    c("RCPT TO:<bob@example.test>")
    c("DATA")
    c.s.sendall(b"Subject: over\r\n\r\n" + (b"x" * 70 + b"\r\n") * 400 + b".\r\n")
    assert c.reply().startswith(b"250")
    c("MAIL FROM:<a@example.org>")
    assert c("RCPT TO:<alice@example.test>").startswith(b"452")
    assert len(kk.fetch()) == 2 and len(kk.fetch("bob@example.test")) == 1


def test_with_many_processes_one_client_always_meets_the_same():
    """So that limits by client hold whatever the number of processes."""
    with Service(processes=4, conf="smtp { max_connections_per_client = 3 }\n") as service:
        for i in range(12):
            source = "127.0.0.%d" % (2 + i)
            answers = []
            for _ in range(6):
                s = socket.create_connection(("127.0.0.1", service.smtp), 10, source_address=(source, 0))
                answers.append((s, s.makefile("rb").readline()))
            assert [a[:3] for _, a in answers] == [b"220"] * 3 + [b"421"] * 3, source
            for s, _ in answers:
                s.close()
        service.send(["alice@example.test"], b"Subject: spread\r\n\r\n")
        assert len(service.fetch()) == 1


def test_two_services_of_one_user_do_not_share_a_port_in_silence():
    with Service(processes=2) as first:
        second = Service(start=False, processes=2)
        second.smtp = first.smtp
        second.write_config()
        with pytest.raises(AssertionError, match="taken"):
            second.start(10)
        second.process.wait(10)
        second.process = None
