"use strict";
// The player: which trial, episode and step is shown, and the panels that all worlds share. Each family registers in
// FAMILIES a function draw(ctx, frame, episode, step) and may add words(frame) or log(episode, step), now(frame) and
// truth(element, frame).
const FAMILIES = {};
const DATA = JSON.parse(document.getElementById("data").textContent);
const INK = { npc: "#0072b2", visitor: "#d55e00", good: "#009e73", warn: "#e69f00", grey: "#777", pink: "#cc79a7" };
const at = { trial: 0, episode: 0, step: 0, playing: false, reveal: false };
const $ = (id) => document.getElementById(id);
const trial = () => DATA.trials[at.trial];
const episode = () => trial().episodes[at.episode];
const frame = () => episode().frames[at.step];
const family = () => FAMILIES[DATA.kind] || FAMILIES.plain;
const element = (tag, text, attributes = {}) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

function actionName(action) {
  return action.map((a, i) => term(DATA.actions[i][a] ?? String(a))).join(" · ");
}

function bars(target, rows) {
  target.replaceChildren(...rows.map(({ name, share, taken, tick, value }) => {
    const row = element("div", undefined, { class: taken ? "bar taken" : "bar" });
    const track = element("div", undefined, { class: "track" });
    const width = Math.max(0, Math.min(1, share));
    const fill = element("div", undefined, { class: "fill", style: `width:${(100 * width).toFixed(1)}%` });
    track.append(fill);
    if (tick) track.append(element("div", undefined, { class: "tick", style: "right:0" }));
    row.append(element("span", name, { class: "name" }), track, element("span", value ?? share.toFixed(2), { class: "value" }));
    return row;
  }));
}

function drawShares() {
  const next = at.step < episode().actions.length ? at.step : -1;
  const shares = next >= 0 ? episode().shares[next] : null;
  if (!shares) {
    $("shares").replaceChildren(element("p", next < 0 ? say("over") : say("noShares"), { class: "note" }));
    return;
  }
  const rows = [];
  let offset = 0;
  DATA.actions.forEach((names, choice) => {
    names.forEach((name, i) => rows.push({
      name: term(name), share: shares[offset + i], taken: episode().actions[next][choice] === i,
    }));
    offset += names.length;
  });
  bars($("shares"), rows.length > 14 ? rows.filter((r) => r.share >= 0.02 || r.taken) : rows);
}

function drawNow() {
  const done = at.step;
  const sum = (values) => values.slice(0, done).reduce((a, b) => a + b, 0);
  const rows = [[say("step"), `${done} / ${episode().actions.length}`]];
  if (done) {
    rows.push([say("did"), actionName(episode().actions[done - 1])]);
    rows.push([say("reward"), episode().rewards[done - 1].toFixed(3)]);
  }
  rows.push([say("total"), sum(episode().rewards).toFixed(3)], [say("cost"), sum(episode().costs).toFixed(2)]);
  if (family().now) rows.push(...family().now(frame()));
  $("now").replaceChildren(...rows.flatMap(([a, b]) => [element("dt", a), element("dd", b)]));
}

// The reference lines that bound a result, and the best of the Bayes filters; all of them would hide the curve.
function references() {
  const last = (values) => values[values.length - 1];
  const bayes = Object.keys(DATA.references).filter((name) => name.startsWith("bayes"));
  const best = bayes.sort((a, b) => last(DATA.references[b]) - last(DATA.references[a]))[0];
  const shown = ["random", "non_adaptive", "forgetful", best, "oracle"];
  return Object.entries(DATA.references).filter(([name]) => shown.includes(name));
}

function drawCurve() {
  const width = 420, height = 210, left = 44, bottom = 26, top = 10, right = 118;
  const lines = references();
  const ends = [...DATA.low, ...DATA.high].filter((v) => v !== null);
  const all = [...DATA.mean, ...ends, ...trial().returns, ...lines.flatMap(([, v]) => v)];
  const low = Math.min(...all), high = Math.max(...all), span = high - low || 1;
  const n = DATA.mean.length;
  const x = (k) => left + (n > 1 ? k / (n - 1) : 0.5) * (width - left - right);
  const y = (v) => height - bottom - ((v - low) / span) * (height - bottom - top);
  const path = (values) => values.map((v, k) => `${k ? "L" : "M"}${x(k).toFixed(1)},${y(v).toFixed(1)}`).join("");
  const parts = [];
  for (let i = 0; i <= 4; i += 1) {
    const value = low + (span * i) / 4;
    parts.push(`<line x1="${left}" x2="${width - right}" y1="${y(value)}" y2="${y(value)}" stroke="#eee"/>`,
      `<text x="${left - 5}" y="${y(value) + 4}" text-anchor="end">${value.toFixed(2)}</text>`);
  }
  const every = Math.ceil(n / 12);
  for (let k = 0; k < n; k += every) parts.push(`<text x="${x(k)}" y="${height - 8}" text-anchor="middle">${k + 1}</text>`);
  const labels = [];
  const dashes = ["6 3", "2 3", "8 3 2 3", "1 2", "4 4", "10 3", "3 1"];
  lines.forEach(([name, values], i) => {
    parts.push(`<path d="${path(values)}" fill="none" stroke="#555" stroke-dasharray="${dashes[i % dashes.length]}"/>`);
    labels.push([y(values[values.length - 1]), reference(name), "#555"]);
  });
  const band = DATA.mean.map((m, k) => [x(k), y(DATA.low[k] ?? m), y(DATA.high[k] ?? m)]);
  const area = band.map(([a, b]) => `${a},${b}`).concat(band.toReversed().map(([a, , c]) => `${a},${c}`)).join(" ");
  parts.push(`<polygon points="${area}" fill="${INK.npc}" opacity="0.18"/>`);
  parts.push(`<path d="${path(DATA.mean)}" fill="none" stroke="${INK.npc}" stroke-width="2.5"/>`);
  labels.push([y(DATA.mean[n - 1]), `${say("mean")} ${DATA.n}`, INK.npc]);
  parts.push(`<path d="${path(trial().returns)}" fill="none" stroke="${INK.visitor}" stroke-width="1.5"/>`);
  trial().returns.forEach((v, k) => parts.push(`<circle cx="${x(k)}" cy="${y(v)}" r="${k === at.episode ? 5 : 2.5}" fill="${INK.visitor}"/>`));
  labels.push([y(trial().returns[n - 1]), say("thisTrial"), INK.visitor]);
  labels.sort((a, b) => a[0] - b[0]);
  let last = -20;
  for (const label of labels) { label[0] = Math.max(label[0], last + 12); last = label[0]; }
  const excess = Math.max(0, last - (height - bottom + 4));
  for (const [v, name, colour] of labels) {
    parts.push(`<text x="${width - right + 8}" y="${v + 4 - excess}" fill="${colour}">${name}</text>`);
  }
  $("curve").innerHTML = `<svg viewBox="0 0 ${width} ${height}" width="100%" font-size="11" role="img">${parts.join("")}</svg>`;
}

function drawTruth() {
  const box = $("truth");
  if (!at.reveal) {
    box.replaceChildren(element("p", say("sealed"), { class: "note" }));
    return;
  }
  box.replaceChildren(element("p", say(frame().belief ? "beliefNote" : "noBelief"), { class: "note" }));
  (family().truth || FAMILIES.plain.truth)(box, frame());
}

function plainTruth(box, shown) {
  const list = element("dl");
  for (const [key, value] of Object.entries(shown.hidden ?? {})) {
    const text = JSON.stringify(value, (_, v) => (typeof v === "number" ? Number(v.toFixed(2)) : v));
    list.append(element("dt", term(key.replaceAll("_", " "))), element("dd", text.length > 160 ? `${text.slice(0, 160)}…` : text));
  }
  box.append(list);
}

FAMILIES.plain = {
  draw(ctx, shown) {
    ctx.fillStyle = "#333";
    ctx.font = "13px monospace";
    Object.entries(shown).filter(([k]) => k !== "hidden").forEach(([k, v], i) => {
      ctx.fillText(`${k}: ${JSON.stringify(v)}`.slice(0, 95), 12, 24 + 18 * i);
    });
  },
  truth: plainTruth,
};

function drawWords() {
  const box = $("words");
  const lines = family().log ? family().log(episode(), at.step) : null;
  box.className = lines ? "log" : "";
  if (lines) {
    box.replaceChildren(...lines.map(([who, text]) => element("p", text, { class: who })));
    box.scrollTop = box.scrollHeight;
  } else box.textContent = family().words ? family().words(frame(), episode(), at.step) : "";
}

function show() {
  const ctx = $("view").getContext("2d");
  ctx.clearRect(0, 0, 720, 520);
  ctx.save();
  family().draw(ctx, frame(), episode(), at.step);
  ctx.restore();
  drawWords();
  $("scrub").max = String(episode().actions.length);
  $("scrub").value = String(at.step);
  $("clock").textContent = `${say("episode")} ${at.episode + 1} / ${trial().episodes.length} · ${say("step")} ${at.step}`;
  $("play").textContent = at.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", say(at.playing ? "pause" : "play"));
  document.querySelectorAll("#episodes button").forEach((b, i) => b.setAttribute("aria-pressed", String(i === at.episode)));
  drawNow(); drawCurve(); drawShares(); drawTruth();
}

function go(step) {
  at.step = Math.max(0, Math.min(episode().actions.length, step));
  show();
}

function chooseEpisode(k) {
  at.episode = Math.max(0, Math.min(trial().episodes.length - 1, k));
  at.step = 0;
  show();
}

function chooseTrial(i) {
  at.trial = i;
  $("episodes").replaceChildren(...trial().episodes.map((_, k) => {
    const button = element("button", String(k + 1), { type: "button", "aria-label": `${say("episode")} ${k + 1}` });
    button.addEventListener("click", () => chooseEpisode(k));
    return button;
  }));
  chooseEpisode(at.episode);
}

function forward() {
  if (at.step < episode().actions.length) go(at.step + 1);
  else if (at.episode + 1 < trial().episodes.length) chooseEpisode(at.episode + 1);
  else at.playing = false;
}

function tick() {
  if (!at.playing) return;
  forward();
  if (!at.playing) show();
  setTimeout(tick, 1000 / Number($("speed").value));
}

function togglePlay() {
  at.playing = !at.playing;
  if (at.playing) {
    if (at.episode === trial().episodes.length - 1 && at.step === episode().actions.length) chooseEpisode(0);
    setTimeout(tick, 200);
  }
  show();
}

function translate() {
  document.documentElement.lang = language;
  document.querySelectorAll("[data-text]").forEach((e) => { e.textContent = say(e.dataset.text); });
  document.querySelectorAll("[data-label]").forEach((e) => e.setAttribute("aria-label", say(e.dataset.label)));
  $("about").textContent = DATA.about[language];
  $("foot").textContent = `${say("foot")} ${DATA.made}`;
  $("trial").replaceChildren(...DATA.trials.map((t, i) => element("option", t.task, { value: String(i) })));
  $("trial").value = String(at.trial);
  chooseTrialKeepingStep();
}

function chooseTrialKeepingStep() {
  const step = at.step;
  chooseTrial(at.trial);
  go(step);
}

function start() {
  $("trial").addEventListener("change", (e) => chooseTrial(Number(e.target.value)));
  $("play").addEventListener("click", togglePlay);
  $("back").addEventListener("click", () => { at.playing = false; go(at.step - 1); });
  $("next").addEventListener("click", () => { at.playing = false; forward(); show(); });
  $("scrub").addEventListener("input", (e) => { at.playing = false; go(Number(e.target.value)); });
  $("reveal").addEventListener("change", (e) => { at.reveal = e.target.checked; show(); });
  $("language").addEventListener("click", () => { language = language === "en" ? "zh" : "en"; translate(); });
  document.addEventListener("keydown", (e) => {
    if (["SELECT", "INPUT", "BUTTON"].includes(e.target.tagName) && e.key === " ") return;
    if (e.key === " ") { e.preventDefault(); togglePlay(); }
    else if (e.target.tagName !== "INPUT" && e.key === "ArrowRight") { at.playing = false; forward(); show(); }
    else if (e.target.tagName !== "INPUT" && e.key === "ArrowLeft") { at.playing = false; go(at.step - 1); }
    else if (/^[1-9]$/.test(e.key) && Number(e.key) <= trial().episodes.length) chooseEpisode(Number(e.key) - 1);
  });
  translate();
}
