// A link with data-at plays from there; a click in the drawing over time plays what a player holds of it.
const startAt = (audio, seconds) => {
  const go = () => { audio.currentTime = seconds; audio.play(); };
  if (audio.readyState > 0) go();
  else { audio.addEventListener("loadedmetadata", go, { once: true }); audio.load(); }
};
for (const link of document.querySelectorAll("a[data-at]")) {
  link.addEventListener("click", (event) => {
    const audio = document.querySelector(`${link.getAttribute("href")} audio`);
    if (!audio) return;
    event.preventDefault();
    event.stopPropagation();
    startAt(audio, Number(link.dataset.at));
  });
}
const players = [...document.querySelectorAll("audio[data-start]")];
for (const drawing of players.length ? document.querySelectorAll("svg.over-time") : []) {
  const [left, right, seconds] = ["left", "right", "seconds"].map((name) => Number(drawing.dataset[name]));
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  drawing.append(cursor);
  for (const audio of players) {
    audio.addEventListener("timeupdate", () => {
      const x = left + (Number(audio.dataset.start) + audio.currentTime) / seconds * (right - left);
      cursor.setAttribute("d", `M${x.toFixed(1)} 12V${drawing.viewBox.baseVal.height - 36}`);
    });
  }
  drawing.classList.add("playable");
  drawing.addEventListener("click", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    const time = (place.x - left) / (right - left) * seconds;
    const audio = players.find((a) => Number(a.dataset.start) <= time && time < Number(a.dataset.end));
    if (audio) startAt(audio, time - Number(audio.dataset.start));
  });
}
