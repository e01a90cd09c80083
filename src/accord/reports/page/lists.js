// The parts that are lists: the gallery of queries, the confused pairs, the table of classes.
(function gallery() {
  const list = byId("query-list");
  const all = report.queries;
  const state = { best: false, label: null, shown: 6 };
  const count = el("span", { class: "spread", "aria-live": "polite" });
  const present = [...new Set(all.map((query) => item(query.id).label))].sort((a, b) => a.localeCompare(b, "en"));
  const select = el("select", { "aria-label": "Show queries of", on: { change: () => { state.label = select.selectedIndex ? present[select.selectedIndex - 1] : null; state.shown = 6; draw(); } } },
    el("option", {}, "All classes"), ...present.map((name) => el("option", {}, name)));
  byId("query-controls").append(segment("Order of the queries", [["worst", "Worst first"], ["best", "Best first"]], "worst", (key) => { state.best = key === "best"; state.shown = 6; draw(); }), select, count);
  const more = el("button", { type: "button", class: "button more", on: { click: () => { state.shown += 12; draw(); } } }, "Show more");
  list.after(more);

  function row(query) {
    const label = item(query.id).label;
    const right = query.neighbours.findIndex((neighbour) => neighbour.right);
    const first = right < 0 ? `none of ${query.neighbours.length} is right` : right === 0 ? "first neighbour is right" : `first right one at place ${right + 1}`;
    return el("article", { class: "row", "aria-label": `Query of class ${label}` },
      el("div", { class: "asked" }, thumb(query.id, `Query: ${label}`), el("div", {}, named(label), `MAP@R ${percent(query.average_precision)} %`, el("br"), first)),
      el("ol", { class: "found" }, ...query.neighbours.map(found)));
  }

  function found(neighbour) {
    const label = item(neighbour.id).label;
    const kind = neighbour.right ? "right" : "wrong";
    return el("li", { class: kind }, el("span", { class: "frame" }, thumb(neighbour.id, `${kind}: ${label}`), el("span", { class: "badge", "aria-hidden": "true" }, neighbour.right ? "✓" : "✕")),
      el("span", { class: "score" }, neighbour.score === null ? "–" : neighbour.score.toFixed(3)), named(label));
  }

  function draw() {
    const chosen = all.filter((query) => state.label === null || item(query.id).label === state.label);
    if (state.best) chosen.reverse();
    const visible = chosen.slice(0, state.shown);
    list.replaceChildren(...visible.map(row));
    if (!chosen.length) list.append(el("p", { class: "quiet" }, "There are no queries here."));
    count.textContent = `${visible.length} of ${chosen.length.toLocaleString("en")} queries`;
    more.hidden = visible.length === chosen.length;
  }
  draw();
})();

(function confused() {
  const host = byId("confused-list");
  if (!report.confused.length) host.append(el("p", { class: "quiet" }, "No query found another class first."));
  const draw = (pair) => el("article", { class: "panel pair" },
    el("div", {}, el("h3", {}, named(pair.class), el("span", { class: "to", "aria-label": "taken for" }, "→"), named(pair.other)),
      el("p", {}, `${pair.count} of ${Math.round(pair.count / pair.share)} queries (${Math.round(100 * pair.share)} %) find it first`)),
    el("ul", {}, ...pair.examples.map(([query, neighbour]) => el("li", {}, thumb(query, `Query: ${pair.class}`), thumb(neighbour, `Nearest neighbour: ${pair.other}`)))));
  const [first, rest] = [report.confused.slice(0, 6), report.confused.slice(6)];
  host.append(...first.map(draw));
  if (!rest.length) return;
  const more = el("button", { type: "button", class: "button more", on: { click: () => { host.append(...rest.map(draw)); more.remove(); } } }, `Show ${rest.length} more`);
  host.after(more);
})();

(function classes() {
  const compared = report.classes.some((row) => row["baseline_recall@1"] !== undefined);
  const gain = (row) => (row["baseline_recall@1"] === undefined ? null : row["recall@1"] - row["baseline_recall@1"]);
  const columns = [["Class", (row) => row.label, ""], ["Queries", (row) => row.queries, "number optional"], ["Recall@1", (row) => row["recall@1"], "number"],
    ...(compared ? [["Frozen", (row) => row["baseline_recall@1"] ?? null, "number optional"], ["Difference", gain, "number"]] : []), ["MAP@R", (row) => row["map@r"], "number optional"]];
  const state = { column: 2, down: false, all: false };
  const host = byId("class-table");
  const body = el("tbody");
  const heads = columns.map(([name, , kind], i) => el("th", { scope: "col", class: kind }, el("button", { type: "button", on: { click: () => sort(i) } }, name)));
  const more = el("button", { type: "button", class: "button more", on: { click: () => { state.all = true; draw(); } } }, `Show all ${report.classes.length} classes`);
  host.append(el("table", { class: "sheet" }, el("thead", {}, el("tr", {}, ...heads)), body), more);

  function sort(column) {
    state.down = state.column === column ? !state.down : column > 0;
    state.column = column;
    draw();
  }

  function order(a, b) {
    const [x, y] = [columns[state.column][1](a), columns[state.column][1](b)];
    const sign = typeof x === "string" ? x.localeCompare(y, "en") : (x ?? -9) - (y ?? -9);
    return (state.down ? -sign : sign) || a.label.localeCompare(b.label, "en");
  }

  function signed(value) {
    if (value === null) return el("span", { class: "same" }, "–");
    const kind = value > 0.0005 ? "up" : value < -0.0005 ? "down" : "same";
    return el("span", { class: kind }, (value < -0.0005 ? "−" : value > 0.0005 ? "+" : "±") + percent(Math.abs(value)));
  }

  function line(row) {
    const first = (mapApi.members.get(row.label) || [])[0];
    const show = () => { mapApi.pin(row.label); byId("map").scrollIntoView(); };
    const fill = el("i");
    fill.style.width = 100 * row["recall@1"] + "%";
    const cells = [
      el("th", { scope: "row" }, el("button", { type: "button", class: "who", on: { click: show } }, first === undefined ? null : thumb(mapApi.places.item[first]), named(row.label))),
      el("td", { class: "number optional" }, String(row.queries)),
      el("td", { class: "number" }, el("span", { class: "meter", "aria-hidden": "true" }, fill), percent(row["recall@1"])),
    ];
    if (compared) cells.push(el("td", { class: "number optional" }, percent(row["baseline_recall@1"])), el("td", { class: "number" }, signed(gain(row))));
    cells.push(el("td", { class: "number optional" }, percent(row["map@r"])));
    return el("tr", {}, ...cells);
  }

  function draw() {
    const rows = [...report.classes].sort(order);
    const visible = state.all ? rows : rows.slice(0, 15);
    heads.forEach((head, i) => (i === state.column ? head.setAttribute("aria-sort", state.down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    body.replaceChildren(...visible.map(line));
    more.hidden = visible.length === rows.length;
  }
  draw();
})();
