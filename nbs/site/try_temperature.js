// Chapter 06: calibration while one drags the temperature. checks/tries/temperature.py makes the data.
"use strict";
Book.attempt("temperature", {still: ""}, (box, data, redraw) => {
  const {make, drawn, firm, axes, slider} = Book, said = make("p", "try-said"), svg = drawn("svg", {role: "img"}), key = make("p", "try-quiet");
  const nearest = T => data.temperatures.reduce((best, own, k) => Math.abs(own - T) < Math.abs(data.temperatures[best] - T) ? k : best, 0);
  const lowest = data.rows.reduce((best, row, k) => row.loss < data.rows[best].loss ? k : best, 0), FEW = 20;  // answers: with fewer a bar says little
  let at = nearest(1);
  function show() {
    const one = data.rows[at], bins = one.count.length, width = 100 / bins;
    const area = axes(svg, 300, [0, 100, [0, 20, 40, 60, 80, [100, "100 %"]]], [0, 100, [0, 50, [100, "100 %"]]]);
    svg.append(drawn("text", {class: "r", x: area.left - 8, y: area.Y(75) + 4}, "right"), drawn("text", {class: "r", x: area.right, y: 312}, "confidence"));
    svg.append(drawn("path", {class: "quiet", "stroke-dasharray": "6 5", d: `M${area.X(0)} ${area.Y(0)}L${area.X(100)} ${area.Y(100)}`}));
    one.count.forEach((count, k) => {
      if (!count) return;
      const x = area.X(k * width) + 1, right = one.right[k] / count * 100, wide = area.X((k + 1) * width) - x - 1;
      svg.append(drawn("rect", {x, width: wide, y: area.Y(right), height: area.bottom - area.Y(right), ...count < FEW ? {fill: "none", stroke: "var(--one)", "stroke-dasharray": "3 3"} : {fill: "var(--one)", "fill-opacity": 0.2 + 0.8 * Math.sqrt(count / data.images)}}),
        ...["stroke: var(--under); stroke-width: 6", "stroke: var(--two); stroke-width: 3"].map(style => drawn("path", {d: `M${x} ${area.Y(one.confidence[k])}h${wide}`, style})));
    });
    const surest = one.sure === 0 ? "No answer is at least 99 % sure." : one.sure === 1 ? `1 answer is at least 99 % sure, and it is ${one.sure_right ? "right" : "wrong"}.`
      : `${one.sure.toLocaleString("en")} answers are at least 99 % sure, and ${(100 * one.sure_right / one.sure).toFixed(1)} % of them are right.`;
    said.textContent = firm(`Mean loss ${one.loss.toFixed(3)}. Calibration error ${one.error.toFixed(1)} points. ${surest}`);
    svg.setAttribute("aria-label", `Reliability diagram at a temperature of ${data.temperatures[at].toFixed(2)}. ${said.textContent}`);
  }
  said.setAttribute("aria-live", "polite");
  key.textContent = `Bars: how often the answers of a bin were right. Stronger colours have more answers, and hollow bars have fewer than ${FEW}, so they say little. Orange: their mean confidence. Dashed line: where bars and orange would meet if the network were calibrated.`;
  svg.style.marginBottom = "1.4rem";  // the name of the axis
  const control = slider({name: "Temperature", min: 0, max: data.temperatures.length - 1, step: 1, value: at, words: k => data.temperatures[k].toFixed(2)}, k => { at = k; show(); });
  const fitted = make("button", "", `Set ${data.temperatures[lowest].toFixed(2)} (lowest loss)`), row = make("div", "try-row");
  fitted.type = "button";
  fitted.addEventListener("click", () => { control.set(at = lowest); show(); });
  row.style.alignItems = "center";
  row.append(control, fitted);
  box.append(row, svg, said, key);
  redraw(show);
});
