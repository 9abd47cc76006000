"use strict";
// Draws the numbers of #comparison-data; hiding a method redraws every plot without it.
const sets = JSON.parse(document.getElementById("comparison-data").textContent);
const hidden = new Set();
const tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";
const plots = [];

function make(parent, name, attributes, text) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  if (text !== undefined) found.textContent = text;
  parent.append(found);
  return found;
}

function told(value, percent) {
  if (value === null || value === undefined) return "–";
  if (percent) return `${(100 * value).toFixed(1)} %`.replace("-", "−");
  const size = Math.abs(value);
  if (size >= 1e4) return Math.round(value).toLocaleString("en-US").replace("-", "−");
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

function withInterval(e, percent) {
  return e.low === null ? `${told(e.value, percent)} [–]`
    : `${told(e.value, percent)} [${told(e.low, percent)}, ${told(e.high, percent)}]`;
}

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}

function hoverable(element, text) {
  element.addEventListener("pointermove", (event) => { event.stopPropagation(); showTip(event, text); });
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
}

function ticks(low, high, n) {
  const raw = (high - low) / n, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
  return String(+value.toPrecision(4)).replace("-", "−");
}

function frame(svg, box, x, y, labels, percent) {
  for (const at of ticks(x.low, x.high, 6)) {
    make(svg, "line", { class: "grid", x1: x.of(at), x2: x.of(at), y1: box.top, y2: box.bottom });
    make(svg, "text", { x: x.of(at), y: box.bottom + 16, "text-anchor": "middle" }, labels.xPercent ? told(at, true).replace(".0", "") : short(at));
  }
  for (const at of y ? ticks(y.low, y.high, 5) : []) {
    make(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: y.of(at), y2: y.of(at) });
    make(svg, "text", { x: box.left - 6, y: y.of(at) + 4, "text-anchor": "end" }, percent ? `${Math.round(100 * at)} %` : short(at));
  }
  make(svg, "text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, labels.x);
  make(svg, "text", { class: "title", x: 4, y: 14 }, labels.title);
}

function scale(low, high, from, to) {
  return { low, high, of: (v) => from + (v - low) / (high - low || 1) * (to - from), back: (p) => low + (p - from) / (to - from) * (high - low) };
}

function canvas(parent, width, height, label) {
  const svg = make(parent, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  return svg;
}

// Curves with bands: series of {method, x, value, low, high}; lines of {name, values} as references.
function curves(parent, spec) {
  const width = 480, height = 300, box = { left: 52, right: 468, top: 26, bottom: 248 };
  const svg = canvas(parent, width, height, spec.title);
  const xs = spec.series.flatMap((s) => [s.x[0], s.x[s.x.length - 1]]);
  const full = [Math.min(...xs), Math.max(...xs)];
  if (full[0] === full[1]) { full[0] -= 0.5; full[1] += 0.5; }
  let view = [...full];
  const id = `clip-${plots.length}`;
  function draw() {
    svg.replaceChildren();
    const shown = spec.series.filter((s) => !hidden.has(s.method.name));
    const seen = shown.flatMap((s) => s.x.flatMap((x, i) => x < view[0] || x > view[1] ? []
      : [s.value[i], s.low[i], s.high[i]])).concat((spec.references || []).flatMap((r) => r.values)).filter((v) => v !== null && v !== undefined);
    let low = seen.length ? Math.min(...seen) : 0, high = seen.length ? Math.max(...seen) : 1;
    const margin = 0.05 * (high - low || 1);
    const x = scale(view[0], view[1], box.left, box.right), y = scale(low - margin, high + margin, box.bottom, box.top);
    frame(svg, box, x, y, spec, spec.percent);
    make(make(make(svg, "defs", {}), "clipPath", { id }), "rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top });
    const inside = make(svg, "g", { "clip-path": `url(#${id})` });
    const taken = [];
    for (const r of spec.references || []) {
      const points = r.values.length > 1 ? r.values.map((v, i) => `${x.of(i)},${y.of(v)}`) : [`${box.left},${y.of(r.values[0])}`, `${box.right},${y.of(r.values[0])}`];
      hoverable(make(inside, "polyline", { points: points.join(" "), fill: "none", stroke: "#777", "stroke-width": 1.5, "stroke-dasharray": "6 3" }), `${r.name}: ${r.values.map((v) => told(v)).join("  ")}`);
      let line = y.of(r.values[r.values.length - 1]) - 4;
      while (taken.some((other) => Math.abs(other - line) < 12)) line += 14;
      taken.push(line);
      make(svg, "text", { x: box.right - 3, y: line, "text-anchor": "end", fill: "#555", "font-size": 11 }, r.name);
    }
    for (const s of shown) {
      const g = make(inside, "g", { "data-method": s.method.name });
      const known = s.x.map((_, i) => i).filter((i) => s.low[i] !== null);
      for (let start = 0; start < known.length;) {  // a band per stretch that has intervals
        let stop = start + 1;
        while (stop < known.length && known[stop] === known[stop - 1] + 1) stop++;
        const part = known.slice(start, stop);
        const up = part.map((i) => `${x.of(s.x[i])},${y.of(s.high[i])}`), down = part.map((i) => `${x.of(s.x[i])},${y.of(s.low[i])}`).reverse();
        make(g, "polygon", { points: up.concat(down).join(" "), fill: s.method.colour, opacity: 0.18 });
        start = stop;
      }
      make(g, "polyline", { points: s.x.map((v, i) => `${x.of(v)},${y.of(s.value[i])}`).join(" "), fill: "none", stroke: s.method.colour, "stroke-width": 2, "stroke-dasharray": s.method.dashed ? "7 3" : "none" });
      if (s.x.length <= 30) s.x.forEach((v, i) => make(g, "circle", { cx: x.of(v), cy: y.of(s.value[i]), r: 3, fill: s.method.colour }));
    }
    const mark = make(svg, "line", { y1: box.top, y2: box.bottom, stroke: "#999", visibility: "hidden" });
    const drag = make(svg, "rect", { y: box.top, height: box.bottom - box.top, fill: "#0072B2", opacity: 0.15, visibility: "hidden" });
    const sheet = make(svg, "rect", { class: "sheet", x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top, fill: "transparent" });
    const at = (event) => { const r = svg.getBoundingClientRect(); return (event.clientX - r.left) / r.width * width; };
    let begin = null;
    sheet.addEventListener("pointerdown", (event) => { begin = at(event); sheet.setPointerCapture(event.pointerId); });
    sheet.addEventListener("pointermove", (event) => {
      const value = x.back(at(event));
      if (begin !== null) {
        const [a, b] = [begin, at(event)].sort((p, q) => p - q);
        for (const [k, v] of Object.entries({ x: a, width: b - a, visibility: "visible" })) drag.setAttribute(k, v);
      }
      const lines = shown.filter((s) => value >= s.x[0] - 0.5 * (s.x[1] - s.x[0] || 1) && value <= s.x[s.x.length - 1] + 0.5 * (s.x[1] - s.x[0] || 1)).map((s) => {
        const i = s.x.reduce((best, v, k) => Math.abs(v - value) < Math.abs(s.x[best] - value) ? k : best, 0);
        return { at: s.x[i], text: `${s.method.name}  ${withInterval({ value: s.value[i], low: s.low[i], high: s.high[i] }, spec.percent)}  (${s.method.runs.length} seeds)` };
      });
      if (!lines.length) return;
      for (const k of ["x1", "x2"]) mark.setAttribute(k, x.of(lines[0].at));
      mark.setAttribute("visibility", "visible");
      showTip(event, [`${spec.x}: ${spec.xPercent ? told(lines[0].at, true) : told(lines[0].at).replace(/\.0+$/, "")}`, ...lines.map((l) => l.text)].join("\n"));
    });
    sheet.addEventListener("pointerleave", () => { tip.hidden = true; mark.setAttribute("visibility", "hidden"); });
    sheet.addEventListener("pointerup", (event) => {
      const [a, b] = [begin, at(event)].sort((p, q) => p - q);
      begin = null;
      if (b - a > 6) { view = [Math.max(full[0], x.back(a)), Math.min(full[1], x.back(b))]; draw(); } else drag.setAttribute("visibility", "hidden");
    });
    sheet.addEventListener("dblclick", () => { view = [...full]; draw(); });
    sheet.addEventListener("wheel", (event) => {
      event.preventDefault();
      const centre = x.back(at(event)), factor = event.deltaY < 0 ? 0.8 : 1.25;
      const next = [Math.max(full[0], centre + (view[0] - centre) * factor), Math.min(full[1], centre + (view[1] - centre) * factor)];
      if (next[1] - next[0] > 1e-3 * (full[1] - full[0])) { view = next; draw(); }
    }, { passive: false });
  }
  plots.push(draw);
}

// Rows of estimates: {methods, name, estimate}; a dot with its interval, and a stroke for each run.
function rows(parent, spec) {
  const width = spec.width || 300, left = spec.left, step = 24;
  const svg = canvas(parent, width, 10, spec.title);
  const all = spec.rows.flatMap((r) => [r.estimate.value, r.estimate.low, r.estimate.high, ...(r.estimate.runs || [])]).filter((v) => v !== null);
  const [low, high] = spec.range || [Math.min(...all), Math.max(...all)], margin = spec.range ? 0.02 : 0.06 * (high - low || 1);
  plots.push(() => {
    svg.replaceChildren();
    const shown = spec.rows.filter((r) => r.methods.every((m) => !hidden.has(m.name)));
    const box = { left, right: width - 24, top: 24, bottom: 30 + step * shown.length }, height = box.bottom + (spec.x ? 42 : 24);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("height", height);
    const x = scale(low - margin, high + margin, box.left, box.right);
    frame(svg, box, x, null, { x: spec.x || "", title: spec.title, xPercent: spec.percent });
    if (spec.middle !== undefined) make(svg, "line", { x1: x.of(spec.middle), x2: x.of(spec.middle), y1: box.top, y2: box.bottom, stroke: "#777", "stroke-dasharray": "3 3" });
    shown.forEach((r, i) => {
      const y = box.top + step * (i + 0.65), e = r.estimate, colour = r.methods[0].colour;
      const g = make(svg, "g", { "data-method": r.methods.map((m) => m.name).join("\n") });
      if (left > 20) {
        const label = make(g, "text", { x: left - 8, y: y + 4, "text-anchor": "end" }, r.name);
        if (label.getComputedTextLength() > left - 10) { label.setAttribute("textLength", left - 12); label.setAttribute("lengthAdjust", "spacingAndGlyphs"); }
      }
      for (const v of e.runs || []) make(g, "line", { x1: x.of(v), x2: x.of(v), y1: y - 8, y2: y + 8, stroke: colour, opacity: 0.45 });
      if (e.low !== null) make(g, "line", { x1: x.of(e.low), x2: x.of(e.high), y1: y, y2: y, stroke: colour, "stroke-width": 3 });
      make(g, "circle", { cx: x.of(e.value), cy: y, r: 5, fill: colour });
      hoverable(make(g, "rect", { class: "sheet", x: box.left, y: y - step / 2, width: box.right - box.left, height: step, fill: "transparent" }),
        `${r.name}: ${withInterval(e, spec.percent)}${e.runs ? `\nruns: ${e.runs.map((v) => told(v, spec.percent)).join("  ")}` : ""}`);
    });
  });
}

function shade(share) {  // dark blue to yellow, as cividis
  const ends = [[0, 34, 78], [124, 123, 120], [254, 232, 56]], k = share < 0.5 ? 0 : 1, t = 2 * share - k;
  return `rgb(${ends[k].map((v, i) => Math.round(v + t * (ends[k + 1][i] - v))).join(",")})`;
}

function heat(parent, one, metric, title) {
  const table = one.heat[metric], percent = metric.startsWith("success"), left = 170, cell = 74, step = 20;
  const svg = canvas(parent, 10, 10, title);
  plots.push(() => {
    svg.replaceChildren();
    const shown = one.methods.map((m, i) => [m, i]).filter(([m]) => !hidden.has(m.name));
    const width = Math.max(left + cell * shown.length + 10, 360), height = 50 + step * table.rows.length;
    for (const [k, v] of Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height })) svg.setAttribute(k, v);
    make(svg, "text", { class: "title", x: 4, y: 14 }, `${title}${table.note ? ` (${table.note})` : ""}`);
    shown.forEach(([m], k) => {
      const text = make(svg, "text", { x: left + cell * (k + 0.5), y: 40, "text-anchor": "middle", fill: m.colour, "data-method": m.name }, m.name);
      if (text.getComputedTextLength() > cell - 4) { text.setAttribute("textLength", cell - 6); text.setAttribute("lengthAdjust", "spacingAndGlyphs"); }
    });
    table.rows.forEach((name, r) => {
      const y = 48 + step * r, values = table.values[r], low = Math.min(...values), high = Math.max(...values);
      make(svg, "text", { x: left - 8, y: y + 14, "text-anchor": "end" }, name.length > 26 ? `…${name.slice(-25)}` : name);
      shown.forEach(([m, i], k) => {
        const share = percent ? values[i] : (values[i] - low) / (high - low || 1);
        const g = make(svg, "g", { "data-method": m.name });
        const rect = make(g, "rect", { x: left + cell * k, y, width: cell - 2, height: step - 2, fill: shade(share) });
        make(g, "text", { x: left + cell * (k + 0.5), y: y + 13, "text-anchor": "middle", fill: share > 0.45 ? "#000" : "#fff", "font-size": 11, "pointer-events": "none" }, told(values[i], percent));
        hoverable(rect, `${m.name} on ${name}: ${told(values[i], percent)} (mean of ${m.runs.length} runs)`);
      });
    });
  });
}

const PARTS = { pre: "first score", query: "adapted", gain: "gain", iqm: "adapted, IQM", gap: "short of" };
const DRAW = {
  scores(parent, one, metric, label, percent) {
    for (const [part, name] of Object.entries(PARTS)) {
      if (one.methods.some((m) => m.scores[metric][part] === null)) continue;
      const title = part === "gap" ? `${percent ? "Success" : "Return"}: ${name} ${one.target[metric]}` : `${percent ? "Success" : "Return"}: ${name}`;
      rows(parent, { title, percent, left: 110, width: 320, rows: one.methods.map((m) => ({ methods: [m], name: m.name, estimate: m.scores[metric][part] })) });
    }
  },
  adaptation(parent, one, metric, label, percent) {
    const references = percent ? [] : Object.entries(one.references).map(([name, values]) => ({ name, values }));
    curves(parent, { title: label, x: "Episode on the new task", percent, references, series: one.methods.map((method) => ({ method, ...method.adaptation[metric] })) });
  },
  training(parent, one, metric, label, percent) {
    const series = one.methods.filter((m) => m.training[metric]).map((method) => ({ method, ...method.training[metric] }));
    if (!series.length) return;
    const tasks = [...new Set(series.map((s) => s.tasks))].map((t) => t === "train" ? "training" : t).join(" / ");
    curves(parent, { title: `${label}, ${tasks} tasks`, x: "Env steps", percent, series });
  },
  profile(parent, one, metric, label, percent) {
    curves(parent, { title: "Share of runs and tasks above", x: label, percent: true, xPercent: percent, series: one.methods.map((method) => ({ method, x: one.thresholds[metric], ...method.profile[metric] })) });
  },
  improvement(parent, one, metric, label, percent) {
    const found = [];
    one.methods.forEach((a, i) => one.methods.forEach((b, j) => {
      const estimate = i < j ? one.improvement[metric][i][j] : null;
      if (estimate) found.push({ methods: [a, b], name: `${a.name} > ${b.name}`, estimate });
    }));
    if (found.length) rows(parent, { title: `P(scores higher), ${percent ? "success" : "return"}`, x: "probability", left: 190, width: 480, range: [0, 1], middle: 0.5, percent: true, rows: found });
  },
  heat(parent, one, metric, label) { heat(parent, one, metric, label); },
};

function refresh() {
  for (const draw of plots) draw();
  for (const section of document.querySelectorAll("section.set")) {
    const names = sets[+section.dataset.set].methods.map((m) => m.name);
    for (const table of section.querySelectorAll("table")) {
      [...table.tBodies[0].rows].forEach((row, i) => row.classList.toggle("off", hidden.has(names[i])));
      if (table.classList.contains("improvement")) for (const row of table.rows) names.forEach((n, i) => row.cells[i + 1].classList.toggle("off", hidden.has(n)));
    }
  }
  for (const table of document.querySelectorAll("table.differences")) for (const row of table.rows) {
    [...table.tHead.rows[0].cells].forEach((head, k) => { if (k) row.cells[k].classList.toggle("off", hidden.has(head.textContent)); });
  }
}

const legend = document.getElementById("legend");
for (const method of new Map(sets.flatMap((one) => one.methods).map((m) => [m.name, m])).values()) {
  const button = document.createElement("button"), line = document.createElement("i");
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  button.dataset.name = method.name;
  line.style.borderColor = method.colour;
  line.classList.toggle("dashed", method.dashed);
  button.append(line, method.name);
  button.addEventListener("click", () => {
    if (!hidden.delete(method.name)) hidden.add(method.name);
    button.setAttribute("aria-pressed", String(!hidden.has(method.name)));
    refresh();
  });
  legend.append(button);
}
for (const place of document.querySelectorAll(".plots")) {
  const one = sets[+place.closest("section.set").dataset.set];
  for (const [metric, label] of Object.entries(one.metrics)) DRAW[place.dataset.plot](place, one, metric, label, metric.startsWith("success"));
}
refresh();
