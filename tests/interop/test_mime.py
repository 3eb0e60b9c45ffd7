"""The structure that we find in every public message is the one that other parsers find, but for differences explained one by one."""
import os
import subprocess
import sys

import pytest

from kk import PROGRAM, ROOT, SHARED

HERE = os.path.dirname(os.path.abspath(__file__))


def test_differences():
    if not os.path.isdir(os.path.join(SHARED, "data", "mime")):
        pytest.skip("no shared data")
    build = os.path.dirname(PROGRAM)
    subprocess.run(["ninja", "-C", build, "mime-dump"], check=True, stdout=subprocess.DEVNULL)
    r = subprocess.run([sys.executable, os.path.join(HERE, "mime_diff.py"), "--program", os.path.join(build, "mime-dump")],
                       stdout=subprocess.PIPE, text=True, env=dict(os.environ, KK_SHARED=SHARED), cwd=ROOT)
    assert r.returncode == 0, r.stdout[-4000:]
