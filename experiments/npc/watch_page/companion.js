"use strict";
// Encounters: the letter (or number) of who comes, the face, what the NPC chose of speech, distance and game, and the
// encounters before.
const FACTORS = ["speech", "distance", "game"];
Object.assign(TERMS, {
  speech: "说话风格", distance: "距离", game: "游戏", warm: "亲切", playful: "俏皮", formal: "正式", terse: "简短", far: "远",
  apart: "较远", near: "较近", close: "近", cooperative: "合作", puzzle: "解谜", party: "聚会", calm: "安静", creative: "创作",
  annoyed: "恼火", bored: "无聊", neutral: "一般", pleased: "高兴", delighted: "开心", "wears a ring: not to be remembered": "戴着指环：不要记住",
  "who comes": "来访者", "encounters so far": "此前的相遇", "shown mood": "表情", engagement: "投入度", visitor: "访客",
});

FAMILIES.companion = {
  draw(ctx, shown, played, step) {
    ctx.font = "13px system-ui";
    ctx.fillStyle = "#555";
    ctx.fillText(term("who comes"), 20, 24);
    drawBadge(ctx, shown, 20, 34, 168);
    ctx.fillStyle = "#555";
    ctx.font = "13px system-ui";
    ctx.fillText(term("shown mood"), 214, 24);
    drawFace(ctx, shown, 290, 118, 72);
    FACTORS.slice(0, DATA.actions.length).forEach((name, f) => drawFactor(ctx, shown, f, 400, 40 + f * 62));
    ctx.fillStyle = "#555";
    ctx.font = "13px system-ui";
    ctx.fillText(term("encounters so far"), 20, 268);
    trial().episodes.slice(0, at.episode + 1).forEach((past, k) => {
      const x = 20 + (k % 6) * 114, y = 280 + Math.floor(k / 6) * 118;
      const last = k === at.episode ? step : past.actions.length;
      drawBadge(ctx, past.frames[0], x, y, 56);
      past.frames.slice(1, last + 1).forEach((f, t) => {
        const high = ((f.mood ?? 0) / Math.max(1, f.moods - 1)) * 44;
        ctx.fillStyle = k === at.episode ? INK.visitor : "#8899aa";
        ctx.fillRect(x + 61 + t * 7, y + 52 - high - 3, 5, high + 3);
      });
      ctx.fillStyle = "#555";
      ctx.font = "11px system-ui";
      const sum = past.rewards.slice(0, last).reduce((a, b) => a + b, 0);
      ctx.fillText(`${k + 1}: ${last ? (sum / last).toFixed(2) : "–"}${at.reveal ? ` · ${"ABCDEFGH"[past.frames[0].hidden.visitor]}` : ""}`, x, y + 72);
    });
  },
  words(shown) {
    if (shown.ring) return `◯ ${term("wears a ring: not to be remembered")}`;
    return "";
  },
  now(shown) {
    const mood = shown.mood === null ? "–" : term(shown.mood_names[shown.mood]);
    return [[term("shown mood"), mood]];
  },
  truth(box, shown) {
    const { visitor, style, engagement } = shown.hidden;
    const list = element("dl");
    list.append(element("dt", term("visitor")), element("dd", "ABCDEFGH"[visitor]));
    list.append(element("dt", term("engagement")), element("dd", engagement.toFixed(2)));
    box.append(list);
    style.forEach((value, f) => choices(box, term(FACTORS[f]), DATA.actions[f].map(term), shown.belief?.style[f], value));
  },
};

function drawBadge(ctx, shown, x, y, size) {
  ctx.fillStyle = "#fff";
  ctx.fillRect(x, y, size, size);
  ctx.strokeStyle = "#999";
  ctx.lineWidth = 1;
  ctx.strokeRect(x, y, size, size);
  if (shown.glyph) {
    const pixel = size / shown.glyph.length;
    shown.glyph.forEach((row, r) => row.forEach((value, c) => {
      if (value < 16) return;
      const grey = 255 - value;
      ctx.fillStyle = `rgb(${grey},${grey},${grey})`;
      ctx.fillRect(x + c * pixel, y + r * pixel, pixel + 0.5, pixel + 0.5);
    }));
  } else {
    ctx.fillStyle = "#222";
    ctx.font = `bold ${Math.round(size * 0.6)}px system-ui`;
    ctx.fillText(String((shown.visitor ?? 0) + 1), x + size * 0.33, y + size * 0.72);
  }
}

function drawFace(ctx, shown, x, y, r) {
  const mood = shown.mood === null ? 0.5 : shown.mood / Math.max(1, shown.moods - 1);
  ctx.fillStyle = shown.mood === null ? "#ddd" : "#f7d774";
  ctx.strokeStyle = "#444";
  ctx.lineWidth = 2;
  ctx.beginPath();
  ctx.arc(x, y, r, 0, 7);
  ctx.fill();
  ctx.stroke();
  ctx.fillStyle = "#333";
  for (const side of [-1, 1]) {
    ctx.beginPath();
    ctx.arc(x + side * r * 0.35, y - r * 0.22, r * 0.09, 0, 7);
    ctx.fill();
  }
  ctx.beginPath();
  ctx.moveTo(x - r * 0.45, y + r * 0.38);
  ctx.quadraticCurveTo(x, y + r * (0.38 + (mood - 0.5) * 0.9), x + r * 0.45, y + r * 0.38);
  ctx.stroke();
  ctx.font = "13px system-ui";
  const text = shown.mood === null ? "–" : term(shown.mood_names[shown.mood]);
  ctx.fillText(text, x - ctx.measureText(text).width / 2, y + r + 20);
}

function drawFactor(ctx, shown, f, x, y) {
  const names = DATA.actions[f];
  const width = 300 / names.length;
  ctx.font = "13px system-ui";
  ctx.fillStyle = "#555";
  ctx.fillText(term(FACTORS[f]), x, y - 4);
  names.forEach((name, i) => {
    const chosen = shown.action && shown.action[f] === i;
    const liked = at.reveal && shown.hidden.style[f] === i;
    ctx.fillStyle = chosen ? INK.npc : "#eee";
    ctx.fillRect(x + i * width, y + 2, width - 4, 26);
    ctx.fillStyle = chosen ? "#fff" : "#333";
    ctx.font = "11px system-ui";
    ctx.fillText(`${liked ? "★ " : ""}${term(name)}`, x + i * width + 3, y + 19, width - 10);
    if (liked) {
      ctx.strokeStyle = INK.visitor;
      ctx.lineWidth = 3;
      ctx.strokeRect(x + i * width, y + 2, width - 4, 26);
    }
  });
}
