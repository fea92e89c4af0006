// Scatter plots: hovering names a point in every panel, a click plays it, the legend picks a category.
for (const box of document.querySelectorAll(".scatter")) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const unpack = (text) => {
    const bytes = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    return Uint16Array.from({ length: bytes.byteLength / 2 }, (_, i) => bytes.getUint16(2 * i, true));
  };
  const count = data.names.length;
  const folder = data.folder && unpack(data.folder);
  const colourings = data.colourings.map((c) => ({ ...c, codes: unpack(c.codes) }));
  const panels = data.panels.map((p, i) => {
    const canvas = box.querySelectorAll("canvas")[i];
    const cloud = document.createElement("canvas"); // all points, drawn anew only where they move or change
    return { canvas, context: canvas.getContext("2d"), cloud, x: unpack(p.x), y: unpack(p.y) };
  });
  const [select, legend, now, player] = ["select", ".legend", ".now", "audio"].map((s) => box.querySelector(s));
  const [NONE, GRID, MARGIN] = [-1, 65535, 0.03];
  let [colouring, picked, hovered, playing] = [colourings[0], NONE, NONE, NONE];
  let view = { zoom: 1, x: 0.5, y: 0.5 }; // the point of the picture in the middle of the canvas
  const side = (panel) => panel.canvas.clientWidth;
  const scale = (panel) => (side(panel) * (1 - 2 * MARGIN) * view.zoom) / GRID;
  const screen = (panel, i) => [
    (panel.x[i] - view.x * GRID) * scale(panel) + side(panel) / 2,
    (view.y * GRID - panel.y[i]) * scale(panel) + side(panel) / 2,
  ];
  const source = (i) => {
    if (data.clips[i]) return "data:audio/mpeg;base64," + data.clips[i];
    if (!folder || !data.files[i]) return "";
    const name = data.folders[folder[i]];
    return (name ? name + "/" : "") + data.files[i];
  };

  const shapes = {
    circle: (c, r) => c.arc(0, 0, r, 0, 7),
    triangle: (c, r) => { c.moveTo(0, -r * 1.2); c.lineTo(r * 1.1, r * 0.8); c.lineTo(-r * 1.1, r * 0.8); },
    square: (c, r) => c.rect(-r * 0.9, -r * 0.9, r * 1.8, r * 1.8),
    diamond: (c, r) => { c.moveTo(0, -r * 1.3); c.lineTo(r * 1.3, 0); c.lineTo(0, r * 1.3); c.lineTo(-r * 1.3, 0); },
    cross: (c, r) => { c.rotate(Math.PI / 4); shapes.plus(c, r); },
    plus: (c, r) => { c.rect(-r * 1.2, -r * 0.4, r * 2.4, r * 0.8); c.rect(-r * 0.4, -r * 1.2, r * 0.8, r * 2.4); },
  };
  const mark = (category, radius, pixels) => {
    const half = Math.ceil(radius * 1.5 * pixels) + 1;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 2 * half;
    const c = canvas.getContext("2d");
    c.translate(half, half);
    c.scale(pixels, pixels);
    c.beginPath();
    shapes[category.mark](c, radius);
    c.fillStyle = category.colour;
    c.fill();
    return canvas;
  };

  const ring = (panel, i, radius, ink, width = 1.6) => {
    const [x, y] = screen(panel, i);
    const c = panel.context;
    c.beginPath();
    c.arc(x, y, radius, 0, 7);
    c.lineWidth = width;
    c.strokeStyle = ink;
    c.stroke();
  };
  const drawCloud = (panel, radius, pixels) => {
    const { cloud } = panel;
    cloud.width = cloud.height = Math.round(side(panel) * pixels);
    const c = cloud.getContext("2d");
    const sprites = colouring.categories.map((k) => mark(k, radius, pixels));
    for (const last of [false, true]) {
      // The picked category is drawn last, over the others.
      c.globalAlpha = picked === NONE ? 0.75 : last ? 0.9 : 0.08;
      for (let i = 0; i < count; i++) {
        const code = colouring.codes[i];
        if ((code === picked) !== last) continue;
        const [x, y] = screen(panel, i);
        const sprite = sprites[code];
        c.drawImage(sprite, x * pixels - sprite.width / 2, y * pixels - sprite.height / 2);
      }
    }
  };
  let stale = true;
  const draw = () => {
    const ink = getComputedStyle(box).color;
    const radius = Math.min(4, Math.max(1.1, 90 / Math.sqrt(count))) * Math.min(2, Math.sqrt(view.zoom));
    const pixels = devicePixelRatio || 1;
    for (const panel of panels) {
      if (stale) drawCloud(panel, radius, pixels);
      const { canvas, context: c } = panel;
      canvas.width = canvas.height = panel.cloud.width;
      if (!canvas.width) continue;
      c.drawImage(panel.cloud, 0, 0);
      c.setTransform(pixels, 0, 0, pixels, 0, 0);
      for (const i of Object.keys(data.clips)) if (picked === NONE || colouring.codes[i] === picked) ring(panel, Number(i), radius + 1.5, ink, 0.7);
      if (playing !== NONE) ring(panel, playing, radius + 5, ink);
      if (hovered !== NONE && hovered !== playing) ring(panel, hovered, radius + 4, ink);
    }
    stale = false;
  };
  let waiting = false;
  const redraw = (all = true) => {
    stale ||= all;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };

  const describe = (i) => {
    const kinds = colourings.map((c) => c.categories[c.codes[i]].name);
    return [data.names[i], ...new Set(kinds)].join(" · ");
  };
  const nearest = (panel, event) => {
    const box = panel.canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [NONE, 12 * 12];
    for (let i = 0; i < count; i++) {
      if (picked !== NONE && colouring.codes[i] !== picked) continue;
      const [x, y] = screen(panel, i);
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  };
  const play = (i) => {
    playing = i;
    const url = source(i);
    player.removeAttribute("src");
    if (url) {
      player.src = url;
      player.play().catch(() => {});
    } else player.load();
    const how = data.clips[i] ? "clip in this page" : url ? "file beside this page" : "no audio";
    now.textContent = `${describe(i)} (${how})`;
    redraw(false);
  };
  player.addEventListener("error", () => {
    if (!player.hasAttribute("src")) return;
    const what = data.clips[playing] ? "its clip" : data.files[playing];
    now.textContent = `${describe(playing)}: ${what} is not there, or this browser cannot play it`;
  });

  for (const panel of panels) {
    let start = null;
    panel.canvas.addEventListener("pointermove", (event) => {
      if (start) {
        const per = scale(panel) * GRID;
        view.x = start.x - (event.clientX - start.clientX) / per;
        view.y = start.y + (event.clientY - start.clientY) / per;
        start.moved ||= Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 4;
        redraw();
        return;
      }
      const found = nearest(panel, event);
      if (found === hovered) return;
      hovered = found;
      panel.canvas.classList.toggle("over", found !== NONE);
      if (found !== NONE) now.textContent = describe(found);
      redraw(false);
    });
    panel.canvas.addEventListener("pointerdown", (event) => {
      start = { x: view.x, y: view.y, clientX: event.clientX, clientY: event.clientY, moved: false };
      panel.canvas.setPointerCapture(event.pointerId);
    });
    panel.canvas.addEventListener("pointerup", (event) => {
      const found = start && !start.moved ? nearest(panel, event) : NONE;
      start = null;
      if (found !== NONE) play(found);
    });
    panel.canvas.addEventListener("pointercancel", () => { start = null; });
    panel.canvas.addEventListener("pointerleave", () => { hovered = NONE; redraw(false); });
    panel.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    }, { passive: false });
  }
  const zoom = (factor) => {
    view = factor ? { ...view, zoom: Math.min(200, Math.max(0.5, view.zoom * factor)) } : { zoom: 1, x: 0.5, y: 0.5 };
    redraw();
  };
  for (const button of box.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }

  const list = () => {
    legend.replaceChildren(...colouring.categories.map((category, code) => {
      const button = document.createElement("button");
      button.type = "button";
      const sign = mark(category, 5, 2);
      sign.className = "sign";
      const size = document.createElement("span");
      size.textContent = category.count.toLocaleString("en");
      button.append(sign, category.name, " ", size);
      button.setAttribute("aria-pressed", String(code === picked));
      button.addEventListener("click", () => { picked = picked === code ? NONE : code; list(); redraw(); });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  };
  select.addEventListener("change", () => {
    [colouring, picked] = [colourings[Number(select.value)], NONE];
    list();
    redraw();
  });
  new ResizeObserver(() => redraw()).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  list();
  redraw();
}
