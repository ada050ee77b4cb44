#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes what README.md shows of a real run: starts `make run`, uses it as a visitor would, and puts what both
terminals show, unedited, between the README's marks. Also copies apps/hello/main.c to its place there.

    scripts/transcript.py            rewrites README.md
    scripts/transcript.py --print    only prints
"""
import os
import re
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(ROOT, "README.md")
COMMANDS = [
    "nbdinfo --size nbd://127.0.0.1:{nbd}/disk0",
    "nbdcopy nbd://127.0.0.1:{nbd}/disk0 /tmp/copy.img && cmp /tmp/copy.img build/sample/disk0.img && echo the same",
    "qemu-img info nbd://127.0.0.1:{nbd}/disk0 | head -3",
    "curl -s http://127.0.0.1:{http}/metrics | grep -v '^#' | head -6",
]


def session():
    """The text of both terminals."""
    run = subprocess.Popen([sys.executable, "-u", os.path.join(ROOT, "scripts", "run.py")], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, start_new_session=True)
    console, ports = ["$ make run"], {}
    for line in run.stdout:
        console.append(line.rstrip())
        for name in ("nbd", "http"):
            if found := re.search(name + r"://127\.0\.0\.1:(\d+)/", line):
                ports[name] = found[1]
        if "Ctrl-C" in line:
            break
    if len(ports) != 2:
        run.kill()
        sys.exit("transcript: the services did not come up:\n" + "\n".join(console))
    client = []
    for command in COMMANDS:
        command = command.format(**ports)
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        client += ["$ " + command] + (done.stdout + done.stderr).rstrip().splitlines()
    run.send_signal(signal.SIGINT)
    rest, _ = run.communicate(timeout=20)
    console += ["^C"] + [line for line in rest.strip().splitlines() if line.startswith("run:")]
    while "" in console:
        console.remove("")
    return "\n".join(console), "\n".join(client)


def replace(text, mark, content):
    pattern = re.compile(rf"(<!-- {mark} -->\n```\w*\n).*?(```\n<!-- end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"transcript: README.md has no mark {mark}")
    return pattern.sub(lambda m: m[1] + content.rstrip() + "\n" + m[2], text)


def main():
    console, client = session()
    if "--print" in sys.argv:
        print(console, client, sep="\n\n")
        return
    with open(os.path.join(ROOT, "apps", "hello", "main.c"), encoding="utf-8") as f:
        hello = f.read().split("*/\n", 2)[-1]
    with open(README, encoding="utf-8") as f:
        text = f.read()
    text = replace(text, "console", console)
    text = replace(text, "client", client)
    text = replace(text, "hello", hello)
    with open(README, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
