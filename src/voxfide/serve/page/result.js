// One recording's verdict: in words, where, why, and the numbers behind.

import { Trouble, bytesOf, detect, save } from "./api.js";
import { bars, gauge } from "./charts.js";
import { clock, fileSize, make, percent, signed, text } from "./text.js";
import { Timeline, summaryOf } from "./timeline.js";

/** Fills `article` with an analysis; returns a function that frees what it holds. */
export function showResult(article, item) {
  const { analysis } = item;
  const url = URL.createObjectURL(item.file);
  const player = make("audio", { controls: true, preload: "metadata", src: url });
  const where = whereSection(analysis, player);
  const whys = whyColumns(analysis.why);
  article.replaceChildren(
    verdictBanner(analysis),
    trustList(analysis),
    where.element,
    ...(whys.length ? [section("why.title", make("div", { class: "columns" }, ...whys))] : []),
    section("numbers.title", numbers(analysis)),
    keepSection(item),
  );
  article.hidden = false;
  return () => {
    where.close();
    player.removeAttribute("src");
    URL.revokeObjectURL(url);
  };
}

function section(key, ...children) {
  return make("section", {}, make("h2", { text: text(key) }), ...children);
}

function verdictBanner(analysis) {
  const { verdict, score, probability_bonafide: probability, prior } = analysis;
  let meaning = text(`meaning.${verdict}`);
  if (verdict === "inconclusive") meaning += ` ${text(whyNone(analysis))}`;
  const banner = make(
    "div",
    { class: `verdict ${verdict}` },
    make("p", { class: "of", text: text("result.of", { name: analysis.path }) }),
    make("h2", { class: "word", id: "result-title", tabindex: -1, text: text(`verdict.${verdict}`) }),
    make("p", { class: "meaning", text: meaning }),
  );
  if (typeof probability === "number") {
    const values = { probability: percent(probability), prior: percent(prior) };
    banner.append(make("p", { class: "chance", text: text("probability", values) }));
  } else if (typeof score === "number" && analysis.llr === null) {
    banner.append(make("p", { class: "chance", text: text("probability.none") }));
  }
  const drawing = gauge(analysis);
  if (drawing) banner.append(drawing);
  banner.append(make("p", { class: "evidence", text: text("evidence") }));
  return banner;
}

function whyNone(analysis) {
  if (analysis.reasons.some((reason) => reason.severity === "inconclusive")) return "meaning.blocked";
  return analysis.score === null ? "meaning.nothing" : "meaning.between";
}

function trustList(analysis) {
  if (!analysis.reasons.length) return make("p", { class: "notice", text: text("trust.none") });
  const list = make("ul", { class: "notice warning" });
  for (const reason of analysis.reasons) {
    const lead = make("strong", { text: text(`trust.${reason.severity}`) });
    list.append(make("li", {}, lead, ` ${reason.sentence}`));
  }
  return list;
}

function whereSection(analysis, player) {
  const play = (seconds) => {
    player.currentTime = seconds;
    timeline.moveTo(seconds);
    player.play().catch(() => {});
  };
  const seek = (seconds) => {
    player.currentTime = seconds;
    timeline.moveTo(seconds);
  };
  const toggle = () => (player.paused ? player.play().catch(() => {}) : player.pause());
  const timeline = new Timeline(analysis, { seek, toggle });
  let until = Infinity;
  const element = section("where.title", timeline.element);
  element.append(make("p", { class: "unseen", text: summaryOf(analysis) }));
  element.append(make("p", { class: "caption", text: text("where.caption") }));
  const unplayable = make("p", { class: "hint", text: text("where.unplayable"), hidden: true });
  element.append(player, unplayable);
  const list = make("ul", { class: "stretches" });
  for (const stretch of analysis.stretches) {
    const values = { from: clock(stretch.start, 1), to: clock(stretch.end, 1), score: signed(stretch.score) };
    const button = make("button", {
      type: "button",
      text: text("where.listen", values),
      "aria-label": text("where.listen.label", values),
    });
    button.addEventListener("click", () => {
      play(stretch.start);
      until = stretch.end;
    });
    list.append(make("li", {}, button));
  }
  const none = analysis.windows.length ? "where.none" : "where.unscored";
  const words = analysis.stretches.length ? "where.some" : none;
  element.append(make("p", { text: text(words) }), list);

  let frame = 0;
  const follow = () => {
    timeline.moveTo(player.currentTime);
    if (player.currentTime >= until) player.pause();
    if (!player.paused) frame = requestAnimationFrame(follow);
  };
  player.addEventListener("play", () => (frame = requestAnimationFrame(follow)));
  player.addEventListener("pause", () => (until = Infinity));
  player.addEventListener("seeked", () => timeline.moveTo(player.currentTime));
  player.addEventListener("error", () => {
    player.hidden = true;
    unplayable.hidden = false;
    for (const button of list.querySelectorAll("button")) button.disabled = true;
  });
  const close = () => {
    cancelAnimationFrame(frame);
    player.pause();
    timeline.close();
  };
  return { element, close };
}

function whyColumns(why) {
  const columns = [];
  if (!why) return columns;
  const column = (title, hint, table) =>
    columns.push(make("div", {}, make("h3", { text: title }), table, make("p", { class: "hint", text: hint })));
  if (why.bands.length) {
    const rows = why.bands.map((band) => ({
      name: text("why.band", { low: Math.round(band.low_hz), high: Math.round(band.high_hz) }),
      value: band.contribution,
    }));
    const span = { from: clock(why.excerpt?.start ?? 0, 1), to: clock(why.excerpt?.end ?? 0, 1) };
    column(text("why.bands"), text("why.bands.hint", span), bars(rows.reverse(), text("why.bands")));
  }
  if (why.members.length) {
    const rows = why.members.map((member) => ({ name: member.name, value: member.contribution }));
    const hint = text("why.members.hint", { agreement: percent(why.agreement ?? 0) });
    column(text("why.members"), hint, bars(rows, text("why.members")));
  }
  if (why.layers.length) {
    const rows = why.layers.map((layer) => ({
      name: (layer.member ? `${layer.member}, ` : "") + text("why.layer", { layer: layer.layer }),
      value: layer.weight,
    }));
    column(text("why.layers"), text("why.layers.hint"), bars(rows, text("why.layers"), { signs: false }));
  }
  return columns;
}

function numbers(analysis) {
  const { conditions, info, rule } = analysis;
  const list = make("dl", { class: "facts" });
  const add = (key, value, kind) => {
    if (value === null || value === undefined || value === "") return;
    const term = make("dt", { text: text(`numbers.${key}`) });
    list.append(make("div", {}, term, make("dd", { text: value, class: kind })));
  };
  const number = (value, unit, places = 1) =>
    typeof value === "number" ? `${value.toFixed(places).replace("-", "\u2212")}\u00a0${unit}` : null;
  if (typeof analysis.score === "number") {
    add(analysis.llr === null ? "rawscore" : "score", signed(analysis.score));
  }
  if (typeof analysis.probability_bonafide === "number") {
    add("probability", percent(analysis.probability_bonafide));
    add("prior", percent(analysis.prior));
  }
  if (typeof rule.bonafide_from === "number" && typeof rule.spoof_below === "number") {
    const limits = { bonafide: signed(rule.bonafide_from), spoof: signed(rule.spoof_below) };
    add("rule", text("numbers.rule.value", limits));
  }
  add("duration", number(analysis.duration, "s", 2));
  add("speech", number(conditions.speech_seconds, "s"));
  add("snr", number(conditions.snr_db, "dB"));
  add("level", number(conditions.speech_level_db, "dBFS"));
  const bandwidth = conditions.bandwidth_hz;
  add("bandwidth", typeof bandwidth === "number" ? number(bandwidth / 1000, "kHz", 2) : null);
  const flat = conditions.flat_share;
  add("clipping", typeof flat === "number" ? number(100 * flat, "%", 2) : null);
  const format = { container: info.container, codec: info.codec, rate: info.sample_rate, channels: info.channels };
  add("format", text("numbers.format.value", format));
  add("warnings", (info.warnings ?? []).join("; "));
  add("size", typeof analysis.n_bytes === "number" ? fileSize(analysis.n_bytes) : null);
  add("sha256", analysis.sha256, "code");
  add("detector", analysis.detector.name);
  add("fingerprint", analysis.detector.fingerprint, "code");
  return list;
}

function keepSection(item) {
  const note = make("p", { class: "hint", role: "status", text: text("save.hint") });
  const buttons = make("p", { class: "actions" });
  const stem = item.name.replace(/\.[^.]*$/, "") || "recording";
  const button = (key, action) => {
    const made = make("button", { type: "button", text: text(key) });
    made.addEventListener("click", action);
    buttons.append(made);
  };
  const report = (kind) => async () => {
    for (const one of buttons.children) one.disabled = true;
    note.textContent = text("save.working");
    try {
      const options = { ...item.options, report: kind, overview: false };
      const made = await detect(item.file, item.name, options, () => {}, new AbortController().signal);
      save(made.report.file_name, bytesOf(made.report.content_base64), made.report.media_type);
      note.textContent = text("save.done");
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      note.textContent = error.message;
    } finally {
      for (const one of buttons.children) one.disabled = false;
    }
  };
  button("save.html", report("html"));
  button("save.pdf", report("pdf"));
  button("save.json", () => {
    save(`${stem}.voxfide.json`, JSON.stringify(plain(item.analysis), null, 1), "application/json");
  });
  return section("save.title", buttons, note);
}

/** An analysis without the picture, as `voxfide detect --json` prints it. */
export function plain(analysis) {
  const { overview: _, ...rest } = analysis;
  return rest;
}
