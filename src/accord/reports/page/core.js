// What every part of the page uses: the report's data, safe element building, pictures, and figures as words.
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const byId = (id) => document.getElementById(id);

// Text from the report is only ever set as text, never parsed as HTML.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const named = (text, kind = "span") => el(kind, { class: "name", title: text }, text);
const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
const item = (id) => report.items[String(id)] || { label: "", path: "" };

// A picture of an item: its tile of the one sprite that the style sheet holds, or its class in words.
function thumb(id, words) {
  const place = report.sprite ? report.sprite.place[String(id)] : undefined;
  const label = words || item(id).label;
  const node = el("span", { class: "thumb", role: "img", "aria-label": label, title: item(id).path || label });
  if (place === undefined) {
    node.classList.add("blank");
    node.append(item(id).label);
    return node;
  }
  const { columns, rows } = report.sprite;
  const along = (index, count) => (count > 1 ? (100 * index) / (count - 1) : 0) + "%";
  node.classList.add("pictured");
  node.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  node.style.backgroundPosition = `${along(place % columns, columns)} ${along(Math.floor(place / columns), rows)}`;
  return node;
}

function segment(label, choices, chosen, act) {
  const group = el("div", { class: "segment", role: "group", "aria-label": label });
  for (const [key, words] of choices) {
    const press = () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      act(key);
    };
    const button = el("button", { type: "button", "aria-pressed": String(key === chosen), on: { click: press } }, words);
    group.append(button);
  }
  return group;
}

const schemeListeners = [];
const isDark = () => {
  const chosen = document.documentElement.dataset.scheme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const schemeChanged = () => schemeListeners.forEach((act) => act());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", schemeChanged);
byId("scheme").hidden = false;
byId("scheme").addEventListener("click", () => {
  document.documentElement.dataset.scheme = isDark() ? "light" : "dark";
  schemeChanged();
});
