"use strict";
// Truth and belief side by side: numbers as two bars each, choices as chances with a star at the truth.
const signed = (v, digits) => `${Number(v.toFixed(digits)) < 0 ? "−" : "+"}${Math.abs(v).toFixed(digits)}`;

// Rows {name, truth, belief, sd, most}; bars begin in the middle if values have a sign, the thin line is belief ± sd. The
// longest bar is the largest value, or a row's own `most`.
function compare(box, title, rows, { digits = 2, sign = true } = {}) {
  const known = rows.some((r) => r.belief !== undefined);
  const largest = Math.max(...rows.flatMap((r) => [Math.abs(r.truth), Math.abs(r.belief ?? 0) + (r.sd ?? 0)]), 1e-6);
  const span = (a, b) => `left:${Math.min(a, b).toFixed(1)}%;width:${Math.abs(a - b).toFixed(1)}%`;
  const text = (v) => (sign ? signed(v, digits) : v.toFixed(digits));
  const table = element("div", undefined, { class: "pairs" });
  const head = element("div", undefined, { class: "pair head" });
  head.append(element("span", title), element("span"), element("span", say("truthOnly"), { class: "value truth" }));
  if (known) head.append(element("span", say("belief"), { class: "value belief" }));
  table.append(head);
  rows.forEach(({ name, truth, belief, sd, most = largest }) => {
    const at_ = (v) => 100 * (sign ? 0.5 + (0.5 * v) / most : Math.min(1, v / most));
    const row = element("div", undefined, { class: "pair" });
    const tracks = element("div", undefined, { class: "tracks" });
    const fill = (kind, v) => {
      const track = element("div", undefined, { class: "track" });
      track.append(element("div", undefined, { class: `fill ${kind}`, style: span(at_(0), at_(v)) }));
      if (sign) track.append(element("div", undefined, { class: "zero" }));
      tracks.append(track);
      return track;
    };
    fill("truth", truth);
    if (belief !== undefined) {
      const track = fill("belief", belief);
      if (sd) track.append(element("div", undefined, { class: "spread", style: span(at_(belief - sd), at_(belief + sd)) }));
    }
    row.append(element("span", name, { class: "name" }), tracks, element("span", text(truth), { class: "value truth" }));
    if (belief !== undefined) row.append(element("span", text(belief), { class: "value belief" }));
    table.append(row);
  });
  box.append(table);
}

// The names of choices, the chance of each (or null: no belief) and which one is true.
function choices(box, title, names, chances, truth) {
  if (!chances) {
    box.append(element("p", `${title}: ★ ${names[truth]}`, { class: "note" }));
    return;
  }
  const bar = element("div");
  bars(bar, names.map((name, i) => ({ name: i === truth ? `★ ${name}` : name, share: chances[i] })));
  box.append(element("p", `${title} (★ ${say("truthOnly")})`, { class: "note" }), bar);
}
