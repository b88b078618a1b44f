// Plots of a page: lines over steps, values under the pointer, buttons for what is shown and how. Needs nothing from a network.
(() => {
  const COLOURS = ["#1f6f8b", "#c44536", "#e09f3e", "#6b705c", "#7b4ea3", "#2e8b57", "#b5651d", "#444"];
  const node = (name, parent, attributes = {}, text) => {
    const svg = ["svg", "line", "path", "text", "rect"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const short = (x) => {
    if (x === null || x === undefined) return "–";
    const size = Math.abs(x);
    return size !== 0 && (size >= 1e5 || size < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  };
  const ticks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let x = Math.ceil(low / step) * step; x <= high + 1e-9 * step; x += step) found.push(Number(x.toPrecision(12)));
    return found;
  };
  const powers = (low, high) => {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high)), found = [];
    const step = Math.max(1, Math.ceil((last - first) / 6));
    for (let p = first; p <= last; p += step) found.push(10 ** p);
    return found.filter((x) => x >= low * 0.999 && x <= high * 1.001);
  };

  function build(root) {
    const views = JSON.parse(root.querySelector("script").textContent);
    const state = { view: Object.keys(views)[0], log: Boolean(Object.values(views)[0].log) };
    const controls = node("div", root, { class: "controls" });
    const group = (values, read, write) => {
      const box = node("span", controls, { role: "group" });
      const buttons = values.map(([value, word]) => {
        const button = node("button", box, { type: "button" }, word);
        button.addEventListener("click", () => { write(value); draw(); });
        return [value, button];
      });
      return () => buttons.forEach(([value, button]) => button.setAttribute("aria-pressed", String(read() === value)));
    };
    const marks = [
      group(Object.keys(views).map((name) => [name, name]), () => state.view, (x) => { state.view = x; }),
      group([[false, "linear"], [true, "log"]], () => state.log, (x) => { state.log = x; }),
    ];
    const holder = node("div", root), said = node("div", root, { class: "said", "aria-live": "polite" });
    const legend = node("ul", root, { class: "legend" });

    function draw() {
      marks.forEach((mark) => mark());
      const view = views[state.view], width = Math.max(root.clientWidth, 280), height = Math.min(380, Math.max(240, width * 0.5));
      const left = 62, right = 12, top = 10, bottom = 42;
      holder.replaceChildren();
      legend.replaceChildren();
      said.textContent = "Point at the plot for the values at a step.";
      const svg = node("svg", holder, { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${view.y} against ${view.x}` });
      const points = view.series.flatMap((s) => s.x.map((x, i) => [x, s.y[i]])).filter(([, y]) => y !== null && (!state.log || y > 0));
      if (!points.length) { said.textContent = "Nothing above zero to draw."; return; }
      const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
      const x0 = 0, x1 = Math.max(...xs, 1);
      let y0 = state.log ? Math.min(...ys) : Math.min(0, ...ys), y1 = Math.max(...ys);
      if (state.log) { y0 = Math.max(y0, y1 * 1e-9); y0 /= 1.3; y1 *= 1.3; } else y1 += 0.05 * (y1 - y0 || 1);
      const scale = state.log ? Math.log10 : (y) => y;
      const px = (x) => left + (x - x0) / (x1 - x0) * (width - left - right);
      const py = (y) => height - bottom - (scale(Math.max(y, state.log ? y0 : -Infinity)) - scale(y0)) / (scale(y1) - scale(y0)) * (height - top - bottom);
      const small = { "font-size": 12, fill: "#444" };
      for (const y of state.log ? powers(y0, y1) : ticks(y0, y1, 5)) {
        node("line", svg, { x1: left, x2: width - right, y1: py(y), y2: py(y), stroke: "#eee" });
        node("text", svg, { ...small, x: left - 6, y: py(y) + 4, "text-anchor": "end" }, short(y));
      }
      for (const x of ticks(x0, x1, Math.max(3, Math.floor(width / 140)))) {
        node("text", svg, { ...small, x: px(x), y: height - bottom + 16, "text-anchor": "middle" }, short(x));
      }
      node("line", svg, { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, stroke: "#888" });
      node("text", svg, { ...small, x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, view.x);
      node("text", svg, { ...small, x: 14, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + height - bottom) / 2})` }, view.y);
      const rows = view.series.map((series, i) => {
        const colour = COLOURS[i % COLOURS.length], dashes = series.dashed ? "5 4" : i >= COLOURS.length ? "2 2" : "";
        let path = "";
        series.x.forEach((x, k) => {
          const y = series.y[k];
          if (y === null || (state.log && y <= 0)) return;
          path += `${path ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
        });
        node("path", svg, { d: path, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dashes });
        const item = node("li", legend);
        node("i", item, { style: `border-color:${colour};border-top-style:${series.dashed ? "dashed" : "solid"}` });
        node("span", item, {}, `${series.name}: `);
        return node("b", item, {}, short(series.y[series.y.length - 1]));
      });
      const line = node("line", svg, { y1: top, y2: height - bottom, stroke: "#888", visibility: "hidden" });
      const at = (event) => {
        const box = svg.getBoundingClientRect();
        const wanted = x0 + ((event.clientX - box.left) * width / box.width - left) / (width - left - right) * (x1 - x0);
        const steps = view.series[0].x;
        const step = steps.reduce((best, x) => (Math.abs(x - wanted) < Math.abs(best - wanted) ? x : best), steps[0]);
        line.setAttribute("x1", px(step));
        line.setAttribute("x2", px(step));
        line.setAttribute("visibility", "visible");
        said.textContent = `${view.x} ${step}; values below [${view.unit}]`;
        view.series.forEach((series, i) => {
          const k = series.x.reduce((best, x, n) => (Math.abs(x - step) < Math.abs(series.x[best] - step) ? n : best), 0);
          rows[i].textContent = short(series.y[k]);
        });
      };
      svg.addEventListener("pointermove", at);
      svg.addEventListener("pointerdown", at);
    }
    draw();
    let width = root.clientWidth;
    window.addEventListener("resize", () => { if (root.clientWidth !== width) { width = root.clientWidth; draw(); } });
  }
  document.querySelectorAll(".plot").forEach(build);
})();
