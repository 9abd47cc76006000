"use strict";
// A walk through a map: walls, exhibits with their themes, the guide, the visitor on its trail, patience and reactions.
const THEMES = ["nature", "game", "history", "music", "romance", "family", "mystery", "future", "humour", "thrill"];
const THEME_ZH = ["自然", "游戏", "历史", "音乐", "浪漫", "家庭", "神秘", "未来", "幽默", "刺激"];
const THEME_INK = ["#009e73", "#56b4e9", "#8c6d31", "#cc79a7", "#d1495b", "#e69f00", "#5b3f8c", "#0072b2", "#b8a800", "#d55e00"];
const FACES = ["😖", "🙁", "😐", "🙂", "😄"];
THEMES.forEach((t, i) => { TERMS[t] = THEME_ZH[i]; });
Object.assign(TERMS, {
  "to 1": "带到 1", "to 2": "带到 2", "to 3": "带到 3", "to 4": "带到 4", "to 5": "带到 5", "to 6": "带到 6", "to 7": "带到 7", "to 8": "带到 8",
  crowd: "拥挤", aversion: "厌恶拥挤", felt: "每件展品的感受",
  north: "向北", south: "向南", west: "向西", east: "向东", wait: "等待", present: "介绍展品", end: "结束", patience: "耐心",
  reaction: "反应", interests: "兴趣", pace: "步速",
});

FAMILIES.guide = {
  draw(ctx, shown) {
    const [rows, columns] = shown.size;
    const cell = Math.min(470 / rows, 470 / columns);
    const x = (c) => 8 + c * cell;
    const y = (r) => 8 + r * cell;
    shown.walls.forEach((line, r) => [...line].forEach((mark, c) => {
      ctx.fillStyle = mark === "#" ? "#8a8f98" : mark === "~" ? "#d1d5db" : "#f4f2ec";
      ctx.fillRect(x(c), y(r), cell - 0.5, cell - 0.5);
    }));
    shown.exhibits.filter((e) => e.there).forEach((e, i) => drawExhibit(ctx, e, i, x(e.cell[1]), y(e.cell[0]), cell));
    ctx.fillStyle = INK.visitor;
    shown.trail.forEach(([r, c]) => {
      ctx.beginPath();
      ctx.arc(x(c) + cell / 2, y(r) + cell / 2, cell / 9, 0, 7);
      ctx.fill();
    });
    drawPerson(ctx, shown.visitor, x, y, cell, INK.visitor, "V", 0.16);
    drawPerson(ctx, shown.guide, x, y, cell, INK.npc, "G", -0.16);
    drawMood(ctx, shown);
  },
  words(shown) {
    // A reaction is 1 to n, 0 where there was none.
    return shown.shown === null || !shown.reaction ? ""
      : `${FACES[shown.reaction - 1] ?? shown.reaction} ${exhibitName(shown.exhibits[shown.shown], shown.shown)}`;
  },
  now(shown) {
    return [[term("patience"), shown.patience.toFixed(2)]];
  },
  truth(box, shown) {
    const { hidden, belief } = shown;
    const interests = Object.entries(hidden.interests).sort((a, b) => b[1] - a[1]);
    compare(box, term("interests"), interests.map(([name, truth]) => ({ name: term(name), truth, belief: belief?.interests[name] })),
      { digits: 1 });
    const row = (key, most) => ({ name: term(key), truth: hidden[key], belief: belief?.[key], most });
    compare(box, "", [row("aversion", 1.2), row("pace", 2)], { sign: false });
    plainTruth(box, { hidden: { felt: hidden.felt } });
  },
};

function exhibitName(exhibit, i) {
  const themes = Object.keys(exhibit?.themes ?? {}).map(term).join(" + ");
  return `${i + 1} ${themes}`;
}

function drawExhibit(ctx, exhibit, i, x, y, cell) {
  const themes = Object.entries(exhibit.themes).sort((a, b) => b[1] - a[1]);
  ctx.globalAlpha = exhibit.seen ? 0.3 : 1;
  themes.slice(0, 2).forEach(([name], k) => {
    ctx.fillStyle = THEME_INK[THEMES.indexOf(name)] ?? "#777";
    const half = themes.length > 1 ? cell / 2 : cell;
    ctx.fillRect(x + k * half, y, half - 1, cell - 1);
  });
  ctx.globalAlpha = 1;
  ctx.fillStyle = "#fff";
  ctx.fillRect(x + 2, y + cell - 6, cell - 5, 3);
  ctx.fillStyle = "#000";
  ctx.fillRect(x + 2, y + cell - 6, (cell - 5) * exhibit.crowd, 3);
  ctx.fillStyle = "#fff";
  ctx.font = `bold ${Math.round(cell * 0.5)}px system-ui`;
  ctx.fillText(String(i + 1), x + cell * 0.32, y + cell * 0.6);
  const line = 150 + i * 24;
  ctx.fillStyle = THEME_INK[THEMES.indexOf(themes[0]?.[0])] ?? "#777";
  ctx.globalAlpha = exhibit.seen ? 0.35 : 1;
  ctx.fillRect(500, line - 10, 12, 12);
  ctx.fillStyle = "#222";
  ctx.font = "12px system-ui";
  ctx.fillText(exhibitName(exhibit, i), 518, line);
  ctx.fillRect(648, line - 5, 60 * exhibit.crowd, 4);
  ctx.globalAlpha = 1;
}

function drawPerson(ctx, at_, x, y, cell, colour, letter, shift) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x(at_[1]) + cell * (0.5 + shift), y(at_[0]) + cell * (0.5 + shift), cell * 0.34, 0, 7);
  ctx.fill();
  ctx.lineWidth = 1.5;
  ctx.strokeStyle = "#fff";
  ctx.stroke();
  ctx.fillStyle = "#fff";
  ctx.font = `bold ${Math.round(cell * 0.4)}px system-ui`;
  ctx.fillText(letter, x(at_[1]) + cell * (0.37 + shift), y(at_[0]) + cell * (0.65 + shift));
}

function drawMood(ctx, shown) {
  ctx.fillStyle = "#222";
  ctx.font = "13px system-ui";
  ctx.fillText(term("patience"), 500, 28);
  ctx.fillStyle = "#ddd";
  ctx.fillRect(500, 36, 200, 12);
  ctx.fillStyle = shown.patience < 0.25 ? INK.visitor : INK.good;
  ctx.fillRect(500, 36, 200 * Math.max(0, shown.patience), 12);
  ctx.fillStyle = "#222";
  ctx.fillText(term("reaction"), 500, 78);
  ctx.fillText(term("crowd"), 648, 132);
  for (let i = 0; i < shown.reactions; i += 1) {
    ctx.fillStyle = i === shown.reaction - 1 ? INK.warn : "#e5e5e5";
    ctx.fillRect(500 + i * 34, 88, 30, 24);
    ctx.fillStyle = "#222";
    ctx.fillText(["−−", "−", "·", "+", "++"][i] ?? String(i), 508 + i * 34, 104);
  }
}
