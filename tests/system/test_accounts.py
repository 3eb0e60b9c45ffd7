"""Accounts, aliases and domains as the administrator meets them, and what a crash or a guesser can do to them."""
import json
import os
import poplib
import random
import smtplib
import sqlite3
import statistics
import threading
import time

import pytest

from kk import DOMAIN, PASSWORD, Service, wait_for

MESSAGE = b"Subject: hi\r\n\r\nhello\r\n"


def accounts(kk):
    return {a["address"]: a for a in kk.ctl_json("account", "list")["accounts"]}


def refused(kk, address, code):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as e:
        kk.send([address], MESSAGE)
    assert e.value.recipients[address][0] == code, e.value.recipients


def events(kk, *filters):
    return kk.trail(*filters)


def test_life_of_an_account(kk):
    """Every change is in the trail with who made it. [R7.1]"""
    made = json.loads(kk.ctl("account", "add", "Carol@EXAMPLE.test", "--json").stdout)
    assert len(made["password"]) >= 20
    kk.send(["carol@example.test"], MESSAGE)
    assert len(kk.fetch("carol@example.test", password=made["password"])) == 1
    kk.ctl("account", "password", "carol@example.test", "--password-stdin", input="another password 7\n")
    with pytest.raises(poplib.error_proto):
        kk.pop3_client("carol@example.test", made["password"])
    assert len(kk.fetch("carol@example.test", password="another password 7")) == 1
    kk.ctl("account", "quota", "carol@example.test", "5M")
    assert accounts(kk)["carol@example.test"]["quota"] == 5 * 1024 * 1024
    assert accounts(kk)["carol@example.test"]["messages"] == 1
    kk.ctl("account", "delete", "carol@example.test")
    refused(kk, "carol@example.test", 550)
    r = kk.ctl("account", "add", "carol@example.test", check=False)
    assert r.returncode == 67 and "never given" in r.stderr
    wait_for(lambda: events(kk, "event=account.deleted"), 5, "the last event")
    told = events(kk, "user=carol@example.test", "event=account.*")
    assert [e["event"] for e in told] == ["account.created", "account.changed", "account.changed", "account.deleted"]
    assert [e.get("what") for e in told] == [None, "password", "quota", None]
    assert all(e["actor"] for e in told)


def test_suspension_reaches_an_open_session(kk):
    kk.send(["alice@example.test"], MESSAGE)
    session = kk.pop3_client()
    kk.ctl("account", "suspend", "alice@example.test")
    with pytest.raises((poplib.error_proto, OSError, EOFError)):
        session.retr(1)
    refused(kk, "alice@example.test", 550)
    with pytest.raises(poplib.error_proto):
        kk.pop3_client()
    kk.ctl("account", "resume", "alice@example.test")
    assert len(kk.fetch()) == 1


def test_wrong_uses_have_their_own_exit_status(kk):
    rows = [
        (("account", "add", "nonsense"), 65),
        (("account", "add", "x@elsewhere.test"), 67),
        (("account", "add", "a+b@example.test"), 65),
        (("account", "add", "alice@example.test"), 73),
        (("account", "password", "nobody@example.test"), 67),
        (("account", "delete", "nobody@example.test"), 67),
        (("account", "quota", "alice@example.test", "much"), 64),
        (("alias", "add", "x@example.test", "someone@elsewhere.test"), 67),
        (("alias", "add", "alice@example.test", "bob@example.test"), 73),
        (("alias", "delete", "none@example.test"), 67),
        (("domain", "delete", "example.test"), 75),
        (("domain", "delete", "none.test"), 67),
        (("domain", "add", "no domain"), 65),
        (("trail", "since=yesterday"), 65),
    ]
    for arguments, status in rows:
        r = kk.ctl(*arguments, check=False)
        assert r.returncode == status and r.stderr.startswith("kakitome: "), (arguments, r.returncode, r.stderr)
    r = kk.ctl("account", "add", "short@example.test", "--password-stdin", input="1234567\n", check=False)
    assert r.returncode == 65 and "shorter" in r.stderr
    assert "short@example.test" not in accounts(kk)


def test_aliases_and_domains(kk):
    kk.ctl("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    kk.ctl("alias", "add", "all@example.test", "team@example.test", "alice@example.test")
    kk.send(["all@example.test", "alice@example.test"], MESSAGE)
    assert len(kk.fetch("alice@example.test")) == 1
    assert len(kk.fetch("bob@example.test")) == 1
    kk.ctl("alias", "delete", "team@example.test", "bob@example.test")
    assert len(kk.ctl_json("alias", "list")["aliases"]) == 3
    kk.ctl("alias", "delete", "all@example.test")
    refused(kk, "all@example.test", 550)
    refused(kk, "x@second.test", 550)
    kk.ctl("domain", "add", "second.test")
    refused(kk, "x@second.test", 550)
    kk.ctl("domain", "add", "second.test", "--catch-all", "bob@example.test")
    kk.send(["x@second.test", "postmaster@example.test"], MESSAGE)
    assert len(kk.fetch("bob@example.test")) == 2
    assert {d["domain"] for d in kk.ctl_json("domain", "list")["domains"]} == {"example.test", "second.test"}
    kk.ctl("domain", "delete", "second.test")
    refused(kk, "x@second.test", 550)


def test_a_list_is_all_or_nothing_and_reserves_nothing_in_vain(kk):
    """A member that is full puts the message off for all; room reserved with the others is given back at once."""
    kk.ctl("account", "quota", "bob@example.test", "1K")
    kk.ctl("account", "quota", "alice@example.test", "1M")
    kk.ctl("alias", "add", "team@example.test", "alice@example.test", "bob@example.test")
    with kk.smtp_client() as c:
        c.ehlo()
        for _ in range(10):
            c.mail("a@example.org", ["SIZE=300000"])
            assert c.rcpt("team@example.test")[0] in (452, 552)
            c.rset()
        c.mail("a@example.org", ["SIZE=300000"])
        assert c.rcpt("alice@example.test")[0] == 250


def test_hashes_follow_the_settings(kk):
    """After a change of the parameters the next login renews the hash; the password stays."""
    kk.extra = "auth { argon2_passes = 3 }\n"
    kk.write_config()
    kk.ctl("reload")
    kk.pop3_client().quit()
    kk.pop3_client().quit()
    kk.stop()
    db = sqlite3.connect(os.path.join(kk.state, "authd", "accounts.db"))
    encoded = dict(db.execute("SELECT address, encoded FROM credential JOIN account ON account.id = credential.account"))
    db.close()
    assert "t=3" in encoded["alice@example.test"] and "t=2" in encoded["bob@example.test"]
    assert all(e.startswith("$argon2id$") for e in encoded.values())
    kk.start()
    kk.pop3_client().quit()
    kk.pop3_client("bob@example.test").quit()


def test_what_is_set_survives(kk):
    kk.ctl("alias", "add", "team@example.test", "alice@example.test")
    kk.ctl("account", "suspend", "bob@example.test")
    before = accounts(kk)
    kk.stop()
    kk.start()
    after = accounts(kk)
    assert before == after
    kk.send(["team@example.test"], MESSAGE)
    refused(kk, "bob@example.test", 550)
    assert len(kk.fetch()) == 1


def try_login(kk, user, password):
    begin = time.monotonic()
    with pytest.raises(poplib.error_proto) as e:
        kk.pop3_client(user, password)
    return time.monotonic() - begin, str(e.value)


def test_the_same_answer_in_the_same_time_for_unknown_users():
    with Service(conf="auth { failure_delay = 0\n max_failures = 1000 }") as kk:
        kk.ctl("account", "suspend", "bob@example.test")
        times, answers = {}, set()
        users = ["alice@example.test", "bob@example.test", "nobody@example.test", "x@elsewhere.test"]
        for _ in range(8):
            for user in users:
                seconds, answer = try_login(kk, user, "wrong password")
                times.setdefault(user, []).append(seconds)
                answers.add(answer)
        assert len(answers) == 1, answers
        medians = [statistics.median(t) for t in times.values()]
        assert max(medians) < 2 * min(medians), times
        reasons = {(e["user"], e["reason"]) for e in events(kk, "event=login.refused")}
        assert ("nobody@example.test", "unknown user") in reasons


def test_a_guesser_is_refused_and_its_password_guess_no_longer_tried():
    """[T2.2.1.1]"""
    with Service(conf="auth { failure_delay = 0\n max_failures = 3 }") as kk:
        for _ in range(3):
            try_login(kk, "alice@example.test", "wrong password")
        _, answer = try_login(kk, "alice@example.test", PASSWORD)  # the right one, from the same network
        assert answer
        kk.pop3_client("bob@example.test").quit()  # others from there are not touched
        assert events(kk, "event=login.refused", "reason~throttled")


def test_accounts_survive_a_killed_authd():
    """Killed at any moment of making and deleting: what was confirmed is there, what was not can be repeated, and no account gets another's
    number. [R7.1(6)]"""
    rng = random.Random(20261122)
    with Service() as kk:
        stop = threading.Event()

        def killer():
            while not stop.wait(rng.uniform(0.1, 0.5)):
                try:
                    kk.kill(rng.choice(["authd", "authd", "stored", "auditd"]))
                except (KeyError, ProcessLookupError, AssertionError, json.JSONDecodeError):
                    pass

        t = threading.Thread(target=killer)
        t.start()
        made, deleted = set(), set()
        end = time.monotonic() + 12
        n = 0
        while time.monotonic() < end:
            n += 1
            address = "user%d@%s" % (n, DOMAIN)
            if kk.ctl("account", "add", address, "--password-stdin", input=PASSWORD + "\n", check=False).returncode != 0:
                time.sleep(0.05)
                continue
            made.add(address)
            if rng.random() < 0.3:
                victim = sorted(made)[0]
                made.discard(victim)  # without an answer it may be there or not
                if kk.ctl("account", "delete", victim, check=False).returncode == 0:
                    deleted.add(victim)
        stop.set()
        t.join()
        kk.wait_serving()
        wait_for(lambda: all(a["state"] == "active" for a in accounts(kk).values()), 20, "repair")
        there = accounts(kk)
        assert made <= set(there) and not deleted & set(there)
        assert len({a["account"] for a in there.values()}) == len(there)
        for address in list(made)[:5]:
            kk.send([address], MESSAGE)
            assert len(kk.fetch(address)) == 1
        assert len(made) > 3

        def created():
            told = [e for e in events(kk, "event=account.*")]
            return {e["address"] for e in told if e["event"] == "account.created"} >= made and \
                {e["address"] for e in told if e["event"] == "account.deleted"} >= deleted and told
        told = wait_for(created, 20, "all events in the trail")
        numbers = [(e["source"], e["source_epoch"], e["source_seq"]) for e in told]
        assert len(numbers) == len(set(numbers)), "an event was written twice"
        ids = [e["account"] for e in told if e["event"] == "account.created"]
        assert len(ids) == len(set(ids)), "a number was given twice"
