"""How the pages look: one stylesheet, light and dark, on a screen and on paper."""

from __future__ import annotations

STYLESHEET = """
:root {
  color-scheme: light dark;
  --ground: #fcfcfa; --raised: #f3f2ee; --ink: #1d1f21; --faint: #63666a; --rule: #d9d8d3;
  --good: #217a3c; --bad: #b3261e; --warn: #8a5a00; --doubt: #7a3e9d; --info: #1f5fa8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #17181a; --raised: #212326; --ink: #e6e4df; --faint: #9a9c9f; --rule: #3a3c40;
    --good: #6cc385; --bad: #f28b82; --warn: #e0b153; --doubt: #c79be0; --info: #8ab8ee;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 {
  font-size: 1.1rem; margin: 2.25rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--rule);
}
h3 { font-size: 1rem; margin: 1.1rem 0 .3rem; }
h4 { font-size: .85rem; margin: .9rem 0 .2rem; color: var(--faint); font-weight: 600; }
p, ul, ol, dl { margin: .4rem 0; }
ul, ol { padding-left: 1.3rem; }
a { color: var(--info); text-decoration-thickness: 1px; text-underline-offset: 2px; }
small, .faint { color: var(--faint); }
nav { margin: .8rem 0 0; } nav a { margin-right: .9rem; }
code, pre, .mono { font: .86em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre {
  margin: .25rem 0; padding: .6rem .75rem; background: var(--raised); border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 30rem; overflow-y: auto;
}
table { border-collapse: collapse; width: 100%; margin: .4rem 0; font-size: .92rem; }
th, td {
  text-align: left; vertical-align: top; padding: .28rem .7rem .28rem 0;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere;
}
th { font-weight: 600; color: var(--faint); white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.short { white-space: nowrap; } .name { min-width: 9rem; }
.wide { overflow-x: auto; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dl.facts dt { color: var(--faint); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
details { border-bottom: 1px solid var(--rule); padding: .3rem 0; }
details details { border: 0; padding: .15rem 0; }
details > summary { cursor: pointer; overflow-wrap: anywhere; }
details > :not(summary) { margin-left: 1rem; }
details:target > summary, :target > summary { background: var(--raised); }
blockquote { margin: .4rem 0; padding: .1rem 0 .1rem .9rem; border-left: 3px solid var(--rule); }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.doubt { color: var(--doubt); } .info { color: var(--info); }
.tag {
  display: inline-block; padding: 0 .45rem; border: 1px solid currentColor; border-radius: 999px;
  font-size: .8rem; line-height: 1.35rem; white-space: nowrap;
}
svg { display: block; max-width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg text.faint { fill: var(--faint); }
svg .grid { stroke: var(--rule); } svg .edge { stroke: var(--faint); fill: none; }
svg .box { fill: var(--raised); stroke: var(--rule); }
svg .edge.critical, svg .box.critical { stroke: var(--warn); stroke-width: 2; }
svg .bar { fill: var(--info); } svg .bar.good { fill: var(--good); }
svg .bar.bad { fill: var(--bad); }
svg .bar.warn { fill: var(--warn); } svg .bar.doubt { fill: var(--doubt); }
svg .bar.faint { fill: var(--faint); } svg .wait { fill: var(--warn); opacity: .35; }
svg .critical-mark { fill: none; stroke: var(--ink); stroke-width: 1.5; }
@media print {
  :root {
    --ground: #fff; --raised: #f6f6f4; --ink: #000; --faint: #444; --rule: #bbb;
    --good: #1b5e30; --bad: #8c1d18; --warn: #6b4600; --doubt: #5c2f78; --info: #174a83;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  pre { max-height: none; overflow: visible; }
  h2, h3, summary { break-after: avoid; }
  tr, svg { break-inside: avoid; }
}
"""
