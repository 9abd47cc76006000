"use strict";
// Prices of virtual assets: what the NPC saw of them, what it held, and its wealth.
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [12, 4], [4, 4]];
Object.assign(TERMS, {
  cash: "现金", mu: "趋势 μ", alpha: "信号系数 α", fee: "手续费", order: "动作顺序", hold: "持有", wealth: "财富", drawdown: "回撤",
  signal: "人流信号", "parcel A": "地块 A", "parcel B": "地块 B", "parcel C": "地块 C", "parcel D": "地块 D", "parcel E": "地块 E",
  "parcel F": "地块 F", regime: "行情状态", "foot traffic": "人流信号", "good times": "行情好", "expected return": "预期收益", day: "起始日", series: "序列",
});

FAMILIES.assets = {
  draw(ctx, shown, played, step) {
    const n = shown.signal.length;
    const frames = played.frames.slice(0, step + 1);
    const prices = [Array(n).fill(1)];
    for (const f of frames.slice(1)) {
      const before = prices[prices.length - 1];
      prices.push(before.map((p, j) => (f.shown[j] === null ? p : p * (1 + f.shown[j]))));
    }
    const truth = at.reveal ? [Array(n).fill(1), ...(shown.hidden.prices ?? [])] : [];
    const wealth = frames.map((f) => f.wealth);
    const all = [...prices.flat(), ...wealth, ...truth.flat()];
    const low = Math.min(...all) * 0.97, high = Math.max(...all) * 1.03;
    const box = { left: 56, right: 560, top: 24, bottom: 360 };
    const x = (t) => box.left + (t / shown.horizon) * (box.right - box.left);
    const y = (p) => box.bottom - ((Math.log(p) - Math.log(low)) / (Math.log(high) - Math.log(low) || 1)) * (box.bottom - box.top);
    ctx.font = "12px system-ui";
    ctx.fillStyle = "#666";
    for (let i = 0; i <= 4; i += 1) {
      const p = Math.exp(Math.log(low) + (i / 4) * (Math.log(high) - Math.log(low)));
      ctx.fillText(p.toFixed(2), 8, y(p) + 4);
      ctx.fillRect(box.left, y(p), box.right - box.left, 0.3);
    }
    played.actions.slice(0, step).forEach((action, t) => {
      const held = frames[t + 1].position;
      if (held >= n) return;
      ctx.fillStyle = LINES[held % LINES.length];
      ctx.globalAlpha = 0.12;
      ctx.fillRect(x(t), box.top, x(t + 1) - x(t), box.bottom - box.top);
      ctx.globalAlpha = 1;
    });
    const stroke = (values, colour, width, dash, alpha) => {
      ctx.beginPath();
      values.forEach((v, t) => (t ? ctx.lineTo(x(t), y(v)) : ctx.moveTo(x(t), y(v))));
      Object.assign(ctx, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      ctx.setLineDash(dash);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
    };
    for (let j = 0; j < n; j += 1) {
      const colour = LINES[j % LINES.length];
      if (truth.length) stroke(truth.map((p) => p[j]), colour, 1, DASHES[j % DASHES.length], 0.45);
      // Only where the price was shown is there a line.
      for (let t = 1; t < frames.length; t += 1) {
        if (frames[t].shown[j] === null) continue;
        ctx.beginPath();
        ctx.moveTo(x(t - 1), y(prices[t - 1][j]));
        ctx.lineTo(x(t), y(prices[t][j]));
        Object.assign(ctx, { strokeStyle: colour, lineWidth: 2 });
        ctx.stroke();
      }
      ctx.fillStyle = colour;
      ctx.fillText(assetName(j, n), box.right + 8, 40 + 18 * j);
      ctx.fillRect(box.right + 90, 32 + 18 * j, 22, 4);
    }
    stroke(wealth, "#000", 3, [], 1);
    ctx.fillStyle = "#000";
    ctx.fillText(term("wealth"), box.right + 8, 46 + 18 * n);
    ctx.fillRect(box.right + 90, 38 + 18 * n, 22, 4);
    if (!shown.hidden.mood) drawSignals(ctx, shown, n);
  },
  now(shown) {
    const n = shown.signal.length;
    return [
      [term("hold"), assetName(shown.position, n)],
      [term("wealth"), shown.wealth.toFixed(3)],
      [term("drawdown"), shown.drawdown.toFixed(3)],
    ];
  },
  truth(box, shown) {
    const { hidden, belief } = shown;
    const rows = (truth, believed, sd) => truth.map((v, j) => ({
      name: assetName(j, truth.length), truth: v, belief: believed?.[j], sd: sd?.[j],
    }));
    if (hidden.alpha) {
      for (const key of ["alpha", "mu"]) compare(box, term(key), rows(hidden[key], belief?.[key], belief?.[`${key}_sd`]), { digits: 3 });
      if (belief) box.append(element("p", say("spread"), { class: "note" }));
    } else if (hidden.mood) {
      compare(box, term("good times"), rows(hidden.mood.map((s) => Number(s > 0)), belief?.good), { sign: false });
      compare(box, term("expected return"), rows(hidden.mood.map((s, j) => s * hidden.drift[j]), belief?.mean), { digits: 3 });
    } else {
      plainTruth(box, { hidden: { day: hidden.day, series: hidden.series } });
    }
  },
};

function assetName(j, n) {
  return j >= n ? term("cash") : language === "zh" ? `地块 ${"ABCDEF"[j] ?? j}` : `parcel ${"ABCDEF"[j] ?? j}`;
}

function drawSignals(ctx, shown, n) {
  ctx.fillStyle = "#666";
  ctx.fillText(term("foot traffic"), 56, 396);
  shown.signal.forEach((s, j) => {
    const height = Math.max(-42, Math.min(42, s * 20));
    ctx.fillStyle = LINES[j % LINES.length];
    ctx.fillRect(80 + j * 110, 456 - Math.max(0, height), 50, Math.abs(height));
    ctx.fillText(`${assetName(j, n)} ${s.toFixed(1)}`, 70 + j * 110, 512);
  });
  ctx.fillStyle = "#999";
  ctx.fillRect(56, 456, n * 110, 1);
}
