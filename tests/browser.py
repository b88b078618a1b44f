"""Chromium without a window, driven over its debugging port in real time: workers, scripts and all."""

import asyncio
import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

from tornado.websocket import websocket_connect

IS_HERE = shutil.which("chromium") is not None


@contextlib.contextmanager
def chromium():
    """A browser; yields the function that has a page of it drawn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
        ]
        process = subprocess.Popen(
            [*words, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port = _waited_for(lambda: (pathlib.Path(profile) / "DevToolsActivePort").read_text().split()[0])
            yield lambda *given, **options: asyncio.run(_drawn(port, *given, **options))
        finally:
            process.terminate()
            process.wait(timeout=30)


def _waited_for(attempt, seconds=30.0):
    end = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except (OSError, IndexError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


async def _drawn(port, address, until="true", width=1280, height=900, picture=None, seconds=60.0):
    """The page as it stands once an expression of JavaScript is true, and perhaps a picture of all of it."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        target = json.load(answer)
    socket = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=2**28)
    number = 0

    async def ask(method, **given):
        nonlocal number
        number += 1
        await socket.write_message(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            said = json.loads(await asyncio.wait_for(socket.read_message(), seconds))
            if said.get("id") == number:
                return said.get("result", said)

    async def value(expression):
        return (await ask("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    await ask("Emulation.setDeviceMetricsOverride", **size)
    await ask("Page.navigate", url=address)
    end = time.monotonic() + seconds
    while not await value(f"location.href != 'about:blank' && document.readyState == 'complete' && !!({until})"):
        if time.monotonic() > end:
            raise AssertionError(
                f"{address}: {until} is not true after {seconds} s: {await value('document.body.innerText')}"
            )
        await asyncio.sleep(0.2)
    if picture is not None:
        whole = await value("Math.min(document.documentElement.scrollHeight, 6000)")
        await ask("Emulation.setDeviceMetricsOverride", **(size | {"height": max(whole, height)}))
        shot = await ask("Page.captureScreenshot", format="png")
        pathlib.Path(picture).write_bytes(base64.b64decode(shot["data"]))
    found = await value("document.documentElement.outerHTML")
    overflow = await value("document.documentElement.scrollWidth - window.innerWidth")
    socket.close()
    while await socket.read_message() is not None:  # until the other end has hung up, too
        pass
    with opener.open(f"http://127.0.0.1:{port}/json/close/{target['id']}", timeout=30):
        pass
    return found, overflow
