"""Mail sent by programs that we did not write. [R5.1 R4.2(1)]"""
import os
import shutil
import subprocess
import tempfile
import textwrap
import time

import pytest

from kk import ROOT, Service, body_after_trace, wait_for

BODY = "Subject: =?UTF-8?B?5pu455WZ?=\r\nFrom: Sender <sender@example.org>\r\nTo: alice@example.test\r\n\r\nこんにちは\r\n.leading dot\r\n"


@pytest.fixture()
def service():
    with Service(conf="smtp { unlimited_from = {\"127.0.0.0/8\"} }\n") as kk:
        yield kk


def need(program):
    path = shutil.which(program) or next((p for p in ("/usr/sbin/" + program, "/usr/lib/postfix/sbin/" + program) if os.path.exists(p)), None)
    if path is None:
        pytest.fail("%s is not installed: ./dev test installs it" % program)
    return path


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, timeout=60, **kwargs)


def only_message(kk, user="alice@example.test"):
    got = kk.fetch(user)
    assert len(got) == 1
    return got[0]


def test_curl(service, tmp_path):
    path = tmp_path / "mail.eml"
    path.write_bytes(BODY.encode())
    run(need("curl"), "-sS", "--url", "smtp://127.0.0.1:%d" % service.smtp, "--mail-from", "sender@example.org",
        "--mail-rcpt", "alice@example.test", "--upload-file", str(path))
    assert body_after_trace(only_message(service)) == BODY.encode()


def test_curl_with_starttls(service, tmp_path):
    path = tmp_path / "mail.eml"
    path.write_bytes(BODY.encode())
    run(need("curl"), "-sS", "--ssl-reqd", "--cacert", service.ca(), "--resolve", "mail.example.test:%d:127.0.0.1" % service.smtp,
        "--url", "smtp://mail.example.test:%d" % service.smtp, "--mail-from", "sender@example.org",
        "--mail-rcpt", "alice@example.test", "--upload-file", str(path))
    got = only_message(service)
    assert body_after_trace(got) == BODY.encode()
    assert b"with ESMTPS" in got and b"TLS" in got


def test_swaks(service):
    run(need("swaks"), "--server", "127.0.0.1:%d" % service.smtp, "--tls", "--from", "sender@example.org", "--to",
        "alice@example.test,bob@example.test", "--header", "Subject: swaks", "--body", "two recipients", "--helo", "swaks.example.org")
    for user in ("alice@example.test", "bob@example.test"):
        assert b"Subject: swaks" in only_message(service, user)


def test_smtp_source(service):
    run(need("smtp-source"), "-c", "-s", "10", "-m", "200", "-l", "4000", "-f", "source@example.org", "-t", "alice@example.test",
        "127.0.0.1:%d" % service.smtp)
    assert len(service.fetch()) == 200


def test_nodemailer(service):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node_modules", "nodemailer")
    if not os.path.isdir(folder):
        pytest.skip("npm's nodemailer is not installed")
    script = """
        const mailer = require(%r).createTransport({host: '127.0.0.1', port: %d, tls: {ca: require('fs').readFileSync(%r),
          servername: 'mail.example.test'}});
        mailer.sendMail({from: 'sender@example.org', to: 'alice@example.test', subject: '書留', text: '本文',
          attachments: [{filename: '添付.bin', content: Buffer.alloc(100000, 7)}]}).then(r => console.log(r.response),
          e => { console.error(e); process.exit(1); });
    """ % (folder, service.smtp, service.ca())
    r = run(need("node"), "-e", textwrap.dedent(script))
    assert b"250" in r.stdout
    assert len(only_message(service)) > 130000


class Postfix:
    """A Postfix of its own in a folder, that relays everything to us."""

    def __init__(self, port):
        self.dir = tempfile.mkdtemp(prefix="kk-postfix-")
        os.chmod(self.dir, 0o755)
        conf, queue, data = (os.path.join(self.dir, d) for d in ("conf", "queue", "data"))
        for d in (conf, queue, data):
            os.mkdir(d)
        shutil.chown(data, "postfix")
        shutil.copy("/usr/share/postfix/master.cf.dist" if os.path.exists("/usr/share/postfix/master.cf.dist") else "/etc/postfix/master.cf",
                    os.path.join(conf, "master.cf"))
        with open(os.path.join(conf, "master.cf")) as f:
            lines = f.read().splitlines()
        # No network listener of its own, and nothing in a chroot.
        out = []
        for line in lines:
            fields = line.split()
            if len(fields) >= 8 and not line.startswith(("#", " ", "\t")):
                if fields[0] == "smtp" and fields[1] == "inet":
                    continue
                fields[4] = "n"
                line = " ".join(fields)
            out.append(line)
        with open(os.path.join(conf, "master.cf"), "w") as f:
            f.write("\n".join(out) + "\n")
        with open(os.path.join(conf, "main.cf"), "w") as f:
            f.write(textwrap.dedent("""
                compatibility_level = 3.6
                queue_directory = %s
                data_directory = %s
                myhostname = postfix.example.org
                mydestination =
                relayhost = [127.0.0.1]:%d
                inet_interfaces = loopback-only
                smtp_tls_security_level = may
                smtputf8_enable = yes
                maillog_file = %s/log
                maillog_file_prefixes = %s
                alias_maps =
                alias_database =
                multi_instance_enable = yes
            """ % (queue, data, port, self.dir, self.dir)))
        self.conf = conf
        run(need("postfix"), "-c", conf, "start")

    def submit(self, recipients, message):
        run(need("sendmail") if not os.path.exists("/usr/sbin/sendmail.postfix") else "/usr/sbin/sendmail.postfix", "-C", self.conf,
            "-f", "sender@example.org", *recipients, input=message)

    def close(self):
        subprocess.run([need("postfix"), "-c", self.conf, "stop"], capture_output=True, timeout=60)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")
def test_postfix_delivers_to_us(service):
    postfix = Postfix(service.smtp)
    try:
        for i in range(20):
            postfix.submit(["alice@example.test", "bob@example.test"], b"Subject: number %d\n\nthrough postfix\n" % i)
        wait_for(lambda: len(service.fetch()) == 20 and len(service.fetch("bob@example.test")) == 20, 60, "mail through Postfix")
        assert all(b"by mail.example.test" in m and b"postfix.example.org" in m for m in service.fetch())
    except AssertionError:
        with open(os.path.join(postfix.dir, "log"), errors="replace") as f:
            print(f.read()[-3000:])
        raise
    finally:
        postfix.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="Exim's spool wants its own user")
def test_exim_delivers_to_us(service):
    exim = shutil.which("exim4") or os.path.join(ROOT, "build-peers", "exim", "usr", "sbin", "exim4")
    if not os.path.exists(exim):
        pytest.skip("exim4 is not unpacked (it conflicts with Postfix as a package)")
    folder = tempfile.mkdtemp(prefix="kk-exim-")
    os.chmod(folder, 0o777)
    exim = shutil.copy(exim, folder)  # Exim starts itself again as another user, who may have no way into this tree
    conf = os.path.join(folder, "conf")
    with open(conf, "w") as f:
        f.write(textwrap.dedent("""
            exim_path = %s
            exim_user = nobody
            exim_group = nogroup
            spool_directory = %s/spool
            log_file_path = %s/log-%%s
            primary_hostname = exim.example.org
            keep_environment =
            begin routers
            ours:
              driver = manualroute
              domains = example.test
              route_list = * 127.0.0.1
              self = send
              transport = smtp
            begin transports
            smtp:
              driver = smtp
              port = %d
              hosts_try_fastopen =
              allow_localhost
              tls_tempfail_tryclear
        """ % (exim, folder, folder, service.smtp)))
    os.mkdir(os.path.join(folder, "spool"))
    shutil.chown(os.path.join(folder, "spool"), "nobody", "nogroup")
    os.chmod(conf, 0o644)
    try:
        for i in range(5):
            subprocess.run([exim, "-C", conf, "-odi", "-f", "sender@example.org", "alice@example.test"], check=True,
                           input=b"Subject: number %d\nFrom: sender@example.org\n\nthrough exim\n.dot\n" % i, capture_output=True, timeout=60)
        wait_for(lambda: len(service.fetch()) == 5, 30, "mail through Exim")
    finally:
        time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)
