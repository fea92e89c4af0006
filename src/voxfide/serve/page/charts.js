// Small drawings with tables or words behind them.

import { make, signed, text } from "./text.js";

const WIDTH = 540;

/** Where the score lies between the limits of the verdict. */
export function gauge(analysis) {
  const { score, rule } = analysis;
  const { bonafide_from: high, spoof_below: low } = rule;
  if (typeof score !== "number" || typeof high !== "number" || typeof low !== "number") return null;
  const middle = (high + low) / 2;
  const reach = Math.max(2.2 * Math.max((high - low) / 2, 1), Math.abs(score - middle) * 1.1);
  const x = (value) => 10 + ((value - middle + reach) / (2 * reach)) * (WIDTH - 20);
  const label = text("gauge.label", { score: signed(score), spoof: signed(low), bonafide: signed(high) });
  const drawing = make("svg", { class: "gauge", viewBox: `0 0 ${WIDTH} 62`, role: "img", "aria-label": label });
  const band = (from, to, kind) =>
    drawing.append(make("rect", { class: kind, x: from, y: 22, width: Math.max(0, to - from), height: 16 }));
  band(10, x(low), "low");
  band(x(low), x(high), "none");
  band(x(high), WIDTH - 10, "high");
  const word = (at, anchor, key) =>
    drawing.append(make("text", { x: at, y: 14, "text-anchor": anchor, text: text(key) }));
  word(10, "start", "gauge.spoof");
  if (x(high) - x(low) > 80) word((x(low) + x(high)) / 2, "middle", "gauge.between");
  word(WIDTH - 10, "end", "gauge.bonafide");
  for (const limit of new Set([low, high])) {
    drawing.append(make("line", { class: "axis", x1: x(limit), x2: x(limit), y1: 22, y2: 42 }));
    const at = { class: "tick", x: x(limit), y: 56, "text-anchor": "middle", text: signed(limit) };
    if (Math.abs(x(limit) - x(score)) > 56) drawing.append(make("text", at));
  }
  const place = x(score);
  drawing.append(make("path", { class: "mark", d: `M${place - 6} 46 L${place} 30 L${place + 6} 46 Z` }));
  const end = Math.min(WIDTH - 30, Math.max(30, place));
  drawing.append(make("text", { x: end, y: 60, "text-anchor": "middle", text: signed(score) }));
  return drawing;
}

/** Rows of {name, value} as bars to the right (for) and left (against) of a line. */
export function bars(rows, caption, { signs = true } = {}) {
  const most = Math.max(1e-9, ...rows.map((row) => Math.abs(row.value)));
  const table = make("table", { class: "bars" }, make("caption", { class: "unseen", text: caption }));
  const body = make("tbody");
  for (const { name, value } of rows) {
    const drawing = make("svg", { viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    const zero = signs ? 100 : 0;
    const long = (Math.abs(value) / most) * (signs ? 98 : 198);
    const kind = value >= 0 ? "for" : "against";
    const start = value >= 0 ? zero : zero - long;
    drawing.append(make("rect", { class: kind, x: start, y: 3, width: long, height: 10 }));
    drawing.append(make("line", { class: "zero", x1: zero, x2: zero, y1: 0, y2: 16 }));
    const shown = signs ? signed(value) : value.toFixed(2);
    const head = make("th", { scope: "row", text: name });
    body.append(make("tr", {}, head, make("td", {}, drawing), make("td", { class: "num", text: shown })));
  }
  table.append(body);
  return table;
}
