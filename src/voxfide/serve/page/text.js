// The page's words, from one file that can be translated, and numbers as people read them.

let strings = {};

export async function loadText() {
  const name = document.documentElement.dataset.strings;
  const answer = await fetch(`page/${name}`);
  strings = await answer.json();
  document.title = text("page");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
}

/** The words for a key; `{name}` is replaced by `values.name`. */
export function text(key, values = {}) {
  const words = strings[key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** With its sign, two places, and a true minus. */
export function signed(value) {
  const shown = value.toFixed(2);
  if (Number(shown) === 0) return "0.00";
  return value > 0 ? `+${shown}` : shown.replace("-", "\u2212");
}

/** A probability that never claims to be certain. */
export function percent(share) {
  if (share >= 0.999) return "over 99.9\u00a0%";
  if (share <= 0.001) return "under 0.1\u00a0%";
  const value = 100 * share;
  const places = (value >= 10 && value <= 90) || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(places)}\u00a0%`;
}

/** Seconds as minutes and seconds, or hours. */
export function clock(seconds, places = 0) {
  const scale = 10 ** places;
  const all = Math.round(seconds * scale) / scale;
  const hours = Math.floor(all / 3600);
  const minutes = Math.floor((all % 3600) / 60);
  const rest = (all % 60).toFixed(places).padStart(places ? 3 + places : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function fileSize(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))}\u00a0kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)}\u00a0MB`;
}

/** An element with attributes and children; `text` is set as text, never as HTML. */
export function make(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "rect", "line", "path", "text", "g"].includes(tag);
  const element = isDrawing
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
