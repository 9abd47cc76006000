"use strict";
// All text of the page, English and Chinese; what a world itself names (actions, themes) is translated where it is known.
const WORDS = {
  en: {
    language: "中文", reveal: "reveal what is hidden", trial: "visitor", episode: "episode", speed: "speed",
    back: "one step back", play: "play", pause: "pause", next: "one step on", scrub: "step", now: "now",
    curve: "return per episode (band: 95 % interval over visitors, Student's t)", shares: "what the NPC might do next",
    sharesNote: "share of 256 draws from its policy; ◀ marks what it does", truth: "hidden truth and exact belief",
    sealed: "Tick “reveal” to see who the visitor is.", noShares: "A scripted policy: it was not asked.",
    step: "step", reward: "reward", total: "return so far", cost: "safety cost", did: "the NPC does",
    thisTrial: "this visitor", mean: "mean of", visitors: "visitors", over: "the episode ends here",
    truthOnly: "truth", belief: "belief", noBelief: "This world has no exact Bayes filter, hence no belief.",
    beliefNote: "belief: of an exact Bayes filter that looks on", spread: "thin line: belief ± one standard deviation",
    foot: "One file, no network. Space plays, arrow keys step, 1–9 choose an episode.",
  },
  zh: {
    language: "English", reveal: "揭示隐藏信息", trial: "访客", episode: "第几次相遇", speed: "速度",
    back: "后退一步", play: "播放", pause: "暂停", next: "前进一步", scrub: "步", now: "当前",
    curve: "每次相遇的回报（色带：访客间的 95 % 区间，学生 t）", shares: "NPC 接下来可能做什么",
    sharesNote: "从其策略抽样 256 次的比例；◀ 为实际动作", truth: "隐藏真相与精确信念",
    sealed: "勾选“揭示隐藏信息”查看访客是谁。", noShares: "脚本策略，未抽样。",
    step: "步", reward: "奖励", total: "累计回报", cost: "安全代价", did: "NPC 的动作",
    thisTrial: "这位访客", mean: "平均，共", visitors: "位访客", over: "本次相遇结束",
    truthOnly: "真相", belief: "信念", noBelief: "此世界没有精确的贝叶斯滤波器，因此没有信念。",
    beliefNote: "信念：来自旁观的精确贝叶斯滤波器", spread: "细线：信念 ± 一个标准差",
    foot: "单一文件，无需网络。空格播放，方向键逐步，数字键 1–9 选择相遇。",
  },
};
const TERMS = {};
let language = "en";
const say = (key) => WORDS[language][key] ?? key;
const term = (name) => (language === "zh" && TERMS[name]) || name;
const reference = (name) => {
  const zh = { random: "随机", non_adaptive: "最佳非自适应", forgetful: "健忘", oracle: "全知", bayes_greedy: "贝叶斯（贪心）",
    bayes_explore: "贝叶斯（探索）", bayes_optimistic: "贝叶斯（乐观）", bayes_look_ahead: "贝叶斯（前瞻）" };
  return language === "zh" ? zh[name] || name : name.replaceAll("_", " ");
};
