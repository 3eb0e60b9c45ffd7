#!/usr/bin/env python3
"""Everything that `./dev test` does after the packages are there: builds, unit tests, corpora, lint, black-box tests, a short fuzz.

Each stage writes build-logs/<stage>.log; the terminal gets a line a stage and what failed. The last line counts: N passed, N failed.
usage: tools/test.py [STAGE...]     stages: release sanitize clang lint unit unit-asan corpus system fuzz (default: all)
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build-logs")
FUZZ_SECONDS = int(os.environ.get("KK_FUZZ_SECONDS", "10"))
PYTEST_FOLDERS = ("tests/system", "tests/fault", "tests/interop")


class Result:
    def __init__(self, passed=0, failed=0, skipped=0, problems=()):
        self.passed, self.failed, self.skipped, self.problems = passed, failed, skipped, list(problems)


def run(log, command, env=None, timeout=1500):
    """Output goes to the log; the exit status comes back. A hanging command is ended with all that it started."""
    with open(log, "ab") as f:
        f.write(("$ " + " ".join(command) + "\n").encode())
        f.flush()
        p = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=dict(os.environ, **(env or {})),
                             start_new_session=True)
        try:
            return p.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            p.wait()
            f.write(b"ended after %d seconds\n" % timeout)
            return 124


def tail(log, lines=40):
    with open(log, errors="replace") as f:
        return "".join(f.readlines()[-lines:])


def build(log, directory, options, env=None, targets=()):
    if not os.path.exists(os.path.join(ROOT, directory, "build.ninja")):
        if run(log, ["meson", "setup", directory] + options, env) != 0:
            return Result(failed=1, problems=["meson setup %s\n%s" % (directory, tail(log))])
    if run(log, ["ninja", "-C", directory] + list(targets), env) != 0:
        return Result(failed=1, problems=["the build in %s\n%s" % (directory, tail(log))])
    return Result(passed=1)


def stage_release(log):
    return build(log, "build-rel", [])


def stage_sanitize(log):
    return build(log, "build-asan", ["-Db_sanitize=address,undefined", "-Dbuildtype=debug"])


def stage_clang(log):
    return build(log, "build-fuzz", ["-Dfuzzing=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dbuildtype=debugoptimized"],
                 {"CC": "clang"})


def stage_lint(log):
    status = run(log, [sys.executable, "tools/lint.py", "build-rel"])
    with open(log, errors="replace") as f:
        text = f.read()
    counts = re.findall(r"^(\d+) checks passed, (\d+) failed$", text, re.M)
    if not counts:
        return Result(failed=1, problems=[tail(log)])
    passed, failed = map(int, counts[-1])
    return Result(passed, failed, problems=[tail(log)] if status != 0 else [])


def cmocka_counts(output):
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", output))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", output))
    skipped = sum(int(n) for n in re.findall(r"\[  SKIPPED \] (\d+) test", output))
    return passed, failed, skipped


def add_meson_test(result, t):
    output = t.get("stdout", "") + t.get("stderr", "")
    passed, failed, skipped = cmocka_counts(output)
    result.skipped += skipped
    if t["result"] == "OK":
        result.passed += passed or 1
    elif t["result"] == "SKIP":
        result.skipped += 1
    else:
        result.passed += passed
        result.failed += failed or 1
        result.problems.append("%s: %s\n%s" % (t["name"], t["result"], "\n".join(output.splitlines()[-40:])))


def meson_tests(log, directory, suite, env=None, slow=1):
    name = "log-" + suite
    run(log, ["meson", "test", "-C", directory, "--suite", suite, "--logbase", name, "-t", str(slow), "--num-processes",
              str(os.cpu_count() or 2)], env)
    result = Result()
    path = os.path.join(ROOT, directory, "meson-logs", name + "-%s.json" % suite)
    if not os.path.exists(path):
        path = os.path.join(ROOT, directory, "meson-logs", name + ".json")
    if not os.path.exists(path):
        return Result(failed=1, problems=["%s tests in %s did not run\n%s" % (suite, directory, tail(log))])
    with open(path, errors="replace") as f:
        for line in f:
            add_meson_test(result, json.loads(line))
    os.unlink(path)
    return result


ASAN = {"ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


def stage_unit(log):
    return meson_tests(log, "build-rel", "unit")


def stage_unit_asan(log):
    return meson_tests(log, "build-asan", "unit", ASAN, slow=4)


def stage_corpus(log):
    return meson_tests(log, "build-asan", "corpus", ASAN, slow=4)


def add_pytest(result, path):
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        bad = [e for e in case if e.tag in ("failure", "error")]
        name = "%s::%s" % (case.get("classname"), case.get("name"))
        if bad:
            result.failed += 1
            result.problems.append("%s\n%s" % (name, "\n".join((bad[0].text or bad[0].get("message") or "").splitlines()[-25:])))
        elif any(e.tag == "skipped" for e in case):
            result.skipped += 1
        else:
            result.passed += 1


def stage_system(log):
    folders = [f for f in PYTEST_FOLDERS if os.path.isdir(os.path.join(ROOT, f))]
    xml_path = os.path.join(LOGS, "system.xml")
    if os.path.exists(xml_path):
        os.unlink(xml_path)
    env = {"KK_PROGRAM": os.path.join(ROOT, "build-rel", "kakitome"), "PYTHONDONTWRITEBYTECODE": "1"}
    status = run(log, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", "--junitxml", xml_path] + folders, env)
    if status == 5:  # there were no tests
        return Result()
    if not os.path.exists(xml_path):
        return Result(failed=1, problems=["pytest: exit status %d\n%s" % (status, tail(log))])
    result = Result()
    add_pytest(result, xml_path)
    if status not in (0, 1) and result.failed == 0:
        result.failed = 1
        result.problems.append("pytest: exit status %d\n%s" % (status, tail(log)))
    return result


def fuzz_one(target):
    name = target[len("fuzz-"):]
    work = tempfile.mkdtemp(prefix="kakitome-fuzz-")
    corpus = os.path.join(ROOT, "fuzz", "corpus", name)
    found = os.path.join(LOGS, "found", name + "-")
    log = os.path.join(LOGS, "fuzz-%s.log" % name)
    if os.path.exists(log):
        os.unlink(log)
    command = [os.path.join(ROOT, "build-fuzz", target), "-max_total_time=%d" % FUZZ_SECONDS, "-timeout=20", "-rss_limit_mb=4096",
               "-artifact_prefix=" + found, work] + ([corpus] if os.path.isdir(corpus) else [])
    status = run(log, command, ASAN, timeout=FUZZ_SECONDS + 120)
    shutil.rmtree(work, ignore_errors=True)
    return name, status, log


def stage_fuzz(log):
    result = Result()
    directory = os.path.join(ROOT, "build-fuzz")
    targets = sorted(n for n in os.listdir(directory) if n.startswith("fuzz-") and os.path.isfile(os.path.join(directory, n)))
    os.makedirs(os.path.join(LOGS, "found"), exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for name, status, one in pool.map(fuzz_one, targets):
            result.passed += status == 0
            result.failed += status != 0
            if status != 0:
                result.problems.append("fuzz %s: exit status %d (inputs in build-logs/found)\n%s" % (name, status, tail(one, 30)))
    with open(log, "a") as f:
        f.write("%d targets, %d seconds each\n" % (len(targets), FUZZ_SECONDS))
    return result


STAGES = [("release", stage_release, "build with gcc"), ("sanitize", stage_sanitize, "build with the sanitizers"),
          ("clang", stage_clang, "build with clang, fuzzers"), ("lint", stage_lint, "code and documents"),
          ("unit", stage_unit, "unit tests"), ("unit-asan", stage_unit_asan, "unit tests with the sanitizers"),
          ("corpus", stage_corpus, "kept inputs of the fuzzers"), ("system", stage_system, "system, fault and interop tests"),
          ("fuzz", stage_fuzz, "a short fuzz of each target")]


def main():
    wanted = sys.argv[1:] or [s[0] for s in STAGES]
    unknown = [w for w in wanted if w not in [s[0] for s in STAGES]]
    if unknown:
        sys.exit("there is no stage " + unknown[0])
    os.makedirs(LOGS, exist_ok=True)
    total = Result()
    for name, fn, what in STAGES:
        if name not in wanted:
            continue
        log = os.path.join(LOGS, name + ".log")
        if os.path.exists(log):
            os.unlink(log)
        start = time.monotonic()
        try:
            r = fn(log)
        except Exception as e:  # a broken stage is a failure, and the others still run
            r = Result(failed=1, problems=["%s: %s" % (type(e).__name__, e)])
        for p in r.problems:
            print("--- %s: %s" % (name, p), flush=True)
        print("%-10s %-35s %5d passed %4d failed %4d skipped %5.0f s" % (name, what, r.passed, r.failed, r.skipped,
                                                                         time.monotonic() - start), flush=True)
        total.passed += r.passed
        total.failed += r.failed
        total.skipped += r.skipped
    skipped = ", %d skipped" % total.skipped if total.skipped else ""
    print("%d passed, %d failed%s" % (total.passed, total.failed, skipped), flush=True)
    sys.exit(1 if total.failed or total.passed == 0 else 0)


if __name__ == "__main__":
    main()
