// Several recordings as a table that can be sorted.

import { clock, make, percent, signed, text } from "./text.js";

const COLUMNS = [
  { key: "name", value: (item) => item.name.toLowerCase() },
  { key: "verdict", value: (item) => (item.analysis ? item.analysis.verdict : "~") },
  { key: "probability", number: true, value: (item) => item.analysis?.probability_bonafide },
  { key: "score", number: true, optional: true, value: (item) => item.analysis?.score },
  { key: "stretches", number: true, optional: true, value: (item) => item.analysis?.stretches.length },
  { key: "trust", number: true, optional: true, value: (item) => item.analysis?.reasons.length },
  { key: "duration", number: true, optional: true, value: (item) => item.analysis?.duration },
];

export class ResultTable {
  /** `open(item)` shows an item's details. */
  constructor(table, open) {
    this.table = table;
    this.open = open;
    this.items = [];
    this.column = null;
    this.descending = false;
    this.current = null;
  }

  show(items, current) {
    this.items = items;
    this.current = current;
    this.render();
  }

  sortBy(column) {
    this.descending = this.column === column ? !this.descending : false;
    this.column = column;
    this.render();
    this.table.querySelector(`[data-column="${column.key}"]`).focus();
  }

  sorted() {
    const items = [...this.items];
    if (!this.column) return items;
    const { value } = this.column;
    const sign = this.descending ? -1 : 1;
    return items.sort((a, b) => {
      const [first, second] = [value(a) ?? null, value(b) ?? null];
      if (first === null || second === null) return (first === null) - (second === null);
      return first < second ? -sign : first > second ? sign : 0;
    });
  }

  render() {
    const head = make("tr");
    for (const column of COLUMNS) {
      const name = text(`table.${column.key}`);
      const label = text("table.sort", { column: name });
      const attributes = { type: "button", text: name, title: label, "data-column": column.key };
      const button = make("button", attributes);
      button.addEventListener("click", () => this.sortBy(column));
      const direction = this.descending ? "descending" : "ascending";
      const sort = this.column === column ? direction : null;
      head.append(make("th", { scope: "col", class: kindOf(column), "aria-sort": sort }, button));
    }
    const body = make("tbody", {}, ...this.sorted().map((item) => this.row(item)));
    const caption = make("caption", { text: text("table.caption") });
    this.table.replaceChildren(caption, make("thead", {}, head), body);
  }

  row(item) {
    const { analysis } = item;
    const row = make("tr", { class: item === this.current && "current" });
    if (!analysis) {
      const name = make("th", { scope: "row", text: item.name });
      const tag = make("td", {}, make("span", { class: "tag failed", text: text("table.failed") }));
      row.append(name, tag, make("td", { colspan: 5, class: "reason", text: item.error }));
      return row;
    }
    const button = make("button", { type: "button", class: "open", text: item.name });
    if (item === this.current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => this.open(item));
    const verdict = text(`verdict.${analysis.verdict}`);
    row.append(
      make("th", { scope: "row" }, button),
      make("td", {}, make("span", { class: `tag ${analysis.verdict}`, text: verdict })),
    );
    const nothing = "\u2013";
    const probability = analysis.probability_bonafide;
    const cells = [
      typeof probability === "number" ? percent(probability) : nothing,
      typeof analysis.score === "number" ? signed(analysis.score) : nothing,
      String(analysis.stretches.length),
      String(analysis.reasons.length),
      clock(analysis.duration, 1),
    ];
    cells.forEach((value, i) => {
      row.append(make("td", { class: kindOf(COLUMNS[i + 2]), text: value }));
    });
    return row;
  }
}

function kindOf(column) {
  if (!column.number) return null;
  return column.optional ? "num optional" : "num";
}
