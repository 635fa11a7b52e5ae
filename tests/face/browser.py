"""A page as headless Chromium sees it: what it says on the console, and what it asks the network for."""

import functools
import json
import re
import shutil
import subprocess

import pytest


@functools.cache
def _chromium():
    """The first Chromium that answers; some systems have a placeholder of its name, which only says how to get it."""
    for path in filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
            return path
    return None


def visit(page, scratch):
    """(document as text, lines on the console, addresses asked for by the page) of an HTML file.

    The browser has requests of its own, whose initiator is "not an origin"; no name is resolved for either.
    """
    chromium = _chromium()
    if chromium is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    log = scratch / "net.json"
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *(
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
            ),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={scratch / 'profile'}"),
            *("--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom", page.resolve().as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    recorded = json.loads(log.read_text())
    start = recorded["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [event.get("params", {}) for event in recorded["events"] if event["type"] == start]
    # The end of a request has no address.
    asked = [made["url"] for made in begun if "url" in made and made.get("initiator") != "not an origin"]
    console = re.findall(r"INFO:CONSOLE.*", done.stderr)
    return done.stdout, console, asked
