#!/usr/bin/env python3
"""Checks of the code and the documents that no compiler makes: tools/lint.py BUILD (a build folder with the program).

Each check prints what is wrong, with file and line. The last line: N checks passed, N failed.
"""
import concurrent.futures
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.chdir(ROOT)

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 100
# A remark made twice becomes a row here: pattern, where, why.
BANNED = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", r"\.(c|h|py|sh)$", "do it, or open an issue"),
    (r"(?<![\w.])/(home|Users|work|root)/\w", r"", "a path of one machine"),
    (r"\bassert\(0\)", r"\.c$", "say what cannot happen"),
    (r"#include \"(?!\w+/)", r"^src/.*\.[ch]$", "name the directory of a header"),
    (r"\bgoto (?!out\b|fail\b|done\b)", r"\.c$", "goto only forwards, to out"),
    (r"[ \t]+$", r"\.(c|h|py|md|build)$", "spaces at the end of a line"),
    (r"\t", r"^src/.*\.[ch]$", "a tab"),
]
BANNED_EXCEPT = {"tools/lint.py", "tools/lint_rfc.txt"}
LAYERS = ["base", "io", "ipc", "sandbox", "mail", "wire", "policy", "store", "trail", "conf", "account", "tls", "proto", "role", "ctl"]


def tracked(pattern):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout
    return sorted(f for f in out.splitlines() if re.search(pattern, f) and os.path.isfile(f))


def text_of(path):
    with open(path, errors="replace") as f:
        return f.read()


# ---- code ----

def compile_flags(build):
    """The flags of some ordinary source file, without its output."""
    with open(os.path.join(build, "compile_commands.json")) as f:
        entry = next(e for e in json.load(f) if e["file"].endswith("src/base/err.c"))
    words = entry["command"].split()
    return [w.replace("'", "") for w in words if w.startswith(("-std", "-W", "-D", "-f"))] + [
        "-include", os.path.join(ROOT, "src/base/banned.h"), "-Isrc", "-Wno-unused-function", "-Wno-unused-const-variable"]


def check_headers_alone(build):
    flags = compile_flags(build)

    def one(header):
        p = subprocess.run(["gcc"] + flags + ["-fsyntax-only", "-x", "c", "-"], input='#include "%s"\n' % header[len("src/"):],
                           capture_output=True, text=True)
        return "" if p.returncode == 0 else "%s does not compile alone:\n%s" % (header, p.stderr[:600])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [r for r in pool.map(one, [h for h in tracked(r"^src/.*\.h$") if "/fake_" not in h]) if r]


def functions_of(text):
    """(name, first line, number of lines) of each function, by the layout that clang-format gives: "{" and "}" in column 0."""
    lines = text.split("\n")
    start = name = None
    for i, line in enumerate(lines):
        if line == "{":
            j = i - 1
            while j > 0 and not re.match(r"\w", lines[j]):
                j -= 1
            m = re.search(r"(\w+)\(", lines[j])
            start, name = (j, m.group(1)) if m else (None, None)
        elif line == "}" and start is not None:
            yield name, start + 1, i - start + 1
            start = None


def check_sizes(_build):
    problems, lengths = [], []
    for path in tracked(r"^src/.*\.[ch]$"):
        text = text_of(path)
        if text.count("\n") > FILE_LINES_MAX and not path.endswith("_test.c"):  # tests are tables
            problems.append("%s: %d lines; split it at %d" % (path, text.count("\n"), FILE_LINES_MAX))
        if path.endswith("_test.c"):
            continue
        for name, line, n in functions_of(text):
            lengths.append(n)
            if n > FUNCTION_LINES_MAX:
                problems.append("%s:%d: %s has %d lines" % (path, line, name, n))
    if lengths:
        over = sum(n > 60 for n in lengths)
        print("trend: %d functions, median %d lines, %.1f %% above 60" % (len(lengths), statistics.median(lengths),
                                                                       100 * over / len(lengths)))
    return problems


def check_banned(_build):
    problems = []
    for path in tracked(r"\.(c|h|py|sh|md|build|txt)$|^dev$|^\.ci/|^bench/run$"):
        if path in BANNED_EXCEPT or path.startswith("fuzz/corpus"):
            continue
        lines = text_of(path).split("\n")
        for pattern, where, why in BANNED:
            if not re.search(where, path):
                continue
            problems += ["%s:%d: %s: %s" % (path, i + 1, why, line.strip()[:100]) for i, line in enumerate(lines)
                         if re.search(pattern, line)]
    return problems


def check_layers(_build):
    """A directory includes only what stands above it in the list (tests excepted)."""
    problems = []
    for path in tracked(r"^src/\w+/.*\.[ch]$"):
        own = path.split("/")[1]
        if own not in LAYERS or path.endswith(("_test.c", "_fuzz.c")):
            continue
        for i, line in enumerate(text_of(path).split("\n")):
            m = re.match(r'#include "(\w+)/', line)
            if m and m.group(1) in LAYERS and LAYERS.index(m.group(1)) > LAYERS.index(own):
                problems.append("%s:%d: %s includes %s, which is built on it" % (path, i + 1, own, m.group(1)))
    return problems


def check_rfcs(_build):
    """Every RFC that the code names is in the list with its title: a mistyped number is found, and a reader has the list."""
    known = dict(re.findall(r"^(\d+)\s+(\S.*)$", text_of("tools/lint_rfc.txt"), re.M))
    problems = []
    for path in tracked(r"^src/.*\.[ch]$|\.md$"):
        for i, line in enumerate(text_of(path).split("\n")):
            for number in re.findall(r"RFCs? ?(\d+)", line):
                if number not in known:
                    problems.append("%s:%d: RFC %s is not in tools/lint_rfc.txt" % (path, i + 1, number))
    return problems


# ---- documents ----

def describe(build, what):
    return subprocess.run([os.path.join(build, "kakitome"), "describe", what], capture_output=True, text=True, check=True).stdout


def check_made_documents(build):
    problems = []
    for what, path in (("options-man", "man/kakitome.conf.5"), ("completion", "packaging/bash-completion/kakitome")):
        if not os.path.exists(path) or text_of(path) != describe(build, what):
            problems.append("%s differs from the tables: run tools/documents" % path)
    return problems


def plain(page):
    return text_of(page).replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")


def check_man_pages(build):
    problems, pages = [], {}
    for line in describe(build, "commands").splitlines():
        command, option, _ = line.split("\t")
        page = "man/kakitome-%s.1" % command.split()[0]
        if not os.path.exists(page):
            problems.append("%s is missing (kakitome %s)" % (page, command))
            continue
        text = pages.setdefault(page, plain(page))
        if option and option not in text:
            problems.append("%s does not explain %s of kakitome %s" % (page, option, command))
        if not option and not re.search(r"kakitome[ -]" + re.escape(command), text):
            problems.append("%s does not name kakitome %s" % (page, command))
    overview, installed = plain("man/kakitome.1"), text_of("man/meson.build")
    problems += ["man/meson.build does not install " + p for p in tracked(r"^man/.*\.\d$") if os.path.basename(p) not in installed]
    for page in sorted(pages):
        name = os.path.basename(page)[:-2]
        if name not in overview:
            problems.append("man/kakitome.1 does not name %s(1)" % name)
    return problems


def check_man_options_exist(build):
    """The other way round: a page explains no option that its commands do not have."""
    known = {"--config", "--state", "--json", "--help", "--version"}
    for line in describe(build, "commands").splitlines():
        known.add(line.split("\t")[1])
    return ["%s: there is no option %s" % (page, o) for page in tracked(r"^man/.*\.1$") for o in sorted(set(
        re.findall(r"(?<!\w)--[a-z][a-z-]+", plain(page)))) if o not in known]


def check_options_used(build):
    """No option is parsed and ignored: each is read somewhere outside of src/conf."""
    p = subprocess.run([os.path.join(build, "kakitome"), "config", "get", "--json", "--config", "/dev/null"], capture_output=True,
                       text=True, check=True)
    code = "".join(text_of(f) for f in tracked(r"^src/.*\.[ch]$") if not f.startswith("src/conf/") and not f.endswith("_test.c"))
    used = set(re.findall(r"\w+", code))
    return ["no code reads the option %s" % o["option"] for o in json.loads(p.stdout)["options"]
            if o["option"].replace(".", "_", 1) not in used]


def check_troff(_build):
    problems = []
    for page in tracked(r"^man/.*\.[15]$"):
        p = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
        problems += [l for l in p.stdout.splitlines() if "referenced manual not found" not in l and "unknown font" not in l]
    return problems


def check_links(_build):
    problems = []
    for path in tracked(r"\.md$"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text_of(path)):
            if not os.path.exists(os.path.join(os.path.dirname(path), target)):
                problems.append("%s: there is no %s" % (path, target))
    return problems


def check_shell(_build):
    scripts = [f for f in tracked(r"^dev$|^\.ci/run$|\.sh$|^packaging/make-users$|^tools/documents$")]
    p = subprocess.run(["shellcheck"] + scripts, capture_output=True, text=True)
    q = subprocess.run(["shellcheck", "-s", "bash", "packaging/bash-completion/kakitome"], capture_output=True, text=True)
    return [o for o in (p.stdout, q.stdout) if o]


CHECKS = [check_headers_alone, check_sizes, check_banned, check_layers, check_rfcs, check_made_documents, check_man_pages,
          check_man_options_exist, check_options_used,
          check_troff, check_links, check_shell]


def main():
    build = sys.argv[1] if len(sys.argv) > 1 else "build-rel"
    failed = 0
    for check in CHECKS:
        problems = check(build)
        failed += bool(problems)
        for p in problems[:40]:
            print(p)
        if problems:
            print("^ %s: %d" % (check.__name__, len(problems)))
    print("%d checks passed, %d failed" % (len(CHECKS) - failed, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
