# SPDX-License-Identifier: BSD-2-Clause
"""The two columns of `make bench` side by side: ratios, the table, and the chart in docs/; for arm64 the figures of the
last table of x86_64 stand beside them.

A ratio says how many times Candela's cost Linux needs. Where an aim was set, and Candela does not reach it, the table
says so. docs/bench.md keeps its own words; the table between its two marks is replaced, and docs/bench.svg is written
anew.
"""
import os
import re
from xml.sax.saxutils import escape

import measure

DOCS = os.path.join(measure.ROOT, "docs")
TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end -->\n)", re.S)
ISOLATED = re.compile(r"(<!-- isolated -->\n).*?(<!-- end -->\n)", re.S)     # in README

# figure, label, unit shown, divisor, aim
FIGURES = [
    ("boot_instructions", "boot to disk and network", "M instructions", 1e6, 50),
    ("disk_read_4k_qd1_instructions", "4 KiB read, depth 1", "instructions", 1, 5),
    ("disk_read_4k_qd32_instructions", "4 KiB read, depth 32", "instructions", 1, 5),
    ("udp_rx_instructions_per_packet", "UDP datagram received", "instructions", 1, 3),
    ("udp_tx_instructions_per_packet", "UDP datagram sent", "instructions", 1, 3),
    ("tcp_rx_instructions_per_mib", "TCP, MiB received", "M instructions", 1e6, 3),
    ("tcp_tx_instructions_per_mib", "TCP, MiB sent", "M instructions", 1e6, 3),
    ("nbd_read_4k_qd32_instructions", "NBD 4 KiB read, depth 32", "instructions", 1, 4),
    ("disk_read_4k_qd1_signals_per_1000", "depth 1: signals per 1000 reads", "", 1, None),
    ("disk_read_4k_qd1_interrupts_per_1000", "depth 1: interrupts per 1000 reads", "", 1, None),
    ("disk_read_4k_qd32_signals_per_1000", "depth 32: signals per 1000 reads", "", 1, None),
    ("disk_read_4k_qd32_interrupts_per_1000", "depth 32: interrupts per 1000 reads", "", 1, None),
]


class Row:
    def __init__(self, figure, label, unit, divisor, aim, candela, linux):
        self.figure, self.label, self.unit, self.divisor, self.aim = figure, label, unit, divisor, aim
        self.candela, self.linux, self.ratio = candela, linux, linux / candela
        self.missed = aim is not None and self.ratio < aim

    def text(self, value):
        value /= self.divisor
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if self.divisor > 1 else f"{value:.0f}"

    def ratio_text(self):
        return f"{self.ratio:,.0f}" if self.ratio >= 20 else f"{self.ratio:.1f}"

    def verdict(self):
        return "" if self.aim is None else f"{self.aim}, missed" if self.missed else f"{self.aim}"


def rows(shown):
    """One for each figure that both systems have."""
    value = {(one["system"], one["figure"]): one["value"] for one in shown}
    return [Row(figure, *rest, value["candela", figure], value["linux", figure]) for figure, *rest in FIGURES
            if value.get(("candela", figure)) and value.get(("linux", figure))]


def release(shown):
    return next((one["release"] for one in shown if "release" in one), "")


def show_ratios(found, arch):
    for row in found:
        measure.show(row.figure, row.ratio, "ratio", system="linux/candela", arch=arch, **({"aim": row.aim} if row.aim else {}))


def table(found):
    """Plain text, for a terminal."""
    if not found:
        return ""
    lines = [("", "Candela", "Linux", "", "ratio", "aim")]
    lines += [(row.label, row.text(row.candela), row.text(row.linux), row.unit, row.ratio_text(), row.verdict())
              for row in found]
    width = [max(len(line[n]) for line in lines) for n in range(6)]
    left = (0, 3, 5)
    text = ["  ".join(cell.ljust(width[n]) if n in left else cell.rjust(width[n])
                      for n, cell in enumerate(line)).rstrip() for line in lines]
    missed = [row.label for row in found if row.missed]
    text.append(f"aims missed: {', '.join(missed)}" if missed else "every aim is reached")
    return "\n".join(text) + "\n"


def markdown(found, kernel):
    lines = [f"| | Candela | Linux {kernel} | unit | ratio | aim |", "|---|--:|--:|---|--:|--:|"]
    lines += [f"| {row.label} | {row.text(row.candela)} | {row.text(row.linux)} | {row.unit} | {row.ratio_text()} | "
              f"{row.verdict()} |" for row in found]
    return "\n".join(lines) + "\n"


def isolated_markdown(shown):
    """What the same work costs in an isolated machine; empty when that was not measured."""
    value = {one["figure"]: one for one in shown if one["system"] == "candela"}
    lines = ["| | normal | isolated | unit | ratio |", "|---|--:|--:|---|--:|"]
    for figure, label, unit, divisor, aim in FIGURES:
        one = value.get(figure + "_isolated")
        if one and one.get("normal") and aim:
            row = Row(figure, label, unit, divisor, None, one["normal"], one["value"])
            lines.append(f"| {label} | {row.text(row.candela)} | {row.text(row.linux)} | {unit} | {row.ratio:.2f} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


# ---- the chart ----
STYLE = """
  .page { fill: #ffffff } .text { fill: #1f2328 } .dim { fill: #656d76 }
  .linux { fill: #c4cad1 } .candela { fill: #d9730d } .line { stroke: #d8dee4 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .text { fill: #e6edf3 } .dim { fill: #8d96a0 }
    .linux { fill: #4b545e } .candela { fill: #f0953b } .line { stroke: #30363d }
  }
  text { font: 14px -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif }
  .title { font-size: 17px; font-weight: 600 } .small { font-size: 12px } .ratio { font-size: 17px; font-weight: 600 }
"""
WIDTH, LEFT, BAR, TOP, STEP = 860, 216, 456, 92, 46


def chart(found, kernel):
    """Bars of the costs, Linux's always of full length: what is left of it is Candela's, the ratio stands beside it."""
    found = [row for row in found if row.aim is not None]
    height = TOP + STEP * len(found) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Instructions of Candela and of Linux">',
           f"<style>{STYLE}</style>", f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>']

    def text(x, y, what, kind, anchor="start"):
        out.append(f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(what)}</text>')

    def bar(y, share, kind):
        out.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{max(BAR * share, 1.5):.1f}" height="14" rx="2"/>')

    text(24, 34, "Instructions the guest executes, in the same lab", "text title")
    out.append('<rect class="candela" x="24" y="52" width="14" height="14" rx="2"/>')
    text(44, 64, "Candela", "text")
    out.append('<rect class="linux" x="120" y="52" width="14" height="14" rx="2"/>')
    text(140, 64, f"Linux {kernel} (full length)", "text")
    text(WIDTH - 24, 64, "Linux ÷ Candela", "dim small", "end")
    for n, row in enumerate(found):
        y = TOP + STEP * n
        out.append(f'<line class="line" x1="24" x2="{WIDTH - 24}" y1="{y - 6}" y2="{y - 6}"/>')
        text(LEFT - 14, y + 20, row.label, "text", "end")
        bar(y + 1, 1 / row.ratio, "candela")
        bar(y + 17, 1, "linux")
        short = " M" if row.divisor > 1 else ""
        text(LEFT + max(BAR / row.ratio, 1.5) + 6, y + 12, row.text(row.candela) + short, "text small")
        text(LEFT + BAR + 6, y + 28, row.text(row.linux) + short, "dim small")
        text(WIDTH - 24, y + 21, row.ratio_text() + "×", "text ratio", "end")
    text(24, height - 14, "Fewer is better. Counted by the lab under -icount; M: millions. docs/bench.md says how.",
         "dim small")
    return "\n".join(out) + "\n</svg>\n"


# ---- arm64 ----
MORE = [
    ("boot_instructions_64gib_over_1gib", "boot with 64 GiB over boot with 1 GiB", "ratio", 1, None),
    ("disk_read_4k_qd32_instructions_isolated", "4 KiB read, depth 32, isolated machine", "instructions", 1, None),
    ("udp_rx_instructions_per_packet_isolated", "UDP datagram received, isolated machine", "instructions", 1, None),
    ("image_bytes", "image of the appliance", "KiB", 1024, None),
]


def write_arm64(shown):
    """docs/bench-arm64.md: the table between its marks."""
    with open(os.path.join(DOCS, "bench.md"), encoding="utf-8") as f:
        beside = dict(re.findall(r"^\| ([^|]+) \| ([0-9.,]+) \| [0-9.,]+ \|", f.read(), re.M))
    value = {one["figure"]: one["value"] for one in shown if one["system"] == "candela" and one["arch"] == "arm64"}
    linux = {one["figure"]: one["value"] for one in shown if one["system"] == "linux" and one["arch"] == "arm64"}
    lines = [f"| | Candela | Linux {release(shown)} | unit | ratio | aim | Candela, x86_64 |", "|---|--:|--:|---|--:|--:|--:|"]
    for figure, label, unit, divisor, aim in FIGURES + MORE:
        if value.get(figure) is None:
            continue
        row = Row(figure, label, unit, divisor, aim, value[figure], linux.get(figure, 0))
        text = f"{value[figure]:.3f}" if unit == "ratio" else row.text(row.candela)
        there = [row.text(row.linux), unit, row.ratio_text(), row.verdict()] if figure in linux else ["", unit, "", ""]
        lines.append(f"| {label} | {text} | {' | '.join(there)} | {beside.get(label, '')} |")
    path = os.path.join(DOCS, "bench-arm64.md")
    with open(path, encoding="utf-8") as f:
        words = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(TABLE.sub(lambda marks: marks[1] + "\n".join(lines) + "\n" + marks[2], words))


def write_documents(found, kernel=None):
    if not found:
        return
    kernel = kernel or release(measure.shown)
    with open(os.path.join(DOCS, "bench.svg"), "w", encoding="utf-8") as f:
        f.write(chart(found, kernel))
    replace(os.path.join(DOCS, "bench.md"), TABLE, markdown(found, kernel))
    costs = isolated_markdown(measure.shown)
    if costs:
        replace(os.path.join(measure.ROOT, "README.md"), ISOLATED, costs)


def replace(path, marks, text):
    """What stands between the two marks."""
    with open(path, encoding="utf-8") as f:
        words = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(marks.sub(lambda found: found[1] + text + found[2], words))
