"""The report's style sheet. Colours are variables with a value for light and one for dark."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fcfcfa; --ink: #1c2127; --soft: #5b6570; --rule: #e2e4e3; --panel: #f4f5f2;
  --before: #818a93; --after: #1f62b8; --wash: #1f62b81f; --greywash: #818a9333;
  --alert: #c2410c; --good: #1b7a4b; --cost: #b97c12;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --ink: #e5e8ea; --soft: #9aa4ad; --rule: #2b3136; --panel: #1c2024;
    --before: #7f8993; --after: #6fa8f5; --wash: #6fa8f52b; --greywash: #7f89933d;
    --alert: #ff8a57; --good: #5cc690; --cost: #d9a441;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink); font-size: 16px; line-height: 1.55;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans",
    Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
header, main { max-width: 1136px; margin: 0 auto; padding: 0 32px; }
header { padding-top: 56px; }
main { padding-bottom: 96px; }
h1 {
  font-size: 46px; line-height: 1.14; letter-spacing: -0.02em; font-weight: 650; margin: 12px 0 20px;
  max-width: 21em; text-wrap: balance;
}
h2 { font-size: 25px; line-height: 1.25; letter-spacing: -0.01em; font-weight: 640; margin: 0 0 8px; }
h3 { font-size: 17px; line-height: 1.35; font-weight: 640; margin: 0; }
h4 { font-size: 14.5px; line-height: 1.35; font-weight: 600; margin: 8px 0 0; }
p { margin: 0 0 12px; max-width: 44em; }
.eyebrow, .soft, figcaption, dt, thead th { color: var(--soft); }
.eyebrow { font-size: 14px; margin: 0; }
.lead { font-size: 19px; line-height: 1.5; max-width: 46em; }
.promise { margin-bottom: 4px; }
.warning {
  border-left: 3px solid var(--alert); background: var(--panel); padding: 10px 16px; margin: 20px 0 0;
  max-width: 52em;
}
.warning strong { color: var(--alert); }
.kept { color: var(--good); }
.broken { color: var(--alert); }
section { border-top: 1px solid var(--rule); margin-top: 64px; padding-top: 32px; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 24px 32px;
  margin: 40px 0 0;
}
.figures dd { margin: 0; font-size: 27px; font-weight: 620; letter-spacing: -0.01em; line-height: 1.3; }
.figures dt { font-size: 14px; }
.figures small {
  display: block; font-size: 14px; font-weight: 400; letter-spacing: 0; color: var(--soft);
  line-height: 1.45;
}
.pictures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 48px; margin-top: 40px; }
figure { margin: 0; min-width: 0; }
figure.one, .panel { max-width: 600px; }
figure.several { grid-column: 1 / -1; }
.several.three .panels { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 20px 32px; }
.several.three .chart text { font-size: 14.6px; }
.several .panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px 48px; }
figcaption { font-size: 14.5px; line-height: 1.5; margin-top: 4px; max-width: 44em; }
.keys {
  display: flex; flex-wrap: wrap; gap: 2px 18px; padding: 0; margin: 6px 0 10px; list-style: none;
  font-size: 14px; color: var(--soft);
}
.keys li { display: flex; align-items: center; gap: 7px; }
.key { width: 12px; height: 12px; flex: none; overflow: visible; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { font-size: 10.8px; fill: var(--soft); }
.chart text.limit, .chart text.mark {
  paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round;
}
.chart text.limit { fill: var(--alert); }
.chart text.mark { fill: var(--good); }
.grid { stroke: var(--rule); stroke-width: 0.8; }
.axis { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke-linejoin: round; }
.key .line { stroke: var(--soft); stroke-width: 1.6; }
.area { stroke-width: 1.5; stroke-linejoin: round; }
.area.before { fill: var(--greywash); stroke: var(--before); }
.area.after { fill: var(--wash); stroke: var(--after); }
.line.before { stroke: var(--before); stroke-width: 2; }
.line.after { stroke: var(--after); stroke-width: 2; }
.line.middle { stroke-width: 1.6; stroke-dasharray: 4 3; }
.line.level { stroke: var(--ink); stroke-width: 2; }
.line.limit { stroke: var(--alert); stroke-width: 1.3; }
.line.signal { stroke: var(--good); stroke-width: 1.3; stroke-dasharray: 5 3; }
.line.joined { stroke: var(--after); stroke-width: 1.4; }
.line.reach { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 2 3; }
.line.worst, .line.p95, .line.mean { stroke: var(--ink); stroke-width: 1.6; }
.line.p95 { stroke: var(--soft); }
.line.mean { stroke: var(--before); stroke-dasharray: 3 3; }
.dots { fill-opacity: 0.42; }
.dots.dense { fill-opacity: 0.2; }
.dots.solid { fill-opacity: 1; }
.dots.before { fill: var(--before); }
.dots.after, .dots.hit { fill: var(--after); }
.dots.worst { fill: var(--ink); }
.dots.p95 { fill: var(--soft); }
.dots.mean { fill: var(--before); }
.ring { fill: var(--page); stroke: var(--alert); stroke-width: 2; }
.ring.chosen { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.bar.saving, .bar.near { fill: var(--after); }
.bar.literal { fill: var(--good); }
.bar.miss { fill: var(--before); }
.bar.overhead { fill: var(--cost); }
.bar.idle { fill-opacity: 0.3; }
.bar.idle:not(.saving):not(.overhead) { fill: var(--before); fill-opacity: 0.55; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; line-height: 1.45; margin: 40px 0 0; }
details table { margin-top: 12px; }
details caption { display: none; }
caption { text-align: left; font-size: 17px; font-weight: 640; padding-bottom: 8px; }
caption small { display: block; color: var(--soft); font-size: 14px; font-weight: 400; }
th, td {
  text-align: left; vertical-align: top; padding: 9px 20px 9px 0; border-bottom: 1px solid var(--rule);
}
th { font-weight: 500; font-size: 14.5px; }
thead th { font-size: 13.5px; vertical-align: bottom; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
td.reason, th.reason { padding-right: 0; }
td.word { white-space: nowrap; }
.wide th.name { min-width: 8em; max-width: 20em; }
.wide td.reason { min-width: 16em; }
tr.chosen th, tr.chosen td { font-weight: 640; }
tr.chosen td.reason { font-weight: 400; }
tr.idle th, tr.idle td { color: var(--soft); }
td small { color: var(--soft); font-size: 12.5px; }
.times { max-width: 900px; }
.times tbody th:first-child[rowspan] { font-weight: 640; }
.times tbody th small { display: block; font-weight: 400; color: var(--soft); font-size: 13px; }
.times tbody tr:first-child > :not([rowspan]) { border-bottom: 0; padding-bottom: 2px; }
.times tbody tr:last-child > * { padding-top: 2px; }
.times td.ratio { font-size: 17px; font-weight: 620; padding-right: 0; vertical-align: middle; }
.times td.ratio small { font-weight: 400; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 40px 64px; }
dl.facts {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 7px 28px; margin: 16px 0 0;
  font-size: 15px;
}
dl.facts dd { margin: 0; }
blockquote {
  margin: 12px 0; padding: 14px 18px; background: var(--panel); border-radius: 6px; max-width: 48em;
  font-size: 15px;
}
.parts { display: flex; gap: 3px; height: 14px; margin: 20px 0 6px; max-width: 640px; }
.parts span { border-radius: 2px; background: var(--before); min-width: 3px; }
.keys i { width: 12px; height: 10px; border-radius: 2px; background: var(--before); }
.parts .fit, .keys .fit { background: var(--cost); }
.parts .held, .keys .held { background: var(--after); }
.wide + h3, .pair + h3, .wide + p { margin-top: 14px; }
.pair + h3 { margin-top: 40px; }
details { margin-top: 16px; }
summary { cursor: pointer; color: var(--soft); font-size: 14.5px; }
ul.notes { padding-left: 20px; max-width: 44em; margin: 16px 0 0; }
ul.notes li { margin-bottom: 6px; }
@media screen and (max-width: 820px) {
  header, main { padding-left: 20px; padding-right: 20px; }
  header { padding-top: 28px; }
  main { padding-bottom: 56px; }
  h1 { font-size: 31px; }
  h2 { font-size: 22px; }
  .lead { font-size: 17px; }
  section { margin-top: 44px; padding-top: 24px; }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 22px 20px; margin-top: 32px; }
  .figures dd { font-size: 22px; }
  .pictures, .pair, .several .panels, .several.three .panels {
    grid-template-columns: minmax(0, 1fr); gap: 36px;
  }
  .several .panels, .several.three .panels { gap: 20px; }
  .several.three .chart text { font-size: 10.8px; }
  .wide thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .wide tr {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(74px, 1fr)); gap: 4px 14px;
    padding: 14px 0; border-bottom: 1px solid var(--rule);
  }
  .wide th, .wide td { display: block; padding: 0; border: 0; }
  .wide td.number { text-align: left; white-space: normal; }
  .wide td.word { color: var(--soft); }
  .wide td.number::before {
    content: attr(data-label); display: block; font-size: 12.5px; font-weight: 400; color: var(--soft);
  }
  .wide th.name, .wide td.word, .wide td.reason { grid-column: 1 / -1; white-space: normal; }
  .wide th.name, .wide td.reason { min-width: 0; max-width: none; }
  .wide th.name { font-weight: 620; }
  .times th, .times td { padding-right: 9px; font-size: 13px; overflow-wrap: normal; }
  .times td small { display: block; font-size: 11.5px; }
  .times tbody th small { font-size: 12px; }
  .times td.ratio { font-size: 15px; }
  .times td.ratio small { white-space: normal; }
  dl.facts { gap: 7px 18px; }
}
@media screen and (max-width: 480px) {
  .chart text, .several.three .chart text { font-size: 13.6px; }
  .times th, .times td { padding-right: 7px; font-size: 12.5px; }
  .times td small, .times tbody th small { font-size: 11.5px; }
}
@media print {
  :root {
    color-scheme: light;
    --page: #fff; --ink: #000; --soft: #444; --rule: #bbb; --panel: #f4f4f4;
    --before: #767676; --after: #1f62b8; --wash: #1f62b81f; --greywash: #76767633;
    --alert: #b03a08; --good: #1b7a4b; --cost: #9a6a10;
  }
  body { font-size: 11pt; }
  header, main { padding: 0; max-width: none; }
  h1 { font-size: 24pt; }
  .pictures, .several .panels, .several.three .panels {
    grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px 28px;
  }
  .chart text, .several.three .chart text { font-size: 13.6px; }
  .figures { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  h2, h3, h4, caption { break-after: avoid; }
  section { margin-top: 24pt; padding-top: 12pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
  figure, tr, .times tbody, .warning { break-inside: avoid; }
  .bar, .area, .parts span, .dots { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
