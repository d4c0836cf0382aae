"""Style and script of the page."""

STYLE = """
:root { --ink: #1d2430; --soft: #5a6472; --line: #dde1e7; --paper: #fff; --back: #f4f5f7; --key: #1660a8;
  --bad: #b3261e; --bad-back: #fdecea; --warn: #8a5a00; --warn-back: #fff6e0; --good: #1d6b3a; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; }
h2 { margin: 0 0 12px; font-size: 20px; }
h3 { margin: 26px 0 8px; font-size: 16px; }
p { margin: 6px 0; max-width: 90ch; }
.sub, .why, figcaption { color: var(--soft); }
nav { margin: 12px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--key); }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px;
  margin: 18px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th[scope=row] { white-space: nowrap; }
th[scope=col] { min-width: 11ch; }
.note { border-left: 4px solid #e0a100; background: var(--warn-back); padding: 8px 12px; margin: 8px 0;
  border-radius: 0 6px 6px 0; overflow-wrap: anywhere; }
.note.failed { border-color: var(--bad); background: var(--bad-back); }
.note b { margin-right: 6px; }
.note ul { margin: 4px 0; padding-left: 20px; }
.todo { color: var(--soft); display: block; }
.todo::before { content: "→ "; }
.quiet { border-color: var(--line); background: var(--back); }
.fine { color: var(--good); }
figure { margin: 0; }
.scroll + figure { margin-top: 16px; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: 13px; margin-top: 4px; max-width: 90ch; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(190px, 100%), 1fr)); gap: 14px; }
.pairs { display: flex; flex-wrap: wrap; gap: 18px 24px; }
.pairs figure { max-width: 100%; }
.stack { display: grid; }
.stack img { grid-area: 1 / 1; }
.buttons { display: flex; gap: 6px; margin: 12px 0 6px; }
button { font: inherit; font-size: 14px; padding: 3px 14px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--back); color: var(--ink); cursor: pointer; }
button[aria-pressed=true] { background: var(--key); border-color: var(--key); color: #fff; }
@media print { section { break-inside: avoid; } .buttons { display: none; } }
"""
SCRIPT = """
document.querySelectorAll(".blink").forEach(function (figure) {
  var images = figure.querySelectorAll("img"), buttons = figure.querySelectorAll("button");
  var shown = images.length - 1, timer = 0;
  function show(number) {
    shown = number;
    images.forEach(function (i, n) { i.style.visibility = n === number ? "visible" : "hidden"; });
  }
  buttons.forEach(function (button, number) {
    button.onclick = function () {
      clearInterval(timer);
      buttons.forEach(function (b) { b.setAttribute("aria-pressed", b === button); });
      if (number < images.length) { show(number); return; }
      timer = setInterval(function () { show((shown + 1) % images.length); }, 600);
    };
  });
});
"""
