// What the page asks of the service. Nothing else is ever asked of anybody.

import { text } from "./text.js";

const KEY = "voxfide-key";
const PROGRESS_TYPE = "application/x-ndjson";

/** A trouble in words, with the service's problem object where there is one. */
export class Trouble extends Error {
  constructor(message, problem = null) {
    super(message);
    this.problem = problem;
  }
}

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Asks for the API key; false where none is given. */
export async function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  field.value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "ok" || !field.value.trim()) return false;
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = "";
  return true;
}

/** Detector and limits of this service. */
export async function facts() {
  for (;;) {
    const answer = await fetch("v1/detectors", { headers: authorization() });
    if (answer.status !== 401) return answer.json();
    if (!(await askForKey())) throw new Trouble(text("error.key"));
  }
}

/**
 * Uploads a file and resolves with the analysis.
 * `tell` hears of {uploaded: 0…1} and {seconds}; `signal` gives it up.
 */
export function detect(file, name, options, tell, signal) {
  const query = new URLSearchParams(options);
  const form = new FormData();
  form.append("file", file, name);
  const request = new XMLHttpRequest();
  request.open("POST", `v1/detect?${query}`);
  request.setRequestHeader("Accept", PROGRESS_TYPE);
  for (const [header, value] of Object.entries(authorization())) request.setRequestHeader(header, value);
  signal.addEventListener("abort", () => request.abort());
  return new Promise((resolve, reject) => {
    let read = 0;
    let outcome = null;
    const lines = () => {
      for (;;) {
        const end = request.responseText.indexOf("\n", read);
        if (end < 0) return;
        const line = JSON.parse(request.responseText.slice(read, end));
        read = end + 1;
        if (line.progress) tell({ seconds: line.progress.seconds });
        else outcome = line;
      }
    };
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) tell({ uploaded: event.loaded / event.total });
    };
    request.upload.onload = () => tell({ uploaded: 1 });
    request.onprogress = () => {
      if (request.status === 200) lines();
    };
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    request.onerror = () => reject(new Trouble(text("error.network")));
    request.onload = () => {
      if (request.status === 200) {
        lines();
        if (outcome?.result) resolve(outcome.result);
        else reject(trouble(outcome?.problem));
        return;
      }
      reject(trouble(parsed(request.responseText)));
    };
    request.send(form);
  });
}

function trouble(problem) {
  return new Trouble(problem?.detail ?? text("error.network"), problem);
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/** Offers bytes or an object as a file to keep. */
export function save(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The bytes of a base64 text. */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}
