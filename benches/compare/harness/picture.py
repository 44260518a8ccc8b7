"""The picture of the results: bars of server CPU per delivery, with their ranges, as SVG by hand."""

import statistics
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 760, 190, 150
BAR, GAP, HEAD = 16, 6, 34
# Seen on white and on black alike; where the page says which it is, the text is stronger.
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #777 }
  .head { font-weight: 600 }
  .tidings { fill: #2f81f7 } .floor { fill: #8b949e } .peer { fill: #d29922 }
  .range { stroke: #777; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } .range { stroke: #c9d1d9 } }
  @media (prefers-color-scheme: light) { text { fill: #24292f } .range { stroke: #24292f } }
"""


def draw(results):
    """All cases of a scenario, each with a scale of its own."""
    parts, y = [], 12
    for case, peers in results.runs.items():
        bars = [(peer, results.values(case, peer, "server_us")) for peer in peers]
        bars = sorted(((peer, values) for peer, values in bars if values), key=lambda bar: statistics.median(bar[1]))
        if not bars:
            continue
        parts.append(f'<text class="head" x="12" y="{y + 14}">{escape(case)}: server CPU per delivery, µs</text>')
        y += HEAD - 8
        scale = (WIDTH - LEFT - RIGHT) / max(max(values) for _, values in bars)
        for peer, values in bars:
            parts += _bar(peer, values, y, scale)
            y += BAR + GAP
        y += 14
    style = f"<style>{STYLE}</style>"
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    title = "<title>Server CPU per delivery: median, and range of the runs</title>"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', title, style, *parts, "</svg>", ""])


def _bar(peer, values, y, scale):
    median, low, high = statistics.median(values), min(values), max(values)
    kind = "tidings" if peer.startswith("tidings") else "floor" if peer.startswith("floor") else "peer"
    middle = y + BAR / 2
    label = f"{median:.2f} [{low:.2f}–{high:.2f}]" if len(values) > 1 else f"{median:.2f}"
    return [
        f'<text x="{LEFT - 8}" y="{middle + 4.5}" text-anchor="end">{escape(peer)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{max(median * scale, 1):.1f}" height="{BAR}" rx="2"/>',
        f'<line class="range" x1="{LEFT + low * scale:.1f}" x2="{LEFT + high * scale:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{LEFT + high * scale + 8:.1f}" y="{middle + 4.5}">{label}</text>',
    ]
