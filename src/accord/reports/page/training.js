// The recall curve and the charts of the training log.
const color = (order) => `var(--s${order % 8})`;
const asPercent = (value) => percent(value) + " %";
const asMark = (value) => Number((100 * value).toFixed(1)) + " %";

(function recall() {
  const curve = report.recall_curve;
  const series = [{ name: "trained", color: "var(--accent)", values: curve.trained, dots: true }];
  if (curve.baseline.length) series.push({ name: "frozen baseline", color: "var(--base)", values: curve.baseline, dots: true });
  if (curve.chance.length) series.push({ name: "random order", color: "var(--chance)", values: curve.chance, dash: "2 5" });
  if (!curve.k.length) return byId("recall").remove();
  lineChart(byId("recall-chart"), {
    title: "Recall@K", x: curve.k, logX: true, xLabel: "K, the number of neighbours looked at", xName: (i) => `Among the ${curve.k[i]} nearest`,
    series, low: 0, high: 1, height: 340, format: asPercent, mark: asMark,
  });
})();

(function training() {
  const log = report.history;
  const about = byId("training-about");
  const host = byId("training-charts");
  if (!log.step.length) {
    about.textContent = "No training log came with this report.";
    return;
  }
  about.textContent = (log.averaged > 1 ? `Each point is the mean of ${log.averaged} steps. ` : "") +
    "Bold lines are smoothed; the thin ones show what was recorded. The validation classes are held out of training and are not the unseen classes above.";
  const panel = (width) => host.appendChild(el("div", { class: `panel ${width}` }));
  const along = (at) => ({ x: at.step, xLabel: "step", xName: (i) => `Step ${at.step[i].toLocaleString("en")}` + (at.epoch[i] === null ? "" : `, epoch ${at.epoch[i]}`) });
  const [common, measured] = [along(log), along(log.gradients)];
  const validation = log.validation.filter((row) => (row["recall@1"] ?? null) !== null);
  const half = validation.length ? "wide" : "full";
  lineChart(panel(half), { ...common, title: "Loss", unit: "what is minimised", series: [{ name: "loss", color: color(0), values: log.loss }], smoothed: true, height: 240 });
  if (validation.length)
    lineChart(panel("wide"), {
      title: "On validation classes", x: validation.map((row) => row.step), xLabel: "step", xName: (i) => `After step ${validation[i].step}`, height: 240, format: asPercent, mark: asMark,
      series: [["Recall@1", "recall@1"], ["MAP@R", "map@r"]].map(([name, key], i) => ({ name, color: color(i), values: validation.map((row) => row[key] ?? null), dots: true })),
    });
  const groups = (group, of = log) => Object.entries(of[group] || {}).map(([name, values], i) => ({ name, color: color(i), values, order: i }));
  const terms = groups("terms");
  if (terms.length > 1)
    // a last row of one or two panels fills the whole width
    terms.forEach((term, i) => lineChart(panel(i < terms.length - (terms.length % 3) ? "" : terms.length % 3 === 2 ? "wide" : "full"), { ...common, title: term.name, unit: "loss term", series: [term], smoothed: true, height: 170 }));
  const [scales, norms, cosines] = [groups("scales"), groups("norms", log.gradients), groups("cosines", log.gradients)];
  const positive = (series) => series.some((one) => one.values.some((value) => value > 0));
  if (scales.length > 1 && positive(scales))
    lineChart(panel(norms.length ? "wide" : "full"), { ...common, title: "Scales of the losses", unit: "running means, logarithmic", series: scales, logY: true, height: 240 });
  if (norms.length > 1 && positive(norms))
    lineChart(panel("wide"), { ...measured, title: "Gradients of the losses", unit: "length at the pooled feature, logarithmic", series: norms, logY: true, smoothed: true, height: 240 });
  if (cosines.length)
    lineChart(panel("full"), { ...measured, title: "Agreement between losses", unit: "cosine of their gradients; below 0 they are opposed", series: cosines, smoothed: true, height: 240 });
  for (const [name, seen] of Object.entries(log.proxies || {})) {
    const last = seen[seen.length - 1];
    const bounds = [["images against images", "true_loss"], ["its bound by proxies", "bound"]];
    const series = bounds.map(([label, key], i) => ({ name: label, color: color(i), values: seen.map((row) => row[key] ?? null), dots: true, order: i }));
    lineChart(panel("full"), {
      title: name ? `Proxies of ${name}` : "Proxies", unit: `loss of one batch · nearest to no image: ${last.dead_proxies} of ${last.proxies}` + (last.epsilon === undefined ? "" : ` · ε ${short(last.epsilon)}`),
      x: seen.map((row) => row.step), xLabel: "step", xName: (i) => `After step ${seen[i].step}`, series, height: 240,
    });
  }
  const [weights, rates] = [groups("weights"), groups("rates")];
  if (weights.length > 1) lineChart(panel(rates.length ? "wide" : "full"), { ...common, title: "Ensemble weights", series: weights, height: 240 });
  if (rates.length) lineChart(panel(weights.length > 1 ? "wide" : "full"), { ...common, title: "Learning rates", unit: "logarithmic", series: rates, logY: true, height: 240 });
})();
