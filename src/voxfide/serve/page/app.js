// The page: files and recordings in, verdicts out.

import { Trouble, askForKey, detect, facts, save } from "./api.js";
import { Recorder, endingOf } from "./recorder.js";
import { plain, showResult } from "./result.js";
import { ResultTable } from "./table.js";
import { clock, fileSize, loadText, make, text } from "./text.js";

const AT_ONCE = 2;
const byId = (id) => document.getElementById(id);

const page = {
  items: [],
  waiting: [],
  running: 0,
  limits: null,
  prior: null,
  shown: null,
  showNext: true,
  close: null,
};

async function start() {
  await loadText();
  const table = new ResultTable(byId("table"), (item) => show(item, true));
  page.table = table;
  wireChoosing();
  wireRecording();
  byId("save-all").addEventListener("click", () => {
    const all = page.items.map((item) =>
      item.analysis ? plain(item.analysis) : { path: item.name, error: item.error },
    );
    save("voxfide.json", JSON.stringify(all, null, 1), "application/json");
  });
  try {
    describe(await facts());
  } catch (error) {
    say(error instanceof Trouble ? error.message : text("error.network"));
  }
}

function describe(found) {
  const [detector] = found.detectors;
  page.limits = found.limits;
  page.prior = detector.prior;
  const limits = { size: fileSize(found.limits.upload_bytes), minutes: lengthWords(found.limits.duration) };
  byId("limits").textContent = text("choose.limits", limits);
  byId("about").textContent = text("footer.about", { version: found.version, name: detector.name });
  byId("prior").value = detector.prior === null ? "" : Math.round(100 * detector.prior);
  byId("prior-option").hidden = detector.prior === null;
  byId("prior-missing").hidden = detector.prior !== null;
}

function lengthWords(seconds) {
  return seconds < 60 ? `${seconds}\u00a0s` : `${Math.round(seconds / 60)}\u00a0min`;
}

function say(words) {
  byId("status").textContent = words;
}

// --- choosing files

function wireChoosing() {
  const drop = byId("drop");
  const input = byId("files");
  byId("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  const over = (state) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", state);
  };
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    take([...(event.dataTransfer?.files ?? [])]);
  });
}

function take(files) {
  page.showNext = true;
  for (const file of files) {
    const item = { file, name: file.name, options: options(), abort: new AbortController() };
    page.items.push(item);
    item.row = jobRow(item);
    byId("job-list").append(item.row.element);
    const limit = page.limits?.upload_bytes;
    if (limit && file.size > limit) {
      fail(item, text("error.size", { size: fileSize(file.size), limit: fileSize(limit) }));
    } else {
      page.waiting.push(item);
    }
  }
  byId("jobs").hidden = !byId("job-list").children.length;
  next();
}

function options() {
  const chosen = { why: true, overview: true };
  const percent = Number(byId("prior").value);
  if (page.prior !== null && percent >= 1 && percent <= 99) chosen.prior = percent / 100;
  return chosen;
}

// --- working through them

function next() {
  while (page.running < AT_ONCE && page.waiting.length) {
    page.running += 1;
    run(page.waiting.shift()).finally(() => {
      page.running -= 1;
      next();
    });
  }
}

async function run(item) {
  for (;;) {
    try {
      const tell = (progress) => item.row.tell(progress);
      item.analysis = await detect(item.file, item.name, item.options, tell, item.abort.signal);
      item.row.element.remove();
      finish(item);
      return;
    } catch (error) {
      if (error.name === "AbortError") {
        page.items.splice(page.items.indexOf(item), 1);
        item.row.element.remove();
        tidy();
        return;
      }
      if (!(error instanceof Trouble)) throw error;
      if (!(await canRetry(item, error))) {
        fail(item, error.message);
        return;
      }
    }
  }
}

async function canRetry(item, error) {
  if (error.problem?.status === 401) return askForKey();
  if (error.problem?.status !== 429) return false;
  const seconds = error.problem.retry_after ?? 2;
  item.row.say(text("job.retry", { name: item.name, seconds }));
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  return !item.abort.signal.aborted;
}

function fail(item, reason) {
  const start = `${item.name}: `; // the service's sentences begin with the name, the page's do not
  item.error = reason.startsWith(start) ? reason.slice(start.length) : reason;
  item.row.fail(start + item.error);
  say(text("status.failed", { name: item.name, reason: item.error }));
  tidy();
}

function finish(item) {
  say(text("status.done", { name: item.name, verdict: text(`verdict.${item.analysis.verdict}`) }));
  if (page.showNext) show(item, page.items.length === 1);
  page.showNext = false;
  tidy();
}

function tidy() {
  const several = page.items.length > 1;
  if (several) for (const row of byId("job-list").querySelectorAll(".failed")) row.remove();
  byId("jobs").hidden = !byId("job-list").children.length;
  byId("table-section").hidden = !several;
  if (several) page.table.show(page.items.filter((item) => item.analysis || item.error), page.shown);
}

function show(item, focus) {
  page.close?.();
  page.shown = item;
  page.close = showResult(byId("result"), item);
  tidy();
  if (!focus) return;
  const title = byId("result-title");
  title.focus({ preventScroll: true });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("result").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

function jobRow(item) {
  const words = make("span", { class: "what" });
  const bar = make("progress", { max: 1, "aria-label": item.name });
  const button = make("button", { type: "button", text: text("job.cancel") });
  button.setAttribute("aria-label", text("job.cancel.name", { name: item.name }));
  const element = make("li", {}, words, button, bar);
  const line = (key, values = {}) => (words.textContent = text(key, { name: item.name, ...values }));
  button.addEventListener("click", () => {
    const place = page.waiting.indexOf(item);
    if (place >= 0) page.waiting.splice(place, 1);
    item.abort.abort();
    if (place >= 0 || item.error) {
      page.items.splice(page.items.indexOf(item), 1);
      element.remove();
      tidy();
    }
  });
  line("job.waiting");
  return {
    element,
    say: (shown) => (words.textContent = shown),
    tell: ({ uploaded, seconds }) => {
      if (uploaded !== undefined && uploaded < 1) {
        line("job.upload");
        bar.value = uploaded;
      } else {
        bar.removeAttribute("value");
        if (seconds) line("job.analysing", { time: clock(seconds) });
        else line("job.waiting");
      }
    },
    fail: (shown) => {
      element.classList.add("failed");
      element.setAttribute("role", "alert");
      words.textContent = shown;
      button.textContent = text("job.dismiss");
    },
  };
}

// --- recording

function wireRecording() {
  let recorder = null;
  const panel = byId("recorder");
  const show = ({ time, level }) => {
    byId("record-time").textContent = time;
    byId("record-level").value = level;
  };
  const end = () => {
    recorder = null;
    panel.hidden = true;
    byId("record").disabled = false;
    byId("record").focus();
  };
  byId("record").addEventListener("click", async () => {
    if (!navigator.mediaDevices) {
      refuse(text("record.insecure"));
      return;
    }
    byId("record").disabled = true;
    try {
      recorder = await Recorder.start(show);
    } catch (error) {
      byId("record").disabled = false;
      refuse(text("record.refused", { reason: error.message }));
      return;
    }
    panel.hidden = false;
    byId("record-stop").focus();
  });
  byId("record-stop").addEventListener("click", async () => {
    if (!recorder) return;
    const blob = await recorder.stop();
    const now = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const name = `${text("record.name", { time: now })}.${endingOf(blob.type)}`;
    end();
    take([new File([blob], name, { type: blob.type })]);
  });
  byId("record-cancel").addEventListener("click", () => {
    recorder?.close();
    end();
  });
}

function refuse(reason) {
  byId("limits").textContent = reason;
  say(reason);
}

start();
