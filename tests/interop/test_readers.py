"""Mail fetched by programs that we did not write. [R4.2(1)]"""
import os
import pathlib
import poplib
import shutil
import subprocess
import tempfile

import pytest

from kk import PASSWORD, Service, body_after_trace, wait_for

MESSAGES = [b"Subject: one\r\n\r\n.dot\r\n..two dots\r\n", b"Subject: two\r\n\r\n" + b"line\r\n" * 5000, b"Subject: three\r\n\r\n\xe6\x9b\xb8\xe7\x95\x99\r\n"]


@pytest.fixture()
def service():
    with Service() as kk:
        for m in MESSAGES:
            kk.send(["alice@example.test"], m)
        yield kk


def need(program):
    path = shutil.which(program)
    if path is None:
        pytest.fail("%s is not installed: ./dev test installs it" % program)
    return path


def run(*args, **kwargs):
    r = subprocess.run(args, capture_output=True, timeout=90, **kwargs)
    assert r.returncode == 0, (args, r.stdout[-2000:], r.stderr[-2000:])
    return r


def maildir(path):
    for d in ("", "new", "cur", "tmp"):
        (path / d).mkdir(exist_ok=True)
    return path


def bodies(path):
    """What a program wrote, as sets of our messages (line ends made CRLF again)."""
    found = []
    for p in sorted(path.rglob("*")):
        if p.is_file():
            data = p.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            found.append(next((i for i, m in enumerate(MESSAGES) if m.rstrip() in data), None))
    return sorted(found, key=str)


def test_poplib_whole_session(service):
    c = service.pop3_client()
    assert c.stat()[0] == 3
    for i, m in enumerate(MESSAGES, 1):
        assert body_after_trace(b"\r\n".join(c.retr(i)[1]) + b"\r\n") == m
    assert b"Subject: two" in b"\r\n".join(c.top(2, 1)[1])
    c.dele(1)
    c.rset()
    c.dele(2)
    c.quit()
    assert len(service.fetch()) == 2


def test_poplib_apart_from_quit_nothing_is_deleted(service):
    c = service.pop3_client()
    c.dele(1)
    c.sock.close()
    c.file.close()
    assert len(service.fetch()) == 3


def test_the_maildrop_is_locked_for_others(service):
    c = service.pop3_client()
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        service.pop3_client()
    c.quit()
    service.pop3_client().quit()


def test_curl(service):
    r = run(need("curl"), "-sS", "--cacert", service.ca(), "--resolve", "mail.example.test:%d:127.0.0.1" % service.pop3s, "-u",
            "alice@example.test:" + PASSWORD, "pop3s://mail.example.test:%d/1" % service.pop3s)
    assert body_after_trace(r.stdout) == MESSAGES[0]


def test_curl_with_stls(service):
    r = run(need("curl"), "-sS", "--ssl-reqd", "--cacert", service.ca(), "--resolve", "mail.example.test:%d:127.0.0.1" % service.pop3, "-u",
            "alice@example.test:" + PASSWORD, "pop3://mail.example.test:%d/3" % service.pop3)
    assert body_after_trace(r.stdout) == MESSAGES[2]


def test_fetchmail(service, tmp_path):
    box = maildir(tmp_path / "box")
    rc = tmp_path / "fetchmailrc"
    rc.write_text('poll 127.0.0.1 service %d protocol pop3 uidl username "alice@example.test" password "%s" ssl sslcommonname '
                  '"mail.example.test" sslcertfile "%s" nokeep mda "cat > %s/new/$$"\n'
                  % (service.pop3s, PASSWORD, service.ca(), box))
    rc.chmod(0o600)
    env = dict(os.environ, HOME=str(tmp_path), FETCHMAILHOME=str(tmp_path))
    run(need("fetchmail"), "--fetchmailrc", str(rc), "--idfile", str(tmp_path / "ids"), "--pidfile", str(tmp_path / "pid"), "--nosyslog", env=env)
    assert bodies(box) == [0, 1, 2]
    assert service.fetch() == []


@pytest.fixture()
def plain_user_folder():
    """A folder of a user who is not root: some programs refuse to work for root."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="kk-reader-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_getmail(service, plain_user_folder):
    tmp_path = plain_user_folder
    box = maildir(tmp_path / "box")
    rc = tmp_path / "getmailrc"
    rc.write_text("""[retriever]
type = SimplePOP3SSLRetriever
server = 127.0.0.1
port = %d
username = alice@example.test
password = %s
[destination]
type = Maildir
path = %s/
[options]
delete = false
read_all = false
""" % (service.pop3s, PASSWORD, box))
    who = {}
    if os.geteuid() == 0:
        for path in [tmp_path, *tmp_path.rglob("*")]:
            shutil.chown(path, "nobody", "nogroup")
        who = {"user": "nobody", "group": "nogroup", "extra_groups": [], "env": dict(os.environ, HOME=str(tmp_path))}
    run(need("getmail"), "--getmaildir", str(tmp_path), "--rcfile", str(rc), **who)
    assert bodies(box) == [0, 1, 2]
    # Unique ids tell it the second time that there is nothing new.
    run(need("getmail"), "--getmaildir", str(tmp_path), "--rcfile", str(rc), **who)
    assert bodies(box) == [0, 1, 2]


def test_mpop(service, tmp_path):
    box = maildir(tmp_path / "box")
    rc = tmp_path / "mpoprc"
    rc.write_text("""account a
host 127.0.0.1
port %d
user alice@example.test
password %s
tls on
tls_starttls off
tls_certcheck off
delivery maildir %s
keep on
uidls_file %s/uidls
""" % (service.pop3s, PASSWORD, box, tmp_path))
    rc.chmod(0o600)
    run(need("mpop"), "-C", str(rc), "-a")
    assert bodies(box) == [0, 1, 2]


def test_the_trail_tells_what_was_taken(service):
    """MRA login and the number of messages retrieved, with the person. [R4.2(1) T2.2.1.4(1)(a)]"""
    c = service.pop3_client()
    c.retr(1)
    c.retr(1)
    c.retr(3)
    c.quit()
    events = wait_for(lambda: [e for e in service.trail() if e["event"] == "mail.retrieved"], 10, "the record")
    assert len(events) == 1 and events[0]["messages"] == 2 and events[0]["user"] == "alice@example.test"
    # One id follows a message from connection to reading.
    received = service.trail("event=smtp.received")
    assert [i["message"] for i in events[0]["ids"]] == [received[0]["message"], received[2]["message"]]
    story = [e["event"] for e in service.trail("message=" + received[2]["message"])]
    assert story == ["smtp.received", "mail.retrieved"]
    logins = [e for e in service.trail() if e["event"] == "login.ok"]
    assert len(logins) == 1 and logins[0]["peer"] == "127.0.0.1" and logins[0]["service"] == "pop3"
