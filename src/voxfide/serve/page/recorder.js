// Recording from the microphone; what is recorded becomes a file like any other.

import { clock } from "./text.js";

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

export class Recorder {
  /** Asks for the microphone and begins; `show` hears of {time, level: 0…1} some times a second. */
  static async start(show) {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    return new Recorder(stream, show);
  }

  constructor(stream, show) {
    this.stream = stream;
    const type = TYPES.find((name) => MediaRecorder.isTypeSupported(name));
    this.recorder = new MediaRecorder(stream, type ? { mimeType: type, audioBitsPerSecond: 96_000 } : {});
    this.parts = [];
    this.recorder.ondataavailable = (event) => this.parts.push(event.data);
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 2048;
    this.context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const began = performance.now();
    const tick = () => {
      analyser.getFloatTimeDomainData(samples);
      const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const level = Math.max(0, 1 + Math.log10(Math.max(peak, 1e-4)) / 3);
      show({ time: clock((performance.now() - began) / 1000), level });
    };
    this.timer = setInterval(tick, 100);
    this.recorder.start(1000);
  }

  /** Ends the recording; resolves with its bytes. */
  async stop() {
    const ended = new Promise((done) => this.recorder.addEventListener("stop", done, { once: true }));
    if (this.recorder.state !== "inactive") this.recorder.stop();
    await ended;
    this.close();
    return new Blob(this.parts, { type: this.recorder.mimeType });
  }

  /** Lets go of the microphone. */
  close() {
    clearInterval(this.timer);
    if (this.recorder.state !== "inactive") this.recorder.stop();
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}

/** The usual ending for a recorded type. */
export function endingOf(type) {
  if (type.startsWith("audio/webm")) return "webm";
  return type.startsWith("audio/mp4") ? "m4a" : "ogg";
}
