"""TLS as programs that we did not write see it: OpenSSL's and GnuTLS's clients, sslscan, testssl.sh, Python. [T2.2.1.6]"""
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import pytest

from kk import Service, wait_for

NAME = "mail.example.test"


def need(program, *others):
    for p in (program, *others):
        path = shutil.which(p)
        if path is not None:
            return path
    pytest.fail("%s is not installed: ./dev test installs it" % program)


def s_client(kk, *args, send=b"QUIT\r\n", port=None, seconds=30):
    """(exit status, output) of one connection."""
    command = [need("openssl"), "s_client", "-connect", "127.0.0.1:%d" % (port or kk.pop3s), "-servername", NAME, *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        try:
            time.sleep(0.3)  # TLS 1.3 tickets come after the handshake
            out, _ = p.communicate(send, timeout=seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            p.kill()
            out, _ = p.communicate()
    return p.returncode, out.decode(errors="replace")


def connect(kk, sni=NAME, version=None, verify=False, port=None):
    context = ssl.create_default_context(cafile=kk.ca() if verify else None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", port or kk.pop3s), timeout=20)
    return context.wrap_socket(raw, server_hostname=sni)


# ---- versions, ciphers, forward secrecy ----

@pytest.mark.parametrize("arguments", [["-tls1"], ["-tls1_1"]])
def test_old_versions_are_refused(shared_kk, arguments):
    _, out = s_client(shared_kk, *arguments, "-cipher", "ALL:@SECLEVEL=0")
    assert "+OK" not in out
    assert "Cipher is (NONE)" in out


@pytest.mark.parametrize("arguments", [
    ["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "AES128-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
    ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"],
])
def test_other_ciphers_are_refused(shared_kk, arguments):
    _, out = s_client(shared_kk, *arguments)
    assert "Cipher is (NONE)" in out


@pytest.mark.parametrize("arguments,cipher", [
    (["-tls1_3"], "TLS_AES_128_GCM_SHA256"),
    (["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
    (["-tls1_2"], "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
])
def test_current_versions(shared_kk, arguments, cipher):
    _, out = s_client(shared_kk, *arguments)
    assert "Cipher is %s" % cipher in out
    assert "+OK" in out
    assert "Compression: NONE" in out
    assert "Server Temp Key: " in out  # an ephemeral key: forward secrecy


def test_starttls_smtp_and_pop3(shared_kk):
    for protocol, port in (("smtp", shared_kk.smtp), ("pop3", shared_kk.pop3)):
        _, out = s_client(shared_kk, "-starttls", protocol, "-CAfile", shared_kk.ca(), "-verify_return_error", "-verify_hostname", NAME,
                          port=port)
        assert "Verify return code: 0 (ok)" in out, protocol


def test_renegotiation_is_refused(shared_kk):
    _, out = s_client(shared_kk, "-tls1_2", send=b"R\nQUIT\r\n")
    assert "no renegotiation" in out.lower() or "RENEGOTIATING" in out
    assert len(re.findall(r"verify return", out)) <= 2 or "error" in out.lower()


# ---- certificates ----

def test_verification_with_the_trial_authority(shared_kk):
    with connect(shared_kk, verify=True) as t:
        assert t.recv(100).startswith(b"+OK")
    with connect(shared_kk, sni="localhost", verify=True) as t:
        assert t.recv(100).startswith(b"+OK")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(shared_kk, sni="another.example.net", verify=True)


def test_gnutls_verifies(shared_kk):
    r = subprocess.run([need("gnutls-cli"), "--x509cafile", shared_kk.ca(), "--sni-hostname", NAME, "--verify-hostname", NAME,
                        "-p", str(shared_kk.pop3s), "127.0.0.1"], input=b"QUIT\r\n", capture_output=True, timeout=60)
    assert b"The certificate is trusted" in r.stdout
    assert b"+OK" in r.stdout


def make_certificate(folder, file_name, names, key="ec:P-256"):
    """A self-signed certificate with its key as one PEM file."""
    path = os.path.join(folder, file_name)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key.startswith("ec") else ["-newkey", key]
    subprocess.run([need("openssl"), "req", "-x509", *new_key, "-nodes", "-keyout", path + ".key", "-out", path + ".crt", "-days", "30",
                    "-subj", "/CN=" + names[0], "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names)],
                   check=True, capture_output=True)
    with open(path + ".new", "w") as out:
        for part in (".crt", ".key"):
            with open(path + part) as f:
                out.write(f.read())
    # Readable for keyd's group; as root every role has a user id of its own.
    os.chmod(path + ".new", 0o640)
    if os.geteuid() == 0:
        os.chown(path + ".new", 0, keyd_group(folder))
    os.rename(path + ".new", path)
    return path


def keyd_group(folder):
    with open(os.path.join(folder, "gid")) as f:
        return int(f.read())


@pytest.fixture
def certified():
    """A service with three certificates: the default, another name, a wildcard; and where their files are."""
    folder = tempfile.mkdtemp(prefix="kakitome-certs-")
    os.chmod(folder, 0o755)
    with Service(accounts=()) as first:
        gid = os.stat(os.path.join(first.state, "keyd")).st_gid
    with open(os.path.join(folder, "gid"), "w") as f:
        f.write(str(gid))
    files = [make_certificate(folder, "default.pem", [NAME]), make_certificate(folder, "other.pem", ["other.example.net"], "rsa:2048"),
             make_certificate(folder, "wild.pem", ["*.example.org"])]
    conf = "tls { certificates = {%s} }" % ", ".join('"%s"' % f for f in files)
    try:
        with Service(accounts=(), conf=conf) as kk:
            yield kk, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def subject(kk, sni):
    with connect(kk, sni) as t:
        der = t.getpeercert(binary_form=True)
    out = subprocess.run([need("openssl"), "x509", "-inform", "DER", "-noout", "-subject"], input=der, capture_output=True, check=True)
    return out.stdout.decode().strip().split("= ")[-1].split("=")[-1].strip()


def test_certificates_by_server_name(certified):
    kk, _ = certified
    for sni, want in [(NAME, NAME), (NAME.upper(), NAME), ("other.example.net", "other.example.net"), ("a.example.org", "*.example.org"),
                      ("a.b.example.org", NAME), ("unknown.example", NAME), (None, NAME)]:
        assert subject(kk, sni) == want, sni


def test_reload_without_restart(certified):
    kk, folder = certified
    tlsd, keyd = kk.pid("tlsd"), kk.pid("keyd")
    with connect(kk) as before:
        assert before.recv(100).startswith(b"+OK")
        old = before.getpeercert(binary_form=True)
        make_certificate(folder, "default.pem", [NAME])
        kk.ctl("reload")

        def renewed():
            with connect(kk) as t:
                return t.getpeercert(binary_form=True) != old
        wait_for(renewed, what="the new certificate")
        # The connection of before lives on.
        before.sendall(b"CAPA\r\n")
        assert before.recv(4000).startswith(b"+OK")
    assert (kk.pid("tlsd"), kk.pid("keyd")) == (tlsd, keyd)


def test_a_wrong_file_changes_nothing(certified):
    kk, folder = certified
    good = subject(kk, NAME)
    with open(os.path.join(folder, "default.pem"), "w") as f:
        f.write("not a certificate\n")
    assert kk.ctl("reload", check=False).returncode != 0
    assert subject(kk, NAME) == good


# ---- sessions ----

@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption(shared_kk, version, tmp_path):
    session = str(tmp_path / "session")
    _, first = s_client(shared_kk, version, "-sess_out", session)
    assert "New, TLSv1" in first
    _, again = s_client(shared_kk, version, "-sess_in", session)
    assert "Reused, TLSv1" in again
    # Not by another name (RFC 6066 3) or protocol.
    out = subprocess.run([need("openssl"), "s_client", "-connect", "127.0.0.1:%d" % shared_kk.pop3s, "-servername", "localhost", version,
                          "-sess_in", session], input=b"QUIT\r\n", capture_output=True, timeout=30).stdout.decode(errors="replace")
    assert "Reused" not in out
    _, other = s_client(shared_kk, version, "-starttls", "smtp", "-sess_in", session, port=shared_kk.smtp)
    assert "Reused" not in other


@pytest.mark.parametrize("protocol,ok", [("pop3", True), ("imap", False), ("http/1.1", False)])
def test_alpn(shared_kk, protocol, ok):
    _, out = s_client(shared_kk, "-alpn", protocol)
    assert ("ALPN protocol: %s" % protocol in out) == ok
    assert ("Cipher is (NONE)" in out) != ok


def test_alpn_on_smtp_is_refused(shared_kk):
    _, out = s_client(shared_kk, "-starttls", "smtp", "-alpn", "http/1.1", port=shared_kk.smtp)
    assert "Cipher is (NONE)" in out


# ---- ends, deaths, secrets ----

def test_handshakes_wait_for_a_restarted_keyd():
    with Service(accounts=()) as kk:
        with connect(kk) as living:
            assert living.recv(100).startswith(b"+OK")
            kk.kill("keyd", signal.SIGKILL)
            with connect(kk) as t:
                assert t.recv(100).startswith(b"+OK")
            living.sendall(b"CAPA\r\n")
            assert living.recv(4000).startswith(b"+OK")


def private_number(pem_path):
    """The secret number of an EC key."""
    text = subprocess.run([need("openssl"), "ec", "-in", pem_path, "-noout", "-text"], capture_output=True, check=True).stdout.decode()
    digits = re.search(r"priv:\s*((?:[0-9a-f]{2}[:\s]*)+)", text).group(1)
    return bytes.fromhex(re.sub(r"[^0-9a-f]", "", digits)).lstrip(b"\0")


def memory_has(pid, needles):
    found = set()
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("r") or "[v" in line:
                continue
            low, high = (int(x, 16) for x in span.split("-"))
            if high - low > 1 << 30:
                continue  # the address space of stored's index: a file that keyd's keys are not in
            try:
                memory.seek(low)
                content = memory.read(high - low)
            except OSError:
                continue
            found |= {n for n in needles if n in content}
    return found


def test_the_private_key_is_in_keyd_alone():
    with Service(accounts=()) as kk:
        for _ in range(5):
            with connect(kk) as t:
                t.recv(100)
        secret = private_number(os.path.join(kk.state, "keyd", "selfsigned.pem"))
        needles = {secret, secret[::-1]}  # as written, and as the big number library keeps it
        try:
            assert memory_has(kk.pid("keyd"), needles), "the search itself must work"
        except PermissionError:
            pytest.skip("this user may not read the memory of other processes")
        for role in ("tlsd", "smtpd", "login", "imapd", "authd", "stored", "filterd", "auditd"):
            assert not memory_has(kk.pid(role), needles), role


# ---- scanners ----

def test_sslscan(shared_kk):
    out = subprocess.run([need("sslscan"), "--no-colour", "--sni-name=" + NAME, "127.0.0.1:%d" % shared_kk.pop3s], capture_output=True,
                         timeout=120).stdout.decode()
    for line in ("SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled", "TLSv1.1   disabled", "TLSv1.2   enabled",
                 "TLSv1.3   enabled", "Session renegotiation not supported"):
        assert line in out
    assert not re.search(r"vulnerable to heartbleed", out.replace("not vulnerable", ""))
    suites = re.findall(r"(?:Preferred|Accepted)\s+(TLSv1\.\d)\s+(\d+) bits\s+(\S+)", out)
    assert suites
    for version, bits, suite in suites:
        assert int(bits) >= 128
        assert version == "TLSv1.3" or suite.startswith("ECDHE-")
        assert re.search(r"GCM|CCM|CHACHA20", suite) and not suite.endswith("CCM8")


def test_testssl(shared_kk):
    program = need("testssl", "testssl.sh")
    out = subprocess.run([program, "--quiet", "--color", "0", "--warnings", "off", "-p", "-f", "-s", "--ip", "one",
                          "127.0.0.1:%d" % shared_kk.pop3s], capture_output=True, timeout=240).stdout.decode(errors="replace")
    for pattern in (r"SSLv2\s+not offered", r"SSLv3\s+not offered", r"TLS 1\s+not offered", r"TLS 1\.1\s+not offered",
                    r"TLS 1\.2\s+offered", r"TLS 1\.3\s+offered", r"NULL ciphers.*not offered", r"Anonymous NULL.*not offered",
                    r"(FS|PFS) is offered"):
        assert re.search(pattern, out), (pattern, out)
