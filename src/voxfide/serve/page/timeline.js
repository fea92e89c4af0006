// Waveform, spectrogram and window scores over time, on a canvas that plays where it is clicked.

import { bytesOf } from "./api.js";
import { clock, make, signed, text } from "./text.js";

const LEFT = 44;
const RIGHT = 10;
const WAVE = 76;
const SPECTROGRAM = 116;
const SCORES = 104;
const AXIS = 24;
const GAP = 8;
const TICKS_KHZ = [1, 2, 4, 8];

export class Timeline {
  /** `seek(seconds)` is called for clicks and keys, `toggle()` for the space bar. */
  constructor(analysis, { seek, toggle }) {
    this.analysis = analysis;
    this.duration = Math.max(analysis.conditions.seconds ?? analysis.duration, 0.01);
    this.seek = seek;
    this.time = 0;
    this.still = document.createElement("canvas");
    this.canvas = make("canvas", {
      tabindex: 0,
      role: "slider",
      "aria-label": text("timeline.label"),
      "aria-valuemin": 0,
      "aria-valuemax": this.duration.toFixed(2),
    });
    this.element = make("div", { class: "timeline" }, this.canvas);
    this.picture = readOverview(analysis.overview);
    this.canvas.addEventListener("pointerdown", (event) => {
      const place = (event.offsetX - LEFT) / (this.width - LEFT - RIGHT);
      seek(Math.min(1, Math.max(0, place)) * this.duration);
    });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event, toggle));
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.element);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.layOut();
    this.dark.addEventListener("change", this.recolour);
    this.moveTo(0);
  }

  close() {
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.recolour);
  }

  onKey(event, toggle) {
    const step = event.shiftKey ? 5 : 1;
    const moves = {
      ArrowRight: () => this.seek(Math.min(this.duration, this.time + step)),
      ArrowLeft: () => this.seek(Math.max(0, this.time - step)),
      Home: () => this.seek(0),
      End: () => this.seek(this.duration),
      " ": toggle,
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  }

  /** Shows another position. */
  moveTo(seconds) {
    this.time = seconds;
    this.canvas.setAttribute("aria-valuenow", seconds.toFixed(2));
    const shown = { time: clock(seconds, 1), duration: clock(this.duration, 1) };
    this.canvas.setAttribute("aria-valuetext", text("timeline.value", shown));
    this.draw();
  }

  x(seconds) {
    return LEFT + (seconds / this.duration) * (this.width - LEFT - RIGHT);
  }

  layOut() {
    const width = this.element.clientWidth;
    if (!width) return;
    const height = WAVE + SPECTROGRAM + SCORES + AXIS + 3 * GAP;
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.still]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.canvas.style.height = `${height}px`;
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    this.colour = coloursOf(this.element);
    const pen = this.still.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = `11px ${getComputedStyle(document.documentElement).getPropertyValue("--sans")}`;
    this.drawMarked(pen);
    this.drawWave(pen, GAP / 2);
    this.drawSpectrogram(pen, WAVE + GAP);
    this.drawScores(pen, WAVE + SPECTROGRAM + 2 * GAP);
    this.drawAxis(pen, height - AXIS);
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.still, 0, 0);
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.fillStyle = this.colour.accent;
    pen.fillRect(this.x(this.time) - 1, 0, 2, this.height - AXIS);
  }

  drawMarked(pen) {
    pen.fillStyle = this.colour.marked;
    for (const stretch of this.analysis.stretches) {
      const left = this.x(stretch.start);
      const wide = Math.max(2, this.x(stretch.end) - left);
      pen.globalAlpha = 0.22;
      pen.fillRect(left, 0, wide, this.height - AXIS);
      pen.globalAlpha = 1;
      pen.fillRect(left, 0, wide, 3);
    }
  }

  drawWave(pen, top) {
    const middle = top + WAVE / 2;
    pen.fillStyle = this.colour.wave;
    const picture = this.picture;
    if (picture) {
      const loudest = Math.max(0.02, ...picture.high.map((v, i) => Math.max(v, -picture.low[i])));
      const step = (this.x(Math.min(picture.seconds, this.duration)) - LEFT) / Math.max(1, picture.columns);
      for (let i = 0; i < picture.columns; i++) {
        const up = (picture.high[i] / loudest) * (WAVE / 2 - 6);
        const down = (-picture.low[i] / loudest) * (WAVE / 2 - 6);
        pen.fillRect(LEFT + i * step, middle - up, Math.max(1, step), Math.max(1, up + down));
      }
    }
    pen.fillStyle = this.colour.bonafide;
    for (const part of this.analysis.speech) {
      pen.fillRect(this.x(part.start), top + WAVE - 3, Math.max(1, this.x(part.end) - this.x(part.start)), 3);
    }
  }

  drawSpectrogram(pen, top) {
    const picture = this.picture;
    if (picture?.columns) {
      const image = imageOf(picture, this.dark.matches);
      const wide = this.x(Math.min(picture.seconds, this.duration)) - LEFT;
      pen.globalAlpha = 0.85;
      pen.drawImage(image, LEFT, top, wide, SPECTROGRAM);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = this.colour.muted;
    pen.textAlign = "right";
    const mel = (hz) => Math.log10(1 + hz / 700);
    for (const khz of TICKS_KHZ) {
      const y = top + SPECTROGRAM * (1 - mel(1000 * khz) / mel(8000));
      pen.fillText(String(khz), LEFT - 8, Math.max(y + 4, top + 10));
      pen.fillRect(LEFT - 5, y, 5, 1);
    }
    pen.fillText(text("timeline.khz"), LEFT - 8, top + SPECTROGRAM);
  }

  drawScores(pen, top) {
    const { windows, rule } = this.analysis;
    const limits = [rule.bonafide_from, rule.spoof_below].filter((v) => typeof v === "number");
    const most = Math.max(1, ...windows.map((w) => Math.abs(w.score)), ...limits.map(Math.abs)) * 1.15;
    const y = (score) => top + SCORES / 2 - (score / most) * (SCORES / 2);
    for (const window of windows) {
      pen.fillStyle = window.score >= 0 ? this.colour.bonafide : this.colour.spoof;
      const middle = (window.start + window.end) / 2;
      const reach = Math.min(window.end - window.start, hopOf(windows)) / 2;
      const left = this.x(Math.max(window.start, middle - reach)) + 0.5;
      const right = this.x(Math.min(window.end, middle + reach)) - 0.5;
      const [from, to] = [y(window.score), y(0)].sort((a, b) => a - b);
      pen.fillRect(left, from, Math.max(1, right - left), Math.max(1.5, to - from));
    }
    pen.fillStyle = this.colour.muted;
    pen.fillRect(LEFT, y(0), this.width - LEFT - RIGHT, 1);
    pen.textAlign = "right";
    for (const value of [most / 1.15, 0, -most / 1.15]) {
      pen.fillText(value ? signed(value).replace(/(\.\d)\d$/, "$1") : "0", LEFT - 8, y(value) + 4);
    }
    pen.strokeStyle = this.colour.muted;
    pen.setLineDash([4, 3]);
    for (const limit of new Set(limits)) {
      pen.beginPath();
      pen.moveTo(LEFT, y(limit));
      pen.lineTo(this.width - RIGHT, y(limit));
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  drawAxis(pen, top) {
    pen.fillStyle = this.colour.muted;
    pen.textAlign = "center";
    const step = stepOf(this.duration, (this.width - LEFT - RIGHT) / 64);
    for (let seconds = 0; seconds <= this.duration; seconds += step) {
      pen.fillRect(this.x(seconds), top, 1, 4);
      const label = clock(seconds, step < 1 ? 1 : 0);
      pen.fillText(label, Math.min(this.x(seconds), this.width - RIGHT - 12), top + 16);
    }
  }
}

/** One sentence for those who cannot see the picture. */
export function summaryOf(analysis) {
  const scores = analysis.windows.map((w) => w.score);
  return text("timeline.summary", {
    name: analysis.path,
    duration: clock(analysis.duration, 1),
    windows: scores.length,
    lowest: scores.length ? signed(Math.min(...scores)) : "\u2013",
    highest: scores.length ? signed(Math.max(...scores)) : "\u2013",
    stretches: analysis.stretches.length,
  });
}

function readOverview(overview) {
  if (!overview) return null;
  const scaled = (base64) => Array.from(bytesOf(base64), (v) => v / 127.5 - 1);
  const cells = bytesOf(overview.spectrogram);
  return { ...overview, low: scaled(overview.low), high: scaled(overview.high), cells };
}

function imageOf(picture, dark) {
  const { columns, bands, cells } = picture;
  const canvas = make("canvas", { width: columns, height: bands });
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, bands);
  for (let column = 0; column < columns; column++) {
    for (let band = 0; band < bands; band++) {
      const at = 4 * ((bands - 1 - band) * columns + column);
      const strength = (cells[column * bands + band] / 255) ** 1.4;
      image.data.fill(dark ? 230 : 22, at, at + 3);
      image.data[at + 3] = Math.round(255 * strength);
    }
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

function hopOf(windows) {
  return windows.length > 1 ? Math.max(0.05, windows[1].start - windows[0].start) : Infinity;
}

function stepOf(duration, most) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  return steps.find((step) => duration / step <= Math.max(2, most)) ?? 7200;
}

function coloursOf(element) {
  const style = getComputedStyle(element);
  const names = ["accent", "muted", "marked", "wave", "bonafide", "spoof"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
