// Line charts in SVG: crisp axes, a read-out under the pointer or the arrow keys, redrawn when the width changes.
const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
const dashOf = (series) => series.dash || DASHES[Math.floor(series.order / 8) % DASHES.length];

function stepOf(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
}

function ticks(low, high, step) {
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

const wholeTicks = (low, high, count) => ticks(low, high, Math.max(1, stepOf(low, high, count))).filter(Number.isInteger);

// powers of ten; with twice and five times each where fewer than three of them lie in the range
function decades(low, high) {
  const within = (multiples) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) found.push(...multiples.map((multiple) => Number(`${multiple}e${power}`)));
    return found.filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
  };
  const found = within([1]);
  return found.length > 2 ? found : within([1, 2, 5]);
}

const short = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001 || size >= 100000) return value.toExponential(1).replace("e-", "e−").replace(".0e", "e");
  return String(Number(value.toPrecision(3)));
};

// A mean over the neighbouring points on both sides, so that the line does not lag behind.
function smooth(values) {
  const reach = Math.floor(values.length / 40);
  return values.map((value, i) => {
    if (value === null) return null;
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter((other) => other !== null);
    return near.reduce((sum, other) => sum + other, 0) / near.length;
  });
}

// spec: {title, unit, x, xLabel, xName, series: [{name, color, values, dash, dots}], height, low, high, logX, logY, format, smoothed}
function lineChart(host, spec) {
  const series = spec.series.map((one, order) => ({ order, ...one, drawn: spec.smoothed ? smooth(one.values) : one.values }));
  const format = spec.format || short;
  const mark = spec.mark || format;
  const stage = el("div", { class: "chart" });
  const title = el("div", { class: "chart-title" }, spec.title ? el("h3", {}, spec.title) : null, spec.unit ? el("span", { class: "unit" }, spec.unit) : null);
  host.append(title, stage);
  if (series.length > 1) title.append(legend(series));
  const heard = el("div", { class: "heard", "aria-live": "polite" });
  const tip = el("div", { class: "tip", hidden: true });
  let chosen = -1;
  let frame;

  const finite = series.flatMap((one) => one.values.filter((value) => value !== null && (!spec.logY || value > 0)));
  if (!finite.length) {
    stage.append(el("p", { class: "quiet" }, "Nothing finite was recorded."));
    return;
  }
  let low = spec.low !== undefined ? spec.low : Math.min(...finite);
  let high = spec.high !== undefined ? spec.high : Math.max(...finite);
  if (spec.logY) low = Math.max(low, high / 1e4);
  else if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const step = spec.logY ? 0 : stepOf(low, high, 4);
  if (!spec.logY && spec.high === undefined) {
    low = Math.floor(low / step + 1e-9) * step;
    high = Math.ceil(high / step - 1e-9) * step;
  }

  function draw() {
    const width = Math.max(200, stage.clientWidth);
    const height = spec.height || 220;
    const bottom = height - 40;
    const yTicks = spec.logY ? decades(low, high) : ticks(low, high, step);
    const left = 12 + 7 * Math.max(...yTicks.map((value) => mark(value).length));
    const onX = (value) => (spec.logX ? Math.log2(value) : value);
    const [first, last] = [onX(spec.x[0]), onX(spec.x[spec.x.length - 1])];
    const x = (value) => left + ((onX(value) - first) / (last - first || 1)) * (width - left - 12);
    const onY = (value) => (spec.logY ? Math.log10(Math.max(value, low)) : value);
    const y = (value) => bottom - ((onY(value) - onY(low)) / (onY(high) - onY(low) || 1)) * (bottom - 10);
    const canvas = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "img", "aria-label": describe(spec, series, format) });
    for (const value of yTicks) {
      canvas.append(svg("line", { class: "grid", x1: left, x2: width - 12, y1: y(value), y2: y(value) }));
      canvas.append(svg("text", { class: "axis", x: left - 9, y: y(value) + 4, "text-anchor": "end" }, mark(value)));
    }
    for (const value of spec.logX ? spec.x : wholeTicks(spec.x[0], spec.x[spec.x.length - 1], width < 380 ? 3 : 5))
      canvas.append(svg("text", { class: "axis", x: x(value), y: bottom + 18, "text-anchor": "middle" }, value.toLocaleString("en")));
    canvas.append(svg("text", { class: "axis", x: (left + width - 12) / 2, y: height - 3, "text-anchor": "middle" }, spec.xLabel));
    for (const one of series) {
      if (spec.smoothed) canvas.append(path(one, one.values, x, y, "line raw"));
      canvas.append(path(one, one.drawn, x, y, "line"));
      if (one.dots) one.values.forEach((value, i) => value !== null && canvas.append(spot(one, x(spec.x[i]), y(value), 4)));
    }
    const marks = svg("g");
    canvas.append(marks);
    frame = { x, y, bottom, width, marks, left };
    const svgThere = stage.querySelector("svg");
    const focused = svgThere && svgThere === document.activeElement;
    stage.replaceChildren(canvas, tip, heard);
    if (focused) canvas.focus();
    listen(canvas);
    if (chosen >= 0) show(chosen);
  }

  function listen(canvas) {
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const at = ((event.clientX - box.left) * frame.width) / box.width;
      show(spec.x.reduce((best, value, i) => (Math.abs(frame.x(value) - at) < Math.abs(frame.x(spec.x[best]) - at) ? i : best), 0));
    });
    canvas.addEventListener("pointerleave", hide);
    canvas.addEventListener("blur", hide);
    canvas.addEventListener("keydown", (event) => {
      const leap = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") hide();
      if (leap === undefined) return;
      event.preventDefault();
      const start = chosen < 0 ? (leap > 0 ? -1 : spec.x.length) : chosen;
      show(Math.min(spec.x.length - 1, Math.max(0, start + leap)));
      heard.textContent = tip.innerText;
    });
  }

  function show(index) {
    chosen = index;
    const at = frame.x(spec.x[index]);
    frame.marks.replaceChildren(svg("line", { class: "cross", x1: at, x2: at, y1: 10, y2: frame.bottom }));
    const rows = series.map((one) => {
      const value = one.values[index];
      if (value !== null) frame.marks.append(spot(one, at, frame.y(one.drawn[index]), 4.5));
      const dot = el("span", { class: "dot" });
      dot.style.background = one.color;
      return el("tr", {}, el("td", {}, dot, one.name), el("td", {}, value === null ? "not finite" : format(value)));
    });
    tip.replaceChildren(el("b", {}, spec.xName(index)), el("table", {}, ...rows));
    tip.hidden = false;
    const room = frame.width - tip.offsetWidth;
    tip.style.left = Math.max(0, Math.min(room, at + (at > frame.width / 2 ? -tip.offsetWidth - 12 : 12))) + "px";
    tip.style.top = "8px";
  }

  function hide() {
    chosen = -1;
    tip.hidden = true;
    if (frame) frame.marks.replaceChildren();
  }

  let known = 0;
  new ResizeObserver(() => {
    if (stage.clientWidth === known) return;
    known = stage.clientWidth;
    draw();
  }).observe(stage);

  function path(one, values, x, y, kind) {
    let pen = "M";
    let route = "";
    values.forEach((value, i) => {
      if (value === null || (spec.logY && value < low)) pen = "M";
      else {
        route += `${pen}${x(spec.x[i]).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = "L";
      }
    });
    const line = svg("path", { class: kind, d: route || "M0 0", "stroke-dasharray": dashOf(one) });
    line.style.stroke = one.color;
    return line;
  }
}

function spot(one, cx, cy, r) {
  const circle = svg("circle", { class: "spot", cx, cy, r });
  circle.style.fill = one.color;
  return circle;
}

function legend(series) {
  return el("ul", { class: "legend" }, ...series.map((one) => {
    const line = svg("line", { x1: 1, x2: 21, y1: 4, y2: 4, "stroke-width": 2.5, "stroke-dasharray": dashOf(one) });
    line.style.stroke = one.color;
    return el("li", {}, svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, line), named(one.name));
  }));
}

function describe(spec, series, format) {
  const parts = series.map((one) => {
    const finite = one.values.filter((value) => value !== null);
    return finite.length ? `${one.name} from ${format(finite[0])} to ${format(finite[finite.length - 1])}` : `${one.name}: no values`;
  });
  return `Line chart. ${spec.title || ""} over ${spec.xLabel}: ${parts.join("; ")}. Arrow keys read out the values.`;
}
