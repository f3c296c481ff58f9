// The four linked charts. Everything drawn was computed by diagnostics/panels.py: here it is scaled to pixels, and
// rows are found, counted and lit.

const SVG = "http://www.w3.org/2000/svg";
const TYPES = { float32: Float32Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array };
const NONE = 255;        // of bytes: no bin, no step along an axis
const MOST_LINES = 60;   // of lit rows drawn one by one
const DRAG = 5;          // pixels from which on a press is a box

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".trim-linked");
  root.linked ??= new Linked(root);
  root.linked.send = setTriggerValue;
  root.linked.asked = data;
  decode(data, (content) => { if (root.linked.asked === data) root.linked.show(content); });
  return () => { if (!root.isConnected) root.linked.end(); };
}

// At once, or where the arrays are packed in a moment.
function decode(bytes, show) {
  const { buffer } = bytes.slice();
  const length = new Uint32Array(buffer, 0, 1)[0];
  const content = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const unpacked = (from, start) => {
    for (const [name, [type, offset, count]] of Object.entries(content.arrays)) {
      content.arrays[name] = new TYPES[type](from, start + offset, count);
    }
    show(content);
  };
  if (!content.packed) return unpacked(buffer, 4 + length);
  const stream = new Blob([new Uint8Array(buffer, 4 + length)]).stream().pipeThrough(new DecompressionStream("deflate"));
  new Response(stream).arrayBuffer().then((from) => unpacked(from, 0));
}

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value); else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function draw(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// A sign on a button, which is named by its label.
const SAVE = "M8 2v8M4.5 6.5L8 10l3.5-3.5M3 13h10";
const GROW = "M9.5 2.5h4v4M13.5 2.5L9 7M6.5 13.5h-4v-4M2.5 13.5L7 9";
function sign(path) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ class: "sign", viewBox: "0 0 16 16", "aria-hidden": true })) svg.setAttribute(key, value);
  draw(svg, "path", { d: path });
  return svg;
}

const share = (value) => `${(100 * value).toFixed(1)}%`;

class Linked {
  constructor(root) {
    this.numbers = make("dl", { class: "trim-numbers" });
    this.meanings = make("dl");
    const copy = make("button", { type: "button", title: "Copy link", "aria-label": "Copy link", onclick: () => this.copy(copy) }, "Link");
    this.reasons = make("div", { class: "box" });
    this.question = make("summary");
    this.why = make("details", {}, this.question, this.reasons);
    const words = make("details", {}, make("summary", {}, "Terms"), make("div", { class: "box" }, this.meanings));
    for (const each of [this.why, words]) {
      each.addEventListener("toggle", () => { if (each.open) (each === words ? this.why : words).open = false; });
    }
    this.bar = make("div", { class: "trim-bar" }, this.numbers, make("div", { class: "tools" }, this.why, words, copy));
    this.grid = make("div", { class: "trim-charts" });
    this.spoken = make("div", { class: "trim-spoken", "aria-live": "polite" });
    root.append(this.bar, this.grid, this.spoken);
    this.root = root;
    this.charts = new Map();
    this.lit = null;      // {rows, rate, by}: what the pointer or a key is on
    this.held = null;     // a learning rate that was clicked stays lit
    this.sizes = new ResizeObserver(() => this.redraw());
    this.sizes.observe(this.grid);
    this.escape = (event) => { if (event.key === "Escape") this.grow(null); };
    document.addEventListener("keydown", this.escape);
  }

  end() {
    this.sizes.disconnect();
    document.removeEventListener("keydown", this.escape);
  }

  show(content) {
    this.content = content;
    this.root.classList.toggle("dark", content.dark);
    if (!content.arrays.gini_bin || (this.lit?.rows ?? []).some((row) => row >= content.rows)) this.lit = this.held = null;
    this.showNumbers();
    for (const name of this.charts.keys()) {
      if (!content.panels.some((panel) => panel.name === name)) this.forget(name);
    }
    for (const panel of content.panels) {
      if (!this.charts.has(panel.name)) {
        this.charts.set(panel.name, new Chart(this, panel.name));
        this.grid.append(this.charts.get(panel.name).cell);
      }
      this.charts.get(panel.name).show(panel);
    }
    this.redraw();
    this.light(this.lit);
    const drawn = Object.fromEntries(content.panels.map((panel) => [panel.name, JSON.stringify(panel)]));
    const changed = Object.keys(drawn).filter((name) => drawn[name] !== this.drawn?.[name]);
    this.drawn = drawn;
    this.root.dispatchEvent(new CustomEvent("trim-drawn", { bubbles: true, detail: changed }));
  }

  forget(name) {
    this.charts.get(name).cell.remove();
    this.charts.delete(name);
    this.lit = this.held = null;
  }

  showNumbers() {
    const { numbers, meanings, pinned, why } = this.content;
    const named = (label, long) => {  // "Quality (output kept): Uniform"
      const [name, of] = label.split(": ");
      return make("dt", {}, name, long ? make("span", { class: "long" }, ` (${long})`) : "", of ? `: ${of}` : "");
    };
    const entry = ([label, value, note, long, meaning, style]) => make("div", { title: meaning }, this.sample(style, false), named(label, long),
      make("dd", {}, make("b", {}, value), note ? make("span", { class: "note" }, ` ${note}`) : ""));
    this.numbers.replaceChildren(...numbers.map(entry));
    if (pinned) this.numbers.append(make("div", {}, this.sample("ink", true), make("dt", {}, pinned)));
    this.meanings.replaceChildren(...this.terms(meanings));
    this.why.hidden = !why;
    if (!why) return;
    this.question.textContent = why.label;
    this.reasons.replaceChildren(make("dl", {}, ...this.terms(why.facts)), ...why.ways.map(([kind, value, label]) =>
      make("button", { type: "button", onclick: () => { this.why.open = false; this.send(kind, value); } }, label)));
  }

  terms(said) {
    return said.flatMap(([term, meaning]) => [make("dt", {}, term), make("dd", {}, meaning)]);
  }

  sample(style, pinned) {
    if (!style) return "";
    const sample = document.createElementNS(SVG, "svg");
    for (const [key, value] of Object.entries({ width: 16, height: 8, "aria-hidden": true })) sample.setAttribute(key, value);
    draw(sample, "path", { d: "M0 4H16", fill: "none", ...this.stroke(style, pinned) });
    return sample;
  }

  async copy(button) {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      prompt("Copy this link:", location.href);
    }
    setTimeout(() => { button.textContent = "Link"; }, 1500);
  }

  stroke(style, pinned) {
    const { colour, dash } = this.content.styles[style];
    return { stroke: colour, "stroke-width": pinned ? 1.6 : 2, "stroke-dasharray": pinned ? "2 3" : dash,
             ...(pinned ? { "stroke-opacity": 0.85 } : {}) };
  }

  // A row's number, which is sent in whole units; NaN is the Gini of a row of zeros.
  number(name, row) {
    const value = this.content.arrays[name][row];
    return name === "gini" && value === 65535 ? NaN : value * this.content.units[name];
  }

  select(rows, add = false) {
    const all = add ? [...new Set([...this.content.selected, ...rows])] : rows;
    this.send("rows", [...all].sort((one, other) => one - other));
  }

  // Light rows, or a learning rate, in all charts; nothing: what was clicked, if anything.
  light(lit, speak = false) {
    this.lit = lit;
    const now = lit ?? this.held;
    for (const chart of this.charts.values()) chart.light(now);
    if (speak) this.spoken.textContent = now?.text ?? "";
  }

  // The rows that a learning rate prunes more than the target.
  rateLit(rate, text, by) {
    const { rates, rate_target: [target] = [] } = this.content.arrays;
    const count = this.content.panels.find((panel) => panel.name === "rate").x.ticks.length;
    const rows = [];
    for (let row = 0; rates && row < this.content.rows; row++) {
      const step = rates[row * count + rate];
      if (step !== NONE && step > target) rows.push(row);
    }
    return { rows, rate, text, by };
  }

  grow(name) {
    for (const [each, chart] of this.charts) {
      const grown = each === name && !chart.cell.classList.contains("grown");
      chart.cell.classList.toggle("grown", grown);
      chart.full.replaceChildren(grown ? "Close" : sign(GROW));
      chart.full.setAttribute("aria-expanded", grown);
    }
    this.redraw();
  }

  // Sizes are read together before anything is written: each reading after a writing lays the page out anew.
  // Where the line of numbers would take a second line, what is said in brackets goes first.
  redraw() {
    this.numbers.classList.remove("tight");
    const isTight = this.numbers.clientHeight > 1.6 * (this.numbers.firstChild?.clientHeight ?? 0);
    const charts = [...this.charts.values()].map((chart) => [chart, chart.plot.getBoundingClientRect()]);
    this.numbers.classList.toggle("tight", isTight);
    for (const [chart, box] of charts) chart.draw(box);
  }
}

class Chart {
  constructor(linked, name) {
    this.linked = linked;
    this.name = name;
    this.title = make("h3");
    this.finding = make("div", { class: "finding" });
    this.legend = make("div", { class: "legend" });
    this.more = make("button", { type: "button", onclick: () => linked.send("opened", name) }, "More");
    this.save = make("button", { type: "button", onclick: () => { linked.grow(null); linked.send("saved", name); } }, sign(SAVE));
    this.full = make("button", { type: "button", "aria-expanded": "false", onclick: () => linked.grow(name) }, sign(GROW));
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("class", "chart");
    this.svg.setAttribute("aria-hidden", "true");
    this.note = make("div", { class: "note" });
    this.plot = make("div", { class: "plot", tabindex: "0", role: "application" }, this.svg, this.note);
    this.axis = make("button", { type: "button", onclick: () => linked.send("axis", this.panel.otherAxis) });
    this.cell = make("section", { class: "trim-chart", "data-chart": name },
      make("header", {}, this.title, this.axis, this.more, this.save, this.full), this.finding, this.legend, this.plot);
    this.plot.addEventListener("pointermove", (event) => this.moved(event));
    this.plot.addEventListener("pointerleave", () => { if (!this.from) linked.light(null); });
    this.plot.addEventListener("pointerdown", (event) => this.pressed(event));
    this.plot.addEventListener("pointerup", (event) => this.released(event));
    this.plot.addEventListener("pointercancel", () => this.endBox());
    this.plot.addEventListener("dblclick", () => linked.select([]));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => linked.light(null));
    this.cursor = -1;
  }

  show(panel) {
    this.panel = panel;
    this.title.textContent = this.title.title = panel.title;
    this.more.setAttribute("aria-label", `More about: ${panel.title}`);
    for (const [button, what] of [[this.save, "Save"], [this.full, "Enlarge"]]) {
      button.title = what;
      button.setAttribute("aria-label", `${what}: ${panel.title}`);
    }
    this.save.hidden = Boolean(panel.note);
    this.plot.setAttribute("aria-label", `${panel.title} ${panel.finding} Arrow keys move, Enter selects, Escape clears.`);
    this.note.textContent = panel.note;
    this.legend.replaceChildren(...panel.legend.map((entry) => this.entry(entry)));
    this.axis.hidden = !panel.otherAxis;
    this.axis.textContent = panel.otherAxis ?? "";
    this.axis.setAttribute("aria-label", `${panel.otherAxis ?? ""} axis`);
  }

  // ------------------------------------------------------------------------------------------ drawing

  draw(box) {
    if (!this.panel || box.width < 40 || box.height < 30) return;
    const { x, y, marks, note } = this.panel;
    const longest = Math.max(0, ...y.ticks.map(([, label]) => label.length));
    const big = this.cell.classList.contains("grown");
    const unit = big ? 8 : 6.4;
    this.area = { left: 22 + unit * longest, right: box.width - 10, top: 8, bottom: box.height - (big ? 46 : 36) };
    const { left, right, top, bottom } = this.area;
    this.width = right - left;
    this.height = bottom - top;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    if (note) return;
    const clip = `clip-${this.name}`;
    draw(draw(draw(this.svg, "defs", {}), "clipPath", { id: clip }), "rect",
      { x: left, y: top - 8, width: this.width, height: this.height + 8 });
    for (const [at, label] of y.ticks) {
      draw(this.svg, "path", { d: `M${left} ${this.y(at)}H${right}`, stroke: "var(--grid)" });
      draw(this.svg, "text", { x: left - 5, y: this.y(at) + 4, "text-anchor": "end" }, label);
    }
    draw(this.svg, "path", { d: `M${left} ${bottom}H${right}`, stroke: "var(--faint)" });
    const room = this.width / Math.max(1, x.ticks.length);
    const widest = Math.max(0, ...x.ticks.map(([, label]) => label.length)) * unit + 4;
    const every = Math.ceil(widest / room);
    x.ticks.forEach(([at, label], index) => {
      draw(this.svg, "path", { d: `M${this.x(at)} ${bottom}v4`, stroke: "var(--faint)" });
      if (index % every) return;
      const near = this.x(at) + widest / 2 > box.width ? "end" : "middle";
      draw(this.svg, "text", { x: near === "end" ? box.width : this.x(at), y: bottom + (big ? 20 : 16), "text-anchor": near }, label);
    });
    draw(this.svg, "text", { x: (left + right) / 2, y: box.height - 3, "text-anchor": "middle" }, this.fit(x.title, this.width, unit));
    draw(this.svg, "text", { x: 0, y: 0, "text-anchor": "middle",
      transform: `translate(${big ? 14 : 11} ${(top + bottom) / 2}) rotate(-90)` }, this.fit(y.title, this.height + 20, unit));
    this.inside = draw(this.svg, "g", { "clip-path": `url(#${clip})` });
    this.words = draw(this.svg, "g", {});
    this.texts = [];      // that are above points: left, right, height
    for (const mark of marks) this.mark(mark);
    this.chosen = draw(this.svg, "g", { "clip-path": `url(#${clip})` });
    this.glow = draw(this.svg, "g", { "clip-path": `url(#${clip})` });
    this.rows(this.chosen, this.linked.content.selected, "var(--st-text-color)");
    this.light(this.linked.lit ?? this.linked.held);
  }

  fit(text, pixels, unit) {
    return text.length * unit * 0.92 < pixels ? text : text.split(":")[0];
  }

  x(value) { return this.area.left + (value - this.panel.x.low) / (this.panel.x.high - this.panel.x.low) * this.width; }
  y(value) { return this.area.bottom - (value - this.panel.y.low) / (this.panel.y.high - this.panel.y.low) * this.height; }
  step(table, value) { return this.area.bottom - value / (table.BYTES_PER_ELEMENT === 1 ? 255 : 65535) * this.height; }
  valueAt(pixel) { return this.panel.x.low + (pixel - this.area.left) / this.width * (this.panel.x.high - this.panel.x.low); }

  line(x, y) {
    let path = "";
    for (let i = 0; i < x.length; i++) path += `${i ? "L" : "M"}${this.x(x[i]).toFixed(1)} ${this.y(y[i]).toFixed(1)}`;
    return path;
  }

  outline(edges, heights) {
    let path = `M${this.x(edges[0]).toFixed(1)} ${this.y(0).toFixed(1)}`;
    heights.forEach((height, bin) => { path += `V${this.y(height).toFixed(1)}H${this.x(edges[bin + 1]).toFixed(1)}`; });
    return `${path}V${this.y(0).toFixed(1)}`;
  }

  mark(mark) {
    const stroke = { fill: "none", ...this.linked.stroke(mark.style, mark.pinned) };
    if (mark.kind === "steps") draw(this.inside, "path", { d: this.outline(mark.x, mark.y), ...stroke });
    if (mark.kind === "line") draw(this.inside, "path", { d: this.line(mark.x, mark.y), ...stroke });
    if (mark.kind === "band") {
      const back = this.line([...mark.x].reverse(), [...mark.low].reverse()).replace("M", "L");
      draw(this.inside, "path", { d: `${this.line(mark.x, mark.y)}${back}Z`, fill: "var(--st-text-color)", "fill-opacity": 0.1 });
    }
    if (mark.kind === "rule") {
      const { left, right, top, bottom } = this.area;
      const upright = mark.x.length > 0;
      const at = upright ? this.x(mark.x[0]) : this.y(mark.y[0]);
      draw(this.inside, "path", { d: upright ? `M${at} ${top}V${bottom}` : `M${left} ${at}H${right}`, ...stroke, "stroke-width": 1.2 });
      if (!mark.text) return;
      if (upright) {
        const leftwards = at > (left + right) / 2;
        draw(this.words, "text", { class: "mark", x: at + (leftwards ? -5 : 5), y: top + 8, "text-anchor": leftwards ? "end" : "start" }, mark.text);
      } else {
        draw(this.words, "text", { class: "mark", x: right, y: at - 4, "text-anchor": "end" }, mark.text);
      }
    }
    if (mark.kind === "points") {
      if (mark.symbol) mark.x.forEach((at, index) => this.symbol(this.inside, mark.symbol, this.x(at), this.y(mark.y[index]), this.linked.content.styles[mark.style].colour, mark.pinned));
      if (mark.text) {
        const half = mark.text.length * 3.4, least = this.area.left + half, most = this.area.right - half;
        let x = Math.min(Math.max(this.x(mark.x[0]), least), most), y = Math.max(this.y(mark.y[0]) - 14, this.area.top + 4);
        for (const [left, right, above] of this.texts) {  // beside what would be under it, or above that
          if (Math.abs(above - y) > 13 || x - half > right + 6 || x + half < left - 6) continue;
          const beside = x > (left + right) / 2 ? right + 6 + half : left - 6 - half;
          if (beside >= least && beside <= most) x = beside;
          else y = above - 14;
        }
        this.texts.push([x - half, x + half, y]);
        draw(this.words, "text", { class: "mark", x, y, "text-anchor": "middle" }, mark.text);
      }
    }
  }

  // A line of the legend: a symbol, if it has one, and words.
  entry([symbol, style, words]) {
    const entry = make("span", { title: words }, words);
    if (symbol) {
      const sample = document.createElementNS(SVG, "svg");
      for (const [key, value] of Object.entries({ width: 11, height: 11, viewBox: "0 0 16 16", "aria-hidden": true })) sample.setAttribute(key, value);
      this.symbol(sample, symbol, 8, 8, this.linked.content.styles[style].colour, false);
      entry.prepend(sample);
    }
    return entry;
  }

  symbol(parent, name, x, y, colour, pinned) {
    const paths = {
      "triangle-up": "M0 -6L6 5H-6Z", "triangle-down": "M0 6L6 -5H-6Z", "circle-open": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
      circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", cross: "M-4 -4L4 4M4 -4L-4 4",
      ring: "M-9 0a9 9 0 1 0 18 0a9 9 0 1 0 -18 0Z", box: "M-9 -9H9V9H-9Z", diamond: "M0 -6L6 0L0 6L-6 0Z", square: "M-5 -5H5V5H-5Z",
    };
    const open = pinned || ["circle-open", "cross", "ring", "box"].includes(name);
    draw(parent, "path", { d: paths[name] ?? paths.circle, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
      fill: open ? "none" : colour, stroke: colour, "stroke-width": 1.5, ...(pinned ? { "stroke-dasharray": "2 2" } : {}) });
  }

  // ------------------------------------------------------------------------------------ rows and lights

  // Whether the positions of the rows were sent.
  get known() { return Boolean(this.linked.content.arrays.gini_bin); }
  get histograms() { return this.panel.marks.filter((mark) => mark.bins); }

  // Rows drawn into a group: bars filled as far as they are among them, curves, points.
  rows(parent, rows, colour) {
    const { arrays, samples } = this.linked.content;
    if (!rows?.length || this.panel.note || !this.known) return;
    const every = Math.ceil(rows.length / MOST_LINES);
    const few = rows.filter((_, index) => index % every === 0);
    for (const mark of this.histograms) {
      const counts = new Array(mark.y.length).fill(0);
      for (const row of rows) if (arrays[mark.bins][row] !== NONE) counts[arrays[mark.bins][row]]++;
      const scale = this.panel.in_shares ? 1 / this.linked.content.rows : 1;
      draw(parent, "path", { d: this.outline(mark.x, counts.map((count) => count * scale)), fill: colour, "fill-opacity": 0.45 });
      if (every === 1) {
        let ticks = "";
        for (const row of few) {
          const value = this.linked.number(mark.values, row);
          if (!Number.isNaN(value)) ticks += `M${this.x(value).toFixed(1)} ${this.area.bottom}v-9`;
        }
        draw(parent, "path", { d: ticks, stroke: colour, "stroke-width": 2 });
      }
    }
    const table = { cosine: arrays.curves, rate: arrays.rates }[this.name];
    if (!table) return;
    const places = this.name === "cosine" ? samples : this.panel.x.ticks.map(([at]) => at);
    let path = "";
    for (const row of few) {
      let begun = false;
      for (let index = 0; index < places.length; index++) {
        const step = table[row * places.length + index];
        if (step === NONE && this.name === "rate") continue;
        path += `${begun ? "L" : "M"}${this.x(places[index]).toFixed(1)} ${this.step(table, step).toFixed(1)}`;
        begun = true;
      }
    }
    draw(parent, "path", { d: path, fill: "none", stroke: colour, "stroke-width": few.length > 8 ? 0.8 : 1.6,
      "stroke-opacity": few.length > 8 ? 0.6 : 1, ...(this.name === "rate" ? { "stroke-dasharray": "1 3", "stroke-linecap": "round" } : {}) });
    if (this.name === "cosine" && few.length <= 8) {
      for (const [method, symbol] of this.linked.content.methods) {
        for (const row of few) {
          this.symbol(parent, symbol, this.x(this.linked.number(`count_${method}`, row)), this.y(this.placed(arrays[`cosine_${method}`][row])),
            this.linked.content.styles[method].colour);
        }
      }
    }
  }

  // Where a cosine is on the upright axis, which is its own or the logarithm of what it lacks to 1.
  placed(cosine) {
    const { low, high } = this.panel.y;
    const value = this.panel.otherAxis === "linear" ? Math.log10(Math.max(1 - cosine, 10 ** low)) : cosine;
    return Math.min(Math.max(value, low), high);
  }

  light(lit) {
    if (!this.glow) return;
    this.glow.replaceChildren();
    this.finding.textContent = lit ? this.readout(lit) : this.panel.finding;
    this.finding.title = this.panel.finding;
    this.finding.classList.toggle("readout", Boolean(lit));
    if (!lit) return;
    this.rows(this.glow, lit.rows, "var(--lit)");
    if (lit.rate === undefined) return;
    if (this.name === "row_sparsity" && this.panel.heights[lit.heights]) {
      draw(this.glow, "path", { d: this.outline(this.histograms[0].x, this.panel.heights[lit.heights]), fill: "none", stroke: "var(--lit)", "stroke-width": 2 });
    }
    if (this.name === "rate") {
      draw(this.glow, "path", { d: `M${this.x(lit.rate)} ${this.area.top}V${this.area.bottom}`, stroke: "var(--lit)", "stroke-width": 2, "stroke-opacity": 0.6 });
    }
  }

  readout(lit) {
    const { arrays, methods } = this.linked.content;
    if (lit.by === this.name || lit.rows.length !== 1) return lit.text;
    const [row] = lit.rows;
    if (this.name === "gini") return `Row ${row}: Gini ${this.linked.number("gini", row).toFixed(4)}`;
    if (this.name === "rate") return `Row ${row}: its sparsity under each rate (dotted)`;
    const parts = methods.filter(([method]) => method !== "uniform" || this.name === "cosine").map(([method, , label]) =>
      `${label} ${this.name === "cosine" ? arrays[`cosine_${method}`][row].toFixed(4) : share(this.linked.number(`count_${method}`, row))}`);
    return `Row ${row}: ${this.name === "cosine" ? "cosine, " : ""}${parts.join(", ")}`;
  }

  // What is at a place of the plot, in pixels; null where nothing is.
  at(left, top) {
    const { arrays, samples, rows } = this.linked.content;
    if (this.panel.note || !this.area || !this.known) return null;
    const value = this.valueAt(left);
    if (this.histograms.length) {
      let found = null;
      for (const mark of this.histograms) {
        const bin = mark.x.findIndex((edge, index) => index + 1 < mark.x.length && value >= edge && value < mark.x[index + 1]);
        if (bin < 0 || !mark.y[bin]) continue;
        const distance = Math.abs(this.y(mark.y[bin]) - top);
        if (!found || distance < found.distance) found = { mark, bin, distance };
      }
      return found && this.binLit(found.mark, found.bin);
    }
    if (this.name === "cosine") {
      let index = 0;
      samples.forEach((sample, place) => { if (Math.abs(sample - value) < Math.abs(samples[index] - value)) index = place; });
      let nearest = -1, least = Infinity;
      for (let row = 0; row < rows; row++) {
        const distance = Math.abs(this.step(arrays.curves, arrays.curves[row * samples.length + index]) - top);
        if (distance < least) { least = distance; nearest = row; }
      }
      return nearest < 0 ? null : this.rowLit(nearest);
    }
    return this.rateNear(value);
  }

  binLit(mark, bin) {
    const bins = this.linked.content.arrays[mark.bins];
    const rows = [];
    for (let row = 0; row < bins.length; row++) if (bins[row] === bin) rows.push(row);
    return { rows, text: mark.labels[bin], by: this.name, bin };
  }

  rowLit(row) {
    const { arrays, methods } = this.linked.content;
    const last = methods[methods.length - 1];
    return { rows: [row], by: this.name,
             text: `Row ${row}: cosine ${arrays[`cosine_${last[0]}`][row].toFixed(4)} at ${share(this.linked.number(`count_${last[0]}`, row))} (${last[2]})` };
  }

  rateNear(value) {
    let best = null;
    for (const mark of this.panel.marks) {
      if (mark.kind !== "points" || !mark.labels.length) continue;
      mark.x.forEach((at, index) => {
        const distance = Math.abs(at - value) + (mark.pinned ? 0.2 : 0);
        if (distance < 0.6 && (!best || distance < best.distance)) best = { at, text: mark.labels[index], distance, pinned: mark.pinned };
      });
    }
    if (!best) return null;
    const lit = this.linked.rateLit(best.at, best.text, this.name);
    lit.heights = this.linked.content.rateOrder.indexOf(best.at);
    if (lit.rows.length) lit.text += `; prunes ${lit.rows.length.toLocaleString("en")} rows more than the target`;
    return lit;
  }

  // --------------------------------------------------------------------------------- pointer and keys

  place(event) {
    const box = this.plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  moved(event) {
    const here = this.place(event);
    if (this.from && Math.hypot(here[0] - this.from[0], here[1] - this.from[1]) > DRAG) {
      this.box ??= draw(this.svg, "rect", { fill: "var(--lit)", "fill-opacity": 0.12, stroke: "var(--lit)", "stroke-dasharray": "3 2" });
      const [x, y] = [0, 1].map((axis) => Math.min(here[axis], this.from[axis]));
      for (const [key, value] of Object.entries({ x, y, width: Math.abs(here[0] - this.from[0]), height: Math.abs(here[1] - this.from[1]) })) {
        this.box.setAttribute(key, value);
      }
      return;
    }
    if (!this.from) this.linked.light(this.at(...here));
  }

  pressed(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.from = this.place(event);
    this.plot.setPointerCapture(event.pointerId);
  }

  released(event) {
    const here = this.place(event);
    const boxed = this.box && this.from;
    const add = event.shiftKey || event.ctrlKey || event.metaKey;
    if (boxed) {
      const rows = this.boxed(this.from, here);
      if (rows.length) this.linked.select(rows, add);
    } else {
      this.take(this.at(...here), add);
    }
    this.endBox();
  }

  endBox() {
    this.box?.remove();
    this.box = this.from = null;
  }

  take(lit, add) {
    if (!lit) return;
    if (lit.rate !== undefined) {
      this.linked.held = this.linked.held?.rate === lit.rate ? null : lit;
      this.linked.light(lit);
    } else if (lit.rows.length) {
      this.linked.select(lit.rows, add);
    }
  }

  // Rows in a box: by their bars, or by a curve that passes through it.
  boxed(from, to) {
    const { arrays, samples, rows } = this.linked.content;
    const [left, right] = [from[0], to[0]].sort((one, other) => one - other);
    const [top, bottom] = [from[1], to[1]].sort((one, other) => one - other);
    const [low, high] = [this.valueAt(left), this.valueAt(right)];
    const found = new Set();
    if (!this.known) return [];
    for (const mark of this.histograms) {
      const inside = mark.y.map((_, bin) => mark.x[bin + 1] > low && mark.x[bin] < high);
      arrays[mark.bins].forEach((bin, row) => { if (bin !== NONE && inside[bin]) found.add(row); });
    }
    if (this.name === "cosine") {
      for (let row = 0; row < rows; row++) {
        for (let index = 0; index < samples.length; index++) {
          if (samples[index] < low || samples[index] > high) continue;
          const y = this.step(arrays.curves, arrays.curves[row * samples.length + index]);
          if (y >= top && y <= bottom) { found.add(row); break; }
        }
      }
    }
    return [...found];
  }

  key(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.key === "Escape" && !this.cell.classList.contains("grown")) {
      this.linked.held = null;
      this.linked.light(null);
      if (this.linked.content.selected.length) this.linked.select([]);
    }
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.take(this.linked.lit, event.shiftKey);
    }
    if (!steps || this.panel.note || !this.known) return;
    event.preventDefault();
    this.linked.light(this.under(steps), true);
  }

  // What is `steps` further than what the keys were on.
  under(steps) {
    const [mark] = this.histograms;
    const order = mark ? mark.y.flatMap((height, bin) => (height ? [bin] : []))
      : this.name === "cosine" ? null : this.linked.content.rateOrder.filter((at) => this.rateNear(at)).sort((one, other) => one - other);
    const size = order ? order.length : this.linked.content.rows;
    this.cursor = this.cursor < 0 ? 0 : Math.min(Math.max(this.cursor + steps, 0), size - 1);
    if (mark) return this.binLit(mark, order[this.cursor]);
    return order ? this.rateNear(order[this.cursor]) : this.rowLit(this.cursor);
  }
}
