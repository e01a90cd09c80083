// What the page does: takes an image or a click, asks the service, shows the neighbours, and keeps the trail in the history.
"use strict";

const $ = (id) => document.getElementById(id);
const key = document.body.dataset.key;
const bodyBytes = Number(document.body.dataset.bodyBytes);
const TRAIL_LENGTH = 12;
let running = null; // the AbortController of the question under way

const thumbnail = (id, size = 160) => `/api/items/${id}/thumbnail?size=${size}&v=${key}`;
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function setState(state) {
  document.body.dataset.state = state;
  $("progress").hidden = state !== "busy";
  $("results").setAttribute("aria-busy", String(state === "busy"));
}

function tellProblem(text) {
  $("problem-text").textContent = text;
  $("problem").hidden = false;
  setState("error");
}

function clearProblem() {
  $("problem").hidden = true;
  if (document.body.dataset.state === "error") setState("idle");
}

// Asking -----------------------------------------------------------------------------------------------------------

async function ask(address, options = {}) {
  running?.abort();
  const mine = (running = new AbortController());
  clearProblem();
  setState("busy");
  try {
    const response = await fetch(address, { ...options, signal: mine.signal });
    const answer = await response.json();
    if (response.status === 401) location.assign("/sign-in");
    if (!response.ok) {
      const reference = response.status >= 500 ? ` (request ${answer.request_id})` : "";
      throw new Error(answer.text + reference);
    }
    setState("idle");
    return answer;
  } catch (error) {
    if (mine.signal.aborted) return null;
    tellProblem(error instanceof TypeError ? "The server can't be reached. Is it still running?" : error.message);
    return null;
  }
}

async function searchWith(file, name) {
  if (!file) return;
  if (file.type && !file.type.startsWith("image/")) {
    tellProblem(`${name} is not an image. JPEG, PNG, WebP, GIF, BMP, TIFF and PPM work.`);
    return;
  }
  if (file.size > bodyBytes) {
    tellProblem(`${name} has ${(file.size / 1e6).toFixed(1)} MB. Up to ${bodyBytes / 1e6} MB are taken.`);
    return;
  }
  const type = file.type || "image/x-unnamed";
  const answer = await ask("/api/search", { method: "POST", headers: { "Content-Type": type }, body: file });
  if (answer) go([{ label: name, preview: answer.query.preview, answer }]);
}

async function pivot(id, label, trail = trailNow()) {
  const answer = await ask(`/api/items/${id}/neighbours`);
  if (!answer) return;
  const last = trail.at(-1);
  const before = last && last.id === id ? trail.slice(0, -1) : trail;
  go([...before, { id, label: answer.query.label ?? label, answer }]);
}

// History: each entry holds the whole trail with its answers, so that going back needs no server -----------------------

// The key changes with every start of the server: answers of an earlier one, perhaps of another run, are not shown.
const trailNow = () => (history.state?.key === key ? history.state.trail : []);

function go(trail) {
  trail = trail.slice(-TRAIL_LENGTH);
  history.pushState({ key, trail }, "", addressOf(trail.at(-1)));
  show(trail);
  $("heading").focus({ preventScroll: true });
  if (matchMedia("(max-width: 820px)").matches) window.scrollTo({ top: 0 });
}

const addressOf = (entry) => (!entry ? "/" : entry.id === undefined ? "/?upload" : `/?item=${entry.id}`);

function restore() {
  running?.abort();
  clearProblem();
  setState("idle");
  const trail = trailNow();
  const wanted = new URLSearchParams(location.search).get("item");
  if (trail.length || !/^\d+$/.test(wanted ?? "")) show(trail);
  else open(wanted);
}

async function open(id) {
  const answer = await ask(`/api/items/${id}/neighbours`);
  const trail = answer ? [{ id: answer.query.id, label: answer.query.label, answer }] : [];
  if (answer) history.replaceState({ key, trail }, "", addressOf(trail[0]));
  show(trail);
}

// Showing ----------------------------------------------------------------------------------------------------------

function show(trail) {
  const entry = trail.at(-1);
  document.body.classList.toggle("has-query", Boolean(entry));
  $("shown").hidden = !entry;
  $("sample").hidden = Boolean(entry);
  $("neighbours").hidden = !entry;
  $("empty").hidden = entry ? entry.answer.neighbours.length > 0 : $("sample").children.length > 0;
  showTrail(trail);
  if (entry) showEntry(entry);
  else showStart();
}

function showStart() {
  $("heading").textContent = "Start from the gallery";
  $("summary").textContent = "Pick one to see what the model finds near it.";
  $("labels").hidden = true;
  $("notice").hidden = true;
  $("neighbours").replaceChildren();
}

function showEntry(entry) {
  const { neighbours, known, threshold, far, seconds } = entry.answer;
  const uploaded = entry.id === undefined;
  $("picture").src = uploaded ? entry.preview : thumbnail(entry.id, 320);
  $("picture").alt = uploaded ? "Your image" : `Item ${entry.id}, ${entry.label}`;
  $("kind").textContent = uploaded ? "Your image" : `Item ${entry.id}`;
  $("name").textContent = entry.label;
  $("heading").textContent = uploaded ? "Nearest to your image" : `Nearest to ${entry.label}`;
  const doubtful = threshold !== null && neighbours.some((hit) => hit.score < threshold);
  const legend = doubtful ? `; pale ones score below ${threshold.toFixed(2)}` : "";
  const time = Math.max(1, Math.round(seconds * 1000));
  $("summary").textContent = `${plural(neighbours.length, "neighbour")} in ${time} ms, best first${legend}`;
  const unknown = known === false && neighbours.length > 0;
  $("notice").hidden = !unknown;
  $("doubt").hidden = !unknown;
  const promise = far === null ? "" : ` The threshold is set so that at most ${percent(far)} of images of something else reach it.`;
  $("notice").textContent = `Unknown: nothing here scores ${threshold?.toFixed(2)} or more.${promise}`;
  showLabels(neighbours, uploaded ? null : entry.label);
  const tiles = neighbours.map((hit, place) => tile(hit, place, uploaded ? null : entry.label, threshold));
  $("neighbours").replaceChildren(...tiles);
  $("neighbours").classList.add("fresh");
  const best = neighbours[0];
  const nearest = best ? ` The nearest is ${best.label}, score ${best.score.toFixed(3)}.` : "";
  $("status").textContent = `${plural(neighbours.length, "neighbour")} shown.${unknown ? " The answer is: unknown." : ""}${nearest}`;
}

function showLabels(neighbours, own) {
  const counts = new Map();
  for (const { label } of neighbours) counts.set(label, (counts.get(label) ?? 0) + 1);
  const repeated = [...counts].filter(([label, count]) => count > 1 || label === own);
  const most = repeated.sort((one, other) => other[1] - one[1]).slice(0, 3);
  const chips = most.map(([label, count]) => {
    const chip = element("li", label === own ? "same" : "");
    chip.append(element("span", "", label), element("b", "", String(count)));
    chip.title = `${label}: ${count} of ${neighbours.length}`;
    return chip;
  });
  const others = counts.size - most.length;
  if (most.length && others) chips.push(element("li", "", `${others} other${others === 1 ? "" : "s"}`));
  $("labels").replaceChildren(...chips);
  $("labels").hidden = !chips.length;
}

function tile(hit, place, own, threshold) {
  const item = $("tile").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const unknown = threshold !== null && hit.score < threshold;
  const same = !unknown && hit.label === own;
  const link = find("a");
  link.href = `/?item=${hit.id}`;
  link.dataset.id = hit.id;
  link.dataset.label = hit.label;
  link.title = hit.path;
  link.setAttribute("aria-label", `${hit.label}, score ${hit.score.toFixed(3)}${unknown ? ", below the threshold" : ""}`);
  find("img").src = thumbnail(hit.id);
  find(".rank").textContent = place + 1;
  find(".label").textContent = hit.label;
  find(".score").textContent = hit.score.toFixed(3);
  find(".badge").hidden = !unknown && !same;
  find(".badge").textContent = unknown ? "?" : "same";
  item.classList.toggle("unknown", unknown);
  item.classList.toggle("same", same);
  item.style.setProperty("--score", Math.min(1, Math.max(0, hit.score)));
  item.style.setProperty("--place", Math.min(place, 24));
  return item;
}

function showTrail(trail) {
  const start = element("a", "start");
  start.href = "/";
  start.append(element("span", "", "Gallery"));
  const crumbs = trail.map((entry, place) => crumb(entry, place, trail));
  $("crumbs").replaceChildren(inItem(start), ...crumbs.map(inItem));
  $("trail").hidden = !trail.length;
  $("trail").scrollLeft = $("trail").scrollWidth;
}

function crumb(entry, place, trail) {
  const link = element("a");
  link.href = addressOf(entry);
  link.dataset.place = place;
  if (place === trail.length - 1) link.setAttribute("aria-current", "page");
  const picture = element("img");
  picture.alt = "";
  picture.src = entry.id === undefined ? entry.preview : thumbnail(entry.id);
  link.append(picture, element("span", "", entry.label));
  return link;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function inItem(child) {
  const item = element("li");
  item.append(child);
  return item;
}

// Clicks, drops and pastes -----------------------------------------------------------------------------------------

const isPlainClick = (event) => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || !isPlainClick(event)) return;
  if (link.dataset.id !== undefined) pivot(Number(link.dataset.id), link.dataset.label);
  else if (link.dataset.place !== undefined) go(trailNow().slice(0, Number(link.dataset.place) + 1));
  else if (link.classList.contains("start") || link.id === "home") goHome();
  else return;
  event.preventDefault();
});

function goHome() {
  running?.abort();
  clearProblem();
  setState("idle");
  if (trailNow().length) go([]);
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  searchWith(file, file?.name);
  $("file").value = "";
});
$("dismiss").addEventListener("click", clearProblem);
window.addEventListener("popstate", restore);

let depth = 0; // dragenter and dragleave come in pairs for every element below the pointer
const isFromOutside = (event) => [...(event.dataTransfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");

window.addEventListener("dragenter", (event) => {
  if (!isFromOutside(event)) return;
  event.preventDefault();
  depth += 1;
  setState("dragging");
});
window.addEventListener("dragover", (event) => {
  if (isFromOutside(event)) event.preventDefault();
});
window.addEventListener("dragleave", (event) => {
  if (!isFromOutside(event)) return;
  depth = Math.max(0, depth - 1);
  if (!depth) setState("idle");
});
window.addEventListener("drop", (event) => {
  if (!isFromOutside(event)) return;
  event.preventDefault();
  depth = 0;
  setState("idle");
  const [file] = event.dataTransfer.files;
  if (file) searchWith(file, file.name);
  else tellProblem("Drop an image file: links are not opened.");
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file) searchWith(file, "Pasted image");
  else tellProblem("There is no image in the clipboard.");
});

restore();
