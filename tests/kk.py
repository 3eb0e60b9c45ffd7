"""A Kakitome service for tests: started from a built binary in a directory of its own, on free ports of 127.0.0.1.

    with Service() as kk:
        kk.send(["alice@example.test"], message)
        kk.fetch("alice@example.test")

KK_PROGRAM names the binary (default: build-rel/kakitome beside this folder).
"""
import json
import os
import poplib
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.environ.get("KK_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
PROGRAM = os.environ.get("KK_PROGRAM", os.path.join(ROOT, "build-rel", "kakitome"))
DOMAIN = "example.test"
PASSWORD = "correct-Horse7-battery"


def free_ports(count):
    """Ports that nobody holds now; all bound at once, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for(condition, seconds=10.0, what="condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("timed out waiting for " + what)


class Control:
    """The command line's door, spoken directly: for probes that no command offers."""

    CTL_CONNECT, PROBE, ACCOUNT_ADD = 142, 9, 100

    def __init__(self, state, role=None):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.s.settimeout(20)
        self.s.connect(os.path.join(state, "ctl.sock"))
        self.call_id = 0
        if role:
            self.call(self.CTL_CONNECT, self.text(role))

    @staticmethod
    def text(s):
        b = s.encode()
        return struct.pack("<I", len(b)) + b

    def call(self, number, payload):
        self.call_id += 1
        self.s.send(struct.pack("<HBBIII", number, 0, 0, self.call_id, 20000, len(payload)) + bytes(16) + payload)
        frame = self.s.recv(200000)
        if not frame:
            raise ConnectionError("the service closed the control connection")
        _, kind, _, call, status, n = struct.unpack("<HBBIII", frame[:16])
        assert kind == 1 and call == self.call_id
        body = frame[32:32 + n]
        if status:
            raise RuntimeError("code %d: %s" % (status, body.decode()))
        return body

    def account_add(self, address, password, quota=0):
        """What `kakitome account add` sends; quicker for thousands."""
        self.call(self.ACCOUNT_ADD, self.text(address) + self.text(password) + struct.pack("<Q", quota))

    def probe(self, what, argument=""):
        body = self.call(self.PROBE, self.text(what) + self.text(argument))
        value, n = struct.unpack("<QI", body[:12])
        return value, body[12:12 + n].decode()

    def close(self):
        self.s.close()


class Service:
    def __init__(self, accounts=("alice", "bob"), conf="", probing=False, env=None, state=None, uid=None, processes=1, start=True,
                 tls_only=True):
        self.dir = state or tempfile.mkdtemp(prefix="kakitome-test-")
        self.keep = state is not None
        os.chmod(self.dir, 0o755)
        self.state = os.path.join(self.dir, "state")
        self.config = os.path.join(self.dir, "kakitome.conf")
        self.log_path = os.path.join(self.dir, "log")
        self.env = dict(os.environ, **(env or {}))
        self.probing = probing
        self.uid = uid
        self.process = None
        self.killed = set()
        self.smtp, self.pop3, self.pop3s, self.lmtp = free_ports(4)
        self.extra = conf
        self.processes = processes
        self.plaintext = not tls_only
        self.accounts = ["%s@%s" % (a, DOMAIN) if "@" not in a else a for a in accounts]
        self.write_config()
        if start:
            self.start()
            self.create_accounts()

    def write_config(self):
        with open(self.config, "w") as f:
            f.write("""server {
    hostname = "mail.example.test"
    domains = {"example.test"}
    processes = %d
}
listen {
    smtp = {"127.0.0.1:%d"}
    lmtp = {"127.0.0.1:%d"}
    pop3 = {"127.0.0.1:%d"}
    pop3s = {"127.0.0.1:%d"}
}
pop3 {
    plaintext_login = %s
}
%s
""" % (self.processes, self.smtp, self.lmtp, self.pop3, self.pop3s, "true" if self.plaintext else "false", self.extra))

    # ---- life ----

    def start(self, seconds=60):
        read_end, write_end = os.pipe()
        command = [PROGRAM, "serve", "--config", self.config, "--state", self.state, "--ready-fd", str(write_end)]
        if self.probing:
            command.append("--probing")
        kwargs = {}
        if self.uid is not None:
            shutil.chown(self.dir, self.uid, self.uid)
            kwargs = {"user": self.uid, "group": self.uid, "extra_groups": []}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            pass_fds=[write_end], **kwargs)
        os.close(write_end)
        os.set_blocking(read_end, False)
        end = time.monotonic() + seconds
        ready = b""
        while not ready and time.monotonic() < end and self.process.poll() is None:
            try:
                ready = os.read(read_end, 1)
            except BlockingIOError:
                time.sleep(0.02)
        os.close(read_end)
        if not ready:
            raise AssertionError("the service did not start:\n" + self.log()[-4000:])
        return self

    def stop(self, expect=0):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the service did not stop:\n" + self.log()[-3000:])
        self.process = None
        if expect is not None:
            assert code == expect, "exit code %d:\n%s" % (code, self.log()[-3000:])

    def kill_all(self):
        """What a power cut leaves of the processes: nothing."""
        pids = [p["pid"] for p in self.status()["processes"] if p["pid"]]
        self.process.kill()
        self.process.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in pids:
            wait_for(lambda pid=pid: not os.path.exists("/proc/%d" % pid) or is_zombie(pid), 5, "death of %d" % pid)
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            self.stop(expect=None if exc[0] else 0)
        finally:
            if not self.keep and not (exc[0] and os.environ.get("KK_KEEP")):
                shutil.rmtree(self.dir, ignore_errors=True)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    # ---- command line ----

    def ctl(self, *args, input=None, check=True):
        r = subprocess.run([PROGRAM, *args, "--config", self.config, "--state", self.state], input=input, capture_output=True, text=True,
                           timeout=60, env=self.env)
        if check and r.returncode != 0:
            raise AssertionError("%s: exit %d: %s%s" % (args, r.returncode, r.stdout, r.stderr))
        return r

    def ctl_json(self, *args):
        return json.loads(self.ctl(*args, "--json").stdout)

    def status(self):
        return self.ctl_json("status")

    def create_accounts(self, password=PASSWORD):
        control = Control(self.state, "authd")
        for a in self.accounts:
            control.account_add(a, password)
        control.close()

    def pid(self, role, instance=0):
        for p in self.status()["processes"]:
            if p["role"] == role and p["instance"] == instance:
                return p["pid"]
        raise KeyError(role)

    def kill(self, role, sig=signal.SIGKILL):
        pid = self.pid(role)
        if pid == 0:
            raise ProcessLookupError(role + " is down")
        os.kill(pid, sig)
        if sig == signal.SIGKILL:
            self.killed.add(pid)
        return pid

    def wait_serving(self, seconds=20):
        """All roles serve, and the supervisor has seen the end of those that were killed."""
        def all_up():
            try:
                return all(p["state"] == "serving" and p["pid"] not in self.killed for p in self.status()["processes"])
            except AssertionError:
                return False
        wait_for(all_up, seconds, "all roles serving")

    def trail(self, *filters):
        out = self.ctl("trail", "--json", *filters).stdout
        return [json.loads(line) for line in out.splitlines() if line]

    # ---- mail ----

    def smtp_client(self, timeout=30):
        return smtplib.SMTP("127.0.0.1", self.smtp, local_hostname="client.example.org", timeout=timeout)

    def send(self, recipients, message, sender="sender@example.org"):
        with self.smtp_client() as c:
            return c.sendmail(sender, recipients, message)

    def ca(self):
        path = os.path.join(self.state, "keyd", "selfsigned.crt")
        return path

    def tls_context(self):
        context = ssl.create_default_context(cafile=self.ca())
        return context

    def pop3_client(self, user="alice@example.test", password=PASSWORD, tls=True, timeout=30, utf8=False):
        if tls:
            # The certificate is for mail.example.test; the test connects to 127.0.0.1.
            context = self.tls_context()
            context.check_hostname = False
            c = poplib.POP3_SSL("127.0.0.1", self.pop3s, context=context, timeout=timeout)
        else:
            c = poplib.POP3("127.0.0.1", self.pop3, timeout=timeout)
        if utf8:
            c.utf8()  # without it, header fields with UTF-8 are given downgraded (RFC 6856)
        c.user(user)
        c.pass_(password)
        return c

    def fetch(self, user="alice@example.test", delete=False, password=PASSWORD):
        """All messages as bytes with CRLF."""
        c = self.pop3_client(user, password, utf8=True)
        count = len(c.list()[1])
        out = []
        for i in range(1, count + 1):
            out.append(b"\r\n".join(c.retr(i)[1]) + b"\r\n")
            if delete:
                c.dele(i)
        c.quit()
        return out


def is_zombie(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def body_after_trace(message):
    """What was sent: the message without the lines that we put in front (Return-Path, Delivered-To, Received)."""
    rest = message
    while True:
        name = rest.split(b":", 1)[0].lower()
        if name not in (b"return-path", b"delivered-to", b"received"):
            return rest
        end = rest.index(b"\r\n")
        while rest[end + 2:end + 3] in (b" ", b"\t"):
            end = rest.index(b"\r\n", end + 2)
        rest = rest[end + 2:]
        if name == b"received":
            return rest  # ours is the last that we add; what follows came with the message
