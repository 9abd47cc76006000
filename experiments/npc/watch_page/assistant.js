"use strict";
// A dialogue: the offers as cards, and what was said.
const CATEGORY_INK = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"];
Object.assign(TERMS, {
  "less than most": "比多数人更不在意", "like most": "和多数人差不多", "more than most": "比多数人更在意", accepted: "成交！", refused: "不要",
  "no limit": "没有上限", limit: "有上限", "category 0": "类别 A", "category 1": "类别 B", "category 2": "类别 C", "category 3": "类别 D",
  intent: "意图", beta: "偏好", category: "类别", turn: "轮次",
  price: "价格", "contract-years": "合同年限", "local-company": "本地公司", "well-known-company": "知名公司", "time-of-day-rate": "分时电价",
  "seasonal-rate": "季节电价", "is-train": "火车", "is-car": "汽车", "travel-time": "行程时间", cost: "费用", headway: "发车间隔",
  "airline-seats": "航空座椅", time: "时间", changes: "换乘次数", "lack-of-comfort": "不舒适",
});

for (let j = 1; j <= 24; j += 1) TERMS[`offer ${j}`] = `推荐 ${j}`;
for (let a = 1; a <= 6; a += 1) TERMS[`ask attribute ${a}`] = `询问属性 ${a}`;
TERMS["ask category"] = "询问类别";
TERMS["ask limit"] = "询问上限";
const said = (name) => (language === "zh" ? term(name) : name.replace(/^category (\d)/, (_, c) => `category ${"ABCD"[c]}`));

FAMILIES.assistant = {
  draw(ctx, shown, played, step) {
    const n = shown.offers.length;
    const columns = Math.min(4, n);
    const rows = Math.ceil(n / columns);
    const width = 704 / columns, height = 500 / rows;
    const proposed = step > 0 && shown.last === "proposal" ? played.actions[step - 1][0] : -1;
    const utility = shown.hidden.utility;
    const best = utility.reduce((b, u, j) => (shown.hidden.admissible[j] && (b < 0 || u > utility[b]) ? j : b), -1);
    shown.offers.forEach((offer, j) => {
      const x = 8 + (j % columns) * width, y = 8 + Math.floor(j / columns) * height;
      const taken = j === proposed && shown.answer === "accepted";
      drawOffer(ctx, shown, taken ? { ...offer, refused: false } : offer, j, x, y, width - 8, height - 8);
      if (j === proposed) {
        ctx.strokeStyle = "#000";
        ctx.lineWidth = 4;
        ctx.strokeRect(x, y, width - 8, height - 8);
      }
      if (at.reveal && j === best) {
        ctx.fillStyle = INK.visitor;
        ctx.font = "bold 18px system-ui";
        ctx.fillText("★", x + width - 30, y + height - 16);
      }
    });
  },
  log(played, step) {
    const lines = [];
    for (let t = 1; t <= step; t += 1) {
      const f = played.frames[t];
      const zh = language === "zh";
      if (f.last === "proposal") {
        lines.push(["npc", zh ? `推荐第 ${played.actions[t - 1][0] + 1} 个，如何？` : `How about offer ${played.actions[t - 1][0] + 1}?`]);
      } else if (f.last === "question") {
        const about = term(f.question);
        const asks = { category: ["Which category are you after today?", "您今天想找什么类别？"], limit: ["Is there a limit?", "您有上限吗？"] };
        const plain = [`How much do you care about ${about}?`, `您有多在意“${about}”？`];
        lines.push(["npc", (asks[f.question] ?? plain)[Number(zh)]]);
      }
      if (f.answer) lines.push(["visitor", said(f.answer)]);
    }
    return lines;
  },
  now(shown) {
    return [[term("turn"), `${shown.turn} / ${shown.horizon}`]];
  },
  truth(box, shown) {
    const { beta, intent } = shown.hidden, { belief } = shown;
    const n = Math.max(...shown.offers.map((o) => o.category)) + 1;
    const names = [...Array(n).keys()].map((c) => said(`category ${c}`));
    choices(box, term("intent"), names, belief?.category, intent % n);
    if (belief?.limit !== undefined) {
      choices(box, term("limit"), ["no limit", "limit"].map(term), [1 - belief.limit, belief.limit], Number(intent >= n));
    }
    compare(box, term("beta"), beta.map((truth, a) => ({ name: term(shown.attributes[a]), truth, belief: belief?.beta[a] })));
  },
};

function drawOffer(ctx, shown, offer, j, x, y, width, height) {
  const ink = CATEGORY_INK[offer.category % CATEGORY_INK.length];
  ctx.fillStyle = "#fff";
  ctx.fillRect(x, y, width, height);
  ctx.strokeStyle = ink;
  ctx.lineWidth = 2;
  ctx.strokeRect(x, y, width, height);
  ctx.fillStyle = ink;
  ctx.fillRect(x, y, width, 20);
  ctx.fillStyle = "#fff";
  ctx.font = "bold 12px system-ui";
  ctx.fillText(`${j + 1}  ${said(`category ${offer.category}`)}`, x + 6, y + 14);
  ctx.font = "11px system-ui";
  const gap = (height - 28) / Math.max(1, offer.values.length);
  offer.values.forEach((v, a) => {
    const middle = y + 28 + gap * (a + 0.5);
    ctx.fillStyle = "#444";
    ctx.fillText(term(shown.attributes[a]).slice(0, 13), x + 5, middle + 4);
    const zero = x + width * 0.72, reach = Math.max(-1, Math.min(1, v / 2.5)) * width * 0.24;
    ctx.fillStyle = "#bbb";
    ctx.fillRect(zero, middle - gap * 0.4, 1, gap * 0.8);
    ctx.fillStyle = "#56778f";
    ctx.fillRect(Math.min(zero, zero + reach), middle - 4, Math.abs(reach), 8);
  });
  if (!offer.refused) return;
  ctx.fillStyle = "rgba(255,255,255,0.7)";
  ctx.fillRect(x, y + 20, width, height - 20);
  ctx.strokeStyle = INK.visitor;
  ctx.beginPath();
  ctx.moveTo(x + 8, y + 28);
  ctx.lineTo(x + width - 8, y + height - 8);
  ctx.stroke();
}
