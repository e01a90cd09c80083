// The map: every item a dot or a picture, coloured by class; hover to look, click to pin a class, drag and zoom to travel.
const mapApi = (function map() {
  const places = report.map;
  const stage = byId("map-stage");
  const side = byId("map-side");
  const labels = places.item.map((id) => item(id).label);
  const names = [...new Set(report.classes.map((row) => row.label).concat(labels))].sort((a, b) => a.localeCompare(b, "en"));
  const number = new Map(names.map((name, i) => [name, i]));
  const members = new Map(names.map((name) => [name, []]));
  labels.forEach((label, i) => members.get(label).push(i));
  const rowOf = new Map(report.classes.map((row) => [row.label, row]));
  const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": `Map of ${labels.length} items of ${names.length} classes. Arrow keys move from item to item, Enter pins a class, plus and minus zoom, Escape lets go.` });
  const tip = el("div", { class: "tip picture", hidden: true });
  const view = { scale: 1, x: 0, y: 0, mode: "dots", over: -1, pinned: null, sought: null };
  const sprite = new Image();
  let ready = false;
  let due = 0;

  byId("map-about").textContent = `Close together means alike to the trained embedding (${places.method} of ${labels.length.toLocaleString("en")} items). One colour per class; none of these classes was seen in training.`;
  const zoom = el("div", { class: "zoom" },
    el("button", { type: "button", "aria-label": "Zoom in", on: { click: () => zoomAt(1.5) } }, "+"),
    el("button", { type: "button", "aria-label": "Zoom out", on: { click: () => zoomAt(1 / 1.5) } }, "−"),
    el("button", { type: "button", "aria-label": "Show the whole map", on: { click: reset } }, "⤢"));
  const heard = el("div", { class: "heard", "aria-live": "polite" });
  stage.append(canvas, zoom, tip, heard);
  const search = el("input", { type: "search", list: "class-names", placeholder: "Find a class", "aria-label": "Find a class on the map", on: { input: seek, keydown: enter } });
  const count = el("span", { class: "spread", "aria-live": "polite" });
  byId("map-controls").append(search, el("datalist", { id: "class-names" }, ...names.map((name) => el("option", { value: name }))));
  if (report.sprite) {
    byId("map-controls").append(segment("Show items as", [["dots", "Dots"], ["pictures", "Pictures"]], "dots", (mode) => { view.mode = mode; draw(); }));
    const probe = el("span", { class: "thumb pictured", hidden: true });
    document.body.append(probe);
    sprite.onload = () => { ready = true; draw(); };
    sprite.src = getComputedStyle(probe).backgroundImage.slice(5, -2); // url("…")
    probe.remove();
  }
  byId("map-controls").append(count);
  byId("map-stage").parentNode.after(el("p", { class: "hint" }, "Drag to move once zoomed in; zoom with the buttons, a pinch, Ctrl and the wheel, or + and −. Arrow keys move from item to item, Enter pins, Escape lets go."));

  const unit = () => (Math.min(canvas.clientWidth, canvas.clientHeight) / 2 - 22) * view.scale;
  const onX = (i) => canvas.clientWidth / 2 + view.x + places.x[i] * unit();
  const onY = (i) => canvas.clientHeight / 2 + view.y - places.y[i] * unit();
  const tint = (label) => {
    const i = number.get(label);
    return `hsl(${(i * 137.508) % 360} ${isDark() ? 62 : 60 + 12 * (i % 2)}% ${isDark() ? 60 + 8 * (i % 3) : 38 + 8 * (i % 3)}%)`;
  };
  const lit = (i) => (view.pinned !== null ? labels[i] === view.pinned : view.sought === null || view.sought.has(labels[i]));

  function draw() {
    if (!due) due = requestAnimationFrame(paint);
  }

  function paint() {
    due = 0;
    const [width, height, dense] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
    const pen = canvas.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    const ground = getComputedStyle(stage).backgroundColor;
    const all = labels.map((_, i) => i).filter((i) => onX(i) > -40 && onY(i) > -40 && onX(i) < width + 40 && onY(i) < height + 40);
    const picked = view.pinned !== null || view.sought !== null;
    for (const i of all) if (!lit(i)) mark(pen, i, 0.13, ground, false);
    for (const i of all) if (lit(i) && i !== view.over) mark(pen, i, 1, ground, picked);
    if (view.over >= 0) mark(pen, view.over, 1, ground, picked && lit(view.over), true);
  }

  function mark(pen, i, alpha, ground, raised, over = false) {
    const [x, y] = [onX(i), onY(i)];
    const place = report.sprite ? report.sprite.place[String(places.item[i])] : undefined;
    pen.globalAlpha = alpha;
    pen.fillStyle = tint(labels[i]);
    if (ready && place !== undefined && alpha === 1 && (view.mode === "pictures" || raised)) {
      const size = (raised ? 30 : 20) * Math.min(3, Math.sqrt(view.scale)) * (over ? 1.25 : 1);
      const tile = sprite.width / report.sprite.columns;
      pen.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
      pen.drawImage(sprite, (place % report.sprite.columns) * tile, Math.floor(place / report.sprite.columns) * tile, tile, tile, x - size / 2, y - size / 2, size, size);
    } else {
      pen.beginPath();
      pen.arc(x, y, (over ? 7 : 4.2) * Math.min(1.8, view.scale ** 0.25), 0, 7);
      pen.fill();
      pen.lineWidth = 1.2;
      pen.strokeStyle = ground;
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  function nearest(x, y, reach) {
    let best = -1;
    let least = reach;
    for (let i = 0; i < labels.length; i++) {
      const far = Math.hypot(onX(i) - x, onY(i) - y);
      if (far < least && (lit(i) || far < least / 2)) [best, least] = [i, far];
    }
    return best;
  }

  function look(i) {
    if (view.over !== i) {
      view.over = i;
      canvas.classList.toggle("over", i >= 0);
      tip.hidden = i < 0;
      if (i >= 0) tip.replaceChildren(thumb(places.item[i]), el("span", {}, named(labels[i], "b"), item(places.item[i]).path.split("/").pop()));
      draw();
    }
    if (i < 0) return;
    const [x, y] = [onX(i), onY(i)];
    tip.style.left = Math.min(Math.max(4, x + (x > stage.clientWidth / 2 ? -158 : 16)), stage.clientWidth - 146) + "px";
    tip.style.top = Math.min(Math.max(4, y - 60), stage.clientHeight - tip.offsetHeight - 4) + "px";
  }

  function pin(label) {
    view.pinned = label;
    if (label !== null) view.sought = null;
    draw();
    tell();
  }

  function tell() {
    const label = view.pinned;
    if (label === null) {
      const shown = names.filter((name) => !view.sought || view.sought.has(name));
      heard.textContent = "No class is pinned.";
      return side.replaceChildren(...[el("h3", {}, "Classes"), el("p", { class: "quiet" }, "Choose one, or a point on the map. The number is Recall@1 in percent."), el("ul", { class: "class-list" }, ...shown.slice(0, 300).map(entry)),
        shown.length > 300 ? el("p", { class: "quiet" }, `${shown.length - 300} more: search for them by name.`) : ""]);
    }
    const row = rowOf.get(label);
    const facts = row ? `${row.queries} queries · Recall@1 ${percent(row["recall@1"])} % · MAP@R ${percent(row["map@r"])} %` : "not used as queries";
    const tiles = el("div", { class: "tiles" }, ...members.get(label).slice(0, 60).map((i) => thumb(places.item[i])));
    heard.textContent = `${label} pinned: ${facts}`;
    side.replaceChildren(named(label, "h3"), el("p", { class: "quiet" }, facts), tiles, el("button", { type: "button", class: "button", on: { click: () => pin(null) } }, "Back to all classes"));
    side.scrollTop = 0;
  }

  function entry(name) {
    const dot = el("i");
    dot.style.background = tint(name);
    const row = rowOf.get(name);
    return el("li", {}, el("button", { type: "button", on: { click: () => pin(name) } }, dot, named(name), el("span", { class: "number" }, row ? percent(row["recall@1"]) : "")));
  }

  function seek() {
    const asked = search.value.trim().toLowerCase();
    const hits = names.filter((name) => name.toLowerCase().includes(asked));
    const exact = names.find((name) => name.toLowerCase() === asked);
    view.sought = asked ? new Set(hits) : null;
    count.textContent = asked ? `${hits.length} ${hits.length === 1 ? "class matches" : "classes match"}` : "";
    pin(exact !== undefined ? exact : hits.length === 1 && asked ? hits[0] : null);
  }

  function enter(event) {
    if (event.key === "Escape") search.value = "";
    if (event.key === "Escape") seek();
    if (event.key === "Enter" && view.sought && view.sought.size) pin([...view.sought][0]);
  }

  function zoomAt(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(24, Math.max(1, view.scale * factor));
    const ratio = scale / view.scale;
    const [fromX, fromY] = [x - canvas.clientWidth / 2, y - canvas.clientHeight / 2];
    view.x = scale === 1 ? 0 : fromX - (fromX - view.x) * ratio;
    view.y = scale === 1 ? 0 : fromY - (fromY - view.y) * ratio;
    view.scale = scale;
    canvas.style.touchAction = scale > 1 ? "none" : "pan-y";
    if (view.over >= 0) look(view.over);
    draw();
  }

  function reset() {
    Object.assign(view, { scale: 1, x: 0, y: 0 });
    zoomAt(1);
  }

  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.style.touchAction = "pan-y";
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, at(event));
    if (fingers.size === 1) moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) return look(nearest(...now, 18));
    const others = [...fingers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const anchor = others[0][1];
      const gap = (p) => Math.hypot(p[0] - anchor[0], p[1] - anchor[1]);
      zoomAt(gap(now) / Math.max(1, gap(before)), (now[0] + anchor[0]) / 2, (now[1] + anchor[1]) / 2);
    } else if (view.scale > 1) {
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
      draw();
    }
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    canvas.classList.toggle("pull", moved > 5);
    fingers.set(event.pointerId, now);
  });
  const lift = (event) => {
    if (event.type === "pointerup" && fingers.size === 1 && moved < 6) {
      const hit = nearest(...at(event), event.pointerType === "touch" ? 30 : 18);
      look(hit);
      pin(hit < 0 || (labels[hit] === view.pinned && event.pointerType !== "touch") ? null : labels[hit]);
    }
    fingers.delete(event.pointerId);
    canvas.classList.remove("pull");
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => look(-1));
  canvas.addEventListener("blur", () => look(-1));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls; only a pinch or Ctrl+wheel zooms
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 300), ...at(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomAt(2, ...at(event)));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      event.preventDefault();
      look(step(way));
      heard.textContent = labels[view.over];
    } else if (event.key === "Enter" && view.over >= 0) pin(labels[view.over]);
    else if (event.key === "Escape") pin(null);
    else if (event.key === "+" || event.key === "=") zoomAt(1.5);
    else if (event.key === "-") zoomAt(1 / 1.5);
  });

  // The nearest item in the direction of an arrow key; what lies sideways counts double.
  function step([wayX, wayY]) {
    if (view.over < 0) return nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, Infinity);
    let [best, least] = [view.over, Infinity];
    for (let i = 0; i < labels.length; i++) {
      const [x, y] = [onX(i) - onX(view.over), onY(i) - onY(view.over)];
      const ahead = x * wayX + y * wayY;
      const cost = ahead + 2 * Math.abs(x * wayY - y * wayX);
      if (ahead > 0.5 && cost < least) [best, least] = [i, cost];
    }
    return best;
  }

  new ResizeObserver(draw).observe(stage);
  schemeListeners.push(draw, tell);
  tell();
  return { names, members, places, pin };
})();
