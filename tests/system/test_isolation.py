"""Each role of the release build tries to break out of its sandbox, from inside. [T2.2.1.2]"""
import os

import pytest

from kk import Control, Service

ROLES = ["tlsd", "smtpd", "login", "imapd", "authd", "keyd", "stored", "filterd", "auditd"]


def victim_of(role, state):
    """A file of another role: the mail for most, the keys for stored."""
    if role == "stored":
        return os.path.join(state, "keyd", sorted(os.listdir(os.path.join(state, "keyd")))[0])
    for root, _, files in os.walk(os.path.join(state, "stored")):
        for name in sorted(files):
            return os.path.join(root, name)
    raise AssertionError("stored has no files")


@pytest.fixture(scope="module", params=["newest", "2"], ids=["landlock-newest", "landlock-abi-2"])
def probed(request):
    env = {} if request.param == "newest" else {"KAKITOME_TEST_LANDLOCK_ABI": request.param}
    with Service(probing=True, env=env) as service:
        yield service


@pytest.mark.parametrize("role", ROLES)
def test_nothing_forbidden_succeeds(probed, role):
    other = "stored" if role != "stored" else "keyd"
    control = Control(probed.state, role)
    succeeded, text = control.probe("break-out", "%s %d" % (victim_of(role, probed.state), probed.pid(other)))
    control.close()
    assert succeeded == 0, text
    assert "none succeeded" in text


def test_probes_are_refused_in_normal_service(shared_kk):
    control = Control(shared_kk.state, "smtpd")
    with pytest.raises(RuntimeError, match="not started for probing"):
        control.probe("break-out", "/etc/passwd 1")
    control.close()


def test_each_role_has_its_own_user_as_root(shared_kk):
    if os.geteuid() != 0:
        pytest.skip("only root can give each role a user of its own")
    users = {}
    for p in shared_kk.status()["processes"]:
        with open("/proc/%d/status" % p["pid"]) as f:
            uid_line = [line for line in f if line.startswith("Uid:")][0].split()
        assert len(set(uid_line[1:])) == 1 and uid_line[1] != "0", p
        users.setdefault(p["role"], set()).add(uid_line[1])
    flat = [u for s in users.values() for u in s]
    assert len(flat) == len(set(flat)) == len(users)


def test_no_role_can_be_traced_or_dumps_core(shared_kk):
    for p in shared_kk.status()["processes"]:
        with open("/proc/%d/limits" % p["pid"]) as f:
            core = [line for line in f if line.startswith("Max core file size")][0].split()
        assert core[4] == "0" and core[5] == "0"
        with open("/proc/%d/status" % p["pid"]) as f:
            status = dict(line.split(":", 1) for line in f)
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
