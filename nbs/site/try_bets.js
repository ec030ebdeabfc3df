// Chapter 16: an interval to bet on before a recorded comparison is shown, and what the bets say about the reader. checks/tries/bets.py makes the data.
"use strict";
Book.attempt("bets", {}, (box, data, redraw) => {
  const {make, drawn, firm, axes, stage} = Book, sure = 0.8, enough = 10, kept = "book-bets";
  const above = [...Array(21).keys()].map(k => k / 10).concat([...Array(16).keys()].map(k => 2.5 + k / 2), [...Array(20).keys()].map(k => 12 + 2 * k));
  const values = [...above.slice(1).reverse().map(v => -v), ...above], place = v => Math.asinh(2 * v);  // points near zero lie far apart
  const points = (v, digits = 1) => `${v > 0 ? "+" : v < 0 ? "−" : ""}${Math.abs(v).toFixed(digits)}`.replace(/^[+−](0\.0+)$/, "$1");
  const scale = () => [-50, 50, [-30, -10, -3, -1, 0, 1, 3, 10, 30].filter(v => box.clientWidth > 560 || Math.abs(v) !== 10).map(v => [v, v < 0 ? `−${-v}` : `${v}`])];
  const counts = ["no", "one", "two", "three", "four", "five"], listed = all => `${all.slice(0, -1).join(", ")} and ${all.at(-1)}`;
  let tall = "", bets = [], at = data.questions[0], shown = false, moved = false, ends = [];  // ends: the places of the two handles among the values
  try {
    bets = JSON.parse(localStorage.getItem(kept) || "[]").filter(([name, ...two]) => data.questions.some(one => one.name === name) && two.length === 2 && two.every(Number.isFinite));
  } catch { /* none were kept */ }
  const keep = () => { try { localStorage.setItem(kept, JSON.stringify(bets)); } catch { /* then they last as long as the page */ } };
  const named = name => data.questions.find(one => one.name === name), held = ([name, low, high]) => low <= named(name).mean && named(name).mean <= high;
  const open = () => data.questions.filter(one => !bets.some(([name]) => name === one.name));

  // Of n bets, k or fewer held, if each holds with probability p.
  function chance(k, n, p) {
    let sum = 0, ways = 1;
    for (let i = 0; i <= k; i++) { sum += ways * p ** i * (1 - p) ** (n - i); ways *= (n - i) / (i + 1); }
    return sum;
  }
  // Clopper and Pearson's 95 % interval of a probability: the ends at which k of n becomes a case of 2.5 %.
  function fits(k, n) {
    const solve = f => { let [a, b] = [0, 1]; for (let i = 0; i < 50; i++) { const m = (a + b) / 2; if (f(m)) b = m; else a = m; } return a; };
    return [k ? solve(p => 1 - chance(k - 1, n, p) > 0.025) : 0, k < n ? solve(p => chance(k, n, p) < 0.025) : 1];
  }
  const svg = drawn("svg", {role: "img"}), area = stage(svg), past = drawn("svg", {role: "img"}), question = make("p", "try-figure"), setting = make("p"), guide = make("p"), said = make("div", "try-said");
  const key = make("p", "try-quiet"), go = make("button", "", ""), skip = make("button", "", "Another question"), forget = make("button", "try-link", "Forget my bets"), buttons = make("div", "try-row");
  const knobs = ["Lower end", "Upper end"].map((name, k) => area.handle({name, values, words: v => `${points(v)} points`}, to => {
    moved = true;
    ends[k] = k ? Math.max(to, ends[0]) : Math.min(to, ends[1]);
    show();
  }));

  function show() {
    const drawing = axes(svg, 170, scale(), [0, 1, []], {place, name: "Points"}), {X} = drawing, middle = 80;
    const [low, high] = shown ? bets.at(-1).slice(1) : ends.map(k => values[k]);
    svg.append(drawn("path", {class: "quiet", "stroke-dasharray": "2 4", d: `M${X(0)} ${middle - 20}v50`}),
      drawn("rect", {x: X(low), width: Math.max(2, X(high) - X(low)), y: middle - 14, height: 28, rx: 4, style: "fill: var(--two); fill-opacity: .3"}),
      drawn("text", {class: "m over", style: "fill: var(--two)", x: (X(low) + X(high)) / 2, y: middle + 48}, `${points(low)} to ${points(high)}`));
    knobs.forEach((knob, k) => { knob.hidden = shown; knob.put(ends[k], v => X(v), middle); });
    if (shown) {
      const turn = k => `animation-delay: ${0.4 * k}s`;
      at.gains.forEach((gain, k) => svg.append(drawn("circle", {class: "try-appears", cx: X(gain), cy: middle, r: 5, style: `fill: none; stroke: var(--one); stroke-width: 2; ${turn(k)}`})));
      svg.append(drawn("path", {class: "one try-appears", d: `M${X(at.mean)} ${middle - 20}v40`, style: `stroke-width: 4; ${turn(at.gains.length)}`}),
        drawn("path", {class: "one try-appears", d: `M${X(at.low)} ${middle + 26}H${X(at.high)}`, style: turn(at.gains.length)}), drawn("text", {class: "m over try-appears", style: `fill: var(--one); ${turn(at.gains.length)}`, x: X(at.mean), y: middle - 28}, `mean ${points(at.mean, 2)}`));
    }
    question.textContent = at.question;
    setting.textContent = firm(`${at.setting}. The ${counts[at.gains.length]} networks ${at.arms[1]} got ${listed(at.reached[1].map(v => v.toFixed(1)))} % of the test images right.`);
    const words = shown ? [
      `${held(bets.at(-1)) ? "Your interval contains the mean" : "The mean is outside your interval"}: ${points(at.mean, 2)} points.`,
      `Those ${at.arms[0]} got ${listed(at.reached[0].map(v => v.toFixed(1)))} % right, so seed by seed the gain is ${listed(at.gains.map(v => points(v, 2)))}. The 95 % interval for other seeds and other images goes from ${points(at.low, 2)} to ${points(at.high, 2)}. Yours is ${(high - low).toFixed(1)} points wide, that one ${(at.high - at.low).toFixed(1)}.`] : [];
    guide.className = shown ? "try-figure" : "";
    guide.textContent = firm(words[0] || `Drag the two ends until you are 80 % sure that the mean gain of ${counts[at.gains.length]} seeds, in points of test accuracy, lies between them. A gain may be below zero.`);
    guide.style.minHeight = shown ? tall : "";  // so the drawing stays where it is
    if (!shown) tall = `${guide.offsetHeight}px`;
    said.replaceChildren(...[...words.slice(1), ...judged()].map(text => make("p", "", firm(text))));
    svg.setAttribute("aria-label", `Your interval goes from ${points(low)} to ${points(high)} points.${shown ? ` ${words.join(" ")}` : ""}`);
    go.textContent = !shown ? moved ? "Bet and show the results" : "Move an end, then bet" : open().length ? "Next question" : "That was the last question";
    go.disabled = shown ? !open().length : !moved;
    skip.hidden = shown || open().length < 2;
    forget.hidden = !bets.length;
    key.textContent = (shown ? "Circles: the seeds. Bar: their mean. Line: its 95 % interval. The record: " : "The record: ");
    key.append(make("code", "", at.command), `. The axis is stretched near zero. Question ${data.questions.indexOf(at) + 1} of ${data.questions.length}. Your bets are kept in this browser only.`);
    history();
  }
  // What the bets so far show, in words.
  function judged() {
    const n = bets.length, k = bets.filter(held).length, percent = p => `${(100 * p).toFixed(p < 0.01 ? 1 : 0)} %`;
    if (!n) return [];
    if (n < enough) return [`So far, ${k} of your ${n} interval${n > 1 ? "s" : ""} contained the mean. After ${enough - n} more bet${enough - n > 1 ? "s" : ""} you see what that means.`];
    const few = k < sure * n, tail = few ? chance(k, n, sure) : 1 - chance(k - 1, n, sure), [low, high] = fits(k, n), width = bets.reduce((sum, [, a, b]) => sum + b - a, 0) / n;
    return [`${k} of your ${n} intervals contained the mean. They were ${width.toFixed(1)} points wide on average. If you were right 80 % of the time, you would get ${k} or ${few ? "fewer" : "more"} of ${n} in ${percent(tail)} of such series. `
      + (tail < 0.05 ? `So your intervals are probably too ${few ? "narrow" : "wide"}.` : `So this agrees with 80 %. But ${n} bets are few: your true rate may be anything from ${percent(low)} to ${percent(high)}.`)];
  }
  function history() {
    past.style.display = bets.length ? "" : "none";
    if (!bets.length) return;
    const drawing = axes(past, 38 * bets.length + 40, scale(), [0, 1, []], {place}), {X} = drawing;
    bets.forEach(([name, low, high], k) => {
      const y = drawing.top + 38 * k + 24, mean = named(name).mean, within = held(bets[k]);
      past.append(drawn("text", {class: "over", x: drawing.left + 6, y: y - 12}, name), drawn("text", {class: "r", x: drawing.left - 8, y: y + 5}, within ? "hit" : "missed"),
        drawn("rect", {x: X(low), width: Math.max(2, X(high) - X(low)), y: y - 5, height: 10, rx: 3, style: `fill: var(--two); fill-opacity: ${within ? 0.35 : 0.8}`}),
        drawn("path", {class: "quiet", "stroke-dasharray": "2 4", d: `M${X(0)} ${y - 9}v18`}), drawn("path", {class: "one", d: `M${X(mean)} ${y - 9}v18`, style: "stroke-width: 4"}));
    });
    past.setAttribute("aria-label", `Your bets. ${bets.map(bet => `${bet[0]}: ${points(bet[1])} to ${points(bet[2])}, the mean is ${points(named(bet[0]).mean, 2)}, ${held(bet) ? "hit" : "missed"}`).join(". ")}.`);
  }
  function ask(one) {
    [at, shown, moved] = [one, false, false];
    ends = [values.indexOf(-3), values.indexOf(3)];
  }
  const after = () => { const all = data.questions, k = all.indexOf(at); return [...all.slice(k + 1), ...all.slice(0, k + 1)].find(one => open().includes(one)); };
  go.addEventListener("click", () => {
    if (shown) ask(after());
    else { bets.push([at.name, ...ends.map(k => values[k])]); keep(); shown = true; }
    show();
    if (go.disabled) (shown ? forget : knobs[0]).focus();  // a button that is disabled keeps no focus
  });
  skip.addEventListener("click", () => { ask(after()); show(); });
  forget.addEventListener("click", () => { bets = []; keep(); ask(data.questions[0]); show(); knobs[0].focus(); });
  for (const one of [question, guide, said]) one.setAttribute("aria-live", "polite");
  buttons.append(go, skip);
  buttons.style.margin = ".6rem 0";
  guide.style.margin = "0 0 1rem";
  box.append(question, setting, guide, area, buttons, said, past, key, forget);
  if (open().length) ask(open()[0]);
  else { shown = true; at = named(bets.at(-1)[0]); ends = [0, 1]; }
  redraw(show);
});
